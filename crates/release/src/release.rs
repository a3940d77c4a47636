//! The release itself: the steps in their order, what each does, and what undoes it.
//!
//! | step | does | undone by |
//! |---|---|---|
//! | package | makes the zip | — |
//! | gates | asks the checklist ([`crate::gates`]) | — |
//! | deploy | the zip into the staging slot | nothing: it is left to be looked at |
//! | trial | the migrations on a copy of the staging database | the copy is deleted |
//! | migrate-staging | the slot's own database | nothing: migrations go forward only (ERRATA 28) |
//! | health, readiness, smoke | look at the slot | — |
//! | migrate-production | production's database, by the new code | nothing |
//! | canary | a growing share of the traffic to the slot | all of it to production again |
//! | swap | exchanges the slots | swapping back |
//! | verify | looks at production | — |
//! | worker, scheduler | the zip into their sites | deploying the package they had |
//! | watch | looks at production ([`crate::watch`]) from the swap on | — |
//! | refill | first release only: the zip into the slot that the swap left empty | nothing |
//!
//! Where the environment has no slots, `deploy` and `verify` are of production itself, and what undoes
//! the deployment is deploying the package before.
//!
//! A step is announced in the journal before it begins. What is so is asked of the platform, never
//! concluded from the journal alone: the journal says what was meant, and with which ids.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lazuli_standard::{Blueprint, Manifest};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::cloud::{Cloud, Place, SWAP_LIMIT, Trouble};
use crate::event::{self, Reporter, millis};
use crate::gates::{self, Gate, Verdict};
use crate::hold::{Ground, Held, HoldError};
use crate::journal::{
    self, Began, Deployed, Entry, Journal, JournalError, Journals, Kind, Outcome, Step, Story,
};
use crate::lease::{Claim, LeaseError};
use crate::lock::{LockError, host, user};
use crate::metrics::{Served, minute};
use crate::notify::{News, Notifier, What};
use crate::package::{Package, PackageError, Packages};
use crate::provision::Plan;
use crate::sbom;
use crate::watch::{self, BASELINE, Baseline, Breach, Look, Watcher};

/// The WebJob that migrates.
const MIGRATE: &str = "migrate";

/// How long an operation that may have been begun gets to show.
const DOUBT: Duration = Duration::from_secs(2);

/// How long a migration may make others wait, in milliseconds: as long as a person takes for a hiccup.
const LOCK_LIMIT_MS: u64 = 2_000;

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
    /// The resources that it gives the environment.
    pub blueprint: &'a Blueprint,
    /// The same as requests; `None` where they cannot be made, and drift not be seen.
    pub resources: Option<Plan>,
    /// The platform.
    pub cloud: Cloud,
    /// Who is told.
    pub notifier: Notifier,
    /// Take the environment over from somebody who is gone.
    pub take_over: bool,
    /// Who watches.
    pub reporter: Reporter,
    /// When the command began: the time to switched routing counts from here.
    pub began: Instant,
}

/// How a release is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Release a tree that differs from its commit.
    pub allow_dirty: bool,
    /// Release although production runs this very package.
    pub force: bool,
    /// How long production is watched after the switch; not at all when zero.
    pub watch: Duration,
    /// Gates that may fail.
    pub accepted: Vec<String>,
    /// Shares of the traffic, in percent, that the new version gets before the switch.
    pub canary: Vec<u8>,
}

