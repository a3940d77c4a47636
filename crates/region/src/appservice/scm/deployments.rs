//! `GET /api/deployments`.

use http::{HeaderValue, Response, StatusCode, header};
use lazuli_gateway::Body;
use serde_json::{Value, json};

use super::{Answer, Call, Refused, json_ok, json_with};
use crate::appservice::deployments::Deployment;

fn is_active<B>(call: &Call<B>, deployment: &Deployment) -> bool {
    let record = call.app.records.slot(&call.slot);
    record.and_then(|record| record.deployment).is_some_and(|active| active.id == deployment.id)
}

pub(super) fn list<B>(call: &Call<B>) -> Response<Body> {
    let deployments = call.app.deployments(&call.slot);
    let shown: Vec<Value> = deployments
        .iter()
        .map(|deployment| deployment.to_kudu(&call.slot, is_active(call, deployment)))
        .collect();
    json_ok(&json!(shown))
}

/// A deployment under way is answered 202 with its own address, as pollers expect.
pub(super) fn get<B>(call: &Call<B>, id: &str) -> Answer {
    let deployment = call
        .app
        .deployment(&call.slot, id)
        .ok_or_else(|| Refused::not_found(&format!("Deployment '{id}'")))?;
    let shown = deployment.to_kudu(&call.slot, is_active(call, &deployment));
    if deployment.complete() {
        return Ok(json_ok(&shown));
    }
    let mut response = json_with(StatusCode::ACCEPTED, &shown);
    let location =
        format!("https://{}/api/deployments/{}", call.slot.scm_host_name(), deployment.id);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(super) fn log<B>(call: &Call<B>, id: &str, step: Option<&str>) -> Answer {
    let step = match step.map(str::parse::<usize>) {
        None => None,
        Some(Ok(step)) => Some(step),
        Some(Err(_)) => return Err(Refused::not_found("The log entry")),
    };
    let entries = call
        .app
        .deployment_log(&call.slot, id, step)
        .ok_or_else(|| Refused::not_found(&format!("Deployment '{id}'")))?;
    Ok(json_ok(&json!(entries)))
}

pub(super) fn is_deploying<B>(call: &Call<B>) -> Response<Body> {
    let deploying =
        call.app.deployment(&call.slot, "latest").is_some_and(|deployment| !deployment.complete());
    json_ok(
        &json!({ "value": deploying, "msg": if deploying { "There are ongoing deployments" } else { "There are no ongoing deployments" } }),
    )
}
