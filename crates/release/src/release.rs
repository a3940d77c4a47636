//! The release itself: the steps in their order, what each does, and what undoes it.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | package | makes the zip | — |
//! | deploy | the zip into the staging slot | nothing: it is left to be looked at |
//! | migrate-staging | the slot's own database | nothing: migrations go forward only (ERRATA 28) |
//! | health, readiness, smoke | look at the slot | — |
//! | migrate-production | production's database, by the new code | nothing |
//! | swap | exchanges the slots | swapping back |
//! | verify | looks at production | — |
//! | worker, scheduler | the zip into their sites | deploying the package they had |
//! | refill | first release only: the zip into the slot that the swap left empty | nothing |
//!
//! Where the environment has no slots, `deploy` and `verify` are of production itself, and what undoes
//! the deployment is deploying the package before.
//!
//! A step is announced in the journal before it begins. What is so is asked of the platform, never
//! concluded from the journal alone: the journal says what was meant, and with which ids.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lazuli_standard::Manifest;
use serde::Serialize;

use crate::cloud::{Cloud, Place, SWAP_LIMIT, Trouble};
use crate::event::{self, Reporter, millis};
use crate::journal::{
    self, Began, Deployed, Entry, Journal, JournalError, Journals, Kind, Outcome, Step, Story,
};
use crate::lock::{Lock, LockError, host, user};
use crate::package::{Package, PackageError, Packages};

/// The WebJob that migrates.
const MIGRATE: &str = "migrate";

/// How long an operation that may have been begun gets to show.
const DOUBT: Duration = Duration::from_secs(2);

/// Everything a release needs to know.
#[derive(Debug)]
pub struct Release<'a> {
    /// The project's directory, where `lazuli.yaml` is.
    pub project: &'a Path,
    /// What it says.
    pub manifest: &'a Manifest,
    /// The environment's name.
    pub environment: &'a str,
    /// `local` or `azure`.
    pub target: &'a str,
    /// The platform.
    pub cloud: Cloud,
    /// Who watches.
    pub reporter: Reporter,
    /// When the command began: the time to switched routing counts from here.
    pub began: Instant,
}

/// How a release is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Refuse a tree that differs from its commit.
    pub require_clean: bool,
    /// Release although production runs this very package.
    pub force: bool,
}

/// What came of a release.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its number; `None` when there was nothing to release.
    pub number: Option<u32>,
    /// What it was.
    pub kind: Kind,
    /// How it ended; `None` when there was nothing to release.
    pub outcome: Option<Outcome>,
    /// The package that production runs now, where it is known.
    pub package: Option<Package>,
    /// The active deployments now.
    pub deployed: Deployed,
    /// From the command's start to switched routing.
    pub switched_ms: Option<u64>,
    /// From the command's start to its end.
    pub elapsed_ms: u64,
    /// The steps and how long each took.
    pub steps: Vec<(Step, u64)>,
}