/// What a release would do.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rehearsal {
    /// The package it would release.
    pub package: Package,
    /// The release that made what production runs, if that is the very package.
    pub unchanged_since: Option<u32>,
    /// What each step would do.
    pub steps: Vec<(Step, String)>,
    /// What the gates say now.
    pub gates: Vec<Gate>,
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
    /// How long the platform and the app were waited for in them, and what the rest of the time is:
    /// our own.
    pub own_ms: u64,
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
    /// Somebody else releases from here.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Somebody else releases to the environment.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// Somebody else took the release over while it was watched.
    #[error(
        "release {number} was taken over while it was watched: whoever did brings it to its end"
    )]
    TakenOver {
        /// Which.
        number: u32,
    },
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
        Journals::of(&self.lazuli(), self.environment).telling(&self.reporter)
    }

    fn packages(&self) -> Packages {
        Packages::of(&self.lazuli())
    }

    async fn hold(&self, purpose: &str, over_watch: bool) -> Result<Held, ReleaseError> {
        let claim = Claim { take_over: self.take_over, over_watch };
        let place = Ground {
            project: self.project,
            environment: self.environment,
            cloud: &self.cloud,
            reporter: &self.reporter,
        };
        place.hold(purpose, claim).await.map_err(|error| match error {
            HoldError::Lock(error) => error.into(),
            HoldError::Lease(LeaseError::Platform(error)) => ReleaseError::Platform(error),
            HoldError::Lease(error) => error.into(),
        })
    }

    /// Does something while nobody else may, and tells people how it ended.
    async fn holding(
        &self,
        purpose: &str,
        over_watch: bool,
        work: impl AsyncFnOnce(&Held) -> Result<Report, ReleaseError>,
    ) -> Result<Report, ReleaseError> {
        let held = self.hold(purpose, over_watch).await?;
        let outcome = work(&held).await;
        match &outcome {
            Ok(Report { number: Some(number), kind, outcome: Some(ended), elapsed_ms, .. }) => {
                let seconds = *elapsed_ms as f64 / 1000.0;
                let what = match ended {
                    Outcome::RolledBack => What::RolledBack,
                    Outcome::Failed | Outcome::Aborted => What::Failed,
                    Outcome::Succeeded => What::Finished,
                };
                self.tell(what, *number, format!("{kind}: {ended} after {seconds:.0} s"));
            }
            Err(ReleaseError::Step(broken)) => {
                let what = match broken.state {
                    State::Untouched => What::Failed,
                    State::PutBack => What::RolledBack,
                    State::Open => What::Stuck,
                };
                self.tell(what, broken.number, format!("{}: {}", broken.step, broken.what));
            }
            _ => {}
        }
        let interrupted = self
            .journals()
            .last()
            .is_ok_and(|last| last.is_some_and(|(_, story)| story.outcome().is_none()));
        let Held { lock, lease } = held;
        if let Some(lease) = lease.filter(|_| !interrupted) {
            lease.release().await;
        }
        drop(lock);
        for error in self.notifier.finish().await {
            self.reporter.warn(error);
        }
        outcome
    }

    fn tell(&self, what: What, release: u32, text: String) {
        let news = News {
            what,
            app: self.manifest.app.clone(),
            environment: self.environment.to_owned(),
            release,
            by: format!("{}@{}", user(), host()),
            text,
        };
        self.notifier.tell(self.cloud.client(), &news);
    }

    /// Makes the package.
    fn build(&self, options: &Options) -> Result<(Package, u64), ReleaseError> {
        let step = self.reporter.step(Step::Package.name(), "Package");
        let began = Instant::now();
        let built = self.packages().build(
            self.project,
            self.manifest,
            options.allow_dirty,
            &mut |warning| self.reporter.warn(warning),
        );
        match built {
            Ok(package) => {
                step.done(describe(&package));
                Ok((package, millis(began.elapsed())))
            }
            Err(error) => {
                step.fail(&error);
                Err(error.into())
            }
        }
    }

    /// What is deployed where, if there is anywhere to deploy to.
    async fn look(&self) -> Result<Deployed, ReleaseError> {
        let (exists, found) = tokio::join!(self.cloud.exists(), self.cloud.deployed());
        if !exists.map_err(ReleaseError::Platform)? {
            return Err(ReleaseError::NotProvisioned(self.cloud.host(Place::Production)));
        }
        found.map_err(ReleaseError::Platform)
    }

    /// What a release would do, and what the gates say, without doing any of it.
    pub async fn rehearse(&self, options: &Options) -> Result<Rehearsal, ReleaseError> {
        let journals = self.journals();
        refuse_interrupted(journals.last()?.as_ref())?;
        let (package, _) = self.build(options)?;
        let found = self.look().await?;
        let unchanged_since = running(&journals, &found)?
            .filter(|(_, running)| running.digest == package.digest)
            .map(|(number, _)| number);
        let plan = self.plan(options, &found);
        let gates = self.ask(&package, &found, &options.accepted).await?;
        let steps = plan.iter().map(|step| (*step, self.title(*step))).collect();
        Ok(Rehearsal { package, unchanged_since, steps, gates })
    }

    /// Asks the gates.
    async fn ask(
        &self,
        package: &Package,
        found: &Deployed,
        accepted: &[String],
    ) -> Result<Vec<Gate>, JournalError> {
        let journals = self.journals();
        let serving = running(&journals, found)?
            .and_then(|(_, package)| self.packages().find(&package.digest));
        let path = self.packages().find(&package.digest).unwrap_or_default();
        let released = last_released(&journals)?;
        let subject = gates::Subject {
            project: self.project,
            manifest: self.manifest,
            blueprint: self.blueprint,
            plan: self.resources.as_ref(),
            cloud: &self.cloud,
            package,
            path: &path,
            serving: serving.as_deref(),
            found,
            released: released.as_deref(),
            by: &format!("{}@{}", user(), host()),
        };
        Ok(gates::ask(&subject, accepted).await)
    }

    /// Releases the project as it is.
    pub async fn deploy(&self, options: &Options) -> Result<Report, ReleaseError> {
        self.holding("deploy", false, async |held| self.deploy_held(options, held).await).await
    }

    async fn deploy_held(&self, options: &Options, held: &Held) -> Result<Report, ReleaseError> {
        let journals = self.journals();
        let last = journals.last()?;
        refuse_interrupted(last.as_ref())?;
        let (package, packaged) = self.build(options)?;
        let found = self.look().await?;
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
                own_ms: packaged,
            });
        }

        let plan = self.plan(options, &found);
        let began = |number| Began {
            watch_s: plan.contains(&Step::Watch).then_some(options.watch.as_secs()),
            accepted: options.accepted.clone(),
            canary: options.canary.clone(),
            ..self.began(number, Kind::Deploy, None, plan.clone())
        };
        let mut journal = journals.begin(began)?;
        self.tell(What::Started, journal.number(), describe(&package));
        journal.write(Entry::Packaged { package: package.clone() })?;
        if let Some(value) = sbom::of(self.project) {
            journal.write(Entry::Evidence { step: Step::Package, name: SBOM.to_owned(), value })?;
        }
        let (detail, elapsed_ms) = (describe(&package), packaged);
        journal.write(Entry::Done { step: Step::Package, detail, elapsed_ms })?;
        journal.write(Entry::Found { state: found.clone() })?;
        let run = Run::new(self, held, journal, found, Some(package));
        run.carry_out(&plan).await
    }

    /// Goes on with an interrupted release.
    pub async fn resume(&self) -> Result<Report, ReleaseError> {
        self.holding("deploy --resume", false, async |held| {
            let mut run = self.reopen("resume", held)?;
            if run.nothing_began() {
                self.reporter.note("nothing had begun, and nothing is changed: ask for it again");
                return run.end(Outcome::Aborted).await;
            }
            let plan = run.began.plan.clone();
            run.settle_swap().await?;
            run.carry_out(&plan).await
        })
        .await
    }

    /// Gives an interrupted release up: all as it was before.
    pub async fn abort(&self) -> Result<Report, ReleaseError> {
        self.holding("deploy --abort", true, async |held| {
            let mut run = self.reopen("abort", held)?;
            run.settle_swap().await?;
            run.finish_backwards().await
        })
        .await
    }

    /// Puts the previous version back, or the version of release `to`. An interrupted release, and one
    /// that is still watched, is brought to the state before it.
    pub async fn rollback(&self, to: Option<u32>) -> Result<Report, ReleaseError> {
        self.holding("rollback", true, async |held| {
            let journals = self.journals();
            let Some((number, story)) = journals.last()? else {
                return Err(ReleaseError::NothingBefore(
                    "nothing was ever released from here".into(),
                ));
            };
            if story.outcome().is_none() {
                let mut run = self.reopen("rollback", held)?;
                run.settle_swap().await?;
                return run.finish_backwards().await;
            }
            match to {
                None => self.roll_back_from(&journals, number, held).await,
                Some(to) => {
                    let before = brought(&journals, to)?;
                    self.go_back(&journals, &format!("release {to}"), &before, held).await
                }
            }
        })
        .await
    }

    async fn roll_back_from(
        &self,
        journals: &Journals,
        last: u32,
        held: &Held,
    ) -> Result<Report, ReleaseError> {
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
            let undone = story.began().and_then(|began| began.back_to);
            let undone = undone.map_or_else(String::new, |to| format!(" to release {to}"));
            return Err(ReleaseError::NothingBefore(format!(
                "release {current} was itself a rollback{undone}, and rolling it back would bring back \
                 what it was to be rid of; if that is wanted, name the release: --to NUMBER"
            )));
        }
        let before = journal::found(&story.records).cloned().unwrap_or_default();
        if before.production.is_none() {
            return Err(ReleaseError::NothingBefore(format!("release {current} was the first")));
        }
        self.go_back(journals, &format!("the version before release {current}"), &before, held)
            .await
    }

    /// Brings back what `before.production` was.
    async fn go_back(
        &self,
        journals: &Journals,
        called: &str,
        before: &Deployed,
        held: &Held,
    ) -> Result<Report, ReleaseError> {
        let previous = before.production.clone().unwrap_or_default();
        // The one question that must be asked before anything moves: is the version before still
        // where the swap would take it from?
        let found = self.cloud.deployed().await.map_err(ReleaseError::Platform)?;
        if found.production.as_deref() == Some(previous.as_str()) {
            return Err(ReleaseError::NothingBefore(format!("production already serves {called}")));
        }
        let digest = |deployed: &Deployed| {
            running(journals, deployed).map(|known| known.map(|(_, package)| package.digest))
        };
        if digest(before)?.is_some_and(|old| digest(&found).is_ok_and(|now| now == Some(old))) {
            return Err(ReleaseError::NothingBefore(format!("production already serves {called}")));
        }
        let kept = self.kept(journals, before)?;
        let swap_back =
            self.cloud.has_staging() && found.staging.as_deref() == Some(previous.as_str());
        if !swap_back && kept.is_none() {
            return Err(ReleaseError::NothingBefore(format!(
                "{called} is no longer in the staging slot, and its package was not kept here"
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
        let run = Run::new(self, held, journal, found, package);
        run.carry_out(&plan).await
    }

    /// Exchanges the slots, whatever they hold.
    pub async fn swap(&self) -> Result<Report, ReleaseError> {
        if !self.cloud.has_staging() {
            return Err(ReleaseError::NoSlots(self.environment.to_owned()));
        }
        self.holding("swap", true, async |held| self.swap_held(held).await).await
    }

    async fn swap_held(&self, held: &Held) -> Result<Report, ReleaseError> {
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
        Run::new(self, held, journal, found, package).carry_out(&plan).await
    }

    /// The steps of a deployment in this environment.
    fn plan(&self, options: &Options, found: &Deployed) -> Vec<Step> {
        let all: &[Step] = if self.cloud.has_staging() {
            &[
                Step::Package,
                Step::Gates,
                Step::Deploy,
                Step::Trial,
                Step::MigrateStaging,
                Step::Health,
                Step::Readiness,
                Step::Smoke,
                Step::MigrateProduction,
                Step::Canary,
                Step::Swap,
                Step::Verify,
                Step::Worker,
                Step::Scheduler,
                Step::Watch,
                Step::Refill,
            ]
        } else {
            &[
                Step::Package,
                Step::Gates,
                Step::Deploy,
                Step::MigrateProduction,
                Step::Verify,
                Step::Worker,
                Step::Scheduler,
            ]
        };
        let first = found.production.is_none();
        let wanted = |step: &Step| match step {
            Step::Canary => !first && !options.canary.is_empty(),
            // There is nothing to swap back to after the first.
            Step::Watch => !first && !options.watch.is_zero(),
            // The first swap exchanges the version with nothing: without this the staging slot would
            // answer nobody until the next release.
            Step::Refill => first,
            step => self.applies(*step),
        };
        all.iter().copied().filter(wanted).collect()
    }

    fn title(&self, step: Step) -> String {
        let cloud = &self.cloud;
        match step {
            Step::Package => "Package".to_owned(),
            Step::Gates => "Gates".to_owned(),
            Step::Trial => "Migrations on a copy of the staging database".to_owned(),
            Step::Canary => format!("Canary on {}", cloud.host(Place::Staging)),
            Step::Watch => format!("Watch {}", cloud.host(Place::Production)),
            Step::Deploy => format!("Deploy to {}", cloud.host(self.landing())),
            Step::MigrateStaging => "Migrate the staging database".to_owned(),
            Step::Health => format!("Health of {}", cloud.host(Place::Staging)),
            Step::Readiness => format!("Readiness of {}", cloud.host(Place::Staging)),
            Step::Smoke => format!("Smoke checks on {}", cloud.host(Place::Staging)),
            Step::MigrateProduction if cloud.has_staging() => {
                "Migrate the production database".to_owned()
            }
            Step::MigrateProduction => {
                format!("Migrate the database of {}", self.environment)
            }
            Step::Swap => "Swap staging and production".to_owned(),
            Step::Verify => format!("Verify {}", cloud.host(Place::Production)),
            Step::Worker => format!("Worker {}", cloud.host(Place::Worker)),
            Step::Scheduler => format!("Scheduler {}", cloud.host(Place::Scheduler)),
            Step::Refill => format!("The same version to {}", cloud.host(Place::Staging)),
        }
    }

    /// Where `Deploy` goes.
    fn landing(&self) -> Place {
        if self.cloud.has_staging() { Place::Staging } else { Place::Production }
    }

    fn applies(&self, step: Step) -> bool {
        match step {
            Step::Trial | Step::MigrateStaging | Step::MigrateProduction => {
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
            watch_s: None,
            accepted: Vec::new(),
            canary: Vec::new(),
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

    fn reopen<'a>(&'a self, to: &str, held: &'a Held) -> Result<Run<'a>, ReleaseError> {
        let journals = self.journals();
        let (number, story) = journals.last()?.ok_or(ReleaseError::NothingInterrupted)?;
        if story.outcome().is_some() {
            return Err(ReleaseError::NothingInterrupted);
        }
        let mut journal = journals.resume(number)?;
        journal.write(Entry::Resumed { by: user(), host: host(), to: to.to_owned() })?;
        let kind = story.began().map_or(Kind::Deploy, |began| began.kind);
        self.reporter.note(format!(
            "release {number} ({kind}) was interrupted; asking the platform how far it came"
        ));
        let found = journal::found(&story.records).cloned().unwrap_or_default();
        let package = journal::package(&story.records).cloned();
        let mut run = Run::new(self, held, journal, found, package);
        run.resumed = true;
        Ok(run)
    }
}

/// The names of evidence.
const SBOM: &str = "sbom";
const TRIAL: &str = "trial";
const BASELINE_OF: &str = "baseline";
const SWITCHED: &str = "switched";
const WATCHED: &str = "watched";
const BREACH: &str = "breach";
const CANARY: &str = "canary";

/// How the trial begins the line that says what it found.
const TRIAL_MARK: &str = "LAZULI-TRIAL ";

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

/// The deployment that the last release which succeeded left in production.
fn last_released(journals: &Journals) -> Result<Option<String>, JournalError> {
    for number in journals.numbers()?.into_iter().rev() {
        let story = journals.read(number)?;
        if story.outcome() == Some(Outcome::Succeeded) {
            let brought = journal::noted(&story.records, Step::Deploy, DEPLOYMENT);
            return Ok(brought.map(str::to_owned));
        }
    }
    Ok(None)
}

/// What a release brought into production.
fn brought(journals: &Journals, number: u32) -> Result<Deployed, ReleaseError> {
    let story = journals.read(number)?;
    if story.outcome() != Some(Outcome::Succeeded) {
        let how = story.outcome().map_or_else(|| "not ended".to_owned(), |how| how.to_string());
        return Err(ReleaseError::NothingBefore(format!("release {number} has {how}")));
    }
    let production = journal::noted(&story.records, Step::Deploy, DEPLOYMENT).map(str::to_owned);
    if production.is_none() {
        let what = format!("release {number} does not say what it brought into production");
        return Err(ReleaseError::NothingBefore(what));
    }
    Ok(Deployed { production, ..Deployed::default() })
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
    /// What is still waited for, beside the steps that follow.
    starting: Option<Start>,
}

/// How a step ended: if badly, which and why.
type Ended = Result<(), (Step, Trouble)>;

impl Done {
    fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), unchanged: false, starting: None }
    }

    fn unchanged(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), unchanged: true, starting: None }
    }
}

/// Why a step failed.
enum Fault {
    Trouble(Trouble),
    Journal(JournalError),
    /// Somebody else goes on with this release.
    TakenOver,
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
    held: &'a Held,
    journal: Journal,
    kind: Kind,
    /// How it began.
    began: Began,
    /// Looks at production from the switch on.
    watcher: Option<std::sync::Arc<Watcher>>,
    /// Where the counts of the new version begin.
    baseline: Baseline,
    /// Time that the platform and the app were waited for.
    waited: Duration,
    /// What was deployed before anything changed.
    found: Deployed,
    package: Option<Package>,
    resumed: bool,
    switched_ms: Option<u64>,
    steps: Vec<(Step, u64)>,
    /// What comes up while other steps go on.
    coming: Option<Coming>,
}

/// A deployment that is built, and whose instances come up while steps that do not need them go on.
struct Coming {
    step: Step,
    line: event::Step,
    began: Instant,
    detail: String,
    task: Start,
}

/// Waits for the instances of a deployment, and says how long the deployment took in all; dropped, it
/// no longer does.
struct Start(JoinHandle<(Result<(), Trouble>, Duration)>);

impl Drop for Start {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The steps that need not wait until the instances of `step`'s deployment serve: the migrations run
/// beside the app, in the deployment service of the site; worker and scheduler share nothing but the
/// version.
fn beside(step: Step) -> &'static [Step] {
    match step {
        Step::Deploy => &[Step::Trial, Step::MigrateStaging],
        Step::Worker => &[Step::Scheduler],
        _ => &[],
    }
}

impl<'a> Run<'a> {
    fn new(
        release: &'a Release<'a>,
        held: &'a Held,
        journal: Journal,
        found: Deployed,
        package: Option<Package>,
    ) -> Self {
        let began = journal.records().iter().find_map(|record| match &record.entry {
            Entry::Began(began) => Some(began.as_ref().clone()),
            _ => None,
        });
        let began = began
            .unwrap_or_else(|| release.began(journal.number(), Kind::Deploy, None, Vec::new()));
        Self {
            release,
            held,
            journal,
            kind: began.kind,
            began,
            watcher: None,
            baseline: Baseline::default(),
            waited: Duration::ZERO,
            found,
            package,
            resumed: false,
            switched_ms: None,
            steps: Vec::new(),
            coming: None,
        }
    }

    fn cloud(&self) -> &'a Cloud {
        &self.release.cloud
    }

    fn noted(&self, step: Step, name: &str) -> Option<String> {
        journal::noted(self.journal.records(), step, name).map(str::to_owned)
    }

    fn evidence(&mut self, step: Step, name: &str, value: Value) -> Result<(), JournalError> {
        self.journal.write(Entry::Evidence { step, name: name.to_owned(), value })
    }

    fn note(&mut self, step: Step, name: &str, value: &str) -> Result<(), JournalError> {
        self.journal.write(Entry::Noted { step, name: name.to_owned(), value: value.to_owned() })
    }

    /// The deployment this release brings into production.
    fn ours(&self) -> Option<String> {
        self.noted(Step::Deploy, DEPLOYMENT)
    }

    /// Whether a rollback or a swap was cut off before its first step: its record need not yet say what
    /// it was to bring back, and nothing has moved.
    fn nothing_began(&self) -> bool {
        let started = |entry: &Entry| matches!(entry, Entry::Started { .. });
        self.kind != Kind::Deploy
            && !self.journal.records().iter().any(|record| started(&record.entry))
    }

    async fn carry_out(mut self, plan: &[Step]) -> Result<Report, ReleaseError> {
        // What comes before the swap looks at the slot, where the old version is by now.
        let past = self.resumed
            && self.cloud().has_staging()
            && self.is_in_production().await.map_err(ReleaseError::Platform)?;
        let from = plan.iter().position(|step| *step == Step::Swap).filter(|_| past).unwrap_or(0);
        for &step in &plan[from..] {
            // What was asked before anything moved cannot be asked again.
            let asked = matches!(step, Step::Gates | Step::Trial)
                && journal::is_done(self.journal.records(), step);
            if asked {
                continue;
            }
            let ended = match self.watcher.clone().filter(|_| step != Step::Watch) {
                None => self.next(step).await?,
                // From the switch on production is watched, whatever else goes on.
                Some(watcher) => tokio::select! {
                    biased;
                    breach = watcher.breached() => {
                        let what = self.breached(&breach)?;
                        return Err(self.broken(Step::Watch, what, None, false).await);
                    }
                    ended = self.next(step) => ended?,
                },
            };
            if let Err((step, trouble)) = ended {
                return Err(self
                    .broken(step, trouble.what, trouble.log, trouble.unreachable)
                    .await);
            }
        }
        if let Err((step, trouble)) = self.arrive().await? {
            return Err(self.broken(step, trouble.what, trouble.log, trouble.unreachable).await);
        }
        self.end(Outcome::Succeeded).await
    }

    /// Does one step, as soon as what it stands on has come up.
    async fn next(&mut self, step: Step) -> Result<Ended, ReleaseError> {
        let waits = self.coming.as_ref().is_some_and(|coming| {
            // What has failed by now is no ground for going on.
            coming.task.0.is_finished() || !beside(coming.step).contains(&step)
        });
        if waits && let Err(failed) = self.arrive().await? {
            return Ok(Err(failed));
        }
        self.one(step).await
    }

    /// Waits until what is coming has come.
    async fn arrive(&mut self) -> Result<Ended, ReleaseError> {
        let Some(coming) = &mut self.coming else { return Ok(Ok(())) };
        let waited = Instant::now();
        let joined = (&mut coming.task.0).await;
        self.waited += waited.elapsed();
        let Some(Coming { step, line, began, detail, .. }) = self.coming.take() else {
            return Ok(Ok(()));
        };
        let (outcome, took) = match joined {
            Ok(ended) => ended,
            Err(_) => {
                (Err(Trouble::new("waiting for its instances was broken off")), began.elapsed())
            }
        };
        self.ended(step, line, outcome.map(|()| Done::new(detail)).map_err(Fault::from), took)
    }

    /// Writes down why production goes back.
    fn breached(&mut self, breach: &Breach) -> Result<String, ReleaseError> {
        self.evidence(Step::Watch, BREACH, json!(breach))?;
        let what = format!(
            "{}, {:.1} s after the switch: {}",
            breach.signal,
            breach.after_ms as f64 / 1000.0,
            breach.what
        );
        let entry = Entry::Failed {
            step: Step::Watch,
            error: what.clone(),
            log: Vec::new(),
            elapsed_ms: breach.after_ms,
        };
        self.journal.write(entry)?;
        self.release.reporter.warn(&what);
        Ok(what)
    }

    /// Does one step. The outer error is of the journal, the inner of the step.
    async fn one(&mut self, step: Step) -> Result<Ended, ReleaseError> {
        if step == Step::Package {
            return Ok(Ok(()));
        }
        let line = self.release.reporter.step(step.name(), self.release.title(step));
        self.journal.write(Entry::Started { step })?;
        let began = Instant::now();
        let outcome = self.perform(step, &line).await;
        self.waited += began.elapsed();
        // Whoever took over while it was watched writes this journal now.
        let fence = match step {
            Step::Watch => self.held.lock.fence().ok().flatten(),
            _ => None,
        };
        if step == Step::Watch && fence.is_none() {
            line.skipped("taken over");
            return Err(ReleaseError::TakenOver { number: self.journal.number() });
        }
        match outcome {
            Ok(Done { detail, starting: Some(task), .. }) => {
                self.coming = Some(Coming { step, line, began, detail, task });
                Ok(Ok(()))
            }
            outcome => self.ended(step, line, outcome, began.elapsed()),
        }
    }

    /// Writes down how a step ended, and says it.
    fn ended(
        &mut self,
        step: Step,
        line: event::Step,
        outcome: Result<Done, Fault>,
        took: Duration,
    ) -> Result<Ended, ReleaseError> {
        let elapsed_ms = millis(took);
        match outcome {
            Err(Fault::TakenOver) => {
                line.skipped("taken over");
                Err(ReleaseError::TakenOver { number: self.journal.number() })
            }
            Ok(Done { detail, unchanged, .. }) => {
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
                Ok(Err((step, trouble)))
            }
        }
    }

    async fn perform(&mut self, step: Step, line: &event::Step) -> Result<Done, Fault> {
        let (cloud, manifest) = (self.cloud(), self.release.manifest);
        match step {
            Step::Package => Ok(Done::new("")),
            Step::Gates => self.gates(line).await,
            Step::Trial => self.trial(line).await,
            Step::Canary => self.canary(line).await,
            Step::Watch => self.watch(line).await,
            Step::Deploy => self.place(Step::Deploy, self.release.landing(), line).await,
            Step::MigrateStaging => self.migrate(step, Place::Staging, "staging", line).await,
            Step::MigrateProduction => {
                self.migrate(step, self.release.landing(), "production", line).await
            }
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
        cloud.built(place, &id, line).await?;
        line.message("starting");
        let mut done = Done::new(format!("deployment {}", short(&id)));
        let plan = &self.began.plan;
        let next = plan.iter().position(|planned| *planned == step).and_then(|at| plan.get(at + 1));
        if next.is_some_and(|next| beside(step).contains(next)) {
            let (cloud, began) = (cloud.clone(), Instant::now());
            let before = line.elapsed();
            done.starting = Some(Start(tokio::spawn(async move {
                let started = cloud.started(place, &id).await;
                (started, before + began.elapsed())
            })));
        } else {
            cloud.started(place, &id).await?;
        }
        Ok(done)
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

    /// Asks the gates, and writes down what each rests on.
    async fn gates(&mut self, line: &event::Step) -> Result<Done, Fault> {
        let Some(package) = self.package.clone() else { return Ok(Done::unchanged("no package")) };
        line.message("asking the checklist's gates");
        let gates = self.release.ask(&package, &self.found, &self.began.accepted).await?;
        let mut counts = [0_usize; 5];
        let mut failed = Vec::new();
        for gate in gates {
            counts[gate.verdict as usize] += 1;
            let text = format!("{}: {}", gate.gate, gate.what);
            match gate.verdict {
                Verdict::Failed => failed.push(text),
                Verdict::Warned | Verdict::Accepted => self.release.reporter.warn(&text),
                Verdict::Passed | Verdict::NotChecked => line.message(&text),
            }
            self.evidence(Step::Gates, &gate.gate, json!(gate))?;
        }
        if !failed.is_empty() {
            return Err(Trouble::new(failed.join("\n")).into());
        }
        let [passed, warned, _, accepted, not_checked] = counts;
        let mut said = vec![format!("{passed} passed")];
        for (count, called) in
            [(warned, "warned"), (accepted, "accepted"), (not_checked, "not checked")]
        {
            if count > 0 {
                said.push(format!("{count} {called}"));
            }
        }
        Ok(Done::new(said.join(", ")))
    }

    /// Tries the migrations on a copy of the staging database.
    async fn trial(&mut self, line: &event::Step) -> Result<Done, Fault> {
        let cloud = self.cloud();
        cloud.database_serves(line).await?;
        let ran = cloud.run_job(Place::Staging, MIGRATE, TRIAL, line, |_| {}).await?;
        let report = ran.output.lines().rev().find_map(|text| {
            let at = text.find(TRIAL_MARK)? + TRIAL_MARK.len();
            serde_json::from_str::<Value>(&text[at..]).ok()
        });
        let report =
            report.unwrap_or_else(|| json!({ "error": "the trial did not say how it went" }));
        self.evidence(Step::Trial, TRIAL, report.clone())?;
        // What could not be tried is no reason to stop, but has to be known.
        if report["unable"] == json!(true) {
            let why = report["error"].as_str().unwrap_or("the trial could not be made");
            self.release.reporter.warn(format!("migrations were not tried: {why}"));
            return Ok(Done::new("not tried"));
        }
        // What a script says is meant, and nothing that serves uses, may go.
        let gate = journal::evidence(self.journal.records(), Step::Gates, "migrations");
        let findings = gate.and_then(|gate| gate.pointer("/evidence/findings")?.as_array());
        let contract = findings.is_some_and(|findings| {
            findings.iter().any(|finding| finding["contract"] == json!(true))
        });
        if let Some(why) = gates::unfit(&report, contract, LOCK_LIMIT_MS) {
            if self.began.accepted.iter().any(|gate| gate == TRIAL) {
                self.release.reporter.warn(format!("trial (accepted): {why}"));
                return Ok(Done::new("accepted"));
            }
            let lines = report.pointer("/first/output").and_then(Value::as_array);
            let lines: Vec<String> = lines
                .into_iter()
                .flatten()
                .filter_map(|line| Some(line.as_str()?.to_owned()))
                .collect();
            let mut trouble = Trouble::new(why);
            trouble.log = (!lines.is_empty()).then(|| ("the migration's output".to_owned(), lines));
            return Err(trouble.into());
        }
        let number = |path: &str| report.pointer(path).and_then(Value::as_f64).unwrap_or_default();
        let longest = report.pointer("/locks").and_then(Value::as_array).into_iter().flatten();
        let longest = longest.filter_map(|lock| lock["ms"].as_f64()).fold(0.0, f64::max);
        Ok(Done::new(format!(
            "{:.0} ms on {:.1} MB, longest lock {longest:.0} ms; a no-op the second time",
            number("/first/ms"),
            number("/bytes") / 1e6
        )))
    }

    /// Gives the new version a growing share of the traffic, with production's settings.
    async fn canary(&mut self, line: &event::Step) -> Result<Done, Fault> {
        let cloud = self.cloud();
        line.message("giving the slot production's settings");
        // Without them the slot would serve production's users from the staging database.
        cloud.preview(true).await?;
        let before = cloud.served(Place::Production, ago(BASELINE)).await?.since(0);
        let mut verdicts = Vec::new();
        for percent in self.began.canary.clone() {
            let (from, counted) = self.counted(Place::Staging).await?;
            cloud.route(percent).await?;
            let began = Instant::now();
            let mut judged = None;
            while began.elapsed() < CANARY_LASTS && judged.is_none() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let minutes = cloud.served(Place::Staging, from).await?;
                let minutes = minutes.less(minute(from), &counted);
                let served = minutes.since(0);
                line.message(format!("{percent} %: {} requests", served.requests));
                judged = watch::judge(&minutes, minute(Timestamp::now()), &before)
                    .map(|(signal, what)| format!("{signal} at {percent} %: {what}"));
                if served.requests >= 500.0 {
                    break;
                }
            }
            let served =
                cloud.served(Place::Staging, from).await?.less(minute(from), &counted).since(0);
            verdicts.push(json!({
                "percent": percent, "served": served, "breach": judged,
                "lastedMs": millis(began.elapsed()),
            }));
            if let Some(what) = judged {
                self.evidence(Step::Canary, CANARY, json!(verdicts))?;
                return Err(Trouble::new(what).into());
            }
            if served.requests < 20.0 {
                self.release.reporter.warn(format!(
                    "canary at {percent} %: {} requests, too few to judge by",
                    served.requests
                ));
            }
        }
        cloud.route(0).await?;
        self.evidence(Step::Canary, CANARY, json!(verdicts))?;
        let shares: Vec<String> =
            self.began.canary.iter().map(|percent| format!("{percent} %")).collect();
        Ok(Done::new(format!("{} passed", shares.join(", "))))
    }

    /// All traffic to production, and the slot its own settings, if a canary was begun.
    async fn end_canary(&mut self) -> Result<(), Fault> {
        if !journal::is_started(self.journal.records(), Step::Canary) {
            return Ok(());
        }
        self.cloud().route(0).await?;
        if !self.is_in_production().await? {
            match self.cloud().preview(false).await {
                // There is none any more.
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Now, and what a place has counted in this very minute.
    async fn counted(&self, place: Place) -> Result<(Timestamp, Served), lazuli_azure::Error> {
        let now = Timestamp::now();
        let minutes = self.cloud().served(place, now).await?;
        Ok((now, minutes.at(minute(now))))
    }

    async fn exchange(&mut self, line: &event::Step) -> Result<Done, Fault> {
        let watched = self.began.plan.contains(&Step::Watch);
        if self.resumed && self.is_in_production().await? {
            self.end_canary().await?;
            if watched {
                self.begin_watch().await?;
            }
            return Ok(Done::unchanged("done before the interruption"));
        }
        if watched {
            // What cannot be read now is not known later: a watch without it judges absolutely.
            let before = self.cloud().served(Place::Production, ago(BASELINE)).await;
            let before = before.map(|minutes| minutes.since(0)).unwrap_or_default();
            self.evidence(Step::Swap, BASELINE_OF, json!(before))?;
        }
        self.swap_to(self.ours(), line).await?;
        let switched = millis(self.release.began.elapsed());
        self.switched_ms = Some(switched);
        if watched {
            self.begin_watch().await?;
        }
        Ok(Done::new(match self.kind {
            Kind::Deploy => String::new(),
            _ => format!("routing switched {switched} ms after the command began"),
        }))
    }

    /// Begins to watch production, or goes on with it after an interruption.
    async fn begin_watch(&mut self) -> Result<(), Fault> {
        let known = |name: &str| journal::evidence(self.journal.records(), Step::Swap, name);
        let before = known(BASELINE_OF)
            .and_then(|value| serde_json::from_value(value.clone()).ok())
            .unwrap_or_default();
        let switched: Option<(Timestamp, Served)> =
            known(SWITCHED).and_then(|value| serde_json::from_value(value.clone()).ok());
        let switched = if let Some(switched) = switched {
            switched
        } else {
            let now = self.counted(Place::Production).await;
            let now = now.unwrap_or_else(|_| (Timestamp::now(), Served::default()));
            self.evidence(Step::Swap, SWITCHED, json!(now))?;
            now
        };
        self.baseline = Baseline { before, switched: Some(switched) };
        let backend = &self.release.manifest.backend;
        self.watcher = Some(Watcher::start(Look {
            cloud: self.cloud().clone(),
            health: backend.health.clone(),
            readiness: backend.readiness.clone(),
            baseline: self.baseline.clone(),
            lasts: Duration::from_secs(self.began.watch_s.unwrap_or_default()),
        }));
        Ok(())
    }

    /// Waits for the end of the watch. Whoever rolls back meanwhile takes over.
    async fn watch(&mut self, line: &event::Step) -> Result<Done, Fault> {
        let Some(watcher) = self.watcher.clone() else {
            return Ok(Done::unchanged("nothing was switched"));
        };
        let lasts = self.began.watch_s.unwrap_or_default();
        self.held.watching(true).await?;
        let mut seen = watcher.receiver();
        let standing = loop {
            if self.held.is_lost() {
                return Err(Fault::TakenOver);
            }
            let standing = seen.borrow_and_update().clone();
            line.measure(standing.watched_s.min(lasts), lasts);
            line.message(format!(
                "{} s of {lasts} s: {}",
                standing.watched_s.min(lasts),
                standing.line(&self.baseline.before)
            ));
            if standing.over || standing.breach.is_some() {
                break standing;
            }
            let _ = tokio::time::timeout(Duration::from_millis(500), watcher.next(&mut seen)).await;
        };
        if self.held.lock.fence().ok().flatten().is_none() {
            return Err(Fault::TakenOver);
        }
        self.held.watching(false).await?;
        let value = json!({ "before": self.baseline.before, "standing": standing });
        self.evidence(Step::Watch, WATCHED, value)?;
        if let Some(breach) = &standing.breach {
            self.evidence(Step::Watch, BREACH, json!(breach))?;
            return Err(Trouble::new(format!(
                "{}, {:.1} s after the switch: {}",
                breach.signal,
                breach.after_ms as f64 / 1000.0,
                breach.what
            ))
            .into());
        }
        let line = standing.line(&self.baseline.before);
        if standing.served.requests < 20.0 || standing.looks == 0 {
            self.release.reporter.warn(format!("the watch saw {line}"));
        }
        Ok(Done::new(line))
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
            let active = cloud.holds(Place::Production, &ours).await?;
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
                // An operation that succeeded has switched, whatever is said of it yet.
                if operation.is_some()
                    && let Some(ours) = self.ours()
                    && let Err(error) = self.cloud().holds(Place::Production, &ours).await
                {
                    step.fail(&error);
                    return Err(ReleaseError::Platform(error));
                }
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
        if let Some(Coming { step, line, began, detail, .. }) = self.coming.take() {
            let detail = format!("{detail}; whether it serves was not waited for");
            line.skipped(&detail);
            let elapsed_ms = millis(began.elapsed());
            if let Err(error) = self.journal.write(Entry::Done { step, detail, elapsed_ms }) {
                return error.into();
            }
        }
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
                Err(Fault::TakenOver) => {
                    return ReleaseError::TakenOver { number: self.journal.number() };
                }
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
            let plan = self.began.plan.clone();
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
            Err(Fault::TakenOver) => Err(ReleaseError::TakenOver { number: self.journal.number() }),
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
        // Nobody looks any more: what happens now is the answer.
        self.watcher = None;
        self.end_canary().await?;
        let ours = self.ours();
        if journal::is_done(self.journal.records(), Step::Swap)
            && let Some(ours) = &ours
        {
            cloud.holds(Place::Production, ours).await?;
        }
        let now = cloud.deployed().await?;
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
        for (step, place, before) in [
            (Step::Scheduler, Place::Scheduler, self.found.scheduler.clone()),
            (Step::Worker, Place::Worker, self.found.worker.clone()),
        ] {
            if !journal::is_started(self.journal.records(), step) {
                continue;
            }
            // One that was cut off goes on without us, and would win in the end.
            cloud.settled(place).await?;
            if cloud.active(place).await? != before {
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
            own_ms: elapsed_ms.saturating_sub(millis(self.waited)),
        })
    }
}

/// The first characters of a deployment's id.
fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

/// How long each share of a canary lasts, unless enough requests came before.
const CANARY_LASTS: Duration = Duration::from_secs(60);

fn ago(duration: Duration) -> Timestamp {
    Timestamp::now().checked_sub(duration).unwrap_or(Timestamp::UNIX_EPOCH)
}
