//! From an HTTP request to a type and back: path, version, token, rights, conditions, body, lists.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method as Verb, Request, Response, StatusCode, header,
};
use hyper::body::Incoming;
use lazuli_azure::ResourceId;
use lazuli_gateway::{Body, Peer, Service};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Context, Control, HOST,
    activity::Watched,
    authorization::{self, Permission},
    error::ArmError,
    filter::Filter,
    operation::{self, Operation},
    types::{
        Call, Caller, Method, Placement, Query, Reply, ResourceType, Style, Write,
        locks::{self, Change},
    },
};
use crate::{
    http as plain,
    identity::{AuthError, token::Audience},
    store::{Batch, Expect, Resource, StoreError},
    tenancy,
};

/// Resource Manager takes requests of up to 4 MB.
const BODY_LIMIT: usize = 4 * 1024 * 1024;
/// How many entries a list shows at once.
const PAGE: usize = 1_000;
/// How often a write is tried again because a controller was faster: clients wait for one another.
const ATTEMPTS: usize = 32;
/// Azure's limits on tags.
const MAX_TAGS: usize = 50;

impl Service for Control {
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>> {
        plain::call(self, request, peer)
    }
}

impl plain::Whole for Control {
    fn limit(&self) -> usize {
        BODY_LIMIT
    }

    fn too_large(&self) -> Response<Bytes> {
        let error = ArmError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestContentTooLarge",
            format!("The request content size exceeds the maximum size of {BODY_LIMIT} bytes."),
        );
        plain::json(error.status, &error.body())
    }

    fn answer(
        self: Arc<Self>,
        request: Request<Bytes>,
        _: Peer,
    ) -> BoxFuture<'static, Response<Bytes>> {
        Box::pin(async move { self.handle(request).await })
    }
}

impl Control {
    /// Answers one request whose body has been read.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        let correlation = request.headers().get("x-ms-correlation-request-id").cloned();
        let client = request
            .headers()
            .get("x-ms-client-request-id")
            .filter(|_| {
                request
                    .headers()
                    .get("x-ms-return-client-request-id")
                    .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"true"))
            })
            .cloned();
        let head = request.method() == Verb::HEAD;
        let id = Uuid::new_v4().to_string();
        let traced =
            correlation.as_ref().and_then(|value| value.to_str().ok()).unwrap_or(&id).to_owned();
        let outcome = Request_::answer(&self.context, request, &traced).await;
        let reply = outcome.unwrap_or_else(|error| {
            let mut reply = Reply::new(error.status, Some(error.body()));
            if let Some(challenge) =
                error.challenge.as_deref().and_then(|text| HeaderValue::try_from(text).ok())
            {
                reply.headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            reply
        });
        let mut response = match (&reply.body, reply.text) {
            (Some(body), _) if !head => plain::json(reply.status, body),
            (None, Some((content_type, text))) if !head => {
                plain::text(reply.status, content_type, text)
            }
            _ => plain::status(reply.status),
        };
        let headers = response.headers_mut();
        headers.extend(reply.headers);
        let own = HeaderValue::try_from(&id).unwrap_or_else(|_| HeaderValue::from_static(""));
        headers.insert("x-ms-correlation-request-id", correlation.unwrap_or_else(|| own.clone()));
        headers.insert("x-ms-request-id", own);
        if let Ok(value) = HeaderValue::try_from(format!("WESTEUROPE:{id}")) {
            headers.insert("x-ms-routing-request-id", value);
        }
        if let Some(client) = client {
            headers.insert("x-ms-client-request-id", client);
        }
        headers.insert(
            "strict-transport-security",
            HeaderValue::from_static("max-age=31536000; includeSubDomains"),
        );
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        response
    }
}

/// A request taken apart.
struct Request_<'a> {
    context: &'a Arc<Context>,
    verb: Verb,
    headers: HeaderMap,
    /// As they came, and in lower case.
    segments: Vec<String>,
    lower: Vec<String>,
    query: Query,
    api_version: String,
    body: Bytes,
    caller: Caller,
}

/// What a path names.
enum Target {
    Resource(ResourceId),
    /// Everything of one type below a scope.
    Collection(ResourceId, String),
}

