//! Which secrets are older than the standard allows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lazuli_azure::Error;
use lazuli_standard::Blueprint;
use serde::Serialize;

use super::family::Family;
use super::{Rotation, open_rotations};

const VAULT_API: &str = "2023-07-01";

/// How old a credential is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Aged {
    /// One of the secrets that hang on it, to rotate it by.
    pub secret: String,
    /// Whole days since the oldest of their current versions was written.
    pub age_days: i64,
    /// Whether it is as old as was asked, and nothing is under way with it.
    pub due: bool,
}

impl Rotation<'_> {
    /// Every credential of the app with its age; those that are `older_than` and not being rotated are
    /// due. Secrets that are not in the vault are left out.
    pub async fn aged(&self, older_than: Duration) -> Result<Vec<Aged>, Error> {
        let path = format!("{}/secrets", self.vault_id());
        let mut written = BTreeMap::new();
        for secret in self.cloud.client().list(path, VAULT_API).await? {
            let name = secret["name"].as_str().unwrap_or_default().rsplit('/').next();
            let created = secret["properties"]["attributes"]["created"].as_i64();
            if let (Some(name), Some(at)) =
                (name, created.and_then(|s| Timestamp::from_second(s).ok()))
            {
                written.insert(name.to_ascii_lowercase(), at);
            }
        }
        // What cannot be read is said when the rotation begins.
        let open = open_rotations(&self.journals(), self.target).unwrap_or_default();
        let busy = open.into_iter().flat_map(|open| open.secrets).collect();
        Ok(aged(self.blueprint, &written, &busy, Timestamp::now(), older_than))
    }
}

/// `written`: when the current version of each secret was, by its name in lower case. `busy`: what is
/// being rotated.
fn aged(
    blueprint: &Blueprint,
    written: &BTreeMap<String, Timestamp>,
    busy: &BTreeSet<String>,
    now: Timestamp,
    older_than: Duration,
) -> Vec<Aged> {
    let older_than = SignedDuration::try_from(older_than).unwrap_or(SignedDuration::MAX);
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut found = Vec::new();
    for secret in &blueprint.secrets {
        let Ok(family) = Family::of(blueprint, &secret.name) else { continue };
        let secrets = family.secrets();
        if secrets.iter().any(|name| seen.contains(name)) {
            continue;
        }
        let oldest =
            secrets.iter().filter_map(|name| written.get(&name.to_ascii_lowercase())).min();
        if let Some(oldest) = oldest {
            let age = now.duration_since(*oldest);
            found.push(Aged {
                secret: secret.name.clone(),
                age_days: age.as_hours() / 24,
                due: age >= older_than && !secrets.iter().any(|name| busy.contains(name)),
            });
        }
        seen.extend(secrets);
    }
    found
}

#[cfg(test)]
mod tests {
    use lazuli_standard::{Environment, Manifest};

    use super::*;

    fn blueprint() -> Blueprint {
        let text = include_str!("../../../../examples/notes/lazuli.yaml");
        let manifest = Manifest::parse(text, "lazuli.yaml").expect("the example's manifest");
        Blueprint::new(&manifest, Environment::Prod)
    }

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn one_name_a_credential_and_its_oldest_secret_counts() {
        let blueprint = blueprint();
        let now: Timestamp = "2026-11-27T00:00:00Z".parse().expect("a time");
        let mut written: BTreeMap<String, Timestamp> =
            blueprint.secrets.iter().map(|s| (s.name.clone(), now - DAY)).collect();
        written.insert("notes-db-password".to_owned(), now - DAY * 90);
        let all = aged(&blueprint, &written, &BTreeSet::new(), now, DAY * 90);
        let due: Vec<&Aged> = all.iter().filter(|one| one.due).collect();
        assert_eq!(due.len(), 1, "{all:?}");
        assert_eq!(due[0].age_days, 90);
        let family = Family::of(&blueprint, &due[0].secret).expect("a secret");
        assert!(family.secrets().contains(&"notes-db-password".to_owned()));
        // Each credential once: the database has five secrets.
        assert!(all.len() < blueprint.secrets.len());
        let just = aged(&blueprint, &written, &BTreeSet::new(), now, DAY * 91);
        assert!(just.iter().all(|one| !one.due));
    }

    #[test]
    fn what_is_being_rotated_or_is_not_there_is_not_due() {
        let blueprint = blueprint();
        let now = Timestamp::now();
        let written = BTreeMap::from([
            ("notes-jwt-secret".to_owned(), now - DAY * 200),
            ("notes-api-key-salt".to_owned(), now - DAY * 200),
        ]);
        let busy = BTreeSet::from(["notes-jwt-secret".to_owned()]);
        let all = aged(&blueprint, &written, &busy, now, DAY * 90);
        let due: Vec<&str> =
            all.iter().filter(|one| one.due).map(|one| one.secret.as_str()).collect();
        assert_eq!(due, ["notes-api-key-salt"]);
        assert_eq!(all.len(), 2, "{all:?}");
    }
}
