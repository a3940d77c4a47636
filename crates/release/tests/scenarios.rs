//! The release process against a scripted platform: success, each failure, and being cut off at every
//! single request.

mod fixture;
mod platform;

use std::path::Path;
use std::time::{Duration, Instant};

use fixture::Fixture;
use lazuli_release::journal::{self, Entry, Outcome, Step};
use lazuli_release::lease::{self, Claim, LeaseError};
use lazuli_release::lock::Holder;
use lazuli_release::release::{Options, ReleaseError, State};
use lazuli_release::rotation::RotationError;
use platform::{Cut, Fault, PRODUCTION, STAGING};

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

    let back = fixture.release().rollback(None).await.expect("rolled back");
    assert_eq!(fixture.running(), old);
    assert_eq!(fixture.platform.content(STAGING), new[0]);
    assert!(back.switched_ms.is_some_and(|ms| ms < 1000), "{:?}", back.switched_ms);
    // Twice is once: it must not bring back what it was to be rid of.
    let again = fixture.release().rollback(None).await;
    assert!(matches!(again, Err(ReleaseError::NothingBefore(_))), "{again:?}");
    assert_eq!(fixture.running(), old);
}

#[tokio::test]
async fn an_unchanged_package_is_not_released_again_unless_forced() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    let again = fixture.deploy(1).await.expect("nothing to do");
    assert_eq!((again.number, fixture.platform.switches()), (None, 1));
    let forced = fixture.release().deploy(&Options { force: true, ..Options::default() }).await;
    assert_eq!(forced.expect("released").number, Some(2));
}

