//! What differs from a plan, without writing anything: what somebody changed by hand since.

use futures_util::StreamExt as _;
use lazuli_azure::{Client, Error};
use serde_json::Value;

use super::difference::first_difference;
use super::plan::{Action, Plan, Planned, SettingValue};

/// Requests under way at once.
const PARALLEL: usize = 8;

/// Compares every resource of a plan with what is there. The names of those that are missing or
/// differ, each with the first thing that does. Secrets' values are not looked at.
pub async fn drift(client: &Client, plan: &Plan) -> Result<Vec<String>, Error> {
    let looks = plan.steps.iter().map(|planned| async move { look(client, planned).await });
    let mut looks = futures_util::stream::iter(looks).buffered(PARALLEL);
    let mut found = Vec::new();
    while let Some(look) = looks.next().await {
        found.extend(look?);
    }
    Ok(found)
}

async fn look(client: &Client, planned: &Planned) -> Result<Option<String>, Error> {
    let differs = |path: String| Some(format!("{} ({path})", planned.title));
    if let Action::Settings(wanted) = &planned.action {
        let path = format!("{}/list", planned.id);
        let actual = client.post(path, planned.api_version, None).await?;
        let there = actual.get("properties").and_then(Value::as_object);
        // Values of another kind are made elsewhere; names are enough for those.
        let wrong = wanted.iter().find(|(name, value)| {
            let there = there.and_then(|there| there.get(name.as_str()));
            match value {
                SettingValue::Text(text) => there.and_then(Value::as_str) != Some(text),
                SettingValue::InsightsOf(_) => there.is_none(),
            }
        });
        let more = there.into_iter().flatten().find(|(name, _)| !wanted.contains_key(*name));
        return Ok(wrong
            .map(|(name, _)| name)
            .or(more.map(|(name, _)| name))
            .and_then(|name| differs(name.clone())));
    }
    let actual = match client.find(&planned.id, planned.api_version).await {
        Ok(Some(actual)) => actual,
        // What the target does not offer cannot have drifted there.
        Ok(None) | Err(_) if planned.optional => return Ok(None),
        Ok(None) => return Ok(differs("missing".to_owned())),
        Err(error) => return Err(error),
    };
    let path = match &planned.action {
        Action::Put { body, initial } => {
            let mut body = body.clone();
            for pointer in *initial {
                if let Some(wanted) = body.pointer_mut(pointer) {
                    *wanted = Value::Null;
                }
            }
            first_difference("", &body, &actual)
        }
        Action::Site(body) => {
            let mut actual = actual;
            let config = client.get(format!("{}/config/web", planned.id), planned.api_version);
            actual["properties"]["siteConfig"] = config.await?["properties"].take();
            first_difference("", body, &actual)
        }
        Action::Merge(body) | Action::Vault(body) | Action::Server(body) => {
            first_difference("", body, &actual)
        }
        Action::Parameter(wanted) => {
            let current = actual.pointer("/properties/value").and_then(Value::as_str);
            let same = current.is_some_and(|current| current.eq_ignore_ascii_case(wanted));
            (!same).then(|| "value".to_owned())
        }
        // There they are.
        _ => None,
    };
    Ok(path.and_then(differs))
}
