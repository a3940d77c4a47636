//! Long-running operations: a durable record each, so that a client that polls after a restart still
//! learns the end, and the work is taken up where it was left
//! (<https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations>).

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use lazuli_azure::ResourceId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Context, HOST,
    error::ArmError,
    router,
    types::{LongRunning, Reply},
};
use crate::{
    store::{Batch, StoreError},
    tenancy::LOCATIONS,
};

const NAMESPACE: &str = "control.operations";
/// How long the end of an operation can be asked for.
const KEEP: SignedDuration = SignedDuration::from_hours(24);
/// What clients are told to wait between polls, in seconds. A poll is held back for as long, so that
/// one that comes early still brings the end.
const RETRY_AFTER: u64 = 1;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Work {
    Provision,
    Deprovision,
    Action { name: String, input: Value },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Status {
    InProgress,
    Succeeded,
    Failed,
}

/// An operation, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Operation {
    id: String,
    resource: ResourceId,
    work: Work,
    status: Status,
    started: Timestamp,
    ended: Option<Timestamp>,
    /// What stands in the error envelope, and the status it came with.
    error: Option<(u16, Value)>,
    result: Value,
    api_version: String,
    location: String,
}

impl Operation {
    fn new(resource: &ResourceId, work: Work, api_version: &str, location: Option<&str>) -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            resource: resource.clone(),
            work,
            status: Status::InProgress,
            started: Timestamp::now(),
            ended: None,
            error: None,
            result: Value::Null,
            api_version: api_version.into(),
            location: location.and_then(crate::tenancy::location).unwrap_or(LOCATIONS[0].0).into(),
        }
    }

    /// The work of a write: to be put into the write's own batch with [`Operation::store`].
    pub(super) fn provision(id: &ResourceId, api_version: &str, location: Option<&str>) -> Self {
        Self::new(id, Work::Provision, api_version, location)
    }

    /// The work of a deletion.
    pub(super) fn deprovision(id: &ResourceId, api_version: &str, location: Option<&str>) -> Self {
        Self::new(id, Work::Deprovision, api_version, location)
    }

    /// The work of an action.
    pub(super) fn action(id: &ResourceId, name: String, input: Value, api_version: &str) -> Self {
        Self::new(id, Work::Action { name, input }, api_version, None)
    }

    /// One whose work is done already, where Azure's clients wait for the end of an operation.
    pub(super) fn done(id: &ResourceId, api_version: &str, location: &str) -> Self {
        let work = Work::Action { name: "done".to_owned(), input: Value::Null };
        let mut operation = Self::new(id, work, api_version, Some(location));
        operation.status = Status::Succeeded;
        operation.ended = Some(operation.started);
        operation
    }

    pub(super) fn store(&self, batch: &mut Batch) {
        batch.put_state(NAMESPACE, &self.id, serde_json::to_vec(self).unwrap_or_default());
    }

    /// The headers that lead a client to this operation.
    pub(super) fn headers(&self, context: &Context, style: &LongRunning) -> HeaderMap {
        let subscription = &context.tenancy.subscription_id;
        let base = match self.resource.namespace() {
            Some(namespace) => format!(
                "https://{HOST}/subscriptions/{subscription}/providers/{namespace}/locations/{}",
                self.location
            ),
            None => format!("https://{HOST}/subscriptions/{subscription}"),
        };
        let address = |segment: &str| {
            HeaderValue::try_from(format!(
                "{base}/{segment}/{}?api-version={}",
                self.id, self.api_version
            ))
        };
        let mut headers = HeaderMap::new();
        if style.azure_async_operation
            && let Ok(value) = address(style.statuses)
        {
            headers.insert("azure-asyncoperation", value);
        }
        if style.location
            && let Ok(value) = address(style.results)
        {
            headers.insert(header::LOCATION, value);
        }
        headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
        headers
    }

    /// Starts the work. The record must be durable by now.
    pub(super) fn spawn(self, context: &Arc<Context>) {
        let context = context.clone();
        tokio::spawn(async move { self.run(&context).await });
    }

    async fn run(mut self, context: &Arc<Context>) {
        let outcome = match &self.work {
            Work::Provision => provision(context, &self.resource).await.map(|()| Value::Null),
            Work::Deprovision => remove(context, &self.resource).await.map(|()| Value::Null),
            Work::Action { name, input } => match context.registry.get(self.resource.kind()) {
                Some(kind) => kind.perform(context, &self.resource, name, input).await,
                None => Err(ArmError::invalid_type(self.resource.kind())),
            },
        };
        match outcome {
            Ok(result) => {
                self.status = Status::Succeeded;
                self.result = result;
            }
            Err(error) => {
                tracing::warn!(id = %self.resource, work = ?self.work_name(), %error, "an operation failed");
                self.status = Status::Failed;
                self.error = Some((error.status.as_u16(), error.inner()));
                if matches!(self.work, Work::Deprovision) {
                    // What could not be deleted is there to be seen and tried again.
                    let _ = set_state(context, &self.resource, "Failed").await;
                }
            }
        }
        self.ended = Some(Timestamp::now());
        let mut batch = Batch::new();
        self.store(&mut batch);
        if let Err(error) = context.store.commit(batch).await {
            tracing::error!(%error, "the end of an operation could not be recorded");
        }
        context.operation_changed();
    }

    fn work_name(&self) -> &str {
        match &self.work {
            Work::Provision => "write",
            Work::Deprovision => "delete",
            Work::Action { name, .. } => name,
        }
    }
}