/// Why a release did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is no package.
    #[error("the package cannot be made")]
    Package(#[from] PackageError),
    /// The journal cannot be used.
    #[error("the release journal cannot be used")]
    Journal(#[from] JournalError),
    /// Somebody else releases.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// An earlier release was interrupted and must be brought to an end first.
    #[error("release {number} ({kind}) was interrupted and has not been brought to an end")]
    Interrupted {
        /// Which.
        number: u32,
        /// What it was.
        kind: Kind,
    },
    /// No release waits for a resumption.
    #[error("no release was interrupted")]
    NothingInterrupted,
    /// There is nothing to roll back to.
    #[error("there is nothing to roll back to: {0}")]
    NothingBefore(String),
    /// The sites are not there.
    #[error("{0} does not exist: its resources are not provisioned")]
    NotProvisioned(String),
    /// The environment has no staging slot.
    #[error("the environment `{0}` has no staging slot")]
    NoSlots(String),
    /// The platform could not be asked, before anything was changed.
    #[error("the platform cannot be asked")]
    Platform(#[source] lazuli_azure::Error),
    /// A step failed.
    #[error("{}", .0.what)]
    Step(Box<Broken>),
}

/// A step that failed, and how things stand after it.
#[derive(Debug)]
pub struct Broken {
    /// The release.
    pub number: u32,
    /// The step.
    pub step: Step,
    /// The cause.
    pub what: String,
    /// Whose log shows it, and its last lines.
    pub log: Option<(String, Vec<String>)>,
    /// How things stand.
    pub state: State,
    /// Whether production's database was migrated.
    pub migrated: bool,
    /// Whether there is a slot where the failed version can be looked at.
    pub staging: Option<String>,
}

/// How things stand after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Production serves what it served, and was never touched.
    Untouched,
    /// Production was touched, and serves again what it served.
    PutBack,
    /// Nobody knows: the platform stopped answering, or putting back failed too. The journal is open.
    Open,
}

impl Release<'_> {
    fn lazuli(&self) -> PathBuf {
        self.project.join(".lazuli")
    }

    /// The journals of the environment.
    pub fn journals(&self) -> Journals {
        Journals::of(&self.lazuli(), self.environment)
    }

    fn packages(&self) -> Packages {
        Packages::of(&self.lazuli())
    }

    /// Takes the lock, and keeps `.lazuli` out of version control.
    fn lock(&self, purpose: &str) -> Result<Lock, ReleaseError> {
        let ignore = self.lazuli().join(".gitignore");
        if !ignore.exists() {
            let write = || {
                std::fs::create_dir_all(self.lazuli())?;
                std::fs::write(&ignore, "# Releases and packages of this machine.\n*\n")
            };
            write().map_err(|source| LockError::Io(ignore.clone(), source))?;
        }
        let (lock, died) = Lock::acquire(self.journals().dir(), purpose)?;
        if let Some(died) = died {
            self.reporter.note(format!("took over the lock of {died}, which is gone"));
        }
        Ok(lock)
    }

    /// Releases the project as it is.
    pub async fn deploy(&self, options: Options) -> Result<Report, ReleaseError> {
        let _lock = self.lock("deploy")?;
        let journals = self.journals();
        let last = journals.last()?;
        refuse_interrupted(last.as_ref())?;

        let step = self.reporter.step(Step::Package.name(), "Package");
        let packaged = Instant::now();
        let built = self.packages().build(
            self.project,
            self.manifest,
            options.require_clean,
            &mut |warning| self.reporter.warn(warning),
        );
        let package = match built {
            Ok(package) => package,
            Err(error) => {
                step.fail(&error);
                return Err(error.into());
            }
        };
        step.done(describe(&package));
        let packaged = millis(packaged.elapsed());

        if !self.cloud.exists().await.map_err(ReleaseError::Platform)? {
            return Err(ReleaseError::NotProvisioned(self.cloud.host(Place::Production)));
        }
        let found = self.cloud.deployed().await.map_err(ReleaseError::Platform)?;
        if !options.force
            && let Some((number, _)) =
                running(&journals, &found)?.filter(|(_, running)| running.digest == package.digest)
        {
            self.reporter.note(format!(
                "production already runs this very package, since release {number}: nothing to release \
                 (--force releases it again)"
            ));
            return Ok(Report {
                number: None,
                kind: Kind::Deploy,
                outcome: None,
                package: Some(package),
                deployed: found,
                switched_ms: None,
                elapsed_ms: millis(self.began.elapsed()),
                steps: vec![(Step::Package, packaged)],
            });
        }

        let mut plan = self.plan();
        // The first swap exchanges the version with nothing: without this the staging slot would
        // answer nobody until the next release.
        if self.cloud.has_staging() && found.production.is_none() {
            plan.push(Step::Refill);
        }
        let mut journal =
            journals.begin(|number| self.began(number, Kind::Deploy, None, plan.clone()))?;
        journal.write(Entry::Packaged { package: package.clone() })?;
        let (detail, elapsed_ms) = (describe(&package), packaged);
        journal.write(Entry::Done { step: Step::Package, detail, elapsed_ms })?;
        journal.write(Entry::Found { state: found.clone() })?;
        let run = Run::new(self, journal, Kind::Deploy, found, Some(package));
        run.carry_out(&plan).await
    }

    /// Goes on with an interrupted release.
    pub async fn resume(&self) -> Result<Report, ReleaseError> {
        let _lock = self.lock("deploy --resume")?;
        let mut run = self.reopen("resume")?;
        let plan = run.plan.clone();
        run.settle_swap().await?;
        run.carry_out(&plan).await
    }

    /// Gives an interrupted release up: all as it was before.
    pub async fn abort(&self) -> Result<Report, ReleaseError> {
        let _lock = self.lock("deploy --abort")?;
        let mut run = self.reopen("abort")?;
        run.settle_swap().await?;
        run.finish_backwards().await
    }

    /// Puts the previous version back. An interrupted release is brought to the state before it.
    pub async fn rollback(&self) -> Result<Report, ReleaseError> {
        let _lock = self.lock("rollback")?;
        let journals = self.journals();
        let Some((number, story)) = journals.last()? else {
            return Err(ReleaseError::NothingBefore("nothing was ever released from here".into()));
        };
        if story.outcome().is_none() {
            let mut run = self.reopen("rollback")?;
            run.settle_swap().await?;
            return run.finish_backwards().await;
        }
        self.roll_back_from(&journals, number).await
    }

    async fn roll_back_from(&self, journals: &Journals, last: u32) -> Result<Report, ReleaseError> {
        // What is running, and what ran before it, is the last release that came to its end.
        let mut current = None;
        for number in journals.numbers()?.into_iter().rev().filter(|number| *number <= last) {
            let story = journals.read(number)?;
            if story.outcome() == Some(Outcome::Succeeded) {
                current = Some((number, story));
                break;
            }
        }
        let Some((current, story)) = current else {
            return Err(ReleaseError::NothingBefore("no release has succeeded yet".into()));
        };
        if story.began().is_some_and(|began| began.kind == Kind::Rollback) {
            return Err(ReleaseError::NothingBefore(format!(
                "release {current} was itself a rollback, and rolling it back would bring back what it \
                 was to be rid of"
            )));
        }
        let before = journal::found(&story.records).cloned().unwrap_or_default();
        let Some(previous) = before.production.clone() else {
            return Err(ReleaseError::NothingBefore(format!("release {current} was the first")));
        };
        // The one question that must be asked before anything moves: is the version before still
        // where the swap would take it from?
        let found = self.cloud.deployed().await.map_err(ReleaseError::Platform)?;
        if found.production.as_deref() == Some(previous.as_str()) {
            return Err(ReleaseError::NothingBefore(format!(
                "production already serves what it served before release {current}"
            )));
        }
        let kept = self.kept(journals, &before)?;
        let swap_back =
            self.cloud.has_staging() && found.staging.as_deref() == Some(previous.as_str());
        if !swap_back && kept.is_none() {
            return Err(ReleaseError::NothingBefore(format!(
                "the version before release {current} is no longer in the staging slot, and its package \
                 was not kept here"
            )));
        }
        let mut plan = Vec::new();
        if !swap_back {
            plan.push(Step::Deploy);
        }
        if self.cloud.has_staging() {
            plan.push(Step::Swap);
        }
        plan.extend([Step::Verify, Step::Worker, Step::Scheduler]);
        plan.retain(|step| self.applies(*step));
        let back_to = kept.as_ref().map(|(number, _)| *number);
        let began = |number| self.began(number, Kind::Rollback, back_to, plan.clone());
        let mut journal = journals.begin(began)?;
        if let Some((_, package)) = &kept {
            journal.write(Entry::Packaged { package: package.clone() })?;
        }
        journal.write(Entry::Found { state: found.clone() })?;
        if swap_back {
            let (step, name) = (Step::Deploy, DEPLOYMENT.to_owned());
            journal.write(Entry::Noted { step, name, value: previous })?;
        }
        let package = kept.map(|(_, package)| package);
        let run = Run::new(self, journal, Kind::Rollback, found, package);
        run.carry_out(&plan).await
    }

    /// Exchanges the slots, whatever they hold.
    pub async fn swap(&self) -> Result<Report, ReleaseError> {
        if !self.cloud.has_staging() {
            return Err(ReleaseError::NoSlots(self.environment.to_owned()));
        }
        let _lock = self.lock("swap")?;
        let journals = self.journals();
        refuse_interrupted(journals.last()?.as_ref())?;
        let found = self.cloud.deployed().await.map_err(ReleaseError::Platform)?;
        let Some(incoming) = found.staging.clone() else {
            return Err(ReleaseError::NothingBefore(
                "nothing is deployed to the staging slot".into(),
            ));
        };
        let plan = vec![Step::Swap, Step::Verify];
        let mut journal =
            journals.begin(|number| self.began(number, Kind::Swap, None, plan.clone()))?;
        journal.write(Entry::Found { state: found.clone() })?;
        let incoming_state = Deployed { production: Some(incoming.clone()), ..Deployed::default() };
        let package = running(&journals, &incoming_state)?.map(|(_, package)| package);
        if let Some(package) = &package {
            journal.write(Entry::Packaged { package: package.clone() })?;
        }
        let (step, name) = (Step::Deploy, DEPLOYMENT.to_owned());
        journal.write(Entry::Noted { step, name, value: incoming })?;
        Run::new(self, journal, Kind::Swap, found, package).carry_out(&plan).await
    }

    /// The steps of a deployment in this environment.
    fn plan(&self) -> Vec<Step> {
        use Step::{
            Deploy, Health, MigrateProduction, MigrateStaging, Package, Readiness, Scheduler,
            Smoke, Swap, Verify, Worker,
        };
        let all = if self.cloud.has_staging() {
            vec![
                Package,
                Deploy,
                MigrateStaging,
                Health,
                Readiness,
                Smoke,
                MigrateProduction,
                Swap,
                Verify,
                Worker,
                Scheduler,
            ]
        } else {
            vec![Package, Deploy, MigrateProduction, Verify, Worker, Scheduler]
        };
        all.into_iter().filter(|step| self.applies(*step)).collect()
    }

    fn applies(&self, step: Step) -> bool {
        match step {
            Step::MigrateStaging | Step::MigrateProduction => {
                self.manifest.database.migrate.is_some()
            }
            Step::Smoke => !self.manifest.smoke.is_empty(),
            Step::Worker => self.cloud.has(Place::Worker),
            Step::Scheduler => self.cloud.has(Place::Scheduler),
            _ => true,
        }
    }

    fn began(&self, number: u32, kind: Kind, back_to: Option<u32>, plan: Vec<Step>) -> Began {
        Began {
            number,
            kind,
            app: self.manifest.app.clone(),
            environment: self.environment.to_owned(),
            target: self.target.to_owned(),
            by: user(),
            host: host(),
            lazuli: env!("CARGO_PKG_VERSION").to_owned(),
            back_to,
            plan,
        }
    }

    /// The package of the release that put `before.production` there, if it is still kept.
    fn kept(
        &self,
        journals: &Journals,
        before: &Deployed,
    ) -> Result<Option<(u32, Package)>, JournalError> {
        let known = running(journals, before)?;
        Ok(known.filter(|(_, package)| self.packages().find(&package.digest).is_some()))
    }

    fn reopen(&self, to: &str) -> Result<Run<'_>, ReleaseError> {
        let journals = self.journals();
        let (number, story) = journals.last()?.ok_or(ReleaseError::NothingInterrupted)?;
        if story.outcome().is_some() {
            return Err(ReleaseError::NothingInterrupted);
        }
        let mut journal = journals.resume(number)?;
        journal.write(Entry::Resumed { by: user(), host: host(), to: to.to_owned() })?;
        let (kind, plan) = story
            .began()
            .map_or((Kind::Deploy, Vec::new()), |began| (began.kind, began.plan.clone()));
        self.reporter.note(format!(
            "release {number} ({kind}) was interrupted; asking the platform how far it came"
        ));
        let found = journal::found(&story.records).cloned().unwrap_or_default();
        let package = journal::package(&story.records).cloned();
        let mut run = Run::new(self, journal, kind, found, package);
        run.plan = plan;
        run.resumed = true;
        Ok(run)
    }
}

