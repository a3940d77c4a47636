//! The release process against a scripted platform: success, each failure, and being cut off at every
//! single request.

#![allow(clippy::print_stdout)]

mod platform;

use std::path::Path;
use std::time::Instant;

use lazuli_release::cloud::Cloud;
use lazuli_release::event::Reporter;
use lazuli_release::journal::{Outcome, Step};
use lazuli_release::release::{Broken, Options, Release, ReleaseError, Report, State};
use lazuli_standard::{Blueprint, Environment, Manifest};
use platform::{Cut, Fault, PRODUCTION, Platform, SCHEDULER, STAGING, WORKER};

const MANIFEST: &str = r#"
app: notes
location: westeurope
python: "3.14"
backend: { app: "modules.main:app", health: /health, readiness: /health/ready }
worker: { run: "taskiq worker modules.broker:broker" }
scheduler: { run: "taskiq scheduler modules.scheduler:scheduler" }
database: { migrate: alembic upgrade head }
smoke:
  - { path: /health/ready, status: 200, json: { status: ready } }
"#;

struct Fixture {
    platform: Platform,
    manifest: Manifest,
    project: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let project = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(project.path().join("modules")).expect("a directory");
        std::fs::write(project.path().join("requirements.txt"), "fastapi\n").expect("written");
        std::fs::write(project.path().join("modules/main.py"), "version = 0\n").expect("written");
        let manifest = Manifest::parse(MANIFEST, "lazuli.yaml").expect("a manifest");
        Self { platform: Platform::start(), manifest, project }
    }

    fn version(&self, version: u32) {
        let file = self.project.path().join("modules/main.py");
        std::fs::write(file, format!("version = {version}\n")).expect("written");
    }

    fn release(&self) -> Release<'_> {
        Release {
            project: self.project.path(),
            manifest: &self.manifest,
            environment: "prod",
            target: "local",
            cloud: self.cloud(),
            // Shown when a test fails.
            reporter: Reporter::new(|event| println!("{event:?}")),
            began: Instant::now(),
        }
    }

    fn cloud(&self) -> Cloud {
        let blueprint = Blueprint::new(&self.manifest, Environment::Prod);
        Cloud::new(self.platform.client.clone(), "00000000-0000-0000-0000-000000000000", &blueprint)
    }

    async fn deploy(&self, version: u32) -> Result<Report, ReleaseError> {
        self.version(version);
        self.release().deploy(Options::default()).await
    }

    /// What runs where: production, worker, scheduler.
    fn running(&self) -> [Option<u64>; 3] {
        [PRODUCTION, WORKER, SCHEDULER].map(|site| self.platform.content(site))
    }

    async fn fails(&self, version: u32) -> Broken {
        match self.deploy(version).await {
            Err(ReleaseError::Step(broken)) => *broken,
            other => panic!("{other:?}\n{}", self.platform.seen()),
        }
    }

    fn outcome(&self, number: u32) -> Option<Outcome> {
        self.release().journals().read(number).expect("the journal is intact").outcome()
    }
}

#[tokio::test]
async fn a_release_goes_through_staging_and_a_rollback_back() {
    let fixture = Fixture::new();
    let first = fixture.deploy(1).await.expect("released");
    assert_eq!(first.outcome, Some(Outcome::Succeeded));
    let old = fixture.running();
    assert!(old[0].is_some() && old.iter().all(|content| *content == old[0]), "{old:?}");
    assert_eq!(fixture.platform.migrated(), ["staging", "production"]);
    assert_eq!(fixture.platform.content(STAGING), old[0], "the first swap left nothing empty");

    let second = fixture.deploy(2).await.expect("released");
    assert_eq!(second.number, Some(2));
    let new = fixture.running();
    assert!(new[0] != old[0] && new.iter().all(|content| *content == new[0]));
    assert_eq!(fixture.platform.content(STAGING), old[0], "the version before waits in staging");

    let back = fixture.release().rollback().await.expect("rolled back");
    assert_eq!(fixture.running(), old);
    assert_eq!(fixture.platform.content(STAGING), new[0]);
    assert!(back.switched_ms.is_some_and(|ms| ms < 1000), "{:?}", back.switched_ms);
    // Twice is once: it must not bring back what it was to be rid of.
    let again = fixture.release().rollback().await;
    assert!(matches!(again, Err(ReleaseError::NothingBefore(_))), "{again:?}");
    assert_eq!(fixture.running(), old);
}

