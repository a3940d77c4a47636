//! Rotation of a secret: the standard's six steps as one command.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | new-version | makes a credential that works beside the old one, writes it as a new version | the old value as the newest version |
//! | staging, worker, scheduler, production | restarts one place after the other, and looks at its health | restarting it on the old value |
//! | confirm | waits until the old one is no longer wanted | — |
//! | retire | the server forgets the old credential | nothing: the new one works by then |
//! | disable | disables the old versions in the vault | enabling them by hand |
//!
//! There is no moment without a working credential: the database gets a second login for each rotation,
//! the cache's two keys take turns, and what nobody but the app knows needs no server. No value is ever
//! in the journal: what a crash loses is made anew, which is harmless as long as nothing uses it.
//!
//! <https://learn.microsoft.com/azure/key-vault/secrets/tutorial-rotation-dual>

mod aged;
pub mod entry;
mod exception;
pub mod family;
mod open;
mod places;
mod run;
mod server;

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use lazuli_standard::Blueprint;
use serde::Serialize;

use crate::cloud::{Cloud, Trouble};
use crate::event::Reporter;
use crate::hold::{Ground, Held, HoldError};
use crate::journal::{Journal, JournalError, Journals};
use crate::lease::{Claim, LeaseError};
use crate::lock::{LockError, ROTATE, host, user};
pub use aged::Aged;
use entry::{Began, Entry, Outcome, Step, due, noted};
use family::Family;
pub use open::{Open, open_rotations};
use run::Run;

/// Where the WebJob that makes and forgets logins lies in the package.
pub const JOB: &str = "App_Data/jobs/triggered/rotate/run.sh";
/// Its script.
pub const JOB_SCRIPT: &str = include_str!("job.sh");

/// Everything a rotation needs to know.
#[derive(Debug)]
pub struct Rotation<'a> {
    /// The project's directory.
    pub project: &'a Path,
    /// Its resources.
    pub blueprint: &'a Blueprint,
    /// The environment's name.
    pub environment: &'a str,
    /// `local` or `azure`: a rotation of one is nothing to the other.
    pub target: &'a str,
    /// The subscription's ID.
    pub subscription: String,
    /// The platform.
    pub cloud: Cloud,
    /// Paths of the backend that say whether it is well, the health path first.
    pub health: Vec<String>,
    /// Who watches.
    pub reporter: Reporter,
}

/// What came of a rotation, or how far it is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its number.
    pub number: u32,
    /// The secrets that got new versions.
    pub secrets: Vec<String>,
    /// How it ended; `None` while it waits for its confirmation period to end.
    pub outcome: Option<Outcome>,
    /// When the old versions will be disabled, while it waits.
    pub due: Option<Timestamp>,
    /// Sites and slots that were restarted on the new version.
    pub restarted: Vec<String>,
}

/// Why a rotation did not come about.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// There is no such secret in the blueprint.
    #[error("`{0}` is no secret of this app; there are {known}", known = .1.join(", "))]
    Unknown(String, Vec<String>),
    /// An earlier rotation of the same secret has not ended.
    #[error("rotation {number} of {secret} has not ended: {state}")]
    Open {
        /// Which.
        number: u32,
        /// Of what.
        secret: String,
        /// What it waits for.
        state: String,
    },
    /// Nothing waits for a resumption.
    #[error("no rotation is under way")]
    NothingOpen,
    /// Somebody else releases or rotates from here.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Somebody else releases to the environment, or rotates a secret of it.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The journal.
    #[error("the rotation's journal cannot be used")]
    Journal(#[from] JournalError),
    /// A step failed.
    #[error("{}", .0.what)]
    Step(Box<Broken>),
}

/// A step that failed, and what the app works with now.
#[derive(Debug)]
pub struct Broken {
    /// The rotation.
    pub number: u32,
    /// The step.
    pub step: Step,
    /// The cause.
    pub what: String,
    /// Whose log shows it, and its last lines.
    pub log: Option<(String, Vec<String>)>,
    /// What the app works with now, in a sentence.
    pub works_with: String,
    /// Whether the rotation is still open and can be resumed.
    pub open: bool,
}