/// Under what name the id of a step's deployment is noted.
const DEPLOYMENT: &str = "deployment";
/// Under what names a deployment that puts something back is noted, and the package it is made of:
/// not the release's own.
const PUT_BACK: &str = "put-back";
const PUT_BACK_PACKAGE: &str = "put-back-package";
/// Under what name the address of a step's operation is noted.
const OPERATION: &str = "operation";

fn refuse_interrupted(last: Option<&(u32, Story)>) -> Result<(), ReleaseError> {
    match last {
        Some((number, story)) if story.outcome().is_none() => Err(ReleaseError::Interrupted {
            number: *number,
            kind: story.began().map_or(Kind::Deploy, |began| began.kind),
        }),
        _ => Ok(()),
    }
}

/// The release that made the deployment which production runs, and its package.
pub fn running(
    journals: &Journals,
    deployed: &Deployed,
) -> Result<Option<(u32, Package)>, JournalError> {
    let Some(production) = &deployed.production else { return Ok(None) };
    made(journals, &[Step::Deploy], production)
}

/// The release that made a deployment, wherever it is, and its package.
pub fn made_by(
    journals: &Journals,
    deployment: &str,
) -> Result<Option<(u32, Package)>, JournalError> {
    for step in [Step::Deploy, Step::Refill, Step::Worker, Step::Scheduler] {
        if let Some(made) = made(journals, &[step], deployment)? {
            return Ok(Some(made));
        }
    }
    Ok(None)
}