#[tokio::test]
async fn a_failure_before_the_swap_leaves_production_alone_and_says_why() {
    for (fault, step, says, log) in [
        (Fault::Build, Step::Deploy, "the build ended with 1", "no such package: fastapi==0.0.0"),
        (Fault::Start, Step::Deploy, "the container exited", "RuntimeError: the lapis is broken"),
        (
            Fault::MigrateStaging,
            Step::Trial,
            "failed on a copy of the staging database",
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
    let back = fixture.release().rollback(None).await.expect("rolled back");
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
    let _held = lazuli_release::lock::Lock::acquire(journals.dir(), "deploy", false).expect("free");
    let error = fixture.deploy(1).await.expect_err("locked");
    assert!(matches!(error, ReleaseError::Lock(_)), "{error:?}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_and_a_rotation_from_two_machines_exclude_each_other() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    let cloud = fixture.cloud();
    let zone = cloud.zone().expect("an environment of the standard has one");
    let place = lease::Place::new(cloud.client().clone(), &zone);
    let elsewhere = |purpose: &str| Holder {
        user: "ada".to_owned(),
        host: "elsewhere".to_owned(),
        pid: 7,
        started: "0/0".to_owned(),
        since: "2026-11-23T03:00:00Z".parse().expect("a time"),
        purpose: purpose.to_owned(),
    };

    let rotating = elsewhere("secrets rotate");
    let (held, _) = place.acquire(&rotating, "/src/notes", Claim::default()).await.expect("free");
    let refused = fixture.deploy(2).await.expect_err("somebody rotates");
    assert!(matches!(refused, ReleaseError::Lease(LeaseError::Held(_))), "{refused:?}");
    let said = "a rotation is running: ada on elsewhere (process 7, `secrets rotate`) since \
                2026-11-23T03:00:00Z, from /src/notes";
    assert_eq!(refused.to_string(), said);
    let refused = fixture.rotation().begin("redis-connection-string", Duration::ZERO).await;
    assert!(matches!(refused, Err(RotationError::Lease(LeaseError::Held(_)))), "{refused:?}");
    held.release().await;

    let releasing = elsewhere("deploy");
    let (held, _) = place.acquire(&releasing, "/src/notes", Claim::default()).await.expect("free");
    let rotation = fixture.rotation();
    let refused =
        rotation.begin("redis-connection-string", Duration::ZERO).await.expect_err("one releases");
    assert!(refused.to_string().starts_with("a release is running: ada on elsewhere"), "{refused}");
    assert!(rotation.journals().numbers().expect("read").is_empty(), "nothing was begun");
    held.release().await;
    fixture.deploy(2).await.expect("nobody holds it any more");
    assert!(!fixture.platform.leased());
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
            let refused = release.deploy(&Options::default()).await;
            assert!(matches!(refused, Err(ReleaseError::Interrupted { .. })), "{}", context());
            let ended = match way {
                0 => release.resume().await,
                1 => release.rollback(None).await,
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

/// What the platform's figures say after the switch decides, without a person.
#[tokio::test]
async fn the_watch_swaps_back_and_the_record_says_why() {
    for (fault, signal) in
        [(Fault::Failing, "5xx"), (Fault::Slow, "response time"), (Fault::Unready, "readiness")]
    {
        let fixture = Fixture::new();
        fixture.deploy(1).await.expect("released");
        let old = fixture.running();
        fixture.platform.fault(fault);
        fixture.version(2);
        let options = Options { watch: Duration::from_secs(60), ..Options::default() };
        let began = Instant::now();
        let failed = fixture.release().deploy(&options).await;
        let Err(ReleaseError::Step(broken)) = failed else { panic!("{fault:?}: {failed:?}") };
        assert_eq!((broken.step, broken.state), (Step::Watch, State::PutBack), "{fault:?}");
        assert!(broken.what.starts_with(signal), "{fault:?}: {}", broken.what);
        assert!(began.elapsed() < Duration::from_secs(25), "{fault:?}: {:?}", began.elapsed());
        assert_eq!(fixture.running(), old, "{fault:?}");
        assert_eq!(fixture.outcome(2), Some(Outcome::RolledBack));
        let records = fixture.records(2);
        let breach = journal::evidence(&records, Step::Watch, "breach").expect("the reason");
        assert_eq!(breach["signal"], signal);
        let told = lazuli_release::story::markdown(&records);
        assert!(told.contains("## Why it went back"), "{told}");
    }
}

#[tokio::test]
async fn a_watch_without_traffic_says_that_it_could_not_judge() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    fixture.platform.fault(Fault::NoTraffic);
    fixture.deploy_watched(2, 3).await.expect("released");
    let records = fixture.records(2);
    let done = records.iter().find_map(|record| match &record.entry {
        Entry::Done { step: Step::Watch, detail, .. } => Some(detail.clone()),
        _ => None,
    });
    assert!(done.expect("watched").contains("too few to judge"));
}

#[tokio::test]
async fn a_good_release_is_watched_to_its_end() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    let report = fixture.deploy_watched(2, 3).await.expect("released");
    assert!(report.steps.iter().any(|(step, ms)| *step == Step::Watch && *ms > 1_000));
    let records = fixture.records(2);
    let watched = journal::evidence(&records, Step::Watch, "watched").expect("figures");
    // How many depends on how long the first release has served by then.
    assert!(watched.pointer("/before/requests").and_then(serde_json::Value::as_f64) > Some(0.0));
}

/// Whoever rolls back while it is watched need not wait for the watch.
#[tokio::test]
async fn a_rollback_takes_over_from_a_watch() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    let old = fixture.running();
    fixture.version(2);
    let options = Options { watch: Duration::from_secs(60), ..Options::default() };
    let (release, other) = (fixture.release(), fixture.release());
    let (watched, rolled_back) = tokio::join!(release.deploy(&options), async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let watching = lazuli_release::lock::Lock::holder(other.journals().dir());
            if watching.is_some_and(|holder| holder.purpose.ends_with("(watching)")) {
                return other.rollback(None).await;
            }
        }
    });
    assert!(matches!(watched, Err(ReleaseError::TakenOver { number: 2 })), "{watched:?}");
    assert_eq!(rolled_back.expect("rolled back").outcome, Some(Outcome::RolledBack));
    assert_eq!(fixture.running(), old);
    assert_eq!(fixture.outcome(2), Some(Outcome::RolledBack));
    fixture.deploy(3).await.expect("and the next is none the worse for it");
}

