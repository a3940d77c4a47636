//! The activity log: who changed what, when, with what outcome
//! (<https://learn.microsoft.com/azure/azure-monitor/platform/activity-log-schema>). The newest events
//! are in memory, all of them in a file of one JSON object a line that outlives the region.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Context,
    error::ArmError,
    router,
    types::{Call, Caller, Registry, Reply},
};

/// How many events are kept; older ones are forgotten when the region starts.
const KEEP: usize = 20_000;

/// One event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// `Microsoft.Web/sites/write`.
    pub operation: String,
    /// What it was done to.
    pub resource: String,
    /// The type of that.
    pub kind: String,
    /// `Accepted`, `Succeeded` or `Failed`.
    pub status: String,
    /// The HTTP status of the answer; 0 for the end of an operation.
    pub http: u16,
    /// The caller's application and object ID.
    pub caller: (String, String),
    /// `x-ms-correlation-request-id`.
    pub correlation: String,
    /// The version that the request named.
    pub api_version: String,
}

/// The log.
#[derive(Debug, Default)]
pub struct Activity {
    events: Mutex<VecDeque<Event>>,
    file: Option<Mutex<File>>,
}

impl Activity {
    /// Opens the log in a file, which is cut to the newest events. A line that is no event (a crash in
    /// its middle) is left out.
    pub fn open(path: PathBuf) -> std::io::Result<Self> {
        let mut events = VecDeque::new();
        let mut lines = 0;
        if let Ok(old) = File::open(&path) {
            for line in BufReader::new(old).lines() {
                lines += 1;
                if let Ok(event) = serde_json::from_str(&line?) {
                    if events.len() == KEEP {
                        events.pop_front();
                    }
                    events.push_back(event);
                }
            }
        }
        let private = |append: bool, path: &PathBuf| {
            File::options()
                .create(true)
                .append(append)
                .write(true)
                .truncate(!append)
                .mode(0o600)
                .open(path)
        };
        if lines > events.len() {
            let next = path.with_extension("new");
            let mut file = private(false, &next)?;
            for event in &events {
                serde_json::to_writer(&mut file, event)?;
                file.write_all(b"\n")?;
            }
            fs::rename(next, &path)?;
        }
        let file = private(true, &path)?;
        Ok(Self { events: Mutex::new(events), file: Some(Mutex::new(file)) })
    }

    /// Adds an event. What cannot be written down is still in memory.
    pub fn record(&self, event: Event) {
        if let Some(file) = &self.file
            && let Ok(mut line) = serde_json::to_vec(&event)
        {
            line.push(b'\n');
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = file.write_all(&line) {
                tracing::error!(%error, "the activity log cannot be written");
            }
        }
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == KEEP {
            events.pop_front();
        }
        events.push_back(event);
    }

    fn newest_first(&self) -> Vec<Event> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().rev().cloned().collect()
    }
}

/// What a request was, for the log; None for one that changes nothing.
pub(super) struct Watched {
    operation: String,
    resource: String,
    kind: String,
    api_version: String,
}

impl Watched {
    /// From the verb and the deepest resource of a known type, with what stands behind it in the path.
    pub(super) fn of(
        method: &Method,
        id: &ResourceId,
        action: &str,
        api_version: &str,
    ) -> Option<Self> {
        let verb = match *method {
            Method::PUT | Method::PATCH => "write",
            Method::DELETE => "delete",
            Method::POST => "action",
            _ => return None,
        };
        let kind = match id.kind() {
            "Microsoft.Resources/resourceGroups" => {
                "Microsoft.Resources/subscriptions/resourceGroups"
            }
            kind => kind,
        };
        let spoken: Vec<&str> =
            action.strip_prefix("providers/").unwrap_or(action).split('/').step_by(2).collect();
        let operation = if action.is_empty() {
            format!("{kind}/{verb}")
        } else {
            format!("{kind}/{}/{verb}", spoken.join("/"))
        };
        Some(Self {
            operation,
            resource: id.to_string(),
            kind: kind.to_owned(),
            api_version: api_version.to_owned(),
        })
    }

