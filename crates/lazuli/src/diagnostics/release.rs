//! What a failed release means and what to do about it.

use std::error::Error as _;

use lazuli_release::journal::Step;
use lazuli_release::lease::LeaseError;
use lazuli_release::lock::LockError;
use lazuli_release::package::PackageError;
use lazuli_release::release::{Broken, ReleaseError, State};

use super::Failure;
use crate::cli::Context;
use crate::exit::Exit;

/// Advice for an error of the release process.
pub(crate) fn failure(error: &ReleaseError, cx: &Context) -> Failure {
    let flags = cx.flags();
    match error {
        ReleaseError::Step(broken) => step(broken, &flags),
        ReleaseError::Package(error) => package(error),
        ReleaseError::Journal(source) => {
            Failure::new(Exit::Unexpected, "the release journal cannot be used").because(source)
        }
        ReleaseError::Lock(source) => {
            let failure = Failure::new(Exit::Locked, source.to_string());
            match source {
                LockError::Held(_) => failure.advise("wait for it, or talk to them"),
                LockError::Elsewhere(_, path) => failure.advise(format!(
                    "if you are certain that it is over, delete {} and resume: lazuli deploy --resume{flags}",
                    path.display()
                )),
                LockError::Io(..) => source
                    .source()
                    .map_or(failure.clone(), |source| failure.cause(source.to_string())),
            }
        }
        ReleaseError::Lease(source) => lease(source),
        ReleaseError::TakenOver { number } => Failure::new(Exit::Locked, error.to_string())
            .advise(format!("how it ended: lazuli releases show {number}{flags}")),
        ReleaseError::Interrupted { .. } => Failure::new(Exit::Locked, error.to_string())
            .advise(format!("go on with it: lazuli deploy --resume{flags}"))
            .advise(format!("or put everything back as it was: lazuli rollback{flags}"))
            .advise(format!("what it did: lazuli releases show{flags}")),
        ReleaseError::NothingInterrupted => Failure::new(Exit::Usage, error.to_string())
            .advise(format!("to release this directory: lazuli deploy{flags}")),
        ReleaseError::NothingBefore(_) => Failure::new(Exit::NoRollback, error.to_string())
            .advise(format!("what was released: lazuli releases{flags}"))
            .advise(format!("to exchange the slots as they are: lazuli swap{flags}")),
        ReleaseError::NotProvisioned(_) => Failure::new(Exit::Target, error.to_string())
            .advise(format!("create them: lazuli provision{flags}"))
            .advise("or do everything at once: lazuli up"),
        ReleaseError::NoSlots(_) => Failure::new(Exit::Usage, error.to_string())
            .advise("slots are production's (--env prod), as the standard has it"),
        ReleaseError::Platform(source) => platform(source, &flags),
    }
}

/// Advice where somebody else has the environment.
pub(crate) fn lease(error: &LeaseError) -> Failure {
    match error {
        LeaseError::Held(_) => {
            Failure::new(Exit::Locked, error.to_string()).advise("wait for it, or talk to them")
        }
        LeaseError::Abandoned(lessee) => Failure::new(Exit::Locked, error.to_string())
            .advise(format!(
                "bring it to its end where it began: lazuli {} --resume -C {} on {}",
                if lessee.holder.rotates() { "secrets rotate" } else { "deploy" },
                lessee.project,
                lessee.holder.host
            ))
            .advise("or, if that place is gone, release over it: lazuli deploy --take-over"),
        LeaseError::Platform(source) => {
            Failure::new(Exit::Target, "the environment cannot be locked").cause(source.to_string())
        }
    }
}

/// Advice for a platform that does not answer as it should.
pub(crate) fn platform(error: &lazuli_azure::Error, flags: &str) -> Failure {
    if error.is_transport() {
        return Failure::new(Exit::Target, "the region does not answer")
            .cause(error.to_string())
            .advise(format!("see whether it runs: lazuli region status{flags}"))
            .advise("start it: lazuli region start");
    }
    let failure =
        Failure::new(Exit::Target, "the region refused a request").cause(error.to_string());
    match error.refusal() {
        Some(refusal) if refusal.status == 401 || refusal.status == 403 => failure.advise(
            "the region may have been reset since: lazuli region stop && lazuli region start",
        ),
        _ => failure.advise("its own log may say more: lazuli region logs"),
    }
}