#[tokio::test]
async fn an_unchanged_package_is_not_released_again_unless_forced() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    let again = fixture.deploy(1).await.expect("nothing to do");
    assert_eq!((again.number, fixture.platform.switches()), (None, 1));
    let forced = fixture.release().deploy(Options { force: true, ..Options::default() }).await;
    assert_eq!(forced.expect("released").number, Some(2));
}

#[tokio::test]
async fn a_failure_before_the_swap_leaves_production_alone_and_says_why() {
    for (fault, step, says, log) in [
        (Fault::Build, Step::Deploy, "the build ended with 1", "no such package: fastapi==0.0.0"),
        (Fault::Start, Step::Deploy, "the container exited", "RuntimeError: the lapis is broken"),
        (
            Fault::MigrateStaging,
            Step::MigrateStaging,
            "Failed",
            "relation \"no_such_table\" does not exist",
        ),
        (
            Fault::NotReady,
            Step::Smoke,
            "expected \"ready\", found \"starting\"",
            "RuntimeError: the lapis is broken",
        ),
        (
            Fault::MigrateProduction,
            Step::MigrateProduction,
            "Failed",
            "relation \"no_such_table\" does not exist",
        ),
        (Fault::Warmup, Step::Swap, "/health answered 500", "RuntimeError: the lapis is broken"),
    ] {
        let fixture = Fixture::new();
        fixture.deploy(1).await.expect("released");
        let old = fixture.running();
        fixture.platform.fault(fault);
        let broken = fixture.fails(2).await;
        assert_eq!((broken.step, broken.state), (step, State::Untouched), "{fault:?}");
        assert!(broken.what.contains(says), "{fault:?}: {}", broken.what);
        let (_, lines) = broken.log.unwrap_or_else(|| panic!("{fault:?}: no log"));
        assert!(lines.iter().any(|line| line.contains(log)), "{fault:?}: {lines:?}");
        assert_eq!((fixture.running(), fixture.platform.switches()), (old, 1), "{fault:?}");
        assert_eq!(fixture.outcome(2), Some(Outcome::Failed));
        // And the next release is none the worse for it.
        fixture.platform.heal();
        fixture.deploy(3).await.expect("released");
    }
}

#[tokio::test]
async fn an_unhealthy_version_is_given_time_and_then_refused() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    fixture.platform.fault(Fault::Health);
    let broken = fixture.fails(2).await;
    assert_eq!((broken.step, broken.state), (Step::Health, State::Untouched));
    assert!(broken.what.contains("/health answered 500: Internal Server Error"), "{}", broken.what);
}

#[tokio::test]
async fn a_failure_after_the_swap_puts_everything_back() {
    for (fault, step) in [(Fault::Worker, Step::Worker), (Fault::Production, Step::Verify)] {
        let fixture = Fixture::new();
        fixture.deploy(1).await.expect("released");
        let old = fixture.running();
        fixture.platform.fault(fault);
        let broken = fixture.fails(2).await;
        assert_eq!((broken.step, broken.state), (step, State::PutBack), "{fault:?}");
        assert_eq!(fixture.running(), old, "{fault:?}");
        assert_eq!(fixture.outcome(2), Some(Outcome::RolledBack));
    }
}

#[tokio::test]
async fn a_swap_that_was_done_though_its_answer_was_lost_is_seen_to_be_done() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    let old = fixture.running();
    fixture.platform.fault(Fault::LostAnswer);
    fixture.deploy(2).await.expect("released");
    assert_ne!(fixture.running()[0], old[0]);
    assert_eq!(fixture.platform.switches(), 2, "swapped once, not there and back");
}

