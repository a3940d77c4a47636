//! Rotations against what only Azure does: App Service remembers what it read, whoever signed in is no
//! service principal, pages name a port.

use std::time::Duration;

use lazuli_release::rotation::entry::Outcome;

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