/// Makes reality follow the stored resource and says so in its `provisioningState`.
pub(super) async fn provision(context: &Arc<Context>, id: &ResourceId) -> Result<(), ArmError> {
    let kind = context.registry.get(id.kind()).ok_or_else(|| ArmError::invalid_type(id.kind()))?;
    let _guard = context.lock(id).await;
    if context.store.get(id).is_none() {
        return Ok(());
    }
    let outcome = kind.provision(context, id).await;
    if kind.provisioning_state() {
        set_state(context, id, if outcome.is_ok() { "Succeeded" } else { "Failed" }).await?;
    }
    outcome
}

async fn set_state(context: &Context, id: &ResourceId, state: &str) -> Result<(), StoreError> {
    context
        .update(id, |body| {
            if body["properties"].get("provisioningState").is_some() {
                body["properties"]["provisioningState"] = json!(state);
            }
        })
        .await
}

/// Whether the resource and everything below it may be deleted; what must go with them is in the batch.
pub(super) fn deletable(
    context: &Context,
    id: &ResourceId,
    batch: &mut Batch,
) -> Result<(), ArmError> {
    for resource in context.store.list_below(id).iter().chain(context.store.get(id).iter()) {
        if let Some(kind) = context.registry.get(resource.id.kind()) {
            kind.deletable(context, resource, batch)?;
        }
        batch.delete(&resource.id);
    }
    Ok(())
}

/// Deletes a resource and everything below it: first checks all, then undoes each, deepest first, then
/// forgets them in one step.
pub async fn remove(context: &Arc<Context>, id: &ResourceId) -> Result<(), ArmError> {
    let _guard = context.lock(id).await;
    if id.is("Microsoft.Resources/resourceGroups")
        && let (Some(kind), Some(group)) = (context.registry.get(id.kind()), context.store.get(id))
    {
        // A group empties itself one resource at a time, in an order that their references allow.
        kind.deprovision(context, &group).await?;
    }
    deletable(context, id, &mut Batch::new())?;
    let mut below = context.store.list_below(id);
    below.sort_by_key(|resource| std::cmp::Reverse(resource.id.key().matches('/').count()));
    for resource in below.iter().chain(context.store.get(id).iter()) {
        if let Some(kind) = context.registry.get(resource.id.kind())
            && !resource.id.is("Microsoft.Resources/resourceGroups")
        {
            kind.deprovision(context, resource).await?;
        }
    }
    // Asked again: children may have come while the others were undone.
    let mut batch = Batch::new();
    deletable(context, id, &mut batch)?;
    context.store.commit(batch).await?;
    Ok(())
}