    /// The event, now that the answer is known.
    pub(super) fn event(self, status: StatusCode, caller: &Caller, correlation: &str) -> Event {
        Event {
            at: Timestamp::now(),
            operation: self.operation,
            resource: self.resource,
            kind: self.kind,
            status: match status {
                StatusCode::ACCEPTED => "Accepted",
                status if status.is_success() => "Succeeded",
                _ => "Failed",
            }
            .to_owned(),
            http: status.as_u16(),
            caller: (caller.app_id.clone(), caller.object_id.clone()),
            correlation: correlation.to_owned(),
            api_version: self.api_version,
        }
    }
}

/// Adds the log's route.
pub(super) fn register(types: &mut Registry) {
    types.route(
        Method::GET,
        "/subscriptions/{}/providers/microsoft.insights/eventtypes/management/values",
        Some("Microsoft.Insights/eventtypes/values/Read"),
        list,
    );
}

fn list<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let filter = Window::parse(call.query.get("$filter").unwrap_or_default())?;
        let subscription = &context.tenancy.subscription_id;
        let entries = context
            .activity
            .newest_first()
            .into_iter()
            .filter(|event| filter.holds(event))
            .map(|event| shown(&event, subscription, &context.tenancy.tenant_id))
            .collect();
        router::page(&call.segments, &call.query, call.api_version, entries)
    })
}

/// `$filter` of the log: comparisons of the time, and equalities, joined by `and`.
#[derive(Debug, Default)]
struct Window {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    equal: Vec<(String, String)>,
}

impl Window {
    fn parse(text: &str) -> Result<Self, ArmError> {
        let refused = || {
            ArmError::bad_request(
                "BadRequest",
                format!(
                    "The $filter '{text}' is not valid: eventTimestamp is compared with ge and le, and resourceGroupName, resourceUri, resourceId, resourceProvider, correlationId, caller, status and operations with eq."
                ),
            )
        };
        let mut window = Self::default();
        for term in text.split(" and ").map(str::trim).filter(|term| !term.is_empty()) {
            let mut words = term.splitn(3, ' ');
            let (Some(name), Some(operator), Some(value)) =
                (words.next(), words.next(), words.next())
            else {
                return Err(refused());
            };
            let name = name.to_ascii_lowercase();
            let value = value.trim().trim_matches('\'');
            match (name.as_str(), operator.to_ascii_lowercase().as_str()) {
                ("eventtimestamp", "ge") => window.from = Some(moment(value).ok_or_else(refused)?),
                ("eventtimestamp", "le") => window.to = Some(moment(value).ok_or_else(refused)?),
                ("eventchannels" | "levels", "eq") => {}
                (
                    "resourcegroupname" | "resourceuri" | "resourceid" | "resourceprovider"
                    | "correlationid" | "caller" | "status" | "operations" | "resourcetype",
                    "eq",
                ) => window.equal.push((name, value.to_ascii_lowercase())),
                _ => return Err(refused()),
            }
        }
        Ok(window)
    }

    fn holds(&self, event: &Event) -> bool {
        if self.from.is_some_and(|from| event.at < from) || self.to.is_some_and(|to| event.at > to)
        {
            return false;
        }
        self.equal.iter().all(|(name, value)| {
            let field = match name.as_str() {
                "resourcegroupname" => ResourceId::parse(&event.resource)
                    .ok()
                    .and_then(|id| id.resource_group().map(ToOwned::to_owned))
                    .unwrap_or_default(),
                "resourceprovider" => event.kind.split('/').next().unwrap_or_default().to_owned(),
                "resourcetype" => event.kind.clone(),
                "correlationid" => event.correlation.clone(),
                "caller" => event.caller.0.clone(),
                "status" => event.status.clone(),
                "operations" => event.operation.clone(),
                _ => event.resource.clone(),
            };
            field.to_ascii_lowercase() == *value
        })
    }
}