/// Where the journals of rotations are.
pub fn journals(project: &Path, environment: &str) -> Journals<Entry> {
    Journals::at(project.join(".lazuli").join("rotations").join(environment))
}

impl Rotation<'_> {
    /// The journals.
    pub fn journals(&self) -> Journals<Entry> {
        journals(self.project, self.environment)
    }

    /// Takes what a release takes.
    async fn hold(&self) -> Result<Held, RotationError> {
        let ground = Ground {
            project: self.project,
            environment: self.environment,
            cloud: &self.cloud,
            reporter: &self.reporter,
        };
        ground.hold(ROTATE, Claim::default()).await.map_err(|error| match error {
            HoldError::Lock(error) => error.into(),
            HoldError::Lease(error) => error.into(),
        })
    }

    /// Rotates the secret `name` (with or without the app's prefix) and all that hangs on the same
    /// credential. Returns when everything uses the new version; what the confirmation period ends
    /// is [`Self::resume`]'s.
    pub async fn begin(&self, name: &str, confirm: Duration) -> Result<Report, RotationError> {
        let family = Family::of(self.blueprint, name)
            .map_err(|known| RotationError::Unknown(name.to_owned(), known))?;
        let held = self.hold().await?;
        let outcome = self.begin_held(family, confirm).await;
        held.release().await;
        outcome
    }

    async fn begin_held(&self, family: Family, confirm: Duration) -> Result<Report, RotationError> {
        let journals = self.journals();
        for open in open_rotations(&journals, self.target)? {
            if open.secrets.iter().any(|secret| family.secrets().contains(secret)) {
                let state = open.state(Timestamp::now());
                return Err(RotationError::Open {
                    number: open.number,
                    secret: open.secret,
                    state,
                });
            }
        }
        let journal = journals.begin_with(|number| {
            Entry::Began(Box::new(Began {
                number,
                app: self.blueprint.app.clone(),
                environment: self.environment.to_owned(),
                target: self.target.to_owned(),
                secret: family.asked().to_owned(),
                secrets: family.secrets(),
                by: user(),
                host: host(),
                lazuli: env!("CARGO_PKG_VERSION").to_owned(),
                confirm_seconds: confirm.as_secs(),
            }))
        })?;
        Run::new(self, journal, family).forward().await
    }

    /// Goes on with every rotation that has not ended: finishes what was interrupted, and what waits
    /// if its time has come, or if it is not to wait any longer (`now`).
    pub async fn resume(&self, now: bool) -> Result<Vec<Report>, RotationError> {
        let held = self.hold().await?;
        let outcome = self.resume_held(now).await;
        held.release().await;
        outcome
    }

    async fn resume_held(&self, now: bool) -> Result<Vec<Report>, RotationError> {
        let journals = self.journals();
        let open = open_rotations(&journals, self.target)?;
        if open.is_empty() {
            return Err(RotationError::NothingOpen);
        }
        let mut reports = Vec::new();
        for Open { number, secret, .. } in open {
            let mut journal: Journal<Entry> = journals.resume(number)?;
            let family = Family::of(self.blueprint, &secret)
                .map_err(|known| RotationError::Unknown(secret.clone(), known))?;
            if now && due(journal.records()).is_some_and(|due| due > Timestamp::now()) {
                journal.write(Entry::Due { at: Timestamp::now() })?;
            }
            let waits = due(journal.records()).is_some_and(|due| due > Timestamp::now());
            if !waits {
                let (by, host) = (user(), host());
                journal.write(Entry::Resumed { by, host })?;
            }
            let backwards = noted(journal.records(), Step::NewVersion, run::UNDOING).is_some();
            let run = Run::new(self, journal, family);
            reports.push(if backwards { run.backward().await? } else { run.forward().await? });
        }
        Ok(reports)
    }
}

fn trouble(what: impl Into<String>) -> Trouble {
    Trouble { what: what.into(), log: None, unreachable: false }
}