impl Request_<'_> {
    async fn answer(
        context: &Arc<Context>,
        request: Request<Bytes>,
        correlation: &str,
    ) -> Result<Reply, ArmError> {
        let caller = authenticate(context, request.headers())?;
        let (parts, body) = request.into_parts();
        let mut segments = plain::segments(&parts.uri).ok_or_else(|| {
            ArmError::bad_request("InvalidRequestUri", "The request URI is not valid.")
        })?;
        // `az resource` leaves the place of a parent empty (`Microsoft.Web//sites/notes`), and Resource
        // Manager reads over it.
        segments.retain(|segment| !segment.is_empty());
        let query = Query(plain::query(&parts.uri));
        let api_version = api_version(&query)?;
        let lower: Vec<String> = segments.iter().map(|s| s.to_ascii_lowercase()).collect();
        let request = Request_ {
            context,
            verb: parts.method,
            headers: parts.headers,
            segments,
            lower,
            query,
            api_version,
            body,
            caller,
        };
        let caller = request.caller.clone();
        let watched = request.watched();
        let outcome = request.dispatch().await;
        if let Some(watched) = watched {
            let status = match &outcome {
                Ok(reply) => reply.status,
                Err(error) => error.status,
            };
            context.activity.record(watched.event(status, &caller, correlation));
        }
        outcome
    }

    /// What the activity log says of this request.
    fn watched(&self) -> Option<Watched> {
        if self.verb == Verb::GET || self.verb == Verb::HEAD {
            return None;
        }
        let registry = &self.context.registry;
        let (id, action) = self.deepest(|id| registry.get(id.kind()).is_some());
        Watched::of(&self.verb, &id, &action, &self.api_version)
    }

    async fn dispatch(self) -> Result<Reply, ArmError> {
        if self.lower.first().is_some_and(|s| s == "subscriptions")
            && let Some(subscription) = self.lower.get(1)
            && *subscription != self.context.tenancy.subscription_id
        {
            if Uuid::parse_str(subscription).is_err() {
                return Err(ArmError::bad_request(
                    "InvalidSubscriptionId",
                    format!(
                        "The provided subscription identifier '{subscription}' is malformed or invalid."
                    ),
                ));
            }
            return Err(ArmError::subscription_not_found(subscription));
        }
        if self.verb == Verb::GET
            && let Some(reply) = operation::poll(self.context, &self.lower).await
        {
            return reply;
        }
        if let Some(route) = self.context.registry.find_route(&self.verb, &self.lower) {
            let (id, action) = self.deepest(|_| true);
            if let Some(permission) = route.permission {
                self.authorize(&Action::Exact(permission), &id)?;
            }
            let call = self.call(id, action)?;
            return (route.handler)(self.context, &call).await;
        }
        match self.target()? {
            Target::Resource(id) => self.resource(id).await,
            Target::Collection(scope, kind) => self.collection(&scope, &kind).await,
        }
    }

    /// The longest prefix of the path that is an ID and passes, and the rest.
    fn deepest(&self, pass: impl Fn(&ResourceId) -> bool) -> (ResourceId, String) {
        for end in (1..=self.segments.len()).rev() {
            if let Ok(id) = ResourceId::parse(&format!("/{}", self.segments[..end].join("/")))
                && pass(&id)
            {
                return (id, self.lower[end..].join("/"));
            }
        }
        (ResourceId::root(), self.lower.join("/"))
    }

    fn target(&self) -> Result<Target, ArmError> {
        let path = |to: usize| ResourceId::parse(&format!("/{}", self.segments[..to].join("/")));
        let n = self.segments.len();
        if n >= 3 && self.lower[n - 3] == "providers" {
            let scope = path(n - 3)?;
            return Ok(Target::Collection(
                scope,
                format!("{}/{}", self.segments[n - 2], self.segments[n - 1]),
            ));
        }
        if n.is_multiple_of(2) {
            return path(n).map(Target::Resource).map_err(|error| {
                ArmError::bad_request(
                    "InvalidRequestUri",
                    format!("The request URI is not valid: {error}."),
                )
            });
        }
        let scope = path(n - 1)?;
        let last = &self.lower[n - 1];
        let kind = match scope.namespace() {
            Some(_) => format!("{}/{last}", scope.kind()),
            None if last == "resourcegroups" => "Microsoft.Resources/resourceGroups".into(),
            None if n == 1 && last == "subscriptions" => "Microsoft.Resources/subscriptions".into(),
            None => format!("Microsoft.Resources/{last}"),
        };
        Ok(Target::Collection(scope, kind))
    }

    fn authorize(&self, action: &Action<'_>, scope: &ResourceId) -> Result<(), ArmError> {
        let action = action.name();
        let allowed = authorization::allowed(
            &self.context.store,
            &self.caller.object_id,
            Permission::Action(&action),
            scope,
        );
        // Anybody in a tenant may read what its roles are.
        if allowed || action == "Microsoft.Authorization/roleDefinitions/read" {
            return Ok(());
        }
        Err(ArmError::new(
            StatusCode::FORBIDDEN,
            "AuthorizationFailed",
            format!(
                "The client '{}' with object id '{}' does not have authorization to perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
                self.caller.app_id, self.caller.object_id
            ),
        ))
    }

    fn json(&self) -> Result<Value, ArmError> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        // serde_json refuses what is nested deeper than 128 levels.
        serde_json::from_slice(&self.body)
            .map_err(|error| ArmError::invalid_content(error.to_string()))
    }

    fn call(&self, id: ResourceId, action: String) -> Result<Call<'_>, ArmError> {
        Ok(Call {
            method: self.verb.clone(),
            id,
            action,
            segments: self.segments.clone(),
            query: self.query.clone(),
            body: self.json()?,
            api_version: &self.api_version,
            caller: &self.caller,
        })
    }

    /// A request behind the deepest resource whose type is known: its type's own affair.
    async fn act(&self) -> Result<Reply, ArmError> {
        let registry = &self.context.registry;
        let (id, action) = self.deepest(|id| registry.get(id.kind()).is_some());
        let foreign = action.strip_prefix("providers/");
        let Some(kind) =
            registry.get(id.kind()).filter(|_| !action.is_empty() && foreign.is_none())
        else {
            // `{namespace}/{type}/{name}/{type}/{name}`: the names are not part of the type.
            let mut parts = foreign
                .or_else(|| action.rsplit_once("/providers/").map(|(_, below)| below))
                .unwrap_or(&action)
                .split('/');
            let namespace = parts.next().unwrap_or_default().to_owned();
            let kinds: Vec<&str> = parts.step_by(2).collect();
            return Err(ArmError::invalid_type(&format!("{namespace}/{}", kinds.join("/"))));
        };
        let verb = match self.verb {
            Verb::GET | Verb::HEAD => "read",
            Verb::PUT | Verb::PATCH => "write",
            Verb::DELETE => "delete",
            _ => "action",
        };
        let spoken: Vec<&str> = action.split('/').step_by(2).collect();
        self.authorize(&Action::Below(kind.kind(), &spoken.join("/"), verb), &id)?;
        self.ancestors(&id)?;
        if kind.find(self.context, &id).is_none() {
            return Err(ArmError::not_found(&id));
        }
        match verb {
            "read" => {}
            "delete" => locks::admit(&self.context.store, &id, Change::Delete)?,
            _ => locks::admit(&self.context.store, &id, Change::Write)?,
        }
        let call = self.call(id, action)?;
        let mut reply = kind.act(self.context, &call).await?;
        if let Some((style, name, input)) = reply.work.take() {
            let operation = Operation::action(&call.id, name, input, &self.api_version);
            let mut batch = Batch::new();
            operation.store(&mut batch);
            self.context.store.commit(batch).await?;
            reply.headers.extend(operation.headers(self.context, &style));
            operation.spawn(self.context);
        }
        Ok(reply)
    }

    async fn resource(self, id: ResourceId) -> Result<Reply, ArmError> {
        let Some(kind) = self.context.registry.get(id.kind()) else { return self.act().await };
        let verb = match self.verb {
            Verb::GET | Verb::HEAD => "read",
            Verb::PUT | Verb::PATCH => "write",
            Verb::DELETE => "delete",
            _ => return self.act().await,
        };
        self.authorize(&Action::Of(kind.kind(), verb), &id)?;
        match verb {
            "write" => locks::admit(&self.context.store, &id, Change::Write)?,
            "delete" => locks::admit(&self.context.store, &id, Change::Delete)?,
            _ => {}
        }
        if let Some(reply) =
            kind.intercept(self.context, &self.call(id.clone(), String::new())?).await?
        {
            return Ok(reply);
        }
        match self.verb {
            Verb::GET => {
                self.ancestors(&id)?;
                let found = kind.find(self.context, &id).ok_or_else(|| ArmError::not_found(&id))?;
                let mut reply = Reply::ok(show(self.context, &found));
                add_etag(&mut reply, &found);
                Ok(reply)
            }
            Verb::HEAD => match kind.find(self.context, &id) {
                Some(_) => Ok(Reply::no_content()),
                None => Err(ArmError::not_found(&id)),
            },
            Verb::PUT => self.write(&id, &**kind, Method::Put).await,
            Verb::PATCH => self.write(&id, &**kind, Method::Patch).await,
            _ => self.delete(&id, &**kind).await,
        }
    }

    /// Everything above must exist: the group, and the resource that a child hangs on.
    fn ancestors(&self, id: &ResourceId) -> Result<(), ArmError> {
        if let Some(group) = id.resource_group_id()
            && group != *id
            && self.context.store.get(&group).is_none()
        {
            return Err(ArmError::not_found(&group));
        }
        Ok(())
    }

    fn parent(&self, id: &ResourceId) -> Result<Option<ResourceId>, ArmError> {
        self.ancestors(id)?;
        let Some(parent) = id.parent().filter(|parent| parent.namespace().is_some()) else {
            return Ok(id.resource_group_id().filter(|group| group != id));
        };
        match self.context.registry.get(parent.kind()) {
            Some(kind) if kind.find(self.context, &parent).is_none() => {
                Err(ArmError::parent_not_found(id))
            }
            // Virtual parents are not in the store: nothing there to hold on to.
            Some(_) if self.context.store.get(&parent).is_some() => Ok(Some(parent)),
            _ => Ok(id.resource_group_id()),
        }
    }

    async fn write(
        &self,
        id: &ResourceId,
        kind: &dyn ResourceType,
        method: Method,
    ) -> Result<Reply, ArmError> {
        let body = self.json()?;
        if !body.is_object() {
            return Err(ArmError::invalid_content("The request content must be a JSON object"));
        }
        named_alike(&body, id)?;
        // Held until the answer: a write that is refused in the doing puts back what was there before,
        // and must not put it over somebody else's.
        let _turn = self.context.lock_writes(id).await;
        for _ in 0..ATTEMPTS {
            let parent = self.parent(id)?;
            if let Some(group) =
                id.resource_group_id().and_then(|group| self.context.store.get(&group))
                && group.text("/properties/provisioningState") == Some("Deleting")
            {
                return Err(ArmError::conflict(
                    "ResourceGroupBeingDeleted",
                    format!(
                        "The resource group '{}' is in deprovisioning state and cannot perform this operation.",
                        group.id.name()
                    ),
                ));
            }
            let existing = self.context.store.get(id);
            self.conditions(existing.as_deref())?;
            if existing.is_none() {
                // Some types show what is not (yet) stored: a server parameter at its default.
                if method == Method::Patch && kind.find(self.context, id).is_none() {
                    return Err(ArmError::not_found(id));
                }
                kind.check_name(id.name())?;
            }
            let mut body = body.clone();
            place(kind.placement(), existing.as_deref(), method, &mut body)
                .map_err(|error| of_a_group(id, error))?;
            check_tags(&body)?;
            let write = Write {
                id,
                existing: existing.as_deref(),
                method,
                body,
                api_version: &self.api_version,
                caller: &self.caller,
            };
            let name = kind.unique_name(id).filter(|_| existing.is_none());
            let naming = match &name {
                Some(name) => Some(self.context.lock_name(name).await),
                None => None,
            };
            let mut batch = Batch::new();
            let mut desired = kind.desired(self.context, &write, &mut batch)?;
            let style = kind.write_style(&write);
            if kind.provisioning_state() {
                let state = match style {
                    Style::LongRunning(_) if existing.is_none() => "Creating",
                    Style::LongRunning(_) => "Updating",
                    _ => "Succeeded",
                };
                if !desired["properties"].is_object() {
                    desired["properties"] = json!({});
                }
                desired["properties"]["provisioningState"] = json!(state);
            }
            let location = desired["location"].as_str().map(ToOwned::to_owned);
            batch.expect(
                id,
                existing.as_ref().map_or(Expect::Absent, |old| Expect::Etag(old.etag.clone())),
            );
            if let Some(parent) = &parent {
                batch.expect(parent, Expect::Present);
            }
            batch.put(id, desired);
            let operation = match style {
                Style::LongRunning(style) => {
                    let operation =
                        Operation::provision(id, &self.api_version, location.as_deref());
                    operation.store(&mut batch);
                    Some((operation, style))
                }
                _ => None,
            };
            match self.context.store.commit(batch).await {
                Ok(()) => drop(naming),
                Err(StoreError::Conflict(_)) => continue,
                Err(error) => return Err(error.into()),
            }
            return self.written(id, kind, existing.as_deref(), style, operation).await;
        }
        Err(ArmError::conflict(
            "AnotherOperationInProgress",
            format!("Another operation on '{id}' is in progress. Please retry."),
        ))
    }

    /// After the write is durable: do it, or have it done.
    async fn written(
        &self,
        id: &ResourceId,
        kind: &dyn ResourceType,
        before: Option<&Resource>,
        style: Style,
        operation: Option<(Operation, super::types::LongRunning)>,
    ) -> Result<Reply, ArmError> {
        let created = before.is_none();
        let Some((operation, style)) = operation else {
            let guard = self.context.lock(id).await;
            if let Err(error) = kind.provision(self.context, id).await {
                drop(guard);
                // Refused in the doing: nothing half-made stays behind.
                match before {
                    None => operation::remove(self.context, id).await?,
                    Some(before) => {
                        let mut batch = Batch::new();
                        batch.put(id, before.body.clone());
                        self.context.store.commit(batch).await?;
                    }
                }
                return Err(error);
            }
            drop(guard);
            let status = match style {
                Style::Sync if created => StatusCode::CREATED,
                _ => StatusCode::OK,
            };
            return self.shown(id, status);
        };
        let status = if created { style.created } else { style.updated };
        // 202 without the resource is what 202 means for some services, and none minds it there.
        let mut reply = self.shown(id, status)?;
        reply.headers.extend(operation.headers(self.context, &style));
        operation.spawn(self.context);
        Ok(reply)
    }

    fn shown(&self, id: &ResourceId, status: StatusCode) -> Result<Reply, ArmError> {
        let resource = self.context.store.get(id).ok_or_else(|| ArmError::not_found(id))?;
        let mut reply = Reply::new(status, Some(show(self.context, &resource)));
        add_etag(&mut reply, &resource);
        Ok(reply)
    }

    /// `If-Match` and `If-None-Match`.
    fn conditions(&self, existing: Option<&Resource>) -> Result<(), ArmError> {
        let failed = || {
            Err(ArmError::new(
                StatusCode::PRECONDITION_FAILED,
                "PreconditionFailed",
                "The condition specified using HTTP conditional header(s) is not met.",
            ))
        };
        let fits = |value: &HeaderValue| {
            value.to_str().unwrap_or_default().split(',').any(|tag| {
                let tag = tag.trim();
                let bare = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
                existing.is_some_and(|existing| bare == "*" || bare == &*existing.etag)
            })
        };
        // Terraform's azurerm sends both fields empty with a private DNS zone: that is no condition.
        let given = |name| self.headers.get(name).filter(|value: &&HeaderValue| !value.is_empty());
        if given(header::IF_MATCH).is_some_and(|value| !fits(value))
            || given(header::IF_NONE_MATCH).is_some_and(fits)
        {
            return failed();
        }
        Ok(())
    }

    async fn delete(&self, id: &ResourceId, kind: &dyn ResourceType) -> Result<Reply, ArmError> {
        self.ancestors(id)?;
        let Some(existing) = self.context.store.get(id) else {
            if id.is("Microsoft.Resources/resourceGroups") {
                return Err(ArmError::not_found(id));
            }
            return Ok(Reply::no_content());
        };
        self.conditions(Some(&existing))?;
        let Style::LongRunning(style) = kind.delete_style() else {
            let shown = kind.delete_shows().then(|| show(self.context, &existing));
            operation::remove(self.context, id).await?;
            return Ok(Reply::new(StatusCode::OK, shown));
        };
        if !id.is("Microsoft.Resources/resourceGroups") {
            operation::deletable(self.context, id, &mut Batch::new())?;
        }
        let location = existing.text("/location");
        let operation = Operation::deprovision(id, &self.api_version, location);
        let mut batch = Batch::new();
        batch.expect(id, Expect::Etag(existing.etag.clone()));
        if kind.provisioning_state() {
            let mut body = existing.body.clone();
            body["properties"]["provisioningState"] = json!("Deleting");
            batch.put(id, body);
        }
        operation.store(&mut batch);
        self.context.store.commit(batch).await?;
        let mut reply = Reply::new(style.updated, None);
        reply.headers = operation.headers(self.context, &style);
        operation.spawn(self.context);
        Ok(reply)
    }

    async fn collection(self, scope: &ResourceId, kind: &str) -> Result<Reply, ArmError> {
        let Some(kind) = self.context.registry.get(kind) else { return self.act().await };
        if self.verb != Verb::GET {
            return self.act().await;
        }
        self.authorize(&Action::Of(kind.kind(), "read"), scope)?;
        self.ancestors(scope)?;
        if scope.is("Microsoft.Resources/resourceGroups") && self.context.store.get(scope).is_none()
        {
            return Err(ArmError::not_found(scope));
        }
        if scope.namespace().is_some()
            && let Some(parent) = self.context.registry.get(scope.kind())
            && parent.find(self.context, scope).is_none()
        {
            return Err(ArmError::not_found(scope));
        }
        let entries = kind
            .list(self.context, scope, &self.query)?
            .iter()
            .map(|resource| show(self.context, resource))
            .collect();
        page(&self.segments, &self.query, &self.api_version, entries)
    }
}

