//! The query API of Log Analytics: `POST` or `GET /v1/workspaces/{customerId}/query`.
//!
//! <https://learn.microsoft.com/azure/azure-monitor/logs/api/overview>,
//! <https://learn.microsoft.com/rest/api/logsquery/query/execute>,
//! <https://learn.microsoft.com/azure/azure-monitor/logs/api/errors>

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use jiff::{Span, Timestamp};
use lazuli_gateway::{Body, Peer, Service};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Logs, kql};
use crate::control::authorization::{Permission, allowed};
use crate::http::{self as plain, Whole};
use crate::identity::Identity;
use crate::identity::token::Audience;
use crate::store::Resource;

/// The hosts that the region answers for: the newer one, and the one that `az` asks.
pub const HOSTS: [&str; 2] = ["api.loganalytics.azure.com", "api.loganalytics.io"];
/// More than the longest query, escaped.
const MAX_BODY: usize = 256 * 1024;
/// What reading a workspace takes.
const ACTION: &str = "Microsoft.OperationalInsights/workspaces/query/read";

/// The HTTP service.
pub struct QueryApi {
    identity: Arc<Identity>,
    logs: Arc<Logs>,
}

impl QueryApi {
    /// The service over `logs`, for the principals of `identity`.
    pub fn new(identity: Arc<Identity>, logs: Arc<Logs>) -> Arc<Self> {
        Arc::new(Self { identity, logs })
    }
}

impl Service for QueryApi {
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>> {
        plain::call(self, request, peer)
    }
}

impl Whole for QueryApi {
    fn limit(&self) -> usize {
        MAX_BODY
    }

    fn too_large(&self) -> Response<Bytes> {
        Refused::bad("The request is too large").answer()
    }

    fn answer(
        self: Arc<Self>,
        request: Request<Bytes>,
        _: Peer,
    ) -> BoxFuture<'static, Response<Bytes>> {
        Box::pin(async move {
            // Reads a file that may be large.
            let answered = tokio::task::spawn_blocking(move || self.ask(&request)).await;
            match answered {
                Ok(Ok(body)) => plain::json(StatusCode::OK, &body),
                Ok(Err(refused)) => refused.answer(),
                Err(error) => Refused::failed(&error).answer(),
            }
        })
    }
}

/// A refusal in the API's shape.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
    inner: Option<Value>,
}

impl Refused {
    const fn new(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message, inner: None }
    }

    fn with(mut self, inner: Value) -> Self {
        self.inner = Some(inner);
        self
    }

    fn bad(what: &str) -> Self {
        let message = "The request had some invalid properties";
        Self::new(StatusCode::BAD_REQUEST, "BadArgumentError", message)
            .with(json!({ "code": "ValidationError", "message": what }))
    }

    fn absent() -> Self {
        let message = "The requested path does not exist";
        Self::new(StatusCode::NOT_FOUND, "PathNotFoundError", message)
    }

    fn failed(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a workspace could not be queried");
        let message = "The service is temporarily unavailable";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableError", message)
    }

    fn answer(&self) -> Response<Bytes> {
        let mut error = json!({
            "message": self.message, "code": self.code, "correlationId": Uuid::new_v4(),
        });
        if let Some(inner) = &self.inner {
            error["innererror"] = inner.clone();
        }
        let mut response = plain::json(self.status, &json!({ "error": error }));
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = "Bearer authorization_uri=\"https://login.microsoftonline.com\", \
                             resource=\"https://api.loganalytics.io\"";
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(challenge));
        }
        response
    }
}

/// What is asked.
struct Ask {
    query: String,
    timespan: Option<String>,
}

impl QueryApi {
    fn ask(&self, request: &Request<Bytes>) -> Result<Value, Refused> {
        let token = plain::bearer(request.headers()).ok_or(Refused::new(
            StatusCode::UNAUTHORIZED,
            "AuthorizationRequiredError",
            "Valid authentication was not provided",
        ))?;
        let who = self.identity.verify(token, Audience::LogAnalytics).map_err(|_| {
            let message = "The provided authentication is not valid for this resource";
            Refused::new(StatusCode::UNAUTHORIZED, "InvalidTokenError", message)
        })?;
        let segments = plain::segments(request.uri()).unwrap_or_default();
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let ["v1", "workspaces", customer, "query"] = parts[..] else {
            return Err(Refused::absent());
        };
        let workspace = self.logs.workspace(customer).ok_or_else(Refused::absent)?;
        let permission = Permission::Action(ACTION);
        if !allowed(&self.logs.store, &who.object_id, permission, &workspace.id) {
            let message = "The provided credentials have insufficient access to perform the \
                           requested operation";
            return Err(Refused::new(StatusCode::FORBIDDEN, "InsufficientAccessError", message));
        }
        self.answer_of(&workspace, &read(request)?)
    }

