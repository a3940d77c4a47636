//! What goes wrong at every line of the journal, and in any order: the command is killed, the region is
//! killed, the network is cut, an operation answers 500 though it did its work. Afterwards `--resume` or
//! `rollback` ends all new or all old, the log is intact, and the next release works.

mod fixture;
mod platform;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fixture::Fixture;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use lazuli_release::event::{Event, Reporter};
use lazuli_release::journal::Outcome;
use lazuli_release::release::{Options, ReleaseError};
use platform::{Fault, Mishap, STAGING};
use proptest::prelude::*;

/// What happens, and to whom.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Blow {
    /// `kill -9` of the command.
    Command,
    /// Something happens to the platform.
    Platform(Mishap),
}

const BLOWS: [Blow; 5] = [
    Blow::Command,
    Blow::Platform(Mishap::Killed { finishes: true }),
    Blow::Platform(Mishap::Killed { finishes: false }),
    Blow::Platform(Mishap::Cut),
    Blow::Platform(Mishap::LostAnswer),
];

/// How a person goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Resume,
    Rollback,
    Abort,
}

/// What unwinds the command: nothing of it runs on, as after `kill -9`.
struct Killed;

/// A reporter that strikes when a line of the journal is on disk.
fn striking(fixture: &Fixture, line: u64, blow: Blow) -> (Reporter, Arc<AtomicBool>) {
    let struck = Arc::new(AtomicBool::new(false));
    let (platform, seen) = (fixture.platform.clone(), struck.clone());
    let reporter = Reporter::new(move |event| {
        if matches!(event, Event::Recorded { line: at, .. } if at == line)
            && !seen.swap(true, Ordering::SeqCst)
        {
            match blow {
                Blow::Command => std::panic::resume_unwind(Box::new(Killed)),
                Blow::Platform(mishap) => platform.mishap(mishap),
            }
        }
    });
    (reporter, struck)
}

/// Releases a version, is struck, recovers, goes on. Whether the line was reached; otherwise the release
/// was done without a blow.
async fn release_struck(
    fixture: &Fixture,
    version: u32,
    (line, blow, way): (u64, Blow, Way),
    options: &Options,
) -> bool {
    let old = fixture.running();
    let context = format!("{blow:?} at line {line}, then {way:?}");
    fixture.version(version);
    let (reporter, struck) = striking(fixture, line, blow);
    let release = fixture.release_to(reporter);
    let outcome = AssertUnwindSafe(release.deploy(options)).catch_unwind().await;
    fixture.platform.recover();
    if !struck.load(Ordering::SeqCst) {
        let report = outcome.unwrap_or_else(|_| panic!("{context}: it panicked"));
        report.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        return false;
    }
    let release = fixture.release();
    let last = release.journals().last().expect("the log is intact").expect("a release");
    let mut ended = last.1.outcome();
    if ended.is_none() {
        let report = match way {
            Way::Resume => release.resume().await,
            Way::Rollback => release.rollback(None).await,
            Way::Abort => release.abort().await,
        };
        let report = report
            .unwrap_or_else(|error| panic!("{context}: {error:?}\n{}", fixture.platform.seen()));
        ended = report.outcome;
    }
    // A swap that nobody waited for would show now.
    tokio::time::sleep(Duration::from_millis(80)).await;
    let now = fixture.running();
    assert!(now.iter().all(|content| *content == now[0]), "{context}: {now:?} was {old:?}");
    match ended {
        Some(Outcome::Succeeded) => assert_ne!(now, old, "{context}: it is said to be done"),
        Some(_) => assert_eq!(now, old, "{context}: it is said to be undone"),
        None => panic!("{context}: not ended"),
    }
    if way != Way::Resume && last.1.outcome().is_none() {
        assert_eq!(now, old, "{context}: it was to be undone");
    }
    // Killed after its last line, a release leaves the lock behind; the next command from here, whose
    // lock it is, takes it over.
    let over = last.1.outcome().is_some();
    assert!(over || !fixture.platform.leased(), "{context}: the environment is locked");
    true
}

/// Every line, every blow; both ways of going on meet every line.
#[tokio::test]
async fn at_every_line_of_the_journal() {
    let strikes = join_all((0..BLOWS.len()).map(|shard| async move {
        let fixture = Fixture::new();
        fixture.deploy(1).await.expect("released");
        let blow = BLOWS[shard];
        let (mut version, mut strikes, mut line) = (1, 0, 1);
        loop {
            version += 1;
            let way =
                if (line + shard as u64).is_multiple_of(2) { Way::Resume } else { Way::Rollback };
            let options = Options { force: true, ..Options::default() };
            if !release_struck(&fixture, version, (line, blow, way), &options).await {
                break;
            }
            strikes += 1;
            line += 1;
        }
        intact(&fixture);
        strikes
    }))
    .await;
    assert!(strikes.iter().all(|strikes| *strikes >= 30), "{strikes:?}");
}

/// The log of every release is whole, and says how it ended.
fn intact(fixture: &Fixture) {
    let journals = fixture.release().journals();
    let mut before = None;
    for number in journals.numbers().expect("listed") {
        let story = journals.read(number).expect("intact");
        assert!(story.outcome().is_some(), "release {number} has no end");
        if let Some(before) = before {
            assert_eq!(story.records[0].prev, before, "release {number} does not follow");
        }
        before = Some(story.hash);
    }
}