/// What a caller wants to do, as RBAC names it.
enum Action<'a> {
    Exact(&'a str),
    Of(&'a str, &'a str),
    Below(&'a str, &'a str, &'a str),
}

impl Action<'_> {
    fn name(&self) -> String {
        let kind = |kind: &str| match kind {
            "Microsoft.Resources/resourceGroups" => {
                "Microsoft.Resources/subscriptions/resourceGroups".to_owned()
            }
            kind => kind.to_owned(),
        };
        match self {
            Self::Exact(name) => (*name).to_owned(),
            Self::Of(of, verb) => format!("{}/{verb}", kind(of)),
            Self::Below(of, what, verb) => format!("{}/{what}/{verb}", kind(of)),
        }
    }
}

fn authenticate(context: &Context, headers: &HeaderMap) -> Result<Caller, ArmError> {
    let authority = format!("https://login.microsoftonline.com/{}", context.tenancy.tenant_id);
    let Some(token) = plain::bearer(headers) else {
        return Err(ArmError::unauthorized(
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is missing.",
            format!(
                "Bearer authorization_uri=\"{authority}\", error=\"invalid_token\", error_description=\"The authentication failed because of missing 'Authorization' header.\""
            ),
        ));
    };
    let who = context.identity.verify(token, Audience::ResourceManager).map_err(|error| {
        let (code, message) = match error {
            AuthError::Audience => (
                "InvalidAuthenticationTokenAudience",
                "The access token has been obtained for wrong audience or resource. It should exactly match with one of the allowed audiences 'https://management.core.windows.net/','https://management.azure.com'.".to_owned(),
            ),
            AuthError::Expired => (
                "ExpiredAuthenticationToken",
                "The access token expiry UTC time is earlier than current UTC time.".to_owned(),
            ),
            AuthError::Issuer => (
                "InvalidAuthenticationTokenTenant",
                format!("The access token is from the wrong issuer. It must match the tenant '{authority}' associated with this subscription."),
            ),
            AuthError::Invalid | AuthError::UnknownPrincipal => {
                ("InvalidAuthenticationToken", "The access token is invalid.".to_owned())
            }
        };
        ArmError::unauthorized(
            code,
            message,
            format!("Bearer authorization_uri=\"{authority}\", error=\"invalid_token\", error_description=\"Could not validate the access token.\""),
        )
    })?;
    Ok(Caller { object_id: who.object_id, app_id: who.app_id })
}