/// `2026-11-22T10:00:00Z`; clients also leave the zone out and mean UTC.
fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| format!("{text}Z").parse().ok())
}

fn shown(event: &Event, subscription: &str, tenant: &str) -> Value {
    let named = |value: &str| json!({ "value": value, "localizedValue": value });
    let group = ResourceId::parse(&event.resource)
        .ok()
        .and_then(|id| id.resource_group().map(ToOwned::to_owned))
        .unwrap_or_default();
    let id = Uuid::new_v5(
        &Uuid::NAMESPACE_URL,
        format!("{}{}{}", event.at, event.operation, event.resource).as_bytes(),
    );
    let (app, object) = &event.caller;
    json!({
        "id": format!("{}/events/{id}/ticks/{}", event.resource, event.at.as_millisecond()),
        "eventDataId": id, "correlationId": event.correlation, "operationId": event.correlation,
        "eventTimestamp": event.at, "submissionTimestamp": event.at,
        "caller": app, "channels": "Operation", "level": if event.status == "Failed" { "Error" } else { "Informational" },
        "claims": { "appid": app, "oid": object,
            "http://schemas.microsoft.com/identity/claims/objectidentifier": object },
        "authorization": { "action": event.operation, "scope": event.resource },
        "category": named("Administrative"), "eventName": named("EndRequest"),
        "operationName": named(&event.operation), "status": named(&event.status),
        "subStatus": named(if event.http == 0 { String::new() } else { event.http.to_string() }.as_str()),
        "resourceGroupName": group, "resourceId": event.resource,
        "resourceProviderName": named(event.kind.split('/').next().unwrap_or_default()),
        "resourceType": named(&event.kind), "subscriptionId": subscription, "tenantId": tenant,
        "properties": { "apiVersion": event.api_version, "entity": event.resource },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(resource: &str, second: i64) -> Event {
        let id = ResourceId::parse(resource).expect("an ID");
        let watched = Watched::of(&Method::PUT, &id, "", "2024-01-01").expect("a change");
        let caller = Caller { object_id: "o".into(), app_id: "a".into() };
        let mut event = watched.event(StatusCode::CREATED, &caller, "c");
        event.at = Timestamp::from_second(second).expect("a time");
        event
    }

    #[test]
    fn the_log_outlives_the_region_and_a_torn_line() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("activity.jsonl");
        let log = Activity::open(path.clone()).expect("a new log");
        log.record(event("/subscriptions/s/resourceGroups/rg", 1));
        drop(log);
        File::options()
            .append(true)
            .open(&path)
            .and_then(|mut f| f.write_all(b"{\"at\""))
            .expect("torn");
        let log = Activity::open(path.clone()).expect("the old log");
        log.record(event("/subscriptions/s/resourceGroups/other", 2));
        drop(log);
        let events = Activity::open(path).expect("again").newest_first();
        assert_eq!(events.len(), 2, "the torn line is gone, nothing else");
        assert_eq!(events[0].operation, "Microsoft.Resources/subscriptions/resourceGroups/write");
    }

    #[test]
    fn filters_are_those_that_clients_send() {
        let site = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Web/sites/notes";
        let holds =
            |text: &str| Window::parse(text).expect("a filter").holds(&event(site, 1_800_000_000));
        assert!(holds(
            "eventTimestamp ge '2027-01-01T00:00:00Z' and eventTimestamp le '2027-02-01T00:00:00Z'"
        ));
        assert!(holds("eventTimestamp ge 2027-01-01T00:00:00 and resourceGroupName eq 'RG'"));
        assert!(!holds("eventTimestamp ge '2027-02-01T00:00:00Z'"));
        assert!(!holds("resourceGroupName eq 'other'"));
        assert!(holds(&format!("resourceUri eq '{site}'")));
        assert!(Window::parse("nonsense").is_err() && Window::parse("a lt 'b'").is_err());
    }
}