    fn answer_of(&self, workspace: &Resource, ask: &Ask) -> Result<Value, Refused> {
        let now = Timestamp::now();
        let query = kql::parse(&ask.query, now).map_err(|wrong| {
            let message = "The request had some invalid properties";
            Refused::new(StatusCode::BAD_REQUEST, "BadArgumentError", message).with(wrong.body())
        })?;
        let (from, to) = match &ask.timespan {
            None => (Timestamp::MIN, Timestamp::MAX),
            Some(text) => timespan(text, now)
                .ok_or_else(|| Refused::bad("The timespan is no ISO 8601 interval or duration"))?,
        };
        let records = self.logs.records(workspace, query.table);
        let records = records.map_err(|error| Refused::failed(&error))?;
        let customer = workspace.text("/properties/customerId").unwrap_or_default();
        let within = |record: &Value| {
            record["time"]
                .as_str()
                .and_then(|at| at.parse::<Timestamp>().ok())
                .is_some_and(|at| from <= at && at < to)
        };
        let table = query.table;
        let rows = records.iter().filter(|record| within(record));
        let answer = query.run(rows.map(|record| table.row(record, customer)).collect());
        let columns: Vec<Value> = answer
            .columns
            .iter()
            .map(|(name, kind)| json!({ "name": name, "type": kind.name() }))
            .collect();
        Ok(json!({ "tables": [
            { "name": "PrimaryResult", "columns": columns, "rows": answer.rows },
        ] }))
    }
}

fn read(request: &Request<Bytes>) -> Result<Ask, Refused> {
    let (query, timespan, others) = match *request.method() {
        Method::GET => {
            let given = plain::query(request.uri());
            let of = |wanted: &str| {
                given.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
            };
            (of("query"), of("timespan"), Value::Null)
        }
        Method::POST => {
            let body: Value = serde_json::from_slice(request.body())
                .map_err(|_| Refused::bad("The request body is no JSON"))?;
            let of = |name: &str| body[name].as_str().map(str::to_owned);
            (of("query"), of("timespan"), body["workspaces"].clone())
        }
        _ => return Err(Refused::absent()),
    };
    if others.as_array().is_some_and(|others| !others.is_empty()) {
        return Err(Refused::bad("This region queries one workspace at a time"));
    }
    let query = query.ok_or_else(|| Refused::bad("The query is missing"))?;
    Ok(Ask { query, timespan: timespan.filter(|text| !text.is_empty()) })
}

/// `P1D`, `2026-11-26T00:00:00Z/2026-11-27T00:00:00Z`, `2026-11-26/P1D`, `PT1H/2026-11-26T01:00:00Z`.
fn timespan(text: &str, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let duration = |text: &str, from: Timestamp, back: bool| {
        let span: Span = text.parse().ok()?;
        let zoned = from.to_zoned(jiff::tz::TimeZone::UTC);
        let moved = if back { zoned.checked_sub(span) } else { zoned.checked_add(span) };
        moved.ok().map(|zoned| zoned.timestamp())
    };
    let Some((from, to)) = text.split_once('/') else {
        return Some((duration(text, now, true)?, Timestamp::MAX));
    };
    match (kql::instant(from), kql::instant(to)) {
        (Some(from), Some(to)) => Some((from, to)),
        (Some(start), None) => Some((start, duration(to, start, false)?)),
        (None, Some(end)) => Some((duration(from, end, true)?, end)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timespans_are_durations_or_intervals() {
        let now: Timestamp = "2026-11-27T12:00:00Z".parse().expect("a time");
        let read = |text: &str| timespan(text, now);
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        assert_eq!(read("P1D"), Some((at("2026-11-26T12:00:00Z"), Timestamp::MAX)));
        assert_eq!(read("PT30M").map(|(from, _)| from), Some(at("2026-11-27T11:30:00Z")));
        let interval = Some((at("2026-11-26T00:00:00Z"), at("2026-11-26T01:00:00Z")));
        for text in [
            "2026-11-26T00:00:00Z/2026-11-26T01:00:00Z",
            "2026-11-26/PT1H",
            "PT1H/2026-11-26T01:00:00Z",
        ] {
            assert_eq!(read(text), interval, "{text}");
        }
        for text in ["", "yesterday", "P1D/P1D", "/", "P999999999Y"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