/// The release whose step made this deployment, and its package.
fn made(
    journals: &Journals,
    steps: &[Step],
    deployment: &str,
) -> Result<Option<(u32, Package)>, JournalError> {
    for number in journals.numbers()?.into_iter().rev() {
        let story = journals.read(number)?;
        let began = story.began();
        // A swap or a swap back made no deployment, though it notes one.
        let by_itself = began.is_some_and(|began| began.plan.contains(&Step::Deploy))
            || !steps.contains(&Step::Deploy);
        let noted = |step: Step, name: &str| journal::noted(&story.records, step, name);
        let put_back = steps.iter().find(|step| noted(**step, PUT_BACK) == Some(deployment));
        if let Some(digest) = put_back.and_then(|step| noted(*step, PUT_BACK_PACKAGE)) {
            return packaged(journals, digest);
        }
        let fits = |step: &Step| noted(*step, DEPLOYMENT) == Some(deployment);
        if by_itself
            && steps.iter().any(fits)
            && let Some(package) = journal::package(&story.records)
        {
            return Ok(Some((number, package.clone())));
        }
    }
    Ok(None)
}

/// The release that made the package of this digest first.
fn packaged(journals: &Journals, digest: &str) -> Result<Option<(u32, Package)>, JournalError> {
    for number in journals.numbers()? {
        let story = journals.read(number)?;
        if let Some(package) = journal::package(&story.records).filter(|p| p.digest == digest) {
            return Ok(Some((number, package.clone())));
        }
    }
    Ok(None)
}

fn describe(package: &Package) -> String {
    let kib = package.size.div_ceil(1024);
    let commit = package.origin.commit.as_deref().map_or_else(String::new, |commit| {
        let short = commit.get(..10).unwrap_or(commit);
        format!(", commit {short}{}", if package.origin.dirty { " with changes" } else { "" })
    });
    format!("{} files, {kib} KiB, {}{commit}", package.files, package.short())
}

/// What a step came to.
struct Done {
    detail: String,
    unchanged: bool,
}

impl Done {
    fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), unchanged: false }
    }

    fn unchanged(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), unchanged: true }
    }
}

