//! `POST /api/command` and `AppServiceTunnel`
//! (<https://github.com/projectkudu/kudu/wiki/REST-API#command>).

use std::path::Path;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use lazuli_gateway::{Body, BoxError};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Call, Refused, json_ok};
use crate::appservice::commands::CommandError;

/// The longest request, in bytes.
const REQUEST: usize = 64 * 1024;

#[derive(Deserialize)]
struct Asked {
    command: String,
    #[serde(default)]
    dir: Option<String>,
}

/// Runs a command beside the app and answers with what it printed.
pub(super) async fn run<B>(call: Call<B>) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
    B::Error: Into<BoxError>,
{
    let Call { app, slot, request, .. } = call;
    let bad = |message: &str| Refused::new(StatusCode::BAD_REQUEST, message);
    let body = Limited::new(request.into_body(), REQUEST)
        .collect()
        .await
        .map_err(|_| Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "The request is too long."))?
        .to_bytes();
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| {
        bad(&format!("The body must be {{\"command\": …, \"dir\": …}}: {error}"))
    })?;
    if asked.command.trim().is_empty() || asked.command.contains('\0') {
        return Err(bad("'command' is empty or has a NUL in it."));
    }
    let dir = asked.dir.as_deref().filter(|dir| !dir.is_empty()).unwrap_or("site/wwwroot");
    if dir.contains('\0') {
        return Err(bad("'dir' has a NUL in it."));
    }
    let outcome = app.command(&slot, &asked.command, Path::new(dir)).await.map_err(|error| {
        let status = match error {
            CommandError::Stopped => StatusCode::CONFLICT,
            CommandError::Start(_) => StatusCode::BAD_REQUEST,
            CommandError::TooLong => StatusCode::GATEWAY_TIMEOUT,
        };
        Refused::new(status, error.to_string())
    })?;
    Ok(json_ok(&json!({
        "Output": outcome.output, "Error": outcome.error, "ExitCode": outcome.code,
    })))
}

/// Whether an instance can be reached by SSH. None can: there is no SSH server in one here, which `az`
/// then says in the words it has for a container without one.
pub(super) fn tunnel_status<B>(call: &Call<B>) -> Response<Body> {
    let running = call.app.records.slot(&call.slot).is_some_and(|record| record.running);
    json_ok(&json!({
        "state": if running { "STARTED" } else { "STOPPED" },
        "port": 2222,
        "canReachPort": false,
        "msg": "This region's instances have no SSH server: POST /api/command runs a command beside the app.",
    }))
}