/// `yyyy-mm-dd` or `yyyy-mm-dd-preview`.
fn api_version(query: &Query) -> Result<String, ArmError> {
    let Some(text) = query.get("api-version").filter(|text| !text.is_empty()) else {
        return Err(ArmError::bad_request(
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        ));
    };
    let date = text.strip_suffix("-preview").or(text.strip_suffix("-beta")).unwrap_or(text);
    if date.parse::<jiff::civil::Date>().is_err() || date.len() != 10 {
        return Err(ArmError::bad_request(
            "InvalidApiVersionParameter",
            format!(
                "The api-version '{text}' is invalid. The supported versions are dates such as '2024-11-01', optionally followed by '-preview'."
            ),
        ));
    }
    Ok(text.to_owned())
}

/// A body that names itself must name what its path names.
fn named_alike(body: &Value, id: &ResourceId) -> Result<(), ArmError> {
    if let Some(given) = body["id"].as_str()
        && ResourceId::parse(given).is_ok_and(|given| given != *id)
    {
        return Err(ArmError::bad_request(
            "MismatchingResourceId",
            format!("The id '{given}' in the payload does not match the request's '{id}'."),
        ));
    }
    Ok(())
}

/// A group's wrong location has a code of its own.
fn of_a_group(id: &ResourceId, mut error: ArmError) -> ArmError {
    if error.code == "InvalidResourceLocation" && id.is("Microsoft.Resources/resourceGroups") {
        error.code = "InvalidResourceGroupLocation".into();
    }
    error
}