#[tokio::test]
async fn a_rollback_whose_version_has_left_the_staging_slot_deploys_its_package_again() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    let old = fixture.running();
    fixture.deploy(2).await.expect("released");
    fixture.platform.fault(Fault::MigrateStaging);
    fixture.fails(3).await;
    fixture.platform.heal();
    let broken = fixture.platform.content(STAGING);
    let back = fixture.release().rollback().await.expect("rolled back");
    assert_eq!(fixture.running(), old);
    assert!(back.steps.iter().any(|(step, _)| *step == Step::Deploy));
    assert_ne!(
        fixture.platform.content(PRODUCTION),
        broken,
        "what failed never went to production"
    );
}

#[tokio::test]
async fn a_second_release_sees_who_holds_the_lock() {
    let fixture = Fixture::new();
    let journals = fixture.release().journals();
    let _held = lazuli_release::lock::Lock::acquire(journals.dir(), "deploy").expect("free");
    let error = fixture.deploy(1).await.expect_err("locked");
    assert!(matches!(error, ReleaseError::Lock(_)), "{error:?}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
}

/// Cut off at every request there is, before and after the platform did what was asked; then resumed,
/// rolled back or aborted: in the end all is new or all is old, the journal is intact, and the next
/// release works.
#[tokio::test]
async fn cut_off_anywhere_it_ends_all_new_or_all_old() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    let mut version = 1;
    let mut at = 0;
    let mut cuts = 0;
    loop {
        let mut finished = false;
        // Each way out meets each side of a cut every third request; all pairs meet every step.
        for (after, way) in [(false, at % 3), (true, (at + 1) % 3)] {
            version += 1;
            let old = fixture.running();
            fixture.platform.cut_at(Some(Cut { at, after }));
            let cut = tokio::select! {
                outcome = fixture.deploy(version) => {
                    outcome.unwrap_or_else(|error| panic!("{error:?}\n{}", fixture.platform.seen()));
                    false
                }
                () = fixture.platform.cut.notified() => true,
            };
            fixture.platform.cut_at(None);
            let context =
                || format!("cut at {at}, after: {after}, then {way}\n{}", fixture.platform.seen());
            if !cut {
                finished = true;
                break;
            }
            cuts += 1;
            let release = fixture.release();
            let interrupted = release
                .journals()
                .last()
                .expect("intact")
                .is_some_and(|(_, story)| story.outcome().is_none());
            if !interrupted {
                // Cut off before the journal began, or after it ended.
                let now = fixture.running();
                assert!(now.iter().all(|content| *content == now[0]), "{}", context());
                continue;
            }
            let refused = release.deploy(Options::default()).await;
            assert!(matches!(refused, Err(ReleaseError::Interrupted { .. })), "{}", context());
            let ended = match way {
                0 => release.resume().await,
                1 => release.rollback().await,
                _ => release.abort().await,
            };
            let report = ended.unwrap_or_else(|error| panic!("{error:?}: {}", context()));
            // A swap that nobody waited for would show now.
            tokio::time::sleep(std::time::Duration::from_millis(80)).await;
            let now = fixture.running();
            assert!(now.iter().all(|content| *content == now[0]), "{now:?} {old:?} {}", context());
            match way {
                0 => assert!(
                    now != old && report.outcome == Some(Outcome::Succeeded),
                    "{}",
                    context()
                ),
                _ => assert_eq!(now, old, "{}", context()),
            }
        }
        if finished {
            break;
        }
        at += 1;
    }
    assert!(cuts > 60, "only {cuts} cuts were made");
    let journals = fixture.release().journals();
    for number in journals.numbers().expect("listed") {
        assert!(journals.read(number).expect("intact").outcome().is_some(), "release {number}");
    }
    assert!(Path::new(journals.dir()).join("0001.jsonl").is_file());
}
