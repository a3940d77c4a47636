//! The steps, each announced in the journal before it begins and harmless when it is done twice.

use std::time::Instant;

use jiff::Timestamp;
use lazuli_azure::{Error, Secret};
use lazuli_standard::data::secrets::ROTATION_DAYS;
use serde_json::Value;

use super::entry::{self, Entry, Outcome, Step, due, is_done, noted};
use super::exception::{self, Fault};
use super::family::{Connection, Family, Kind, reads};
use super::server::CacheKey;
use super::{Broken, Report, Rotation, RotationError, trouble};
use crate::cloud::{Place, Trouble};
use crate::event::{self, millis};
use crate::journal::{Journal, JournalError};
use crate::provision::secret_body;
use crate::provision::secrets::{generated, password};

const VAULT_API: &str = "2023-07-01";
/// A restart that fails is undone: noted once that has begun.
pub(super) const UNDOING: &str = "undoing";
/// Which of the cache's keys, or which login, a version holds.
const HOLDS: &str = "lazuli-credential";

const PLACES: [(Step, Place); 4] = [
    (Step::Staging, Place::Staging),
    (Step::Worker, Place::Worker),
    (Step::Scheduler, Place::Scheduler),
    (Step::Production, Place::Production),
];

/// A rotation under way.
pub(super) struct Run<'a> {
    pub(super) rotation: &'a Rotation<'a>,
    journal: Journal<Entry>,
    pub(super) family: Family,
}

/// What a step came to, in a few words.
pub(super) type Done = Result<String, Fault>;

impl<'a> Run<'a> {
    pub(super) fn new(rotation: &'a Rotation<'a>, journal: Journal<Entry>, family: Family) -> Self {
        Self { rotation, journal, family }
    }

    fn noted(&self, step: Step, name: &str) -> Option<String> {
        noted(self.journal.records(), step, name).map(str::to_owned)
    }

    fn note(&mut self, step: Step, name: &str, value: &str) -> Result<(), JournalError> {
        self.journal.write(Entry::Noted { step, name: name.to_owned(), value: value.to_owned() })
    }

    /// On to the new version; what waits for its time is left.
    pub(super) async fn forward(mut self) -> Result<Report, RotationError> {
        self.shut().await?;
        if !is_done(self.journal.records(), Step::NewVersion)
            && let Err(broken) = self.one(Step::NewVersion).await?
        {
            return Err(self.undo(Step::NewVersion, broken).await);
        }
        for (step, place) in PLACES {
            let concerned = self.rotation.cloud.has(place)
                && reads(self.rotation.blueprint, place, &self.family.read_by_app());
            if concerned
                && !is_done(self.journal.records(), step)
                && let Err(broken) = self.one(step).await?
            {
                return Err(self.undo(step, broken).await);
            }
        }
        let at = if let Some(at) = due(self.journal.records()) {
            at
        } else {
            let confirm = entry::began(self.journal.records()).map_or(0, |b| b.confirm_seconds);
            let at = Timestamp::now()
                + jiff::SignedDuration::from_secs(i64::try_from(confirm).unwrap_or(86_400));
            self.journal.write(Entry::Due { at })?;
            at
        };
        if at > Timestamp::now() {
            return Ok(self.report(None));
        }
        for step in [Step::Confirm, Step::Retire, Step::Disable] {
            if !is_done(self.journal.records(), step)
                && let Err(broken) = self.one(step).await?
            {
                let works_with = "the new version".to_owned();
                return Err(self.broken(step, broken, works_with, true));
            }
        }
        self.journal.write(Entry::Ended { outcome: Outcome::Rotated })?;
        Ok(self.report(Some(Outcome::Rotated)))
    }

    /// Back to the old value: a resumption of an interrupted undo.
    pub(super) async fn backward(mut self) -> Result<Report, RotationError> {
        self.shut().await?;
        match self.put_back().await {
            Ok(()) => Ok(self.report(Some(Outcome::Undone))),
            Err(Fault::Journal(error)) => Err(error.into()),
            Err(Fault::Trouble(error)) => {
                let works_with = "the old value where it was not restarted".to_owned();
                Err(self.broken(Step::NewVersion, error, works_with, true))
            }
        }
    }

    fn report(&self, outcome: Option<Outcome>) -> Report {
        let records = self.journal.records();
        let done = PLACES.iter().filter(|(step, _)| is_done(records, *step));
        Report {
            number: self.journal.number(),
            secrets: self.family.secrets(),
            outcome,
            due: due(records).filter(|_| outcome.is_none()),
            restarted: done.map(|(_, place)| self.rotation.cloud.host(*place)).collect(),
        }
    }