/// Takes up what a crash interrupted and forgets what nobody asks for any more.
pub(super) async fn resume(context: &Arc<Context>) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let mut forget = Batch::new();
    for (key, bytes) in context.store.list_state(NAMESPACE, "") {
        match serde_json::from_slice::<Operation>(&bytes) {
            Ok(operation) if operation.status == Status::InProgress => operation.spawn(context),
            Ok(operation) if operation.ended.is_some_and(|at| now.duration_since(at) < KEEP) => {}
            _ => {
                forget.delete_state(NAMESPACE, &key);
            }
        }
    }
    if forget.is_empty() { Ok(()) } else { context.store.commit(forget).await }
}

fn load(context: &Context, id: &str) -> Option<Operation> {
    let bytes = context.store.get_state(NAMESPACE, &id.to_ascii_lowercase())?;
    serde_json::from_slice(&bytes).ok()
}

/// Answers a poll of a status or result address; None when the path is not one. A poll of an operation
/// that still runs is held for a moment.
pub(super) async fn poll(
    context: &Context,
    segments: &[String],
) -> Option<Result<Reply, ArmError>> {
    let (segment, id) = match segments {
        [s, _, p, _, l, _, segment, id]
            if s == "subscriptions" && p == "providers" && l == "locations" =>
        {
            (segment, id)
        }
        [s, _, segment, id] if s == "subscriptions" => (segment, id),
        _ => return None,
    };
    let result = match segment.as_str() {
        "operationresults" => true,
        "operationstatuses"
        | "operations"
        | "asyncoperations"
        | "azureasyncoperation"
        | "operationstatus" => false,
        _ => return None,
    };
    let mut changes = context.operations_watch();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(RETRY_AFTER);
    loop {
        let Some(operation) = load(context, id) else {
            return Some(Err(ArmError::new(
                StatusCode::NOT_FOUND,
                "OperationNotFound",
                format!("The operation '{id}' was not found."),
            )));
        };
        let running = operation.status == Status::InProgress;
        if running
            && tokio::time::timeout_at(deadline, changes.changed()).await.is_ok_and(|r| r.is_ok())
        {
            continue;
        }
        let mut reply = if result { operation.result(context) } else { operation.status(segments) };
        if running && let Ok(reply) = &mut reply {
            reply.headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
        }
        return Some(reply);
    }
}

impl Operation {
    #[expect(clippy::unnecessary_wraps, reason = "the same shape as `result`")]
    fn status(&self, segments: &[String]) -> Result<Reply, ArmError> {
        let mut body = json!({
            "id": format!("/{}", segments.join("/")),
            "name": self.id,
            "status": self.status,
            "startTime": self.started,
        });
        if let Some(ended) = self.ended {
            body["endTime"] = json!(ended);
        }
        if self.status == Status::Succeeded {
            body["percentComplete"] = json!(100.0);
            body["properties"] = self.result.clone();
        }
        if let Some((_, error)) = &self.error {
            body["error"] = error.clone();
        }
        Ok(Reply::ok(body))
    }

    fn result(&self, context: &Context) -> Result<Reply, ArmError> {
        if let Some((status, error)) = &self.error {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::CONFLICT);
            return Ok(Reply::new(status, Some(json!({ "error": error }))));
        }
        if self.status == Status::InProgress {
            let mut reply = Reply::new(StatusCode::ACCEPTED, None);
            // Some clients go on from the answer's own address.
            let style = LongRunning { azure_async_operation: false, ..LongRunning::ACCEPTED };
            reply.headers = self.headers(context, &style);
            return Ok(reply);
        }
        Ok(match &self.work {
            Work::Provision => match context.store.get(&self.resource) {
                Some(resource) => Reply::ok(router::show(context, &resource)),
                None => return Err(ArmError::not_found(&self.resource)),
            },
            Work::Deprovision => Reply::new(StatusCode::OK, None),
            Work::Action { .. } if self.result.is_null() => Reply::new(StatusCode::OK, None),
            Work::Action { .. } => Reply::ok(self.result.clone()),
        })
    }
}