fn place(
    placement: Placement,
    existing: Option<&Resource>,
    method: Method,
    body: &mut Value,
) -> Result<(), ArmError> {
    let given = match body.get("location") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => return Err(ArmError::invalid_content("'location' must be a string")),
    };
    let unavailable = |given: &str, known: &str| {
        ArmError::bad_request(
            "LocationNotAvailableForResourceType",
            format!("The provided location '{given}' is not available for resource type. List of available regions for the resource type is '{known}'."),
        )
        .at("location")
    };
    let location = match (placement, given) {
        (Placement::None, _) => return Ok(()),
        (_, None) => match existing.and_then(|old| old.text("/location")) {
            Some(old) => old.to_owned(),
            None if method == Method::Patch => return Ok(()),
            None => {
                return Err(ArmError::bad_request(
                    "LocationRequired",
                    "The location property is required for this definition.",
                )
                .at("location"));
            }
        },
        (Placement::Global, Some(given)) if given.eq_ignore_ascii_case("global") => "global".into(),
        (Placement::Global, Some(given)) => return Err(unavailable(&given, "global")),
        (Placement::Regional, Some(given)) => {
            let Some(location) = tenancy::location(&given) else {
                let known: Vec<_> = tenancy::LOCATIONS.iter().map(|(name, _)| *name).collect();
                return Err(unavailable(&given, &known.join(",")));
            };
            location.into()
        }
    };
    if let Some(old) = existing.and_then(|old| old.text("/location"))
        && old != location
    {
        return Err(ArmError::conflict(
            "InvalidResourceLocation",
            format!(
                "The resource already exists in location '{old}'. A resource with the same name cannot be created in location '{location}'. Please select a new resource name."
            ),
        ));
    }
    body["location"] = json!(location);
    Ok(())
}