    fn broken(&self, step: Step, error: Trouble, works_with: String, open: bool) -> RotationError {
        RotationError::Step(Box::new(Broken {
            number: self.journal.number(),
            step,
            what: error.what,
            log: error.log,
            works_with,
            open,
        }))
    }

    /// An interrupted run may have left the vault's door open.
    async fn shut(&mut self) -> Result<(), RotationError> {
        let secrets = self.family.secrets();
        match exception::close(self.rotation, &mut self.journal, &secrets).await {
            Ok(()) => Ok(()),
            Err(Fault::Journal(error)) => Err(error.into()),
            Err(Fault::Trouble(error)) => Err(self.broken(
                Step::Disable,
                error,
                "what it worked with before".to_owned(),
                true,
            )),
        }
    }

    /// Does one step. The outer error is of the journal, the inner of the step.
    async fn one(&mut self, step: Step) -> Result<Result<(), Trouble>, RotationError> {
        let line = self.rotation.reporter.step(step.name(), self.title(step));
        self.journal.write(Entry::Started { step })?;
        let began = Instant::now();
        let outcome = match step {
            Step::NewVersion => self.new_version(&line).await,
            Step::Staging => self.restart(Place::Staging, &line).await,
            Step::Worker => self.restart(Place::Worker, &line).await,
            Step::Scheduler => self.restart(Place::Scheduler, &line).await,
            Step::Production => self.restart(Place::Production, &line).await,
            Step::Confirm => self.confirm().await,
            Step::Retire => self.retire(&line).await,
            Step::Disable => self.disable(&line).await,
        };
        match outcome {
            Ok(detail) => {
                let elapsed_ms = millis(began.elapsed());
                self.journal.write(Entry::Done { step, detail: detail.clone(), elapsed_ms })?;
                line.done(detail);
                Ok(Ok(()))
            }
            Err(Fault::Journal(error)) => {
                line.fail(&error);
                Err(error.into())
            }
            Err(Fault::Trouble(error)) => {
                self.journal.write(Entry::Failed { step, error: error.what.clone() })?;
                line.fail(&error.what);
                Ok(Err(error))
            }
        }
    }

    fn title(&self, step: Step) -> String {
        let cloud = &self.rotation.cloud;
        match step {
            Step::NewVersion => format!("New version of {}", self.family.read_by_app().join(", ")),
            Step::Staging => format!("Restart {}", cloud.host(Place::Staging)),
            Step::Worker => format!("Restart {}", cloud.host(Place::Worker)),
            Step::Scheduler => format!("Restart {}", cloud.host(Place::Scheduler)),
            Step::Production => format!("Restart {}", cloud.host(Place::Production)),
            Step::Confirm => "Everything still well".to_owned(),
            Step::Retire => match self.family.kind {
                Kind::Generated { .. } => "Retire the old value".to_owned(),
                Kind::Database { .. } => "Retire the old login and password".to_owned(),
                Kind::Cache => "Retire the old key".to_owned(),
            },
            Step::Disable => "Disable the old version".to_owned(),
        }
    }

    fn secret_id(&self, name: &str) -> String {
        format!("{}/secrets/{name}", self.rotation.vault_id())
    }

    /// The current version of a secret and what it holds.
    pub(super) async fn current(&self, name: &str) -> Result<(String, Option<String>), Error> {
        let secret = self.rotation.cloud.client().get(self.secret_id(name), VAULT_API).await?;
        let version = secret
            .pointer("/properties/secretUriWithVersion")
            .and_then(Value::as_str)
            .and_then(|uri| uri.rsplit('/').next())
            .unwrap_or_default()
            .to_owned();
        let holds = secret.pointer(&format!("/tags/{HOLDS}")).and_then(Value::as_str);
        Ok((version, holds.map(str::to_owned)))
    }

    async fn write(&self, name: &str, value: &Secret, holds: Option<&str>) -> Result<(), Error> {
        let expires = Timestamp::now().as_second() + i64::from(*ROTATION_DAYS) * 86_400;
        // A version has tags and type of its own: what the first one had, the new one needs too.
        let mut body = secret_body(&self.rotation.blueprint.tags);
        body["properties"]["value"] = value.expose().into();
        body["properties"]["attributes"]["exp"] = expires.into();
        if let Some(holds) = holds {
            body["tags"][HOLDS] = holds.into();
        }
        self.rotation.cloud.client().put(self.secret_id(name), VAULT_API, &body).await?;
        Ok(())
    }