/// Why a step failed.
enum Fault {
    Trouble(Trouble),
    Journal(JournalError),
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<lazuli_azure::Error> for Fault {
    fn from(error: lazuli_azure::Error) -> Self {
        Self::Trouble(error.into())
    }
}

impl From<JournalError> for Fault {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// What putting back came to.
enum Restored {
    /// Nothing had been touched.
    Nothing,
    /// All is as it was before.
    Back,
    /// A rollback past its swap: the only way is on.
    Forward,
}

/// A release under way.
struct Run<'a> {
    release: &'a Release<'a>,
    journal: Journal,
    kind: Kind,
    plan: Vec<Step>,
    /// What was deployed before anything changed.
    found: Deployed,
    package: Option<Package>,
    resumed: bool,
    switched_ms: Option<u64>,
    steps: Vec<(Step, u64)>,
}

impl<'a> Run<'a> {
    fn new(
        release: &'a Release<'a>,
        journal: Journal,
        kind: Kind,
        found: Deployed,
        package: Option<Package>,
    ) -> Self {
        Self {
            release,
            journal,
            kind,
            plan: Vec::new(),
            found,
            package,
            resumed: false,
            switched_ms: None,
            steps: Vec::new(),
        }
    }

    fn cloud(&self) -> &'a Cloud {
        &self.release.cloud
    }

    fn noted(&self, step: Step, name: &str) -> Option<String> {
        journal::noted(self.journal.records(), step, name).map(str::to_owned)
    }

    fn note(&mut self, step: Step, name: &str, value: &str) -> Result<(), JournalError> {
        self.journal.write(Entry::Noted { step, name: name.to_owned(), value: value.to_owned() })
    }

    /// The deployment this release brings into production.
    fn ours(&self) -> Option<String> {
        self.noted(Step::Deploy, DEPLOYMENT)
    }

    /// Where `Deploy` goes.
    fn landing(&self) -> Place {
        if self.cloud().has_staging() { Place::Staging } else { Place::Production }
    }

    async fn carry_out(mut self, plan: &[Step]) -> Result<Report, ReleaseError> {
        // What comes before the swap looks at the slot, where the old version is by now.
        let past = self.resumed
            && self.cloud().has_staging()
            && self.is_in_production().await.map_err(ReleaseError::Platform)?;
        let from = plan.iter().position(|step| *step == Step::Swap).filter(|_| past).unwrap_or(0);
        for &step in &plan[from..] {
            if let Err((what, log, unreachable)) = self.one(step).await? {
                return Err(self.broken(step, what, log, unreachable).await);
            }
        }
        self.end(Outcome::Succeeded).await
    }

    /// Does one step. The outer error is of the journal, the inner of the step.
    async fn one(
        &mut self,
        step: Step,
    ) -> Result<Result<(), (String, Option<(String, Vec<String>)>, bool)>, ReleaseError> {
        if step == Step::Package {
            return Ok(Ok(()));
        }
        let line = self.release.reporter.step(step.name(), self.title(step));
        self.journal.write(Entry::Started { step })?;
        let began = Instant::now();
        let outcome = self.perform(step, &line).await;
        let elapsed_ms = millis(began.elapsed());
        match outcome {
            Ok(Done { detail, unchanged }) => {
                self.journal.write(Entry::Done { step, detail: detail.clone(), elapsed_ms })?;
                self.steps.push((step, elapsed_ms));
                if unchanged {
                    line.unchanged(detail);
                } else {
                    line.done(detail);
                }
                Ok(Ok(()))
            }
            Err(Fault::Journal(error)) => {
                line.fail(&error);
                Err(error.into())
            }
            Err(Fault::Trouble(trouble)) => {
                let log = trouble.log.as_ref().map_or_else(Vec::new, |(_, lines)| lines.clone());
                let error = trouble.what.clone();
                self.journal.write(Entry::Failed { step, error, log, elapsed_ms })?;
                line.fail(&trouble.what);
                Ok(Err((trouble.what, trouble.log, trouble.unreachable)))
            }
        }
    }

    fn title(&self, step: Step) -> String {
        let cloud = self.cloud();
        match step {
            Step::Package => "Package".to_owned(),
            Step::Deploy => format!("Deploy to {}", cloud.host(self.landing())),
            Step::MigrateStaging => "Migrate the staging database".to_owned(),
            Step::Health => format!("Health of {}", cloud.host(Place::Staging)),
            Step::Readiness => format!("Readiness of {}", cloud.host(Place::Staging)),
            Step::Smoke => format!("Smoke checks on {}", cloud.host(Place::Staging)),
            Step::MigrateProduction if self.cloud().has_staging() => {
                "Migrate the production database".to_owned()
            }
            Step::MigrateProduction => {
                format!("Migrate the database of {}", self.release.environment)
            }
            Step::Swap => "Swap staging and production".to_owned(),
            Step::Verify => format!("Verify {}", cloud.host(Place::Production)),
            Step::Worker => format!("Worker {}", cloud.host(Place::Worker)),
            Step::Scheduler => format!("Scheduler {}", cloud.host(Place::Scheduler)),
            Step::Refill => format!("The same version to {}", cloud.host(Place::Staging)),
        }
    }