fn package(error: &PackageError) -> Failure {
    let failure = Failure::new(Exit::Project, "the package cannot be made").because(error);
    let failure = match error {
        PackageError::NoModule { .. } => failure.advise(
            "correct backend.app in lazuli.yaml, or package.exclude if it leaves the file out",
        ),
        PackageError::NoRequirements(_) => failure.advise(
            "the platform installs from requirements.txt or pyproject.toml: add one of them",
        ),
        PackageError::JobCollision(_) => {
            failure.advise("remove the job, or call it something else")
        }
        PackageError::Dirty(_) => {
            failure.advise("commit what is to be released, or release it as it is: --allow-dirty")
        }
        PackageError::Pattern { .. } => failure.advise("patterns are written as in a .gitignore"),
        _ => failure,
    };
    Failure { state: vec!["Nothing was deployed.".to_owned()], ..failure }
}

fn step(broken: &Broken, flags: &str) -> Failure {
    let Broken { number, step, what, log, state, migrated, staging } = broken;
    let exit = match state {
        State::Untouched => Exit::ReleaseFailed,
        State::PutBack | State::Open => Exit::ProductionAffected,
    };
    let mut failure =
        Failure::new(exit, format!("release {number} failed at step `{step}`")).cause(what.clone());
    failure.log.clone_from(log);
    match state {
        State::Untouched => {
            failure.state.push("Production was not touched: it serves what it served.".to_owned());
        }
        State::PutBack => failure.state.push(
            "Production was put back: it serves what it served before the release.".to_owned(),
        ),
        State::Open => failure.state.push(format!(
            "Release {number} is not at its end: what serves now is what the platform last did."
        )),
    }
    if *migrated && *state != State::Open {
        failure.state.push(
            "Its database has the new version's migrations; the old version goes on with it."
                .to_owned(),
        );
    }
    if *state == State::Open {
        return failure
            .advise(format!("see how things stand: lazuli status{flags}"))
            .advise(format!("then go on: lazuli deploy --resume{flags}"))
            .advise(format!("or put everything back: lazuli rollback{flags}"));
    }
    if let Some(staging) = staging.as_ref().filter(|_| *state == State::Untouched) {
        failure
            .state
            .push(format!("The failed version is left on https://{staging} to be looked at."));
    }
    let slot = if staging.is_some() { " --slot staging" } else { "" };
    match step {
        Step::Deploy => failure.advise("correct what the log shows, then release again"),
        Step::MigrateStaging => failure
            .advise("correct the migration, then release again; only the staging database was migrated"),
        Step::MigrateProduction => failure.advise(
            "the migration passed on the staging database: look at what differs in production's data",
        ),
        Step::Health | Step::Readiness | Step::Smoke | Step::Swap | Step::Verify => {
            failure.advise(format!("its whole log: lazuli logs{slot}{flags}"))
        }
        Step::Worker => failure.advise(format!("its whole log: lazuli logs --app worker{flags}")),
        Step::Scheduler => failure.advise(format!("its whole log: lazuli logs --app scheduler{flags}")),
        Step::Gates => failure
            .advise("correct what it names, or accept it by name: --accept GATE")
            .advise(format!("what all gates say: lazuli deploy --dry-run{flags}")),
        Step::Trial => failure.advise("correct the migration; the copy is deleted, no database was touched"),
        Step::Watch => failure.advise(format!("the failed version waits in the staging slot: lazuli logs{slot}{flags}")),
        Step::Canary => failure.advise(format!("its whole log: lazuli logs{slot}{flags}")),
        Step::Package | Step::Refill => failure,
    }
    .advise(format!("the story of this release: lazuli releases show {number}{flags}"))
}