/// <https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources#limitations>
pub(super) fn check_tags(body: &Value) -> Result<(), ArmError> {
    let tags = match body.get("tags") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(tags)) => tags,
        Some(_) => return Err(ArmError::invalid_content("'tags' must be an object of strings")),
    };
    let invalid = |message: String| Err(ArmError::bad_request("InvalidTags", message).at("tags"));
    if tags.len() > MAX_TAGS {
        return invalid(format!("A resource can have at most {MAX_TAGS} tags."));
    }
    for (name, value) in tags {
        if name.is_empty()
            || name.chars().count() > 512
            || name.contains(['<', '>', '%', '&', '\\', '?', '/'])
        {
            return Err(ArmError::bad_request(
                "InvalidTagNameCharacters",
                format!(
                    "The tag name '{name}' has reserved characters '<,>,%,&,\\,?,/' or an invalid length."
                ),
            ));
        }
        match value {
            Value::String(text) if text.chars().count() <= 256 => {}
            Value::Null => {}
            Value::String(_) => {
                return invalid(format!(
                    "The value of the tag '{name}' has more than 256 characters."
                ));
            }
            _ => return invalid(format!("The value of the tag '{name}' is not a string.")),
        }
    }
    Ok(())
}

fn add_etag(reply: &mut Reply, resource: &Resource) {
    if let Ok(value) = HeaderValue::try_from(format!("\"{}\"", resource.etag)) {
        reply.headers.insert(HeaderName::from_static("etag"), value);
    }
}

