//! `GET /api/logstream` and the log files.

use std::{convert::Infallible, io::Write as _, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use lazuli_gateway::full;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::{Answer, Call, Refused, json_ok, text};
use http::StatusCode;

/// What a follower is shown of the past.
const RECENT: u64 = 16 << 10;
/// The stream says something at least this often, so that nobody takes it for dead.
const HEARTBEAT: Duration = Duration::from_secs(60);

pub(super) fn stream<B>(call: &Call<B>) -> Answer {
    let log = call.app.log(&call.slot).ok_or_else(|| Refused::not_found("The slot"))?;
    let follower = log.follow();
    let first = format!(
        "{}  Welcome, you are now connected to log-streaming service.\n{}",
        crate::appservice::logs::now(),
        log.recent(RECENT)
    );
    // The log itself is not held: a deleted slot ends the stream.
    drop(log);
    let lines = stream::unfold((Some(first), follower), |(first, mut follower)| async move {
        if let Some(first) = first {
            return Some((Bytes::from(first), (None, follower)));
        }
        let line = match tokio::time::timeout(HEARTBEAT, follower.recv()).await {
            Ok(Ok(line)) => line,
            Ok(Err(RecvError::Lagged(missed))) => {
                Bytes::from(format!("({missed} lines were skipped)\n"))
            }
            Ok(Err(RecvError::Closed)) => return None,
            Err(_) => Bytes::from(format!(
                "{}  No new trace in the past 1 min(s).\n",
                crate::appservice::logs::now()
            )),
        };
        Some((line, (None, follower)))
    });
    let frames = futures_util::StreamExt::map(lines, |line| Ok::<_, Infallible>(Frame::data(line)));
    let mut response =
        Response::new(StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

fn files<B>(call: &Call<B>) -> Result<Vec<(String, u64, std::time::SystemTime)>, Refused> {
    let log = call.app.log(&call.slot).ok_or_else(|| Refused::not_found("The slot"))?;
    log.files().map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

pub(super) fn list<B>(call: &Call<B>) -> Answer {
    let files: Vec<Value> = files(call)?
        .into_iter()
        .map(|(name, size, changed)| {
            json!({
                "machineName": call.slot.label(),
                "lastUpdated": jiff::Timestamp::try_from(changed).map(|time| time.to_string()).unwrap_or_default(),
                "size": size,
                "href": format!("https://{}/api/vfs/LogFiles/{name}", call.slot.scm_host_name()),
                "path": format!("/home/LogFiles/{name}"),
            })
        })
        .collect();
    Ok(json_ok(&json!(files)))
}

pub(super) fn file<B>(call: &Call<B>, name: &str) -> Answer {
    // Only what the listing names can be read.
    if !files(call)?.iter().any(|(known, ..)| known == name) {
        return Err(Refused::not_found("The file"));
    }
    let log = call.app.log(&call.slot).ok_or_else(|| Refused::not_found("The slot"))?;
    let content = std::fs::read(log.dir().join(name))
        .map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(text(StatusCode::OK, String::from_utf8_lossy(&content)))
}

pub(super) async fn zip<B>(call: &Call<B>) -> Answer {
    let log = call.app.log(&call.slot).ok_or_else(|| Refused::not_found("The slot"))?;
    let files = files(call)?;
    let packed = tokio::task::spawn_blocking(move || -> std::io::Result<Vec<u8>> {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, ..) in files {
            zip.start_file(&*name, zip::write::SimpleFileOptions::default())?;
            zip.write_all(&std::fs::read(log.dir().join(&name))?)?;
        }
        Ok(zip.finish()?.into_inner())
    })
    .await
    .map_err(std::io::Error::other)
    .and_then(|packed| packed)
    .map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let mut response = Response::new(full(packed));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    Ok(response)
}