    /// Step 1 and 2 of the standard. Every secret that the app reads gets its new version; one that
    /// has it already, from before an interruption, is left alone.
    async fn new_version(&mut self, line: &event::Step) -> Done {
        self.refuse_pinned().await?;
        let mut count = 0;
        for name in self.family.read_by_app() {
            let (version, holds) = self.current(&name).await?;
            let old = format!("old/{name}");
            match self.noted(Step::NewVersion, &old) {
                Some(noted) if noted != version => continue,
                Some(_) => {}
                None => {
                    // First what the version holds: that the version is noted says that both are.
                    let holds = holds.as_deref().unwrap_or("");
                    self.note(Step::NewVersion, &format!("old-holds/{name}"), holds)?;
                    self.note(Step::NewVersion, &old, &version)?;
                }
            }
            let (value, holds) = self.credential(&name, holds.as_deref(), line).await?;
            self.write(&name, &value, holds.as_deref()).await?;
            count += 1;
        }
        Ok(match count {
            0 => "written before the interruption".to_owned(),
            1 => "written; the old version still works".to_owned(),
            count => format!("{count} secrets written; the old versions still work"),
        })
    }

    /// A credential that works beside the old one.
    async fn credential(
        &mut self,
        name: &str,
        holds: Option<&str>,
        line: &event::Step,
    ) -> Result<(Secret, Option<String>), Fault> {
        match self.family.kind.clone() {
            Kind::Generated { bytes } => {
                let value = generated(bytes).map_err(|error| trouble(error.to_string()))?;
                Ok((value, None))
            }
            Kind::Cache => {
                let next = CacheKey::of(holds).other();
                // Nobody uses it: the rotation before this one retired it.
                self.rotation.regenerate(next).await?;
                Ok((self.rotation.cache_url(next).await?, Some(next.name().to_owned())))
            }
            Kind::Database { app, .. } => {
                let connection = connection(&app, name)?;
                let login = self.login(&connection);
                let url = self.rotation.new_login(&connection, &login, line).await?;
                Ok((url, Some(login)))
            }
        }
    }

    /// The login of this rotation. A number nobody used: an interrupted try is not continued but
    /// given the same password anew, before anything knows it.
    fn login(&self, connection: &Connection) -> String {
        format!("{}_r{}", connection.database, self.journal.number())
    }

    /// A setting that names a version would never see another one.
    async fn refuse_pinned(&self) -> Result<(), Fault> {
        let secrets = self.family.secrets();
        for (_, place) in PLACES {
            if !self.rotation.cloud.has(place) {
                continue;
            }
            for (setting, reference) in self.references(place).await? {
                let pinned = reference["secretVersion"].as_str().unwrap_or_default();
                if !pinned.is_empty()
                    && secrets.iter().any(|s| reference["secretName"] == s.as_str())
                {
                    return Err(trouble(format!(
                        "the setting {setting} of {} names the version {pinned} of {}: it would never \
                         see a new one; leave the version out of its reference",
                        self.rotation.cloud.host(place),
                        reference["secretName"].as_str().unwrap_or_default(),
                    ))
                    .into());
                }
            }
        }
        Ok(())
    }

    /// At the end of the confirmation period, before anything is taken away.
    async fn confirm(&self) -> Done {
        for (_, place) in PLACES {
            let concerned = self.rotation.cloud.has(place)
                && reads(self.rotation.blueprint, place, &self.family.read_by_app());
            if concerned && !self.instances(place).await?.0.is_empty() {
                self.resolved(place).await?;
                self.healthy(place).await?;
            }
        }
        Ok("every place uses the new version and is healthy".to_owned())
    }

    /// The server forgets the old credential.
    async fn retire(&mut self, line: &event::Step) -> Done {
        match self.family.kind.clone() {
            Kind::Generated { .. } => {
                Ok("no server knows it; every place uses the new one".to_owned())
            }
            Kind::Cache => {
                // By what the current version holds, not by what the one before it held: the key that
                // everything uses is never made anew.
                let (_, used) = self.current(self.family.asked()).await?;
                let old = CacheKey::of(used.as_deref()).other();
                self.rotation.regenerate(old).await?;
                Ok(format!("the {} key was made anew", old.name().to_ascii_lowercase()))
            }
            Kind::Database { app, migrations, password: holder } => {
                // While the administrator's password is still the one that the job knows.
                if self.noted(Step::Retire, "logins").is_none() {
                    for connection in &app {
                        let login = self.login(connection);
                        let arguments = format!("forget {} {login}", connection.database);
                        self.rotation.job(&arguments, &arguments, line).await?;
                    }
                    self.note(Step::Retire, "logins", "forgotten")?;
                }
                line.message("the administrator's password");
                let new = password().map_err(|error| trouble(error.to_string()))?;
                // First the vault, so that a password is never lost: this is done again if it is cut
                // off between the two.
                for connection in &migrations {
                    let login = &self.rotation.blueprint.postgres.administrator;
                    let url = self.rotation.database_url(connection, login, &new);
                    self.write(&connection.secret, &Secret::new(url), None).await?;
                }
                self.write(&holder, &new, None).await?;
                self.rotation.set_administrator(&new).await?;
                let others = self.family.of_administrator();
                for (_, place) in PLACES {
                    if self.rotation.cloud.has(place)
                        && reads(self.rotation.blueprint, place, &others)
                    {
                        self.refresh(place).await?;
                    }
                }
                Ok("the old logins are gone, and the administrator has a new password".to_owned())
            }
        }
    }