#[tokio::test]
async fn gates_stop_a_release_before_anything_moves_and_a_person_may_accept_one() {
    for (fault, says) in [
        (Fault::Unresolved, "settings: DATABASE_URL on notes-staging"),
        (Fault::Expired, "expired 3 days ago"),
    ] {
        let fixture = Fixture::new();
        fixture.deploy(1).await.expect("released");
        let (old, staged) = (fixture.running(), fixture.platform.content(STAGING));
        fixture.platform.fault(fault);
        let broken = fixture.fails(2).await;
        assert_eq!((broken.step, broken.state), (Step::Gates, State::Untouched));
        assert!(broken.what.contains(says), "{}", broken.what);
        assert_eq!((fixture.running(), fixture.platform.content(STAGING)), (old, staged));
        assert_eq!(fixture.platform.trials(), 1, "only the first release's");
        let accepted = vec!["settings".to_owned(), "secrets".to_owned()];
        let options = Options { accepted, force: true, ..Options::default() };
        fixture.release().deploy(&options).await.expect("accepted");
        let records = fixture.records(3);
        let told = lazuli_release::story::markdown(&records);
        assert!(told.contains("**failed, accepted**"), "{told}");
    }
}

#[tokio::test]
async fn what_somebody_changed_past_the_release_process_is_seen() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    fixture.platform.meddle();
    let broken = fixture.fails(2).await;
    assert!(broken.what.contains("somebody changed it since"), "{}", broken.what);
}

#[tokio::test]
async fn migrations_that_destroy_or_lock_stop_before_production() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    let old = fixture.running();
    fixture.migration("0002_drop.py", "op.drop_column('notes', 'version')");
    let broken = fixture.fails(2).await;
    assert_eq!(broken.step, Step::Gates);
    assert!(
        broken.what.contains("drops the column notes.version, which the version that serves still uses (modules/main.py:1)"),
        "{}",
        broken.what
    );
    // What nobody uses goes when its script says that it is meant.
    fixture.migration("0002_drop.py", "op.drop_column('notes', 'old')  # lazuli: contract");
    fixture.deploy(3).await.expect("released");
    fixture.migration("0003_more.py", "op.add_column('notes', sa.Column('x', sa.Text()))");
    for (fault, says) in [
        (Fault::LongLock, "held AccessExclusiveLock on notes for 9000 ms"),
        (Fault::ColumnGone, "column notes.summary"),
    ] {
        fixture.platform.fault(fault);
        let serving = fixture.running();
        let broken = fixture.fails(4).await;
        assert_eq!((broken.step, broken.state), (Step::Trial, State::Untouched));
        assert!(broken.what.contains(says), "{}", broken.what);
        assert_eq!(fixture.running(), serving);
        assert_eq!(
            fixture.platform.migrated(),
            ["staging", "production", "staging", "production"],
            "no database was touched"
        );
        fixture.platform.heal();
    }
    assert_ne!(fixture.running(), old);
}

#[tokio::test]
async fn a_canary_grows_and_one_that_fails_gets_no_more() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    let old = fixture.running();
    fixture.platform.fault(Fault::CanaryFails);
    fixture.version(2);
    let options = Options { canary: vec![10, 50], ..Options::default() };
    let failed = fixture.release().deploy(&options).await;
    let Err(ReleaseError::Step(broken)) = failed else { panic!("{failed:?}") };
    assert_eq!((broken.step, broken.state), (Step::Canary, State::Untouched));
    assert!(broken.what.starts_with("5xx at 10 %"), "{}", broken.what);
    assert_eq!(fixture.platform.canary(), (0, false), "all is as it was");
    assert_eq!(fixture.running(), old);
    fixture.platform.heal();
    fixture.version(3);
    fixture.release().deploy(&options).await.expect("released");
    assert_eq!(fixture.platform.canary(), (0, false));
    assert_ne!(fixture.running(), old);
}

