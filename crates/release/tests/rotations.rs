//! Rotations against what only Azure does: App Service remembers what it read, whoever signed in is no
//! service principal, pages name a port.

use std::time::Duration;

use lazuli_release::rotation::entry::{Began, Entry, Outcome, Step};
use serde_json::json;

mod fixture;
mod platform;

use fixture::Fixture;
use platform::vault::Kept;

const SECRET: &str = "notes-redis-connection-string";

async fn rotated(remembers: bool) -> Fixture {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    fixture.platform.keep(Kept { remembers, ..Kept::of(&[SECRET]) });
    let report = fixture.rotation().begin(SECRET, Duration::ZERO).await;
    let report = report.unwrap_or_else(|error| panic!("{error}\n{}", fixture.platform.seen()));
    assert_eq!(report.outcome, Some(Outcome::Rotated));
    assert_eq!(report.restarted.len(), 4);
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_still_has_the_old_version_reads_anew_and_is_restarted_once_more() {
    let fixture = rotated(true).await;
    fixture.platform.kept(|kept| {
        assert_eq!(kept.refreshes.len(), 4, "{:?}", kept.refreshes);
        assert!(kept.refreshes.values().all(|count| *count == 1), "{:?}", kept.refreshes);
        assert!(kept.restarts.values().all(|count| *count == 2), "{:?}", kept.restarts);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_reads_anew_by_itself_is_restarted_once() {
    let fixture = rotated(false).await;
    fixture.platform.kept(|kept| {
        assert!(kept.refreshes.is_empty(), "{:?}", kept.refreshes);
        assert_eq!(kept.restarts.len(), 4, "{:?}", kept.restarts);
        assert!(kept.restarts.values().all(|count| *count == 1), "{:?}", kept.restarts);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_may_rotate_and_every_door_is_closed_behind_them() {
    let fixture = rotated(false).await;
    fixture.platform.kept(|kept| {
        assert_eq!(kept.kinds, ["User"], "the role was given to what the token says");
        assert!(kept.roles.is_empty(), "{:?}", kept.roles);
        assert_eq!(kept.network["publicNetworkAccess"], "Disabled");
        assert_eq!(kept.network["networkAcls"]["ipRules"].as_array().map(Vec::len), Some(0));
        // The old one is on the first of two pages.
        let expected = [("v1".to_owned(), false), ("v2".to_owned(), true)];
        assert_eq!(kept.secrets[SECRET], expected);
    });
}

/// Seen: killed between the two lines that say what the old version was and which key it held, a
/// rotation took the key in use for the old one and made it anew. Whatever runs went on with the
/// connections that it had; whatever started then had no cache.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_in_use_is_never_made_anew() {
    let fixture = Fixture::new();
    fixture.deploy(1).await.expect("released");
    let mut kept = Kept::of(&[SECRET]);
    kept.tags.insert(SECRET.to_owned(), json!({ "lazuli-credential": "Secondary" }));
    fixture.platform.keep(kept);
    let rotation = fixture.rotation();
    let began = |number| {
        Entry::Began(Box::new(Began {
            number,
            app: "notes".into(),
            environment: "prod".into(),
            target: "local".into(),
            secret: SECRET.into(),
            secrets: vec![SECRET.into()],
            by: "ada".into(),
            host: "laptop".into(),
            lazuli: "0".into(),
            confirm_seconds: 0,
        }))
    };
    let mut journal = rotation.journals().begin_with(began).expect("written");
    let (step, name) = (Step::NewVersion, format!("old/{SECRET}"));
    journal.write(Entry::Started { step }).expect("written");
    journal.write(Entry::Noted { step, name, value: "v1".into() }).expect("written");
    drop(journal);
    let reports = rotation.resume(false).await.expect("finished");
    assert_eq!(reports[0].outcome, Some(Outcome::Rotated));
    fixture.platform.kept(|kept| {
        assert_eq!(kept.keys, ["Primary", "Secondary"], "the new one, then the old one");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_take_turns() {
    let fixture = rotated(false).await;
    fixture.rotation().begin(SECRET, Duration::ZERO).await.expect("once more");
    fixture.platform.kept(|kept| {
        assert_eq!(kept.keys, ["Secondary", "Primary", "Primary", "Secondary"]);
    });
}