    /// Step 5: the old versions cannot be read any more.
    async fn disable(&mut self, line: &event::Step) -> Done {
        let secrets = self.family.secrets();
        let mut count = 0;
        for name in &secrets {
            line.message(name);
            let (current, _) = self.current(name).await?;
            let (vault, versions) = exception::open(self.rotation, &mut self.journal, name).await?;
            for version in versions {
                if version.enabled && version.version != current {
                    vault.enable_version(name, &version.version, false).await?;
                    count += 1;
                }
            }
        }
        exception::close(self.rotation, &mut self.journal, &secrets).await?;
        let plural = if count == 1 { "" } else { "s" };
        Ok(format!("{count} version{plural} disabled"))
    }

    /// After a failure: everything on the old value again.
    async fn undo(mut self, step: Step, error: Trouble) -> RotationError {
        if error.unreachable {
            let works_with = "what it worked with before: the platform did not answer".to_owned();
            return self.broken(step, error, works_with, true);
        }
        match self.put_back().await {
            Ok(()) => {
                let works_with = "the old value, which is the newest version again".to_owned();
                self.broken(step, error, works_with, false)
            }
            Err(Fault::Journal(journal)) => journal.into(),
            Err(Fault::Trouble(again)) => {
                let mut error = error;
                error.what =
                    format!("{}; putting the old value back failed too: {again}", error.what);
                let works_with =
                    "the old value where it was not restarted, the new one where it was".to_owned();
                self.broken(step, error, works_with, true)
            }
        }
    }

    /// The old value becomes the newest version, and whatever was restarted is restarted on it.
    async fn put_back(&mut self) -> Result<(), Fault> {
        if self.noted(Step::NewVersion, UNDOING).is_none() {
            self.note(Step::NewVersion, UNDOING, "the old value")?;
        }
        let line = self.rotation.reporter.step("undo", "Put the old value back");
        let outcome = self.put_back_with(&line).await;
        match &outcome {
            Ok(()) => line.done("the app works with the old value"),
            Err(Fault::Trouble(error)) => line.fail(&error.what),
            Err(Fault::Journal(error)) => line.fail(error),
        }
        outcome?;
        self.journal.write(Entry::Ended { outcome: Outcome::Undone })?;
        Ok(())
    }

    async fn put_back_with(&mut self, line: &event::Step) -> Result<(), Fault> {
        let secrets = self.family.read_by_app();
        for name in &secrets {
            let Some(old) = self.noted(Step::NewVersion, &format!("old/{name}")) else { continue };
            let done = format!("back/{name}");
            let (current, _) = self.current(name).await?;
            if current == old || self.noted(Step::NewVersion, &done).is_some() {
                continue;
            }
            let holds = self.noted(Step::NewVersion, &format!("old-holds/{name}"));
            let (vault, versions) = exception::open(self.rotation, &mut self.journal, name).await?;
            let value = vault.get_version(name, &old).await?.value;
            self.write(name, &value, holds.as_deref().filter(|h| !h.is_empty())).await?;
            self.note(Step::NewVersion, &done, "written")?;
            // The version that failed is nobody's to read.
            for version in versions {
                if version.enabled && version.version == current {
                    vault.enable_version(name, &version.version, false).await?;
                }
            }
        }
        exception::close(self.rotation, &mut self.journal, &secrets).await?;
        let begun = |step: Step| {
            self.journal
                .records()
                .iter()
                .any(|record| matches!(record.entry, Entry::Started { step: s } if s == step))
        };
        let again: Vec<Place> =
            PLACES.iter().filter(|(step, _)| begun(*step)).map(|(_, place)| *place).collect();
        for place in again {
            self.restart(place, line).await?;
        }
        if let Kind::Database { app, .. } = self.family.kind.clone() {
            for connection in &app {
                let drop = format!("drop {}", self.login(connection));
                // Nothing uses it; one that stays is forgotten by the next rotation.
                if let Err(error) = self.rotation.job(&drop, &drop, line).await {
                    self.rotation.reporter.warn(format!("a login is left behind: {error}"));
                }
            }
        }
        Ok(())
    }
}

fn connection(app: &[Connection], name: &str) -> Result<Connection, Fault> {
    app.iter()
        .find(|connection| connection.secret == name)
        .cloned()
        .ok_or_else(|| trouble(format!("{name} is no connection string of the app")).into())
}