    async fn perform(&mut self, step: Step, line: &event::Step) -> Result<Done, Fault> {
        let (cloud, manifest) = (self.cloud(), self.release.manifest);
        match step {
            Step::Package => Ok(Done::new("")),
            Step::Deploy => self.place(Step::Deploy, self.landing(), line).await,
            Step::MigrateStaging => self.migrate(step, Place::Staging, "staging", line).await,
            Step::MigrateProduction => self.migrate(step, self.landing(), "production", line).await,
            Step::Health => {
                let took = cloud.healthy(Place::Staging, &manifest.backend.health).await?;
                Ok(Done::new(format!(
                    "{} answers in {} ms",
                    manifest.backend.health,
                    took.as_millis()
                )))
            }
            Step::Readiness => {
                let took = cloud.healthy(Place::Staging, &manifest.backend.readiness).await?;
                Ok(Done::new(format!(
                    "{} answers in {} ms",
                    manifest.backend.readiness,
                    took.as_millis()
                )))
            }
            Step::Smoke => self.smoke(Place::Staging, line).await,
            Step::Swap => self.exchange(line).await,
            Step::Verify => self.verify(line).await,
            Step::Worker => self.place(Step::Worker, Place::Worker, line).await,
            Step::Scheduler => self.place(Step::Scheduler, Place::Scheduler, line).await,
            Step::Refill => match self.place(Step::Refill, Place::Staging, line).await {
                // The release is done; an empty slot is no reason to undo it.
                Err(Fault::Trouble(trouble)) if !trouble.unreachable => {
                    self.release.reporter.warn(&trouble);
                    Ok(Done::unchanged("left empty"))
                }
                outcome => outcome,
            },
        }
    }

    /// Deploys the release's package to a place, unless that is so already.
    async fn place(&mut self, step: Step, place: Place, line: &event::Step) -> Result<Done, Fault> {
        let cloud = self.cloud();
        if self.resumed
            && let Some(ours) = self.noted(step, DEPLOYMENT)
        {
            // It may still be building; and it may be there no more, if somebody else deployed.
            let settled = match cloud.settle(place, &ours, line).await {
                Err(trouble) if trouble.unreachable => return Err(trouble.into()),
                settled => settled.is_ok(),
            };
            if settled && cloud.active(place).await?.as_deref() == Some(ours.as_str()) {
                return Ok(Done::unchanged(format!("deployment {} is there", short(&ours))));
            }
        }
        let Some(package) = self.package.clone() else {
            let what =
                format!("no package is known for {}: it is left as it is", cloud.host(place));
            self.release.reporter.warn(&what);
            return Ok(Done::unchanged("left as it is"));
        };
        let Some(path) = self.release.packages().find(&package.digest) else {
            return Err(Fault::Trouble(Trouble {
                what: format!("the package {} is not kept here any more", package.short()),
                log: None,
                unreachable: false,
            }));
        };
        line.message("sending the package");
        let id = cloud.publish(place, &path, line).await?;
        self.note(step, DEPLOYMENT, &id)?;
        cloud.settle(place, &id, line).await?;
        Ok(Done::new(format!("deployment {}", short(&id))))
    }

    async fn migrate(
        &mut self,
        step: Step,
        place: Place,
        database: &str,
        line: &event::Step,
    ) -> Result<Done, Fault> {
        let cloud = self.cloud();
        cloud.database_serves(line).await?;
        let mut run = String::new();
        let ran = cloud.run_job(place, MIGRATE, database, line, |id| id.clone_into(&mut run)).await;
        if !run.is_empty() {
            self.note(step, "run", &run)?;
        }
        Ok(Done::new(ran?.summary))
    }

    async fn smoke(&mut self, place: Place, line: &event::Step) -> Result<Done, Fault> {
        let checks = &self.release.manifest.smoke;
        for (index, check) in checks.iter().enumerate() {
            line.message(format!("GET {}", check.path));
            line.measure(index as u64, checks.len() as u64);
            self.cloud().smoke(place, check).await?;
        }
        let plural = if checks.len() == 1 { "" } else { "s" };
        Ok(Done::new(format!("{} check{plural} passed", checks.len())))
    }

    async fn is_in_production(&self) -> Result<bool, lazuli_azure::Error> {
        let Some(ours) = self.ours() else { return Ok(false) };
        Ok(self.cloud().active(Place::Production).await? == Some(ours))
    }

    async fn exchange(&mut self, line: &event::Step) -> Result<Done, Fault> {
        if self.resumed && self.is_in_production().await? {
            return Ok(Done::unchanged("done before the interruption"));
        }
        self.swap_to(self.ours(), line).await?;
        let switched = millis(self.release.began.elapsed());
        self.switched_ms = Some(switched);
        Ok(Done::new(match self.kind {
            Kind::Deploy => String::new(),
            _ => format!("routing switched {switched} ms after the command began"),
        }))
    }