#[tokio::test]
async fn one_release_an_environment_wherever_it_comes_from() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    assert!(!fixture.platform.leased(), "it was given back");
    let now = jiff::Timestamp::now().to_string();
    fixture.platform.lease("elsewhere", &now);
    let error = fixture.deploy(2).await.expect_err("held");
    assert!(matches!(error, ReleaseError::Lease(_)), "{error:?}");
    let said = error.to_string();
    assert!(
        said.contains("ada on elsewhere") && said.contains("since 2026-11-22T10:00:00Z"),
        "{said}"
    );
    // Gone without a word: only a person may decide that.
    fixture.platform.lease("elsewhere", "2026-11-22T10:00:00Z");
    let error = fixture.deploy(2).await.expect_err("abandoned");
    assert!(error.to_string().contains("interrupted and not ended"), "{error}");
    fixture.version(2);
    let release = lazuli_release::release::Release { take_over: true, ..fixture.release() };
    release.deploy(&Options::default()).await.expect("taken over");
    assert!(!fixture.platform.leased());
}

#[tokio::test]
async fn back_to_any_release_whose_package_is_kept() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    let first = fixture.running();
    fixture.deploy(2).await.expect("released");
    fixture.deploy(3).await.expect("released");
    let third = fixture.running();
    let back = fixture.release().rollback(Some(1)).await.expect("rolled back");
    assert!(back.steps.iter().any(|(step, _)| *step == Step::Deploy), "it was deployed again");
    assert_eq!(fixture.running(), first);
    // A rollback of the rollback, by name: a swap, since the version waits in the staging slot.
    let again = fixture.release().rollback(Some(3)).await.expect("rolled forward");
    assert_eq!(fixture.running(), third);
    assert!(again.steps.iter().all(|(step, _)| *step != Step::Deploy));
    let same = fixture.release().rollback(Some(3)).await;
    assert!(matches!(same, Err(ReleaseError::NothingBefore(_))), "{same:?}");
    let never = fixture.release().rollback(Some(99)).await;
    assert!(matches!(never, Err(ReleaseError::Journal(_))), "{never:?}");
}

/// As Azure's documentation says it may be: throttled, slow to agree with itself, a token that ends
/// in the middle.
#[tokio::test]
async fn a_platform_as_azure_documents_itself_is_survived() {
    let fixture = Fixture::new();
    for fault in [Fault::Throttled, Fault::Stale] {
        fixture.platform.fault(fault);
    }
    fixture.deploy(1).await.expect("released");
    let old = fixture.running();
    fixture.platform.fault(Fault::TokenExpired);
    fixture.deploy_watched(2, 2).await.expect("released");
    assert_ne!(fixture.running(), old);
    assert_eq!(fixture.platform.switches(), 2, "once each");
    tokio::time::sleep(Duration::from_secs(1)).await;
    fixture.platform.fault(Fault::TokenExpired);
    fixture.release().rollback(None).await.expect("rolled back");
    assert_eq!(fixture.running(), old);
}

#[tokio::test]
async fn a_rehearsal_says_everything_and_does_nothing() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    fixture.version(2);
    let seen = fixture.platform.seen().lines().count();
    let options = Options { watch: Duration::from_secs(900), ..Options::default() };
    let rehearsal = fixture.release().rehearse(&options).await.expect("rehearsed");
    assert!(rehearsal.steps.iter().any(|(step, _)| *step == Step::Watch));
    assert_eq!(rehearsal.gates.len(), lazuli_release::gates::NAMES.len());
    let requests = fixture.platform.seen();
    let changed: Vec<_> = requests
        .lines()
        .skip(seen)
        .filter(|line| {
            !line.contains(" GET ") && !line.contains("/list") && !line.contains("login.")
        })
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert_eq!(fixture.release().journals().numbers().expect("listed"), [1]);
}
