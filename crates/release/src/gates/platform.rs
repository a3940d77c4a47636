//! The gates that ask the platform.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use lazuli_standard::data::secrets as standard;
use serde_json::{Value, json};

use super::{Answer, Subject, Verdict};
use crate::cloud::{Place, WEB_API};
use crate::provision;

/// The version of Microsoft.KeyVault spoken here.
const VAULT_API: &str = "2023-07-01";

/// Every setting of the slot that the release goes to is there, and every reference resolves.
pub(super) async fn settings(subject: &Subject<'_>) -> Answer {
    let cloud = subject.cloud;
    let site = subject.blueprint.backend();
    let mut places = vec![(Place::Production, &site.settings)];
    if let Some(slot) = site.staging() {
        places.push((Place::Staging, &slot.settings));
    }
    let mut wrong = Vec::new();
    let mut evidence = Vec::new();
    for (place, wanted) in places {
        let id = cloud.id(place);
        let (settings, references) = tokio::join!(
            cloud.client().post(format!("{id}/config/appsettings/list"), WEB_API, None),
            cloud.client().list(format!("{id}/config/configreferences/appsettings"), WEB_API),
        );
        let (settings, references) = match (settings, references) {
            (Ok(settings), Ok(references)) => (settings, references),
            (Err(error), _) | (_, Err(error)) => return Answer::unknown(&error),
        };
        let host = cloud.host(place);
        let there: BTreeSet<&str> = settings
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        for name in wanted.keys().filter(|name| !there.contains(name.as_str())) {
            wrong.push(format!("{name} is missing on {host}"));
        }
        for reference in &references {
            let status = reference.pointer("/properties/status").and_then(Value::as_str);
            if status.is_none_or(|status| status != "Resolved") {
                let name = reference.get("name").and_then(Value::as_str).unwrap_or_default();
                let name = name.rsplit('/').next().unwrap_or(name);
                let status = status.unwrap_or("unknown");
                wrong.push(format!("{name} on {host} is not resolved ({status})"));
            }
        }
        evidence.push(json!({
            "host": host, "settings": there, "references": references.len(),
        }));
    }
    let evidence = Value::Array(evidence);
    if wrong.is_empty() {
        let what = "all settings are there, and every Key Vault reference resolves";
        return Answer::new(Verdict::Passed, what, evidence);
    }
    Answer::new(Verdict::Failed, wrong.join("; "), evidence)
}

/// No secret is expired or past its rotation. Resource Manager tells a secret's dates without its
/// value.
pub(super) async fn secrets(subject: &Subject<'_>) -> Answer {
    let vault = format!(
        "{}/providers/Microsoft.KeyVault/vaults/{}/secrets",
        subject.cloud.group(),
        subject.blueprint.vault.name
    );
    let listed = match subject.cloud.client().list(vault, VAULT_API).await {
        Ok(listed) => listed,
        Err(error) => return Answer::unknown(&error),
    };
    let now = Timestamp::now().as_second();
    let cycle = i64::from(*standard::ROTATION_DAYS);
    let mut wrong = Vec::new();
    let mut seen = Vec::new();
    for wanted in &subject.blueprint.secrets {
        let found = listed.iter().find(|secret| {
            let name = secret.get("name").and_then(Value::as_str).unwrap_or_default();
            name.rsplit('/').next().is_some_and(|name| name.eq_ignore_ascii_case(&wanted.name))
        });
        let Some(found) = found else {
            wrong.push(format!("{} is not in the vault", wanted.name));
            continue;
        };
        let attributes = &found["properties"]["attributes"];
        let number = |name: &str| attributes.get(name).and_then(Value::as_i64);
        let days = |from: i64| (now - from) / Duration::from_secs(86_400).as_secs().cast_signed();
        seen.push(json!({
            "name": wanted.name, "created": number("created"), "expires": number("exp"),
        }));
        if attributes.get("enabled").and_then(Value::as_bool) == Some(false) {
            wrong.push(format!("{} is disabled", wanted.name));
        } else if let Some(expired) = number("exp").filter(|at| *at <= now) {
            wrong.push(format!("{} expired {} days ago", wanted.name, days(expired)));
        } else if let Some(age) = number("created").map(days).filter(|age| *age > cycle) {
            wrong.push(format!(
                "{} is {age} days old, and secrets are rotated every {cycle}",
                wanted.name
            ));
        }
    }
    if wrong.is_empty() {
        let what = format!("{} secrets, none expired or past {cycle} days", seen.len());
        return Answer::new(Verdict::Passed, what, Value::Array(seen));
    }
    Answer::new(Verdict::Failed, wrong.join("; "), Value::Array(seen))
}

/// The resources are as the blueprint has them.
pub(super) async fn drift(subject: &Subject<'_>) -> Answer {
    let Some(plan) = subject.plan else {
        return Answer::not_checked("the blueprint cannot be turned into resources here");
    };
    match provision::drift(subject.cloud.client(), plan).await {
        Ok(found) if found.is_empty() => Answer::new(
            Verdict::Passed,
            format!("{} resources are as the blueprint has them", plan.steps.len()),
            json!({ "compared": plan.steps.len() }),
        ),
        Ok(found) => {
            let shown = found.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
            let more = found.len().saturating_sub(5);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            Answer::new(Verdict::Failed, format!("{shown}{more}"), json!({ "differs": found }))
        }
        Err(error) => Answer::unknown(&error),
    }
}

/// There is a version to go back to, and it is the one that was released last.
pub(super) fn rollback(subject: &Subject<'_>) -> Answer {
    let evidence = json!({
        "production": subject.found.production,
        "released": subject.released,
        "packageKept": subject.serving.is_some(),
    });
    match (&subject.found.production, subject.released) {
        (None, _) => Answer::not_checked("the first release has nothing to go back to"),
        (Some(_), None) => Answer::new(
            Verdict::Warned,
            "what production runs was not released from here: swapping back works, its package is not kept",
            evidence,
        ),
        (Some(production), Some(released)) if production != released => Answer::new(
            Verdict::Failed,
            format!(
                "production runs deployment {production}, where the last release left {released}: somebody changed it since"
            ),
            evidence,
        ),
        _ => {
            let kept = if subject.serving.is_some() {
                "its package is kept"
            } else {
                "its package is not kept"
            };
            Answer::new(
                Verdict::Passed,
                format!("the version that serves stays in the staging slot; {kept}"),
                evidence,
            )
        }
    }
}