/// A rollback is struck at every line too.
#[tokio::test]
async fn a_rollback_at_every_line() {
    join_all(BLOWS.map(|blow| async move {
        let fixture = Fixture::new();
        fixture.deploy(1).await.expect("released");
        let (mut version, mut line) = (1, 1);
        loop {
            let old = fixture.running();
            version += 1;
            fixture.deploy(version).await.expect("released");
            let (reporter, struck) = striking(&fixture, line, blow);
            let release = fixture.release_to(reporter);
            let outcome = AssertUnwindSafe(release.rollback(None)).catch_unwind().await;
            fixture.platform.recover();
            if !struck.load(Ordering::SeqCst) {
                outcome.unwrap_or_else(|_| panic!("it panicked")).expect("rolled back");
                break;
            }
            let release = fixture.release();
            let (_, story) = release.journals().last().expect("intact").expect("a release");
            if story.outcome().is_none() {
                let ended = release.resume().await;
                ended.unwrap_or_else(|error| panic!("{blow:?} at line {line}: {error:?}"));
            }
            tokio::time::sleep(Duration::from_millis(80)).await;
            let now = fixture.running();
            assert!(
                now.iter().all(|content| *content == now[0]),
                "{blow:?} at line {line}: {now:?}"
            );
            let (_, story) = release.journals().last().expect("intact").expect("a release");
            if story.outcome() == Some(Outcome::Succeeded) {
                assert_eq!(now, old, "{blow:?} at line {line}");
            }
            line += 1;
        }
        intact(&fixture);
        assert!(line > 8, "{blow:?}: only {line} lines");
    }))
    .await;
}

/// Something a person or the world does.
#[derive(Clone, Debug)]
enum Act {
    Release,
    Broken(Fault),
    Struck(u64, Blow, Way),
    RollBack,
    Swap,
}

fn act() -> impl Strategy<Value = Act> {
    let fault = prop::sample::select(vec![
        Fault::Build,
        Fault::Start,
        Fault::MigrateProduction,
        Fault::Warmup,
        Fault::Production,
        Fault::Worker,
        Fault::Unresolved,
    ]);
    let way = prop::sample::select(vec![Way::Resume, Way::Rollback, Way::Abort]);
    prop_oneof![
        2 => Just(Act::Release),
        1 => fault.prop_map(Act::Broken),
        4 => (1..45_u64, prop::sample::select(BLOWS.to_vec()), way)
            .prop_map(|(line, blow, way)| Act::Struck(line, blow, way)),
        2 => Just(Act::RollBack),
        1 => Just(Act::Swap),
    ]
}

/// The model: what production runs, and whether a rollback has anything to go back to.
#[derive(Debug)]
struct Model {
    serving: Option<u64>,
    /// What a rollback would bring back; `None` when it must be refused.
    back: Option<u64>,
}

async fn carry_out(acts: &[Act]) {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    let mut model = Model { serving: fixture.running()[0], back: None };
    let mut version = 1;
    let options = Options { force: true, ..Options::default() };
    for act in acts {
        version += 1;
        match act {
            Act::Release => {
                fixture.deploy(version).await.expect("released");
                model = Model { serving: fixture.running()[0], back: model.serving };
            }
            Act::Broken(fault) => {
                fixture.platform.fault(*fault);
                let failed = fixture.deploy(version).await;
                fixture.platform.heal();
                assert!(matches!(failed, Err(ReleaseError::Step(_))), "{fault:?}: {failed:?}");
            }
            Act::Struck(line, blow, way) => {
                release_struck(&fixture, version, (*line, *blow, *way), &options).await;
                let now = fixture.running()[0];
                if now != model.serving {
                    model = Model { serving: now, back: model.serving };
                }
            }
            Act::RollBack => match (fixture.release().rollback(None).await, model.back) {
                (Ok(_), Some(back)) => {
                    model = Model { serving: Some(back), back: None };
                }
                (Err(ReleaseError::NothingBefore(_)), None) => {}
                (outcome, back) => panic!("to {back:?}: {outcome:?}"),
            },
            Act::Swap => {
                // What is in staging goes to production, whatever it is; worker and scheduler stay:
                // swapped back at once, all is as it was.
                let staged = fixture.platform.content(STAGING);
                if staged.is_some() && staged != model.serving {
                    let there = fixture.release().swap().await;
                    let back = fixture.release().swap().await;
                    assert!(there.is_ok() && back.is_ok(), "{there:?} {back:?}");
                    // A swap is a release: what there was before it is what a rollback goes back to.
                    model.back = None;
                    fixture.deploy(version).await.expect("released");
                    model = Model { serving: fixture.running()[0], back: model.serving };
                }
            }
        }
        let now = fixture.running();
        assert!(now.iter().all(|content| *content == model.serving), "{act:?}: {now:?} {model:?}");
    }
    intact(&fixture);
}

/// Random sequences of all of that, against a model.
#[test]
fn any_sequence_ends_as_the_model_says() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let slow = std::env::var("LAZULI_SLOW_TESTS").is_ok_and(|value| value == "1");
    let config = ProptestConfig {
        cases: if slow { 60 } else { 6 },
        max_shrink_iters: 20,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(acts in prop::collection::vec(act(), 1..7))| {
        runtime.block_on(carry_out(&acts));
    });
}