/// A resource as clients see it.
pub fn show(context: &Context, resource: &Resource) -> Value {
    let mut body = match context.registry.get(resource.id.kind()) {
        Some(kind) => kind.view(context, resource),
        None => resource.body.clone(),
    };
    let mut out = Map::new();
    out.insert("id".into(), json!(resource.id));
    let own =
        |body: &mut Value, key: &str| body.as_object_mut().and_then(|map| map.shift_remove(key));
    out.insert("name".into(), own(&mut body, "name").unwrap_or_else(|| json!(resource.id.name())));
    out.insert("type".into(), own(&mut body, "type").unwrap_or_else(|| json!(resource.id.kind())));
    if let Value::Object(body) = body {
        out.extend(body);
    }
    Value::Object(out)
}

/// One page of a list: `$top`, `$skipToken`, `$filter` over what is shown.
pub fn page(
    segments: &[String],
    query: &Query,
    api_version: &str,
    entries: Vec<Value>,
) -> Result<Reply, ArmError> {
    let top = match query.get("$top") {
        None => PAGE,
        Some(text) => match text.parse::<usize>() {
            Ok(top @ 1..) => top.min(PAGE),
            _ => {
                return Err(ArmError::bad_request(
                    "InvalidTopInQueryString",
                    format!("Invalid $top '{text}' specified in the query string."),
                ));
            }
        },
    };
    let skip = match query.get("$skiptoken") {
        None => 0,
        Some(token) => URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok()?.parse::<usize>().ok())
            .ok_or_else(|| {
                ArmError::bad_request(
                    "InvalidSkipToken",
                    "The skip token in the query string is invalid.",
                )
            })?,
    };
    let end = skip.saturating_add(top);
    let more = entries.len() > end;
    let value: Vec<Value> = entries.into_iter().skip(skip).take(top).collect();
    let mut body = json!({ "value": value });
    if more {
        let mut next = form_urlencoded::Serializer::new(String::new());
        next.append_pair("api-version", api_version);
        for (name, value) in &query.0 {
            if !["api-version", "$skiptoken"].contains(&name.to_ascii_lowercase().as_str()) {
                next.append_pair(name, value);
            }
        }
        next.append_pair("$skiptoken", &URL_SAFE_NO_PAD.encode(end.to_string()));
        body["nextLink"] =
            json!(format!("https://{HOST}/{}?{}", segments.join("/"), next.finish()));
    }
    Ok(Reply::ok(body))
}

/// A generic list of what is shown, filtered by `$filter`.
pub fn filtered(call: &Call<'_>, entries: impl Iterator<Item = Value>) -> Result<Reply, ArmError> {
    let filter = Filter::parse(call.query.get("$filter"))?;
    page(
        &call.segments,
        &call.query,
        call.api_version,
        entries.filter(|entry| filter.fits(entry)).collect(),
    )
}