    /// Swaps until production holds the wanted deployment; once, unless an operation of somebody
    /// else's was under way.
    async fn swap_to(&mut self, wanted: Option<String>, line: &event::Step) -> Result<(), Fault> {
        let cloud = self.cloud();
        let began = Instant::now();
        loop {
            line.message("warming up");
            match cloud.begin_swap().await {
                Ok(None) => return Ok(()),
                Ok(Some(operation)) => {
                    self.note(Step::Swap, OPERATION, &operation)?;
                    let ended = cloud.wait(&operation).await;
                    return match ended {
                        Ok(()) => Ok(()),
                        // The operation's record expired under us; what it did has not.
                        Err(error) if error.is_not_found() => Ok(()),
                        Err(error) if error.is_transport() => Err(error.into()),
                        Err(error) => {
                            let lines = cloud.app_log(Place::Staging).await;
                            let of = format!("the app's log on {}", cloud.host(Place::Staging));
                            let mut trouble = Trouble::from(error);
                            trouble.log = (!lines.is_empty()).then_some((of, lines));
                            Err(trouble.into())
                        }
                    };
                }
                // Another operation on the site is under way; perhaps our own of before a crash.
                Err(error) if error.is_conflict() && began.elapsed() < SWAP_LIMIT => {
                    line.message("waiting for another operation on the site");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if wanted.is_some() && cloud.active(Place::Production).await? == wanted {
                        return Ok(());
                    }
                }
                // An answer of 5xx says nothing about whether the work was done.
                Err(error) if error.refusal().is_some_and(|r| r.status.is_server_error()) => {
                    cloud.quiet(DOUBT).await?;
                    if wanted.is_some() && cloud.active(Place::Production).await? == wanted {
                        return Ok(());
                    }
                    return Err(error.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn verify(&mut self, line: &event::Step) -> Result<Done, Fault> {
        let (cloud, manifest) = (self.cloud(), self.release.manifest);
        if let Some(ours) = self.ours() {
            let active = cloud.active(Place::Production).await?;
            if active.as_deref() != Some(ours.as_str()) {
                let has = active.map_or_else(|| "nothing".to_owned(), |id| short(&id).to_owned());
                return Err(Fault::Trouble(Trouble {
                    what: format!("production holds {has}, not deployment {}", short(&ours)),
                    log: None,
                    unreachable: false,
                }));
            }
        }
        for path in [&manifest.backend.health, &manifest.backend.readiness] {
            line.message(format!("GET {path}"));
            cloud.healthy(Place::Production, path).await?;
        }
        self.smoke(Place::Production, line).await
    }

    /// Waits for a swap that an interrupted process began, so that nobody swaps over it, or takes
    /// for untouched what is about to change.
    async fn settle_swap(&mut self) -> Result<(), ReleaseError> {
        let records = self.journal.records();
        let begun = records
            .iter()
            .rposition(|record| matches!(record.entry, Entry::Started { step: Step::Swap }));
        let Some(begun) = begun else { return Ok(()) };
        let since = &records[begun..];
        if journal::is_done(since, Step::Swap) {
            return Ok(());
        }
        let operation = journal::noted(since, Step::Swap, OPERATION).map(str::to_owned);
        let step = self.release.reporter.step("settle", "Swap that was under way");
        let waited = match &operation {
            Some(operation) => self.cloud().wait(operation).await,
            None => Ok(()),
        };
        let refused = match waited {
            Err(error) if error.is_transport() => {
                step.fail(&error);
                return Err(ReleaseError::Platform(error));
            }
            Err(error) => Some(error),
            Ok(()) => None,
        };
        let doubt = if operation.is_some() { Duration::ZERO } else { DOUBT };
        match (self.cloud().quiet(doubt).await, refused) {
            (Err(error), _) => {
                step.fail(&error);
                Err(ReleaseError::Platform(error))
            }
            (Ok(()), Some(error)) => {
                step.done(format!("did not happen: {error}"));
                Ok(())
            }
            (Ok(()), None) => {
                step.done("nothing is under way any more");
                Ok(())
            }
        }
    }

    /// After a failed step: puts back what was touched, as far as the platform answers.
    async fn broken(
        mut self,
        step: Step,
        what: String,
        log: Option<(String, Vec<String>)>,
        unreachable: bool,
    ) -> ReleaseError {
        let migrated = journal::is_done(self.journal.records(), Step::MigrateProduction);
        let staging = self.cloud().has_staging().then(|| self.cloud().host(Place::Staging));
        let number = self.journal.number();
        let state = if unreachable {
            State::Open
        } else {
            match self.put_back().await {
                Ok(Restored::Forward) => State::Open,
                Ok(restored) => {
                    let (outcome, state) = match restored {
                        Restored::Back => (Outcome::RolledBack, State::PutBack),
                        _ => (Outcome::Failed, State::Untouched),
                    };
                    let elapsed_ms = millis(self.release.began.elapsed());
                    if let Err(error) = self.journal.write(Entry::Ended { outcome, elapsed_ms }) {
                        return error.into();
                    }
                    state
                }
                Err(Fault::Journal(error)) => return error.into(),
                Err(Fault::Trouble(trouble)) => {
                    self.release.reporter.warn(format!("putting back failed too: {trouble}"));
                    State::Open
                }
            }
        };
        ReleaseError::Step(Box::new(Broken { number, step, what, log, state, migrated, staging }))
    }

    /// The end of an interrupted release that is not to be: for a deployment all as it was before,
    /// for a rollback past its swap the rest of the rollback.
    async fn finish_backwards(self) -> Result<Report, ReleaseError> {
        let in_production = self.is_in_production().await.map_err(ReleaseError::Platform)?;
        if self.kind == Kind::Rollback && in_production {
            let plan = self.plan.clone();
            return self.carry_out(&plan).await;
        }
        self.give_up().await
    }

    /// Ends an interrupted release with everything as it was before it.
    async fn give_up(mut self) -> Result<Report, ReleaseError> {
        match self.put_back().await {
            Ok(Restored::Back | Restored::Forward) => self.end(Outcome::RolledBack).await,
            Ok(Restored::Nothing) => self.end(Outcome::Aborted).await,
            Err(Fault::Journal(error)) => Err(error.into()),
            Err(Fault::Trouble(trouble)) => Err(ReleaseError::Step(Box::new(Broken {
                number: self.journal.number(),
                step: Step::Swap,
                what: trouble.what,
                log: trouble.log,
                state: State::Open,
                migrated: journal::is_done(self.journal.records(), Step::MigrateProduction),
                staging: None,
            }))),
        }
    }

    /// Undoes what was done to production, worker and scheduler, asking the platform what that is.
    async fn put_back(&mut self) -> Result<Restored, Fault> {
        let cloud = self.cloud();
        let now = cloud.deployed().await?;
        let ours = self.ours();
        let mut touched = false;
        // A rollback that goes wrong is not undone by bringing back what it was to be rid of.
        if self.kind == Kind::Rollback {
            let swapped = now.production == ours && self.found.production != now.production;
            return Ok(if swapped { Restored::Forward } else { Restored::Nothing });
        }
        if ours.is_some() && now.production == ours && now.production != self.found.production {
            touched = true;
            if cloud.has_staging() {
                let line = self.release.reporter.step("swap-back", "Swap back");
                match self.swap_to(self.found.production.clone(), &line).await {
                    Ok(()) => line.done(format!(
                        "{} serves what it served before",
                        cloud.host(Place::Production)
                    )),
                    Err(fault) => {
                        line.fail("the platform refused");
                        return Err(fault);
                    }
                }
            } else {
                self.redeploy(Step::Deploy, Place::Production, self.found.production.clone())
                    .await?;
            }
        }
        for (step, place, now, before) in [
            (Step::Scheduler, Place::Scheduler, now.scheduler, self.found.scheduler.clone()),
            (Step::Worker, Place::Worker, now.worker, self.found.worker.clone()),
        ] {
            let begun = journal::is_started(self.journal.records(), step);
            if begun && now != before {
                touched = true;
                self.redeploy(step, place, before).await?;
            }
        }
        Ok(if touched { Restored::Back } else { Restored::Nothing })
    }

    /// Deploys to a place the package that its deployment `before` was made of.
    async fn redeploy(
        &mut self,
        step: Step,
        place: Place,
        before: Option<String>,
    ) -> Result<(), Fault> {
        let cloud = self.cloud();
        let Some(before) = before else {
            self.release.reporter.warn(format!(
                "{} held nothing before this release: it keeps what it has",
                cloud.host(place)
            ));
            return Ok(());
        };
        let known = made(&self.release.journals(), &[step], &before)?;
        let kept = known.and_then(|(_, package)| {
            Some((self.release.packages().find(&package.digest)?, package.digest))
        });
        let Some((path, digest)) = kept else {
            self.release.reporter.warn(format!(
                "the package of {} before this release ({before}) was not kept here: it keeps what it has",
                cloud.host(place)
            ));
            return Ok(());
        };
        let name = format!("{step}-back");
        let line =
            self.release.reporter.step(name, format!("Previous version to {}", cloud.host(place)));
        let outcome = async {
            let id = cloud.publish(place, &path, &line).await?;
            cloud.settle(place, &id, &line).await?;
            Ok::<_, Trouble>(id)
        };
        match outcome.await {
            Ok(id) => {
                self.note(step, PUT_BACK_PACKAGE, &digest)?;
                self.note(step, PUT_BACK, &id)?;
                line.done(format!("deployment {}", short(&id)));
                Ok(())
            }
            Err(trouble) => {
                line.fail(&trouble.what);
                Err(trouble.into())
            }
        }
    }

    async fn end(mut self, outcome: Outcome) -> Result<Report, ReleaseError> {
        let elapsed_ms = millis(self.release.began.elapsed());
        self.journal.write(Entry::Ended { outcome, elapsed_ms })?;
        let deployed = self.cloud().deployed().await.unwrap_or_default();
        let journals = self.release.journals();
        let mut needed: Vec<String> =
            self.package.iter().map(|package| package.digest.clone()).collect();
        if let Some((_, package)) = running(&journals, &self.found)? {
            needed.push(package.digest);
        }
        let needed: Vec<&str> = needed.iter().map(String::as_str).collect();
        if let Err(error) = self.release.packages().prune(&needed)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            self.release.reporter.warn(format!("old packages could not be deleted: {error}"));
        }
        let package = match outcome {
            Outcome::Succeeded => self.package,
            _ => running(&journals, &deployed)?.map(|(_, package)| package),
        };
        Ok(Report {
            number: Some(self.journal.number()),
            kind: self.kind,
            outcome: Some(outcome),
            package,
            deployed,
            switched_ms: self.switched_ms,
            elapsed_ms,
            steps: self.steps,
        })
    }
}

/// The first characters of a deployment's id.
fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}
