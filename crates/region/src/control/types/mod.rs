//! The resource types: **one file a type, one line here to register it.**
//!
//! To add a type:
//!
//! 1. Write `types/{provider}_{type}.rs` with a unit struct that implements [`ResourceType`]. The
//!    smallest real example is [`resource_groups`]; one with children, checks between resources and
//!    work to do afterwards is `network_private_endpoints.rs`.
//! 2. Add `mod …;` and one line to [`register`].
//!
//! What the framework does, so that a type does not:
//!
//! | | |
//! |---|---|
//! | routing, `api-version`, tokens, RBAC (`{kind}/read`, `/write`, `/delete`, `/{action}/action`) | [`super::router`] |
//! | body limits, `location` and `tags`, name rules, parent must exist, subscription and group must exist | [`super::router`] |
//! | kinds, defaults, read-only and immutable properties, `PATCH` as a merge | [`super::schema::Schema`], called by the type's [`ResourceType::desired`] |
//! | `id`, `name`, `type`, `etag`, `provisioningState` | added when shown; never stored by the type (except `provisioningState`, which is kept for it) |
//! | `If-Match` / `If-None-Match`, two writers at once (compare and swap, retried) | [`super::router`] |
//! | long-running operations: durable record, resumed after a restart, `Azure-AsyncOperation` / `Location` / `Retry-After` | [`super::operation`], chosen by [`ResourceType::write_style`] and [`ResourceType::delete_style`] |
//! | deleting: children and extensions first, deepest first | [`super::operation`] |
//! | lists, `$top`, `nextLink` | [`super::router`] |
//!
//! **Secrets** in a request (`administratorLoginPassword`): take them out of the body in
//! [`ResourceType::desired`] and put them into the batch as sealed private state:
//! `batch.put_state("postgres", id.key(), context.sealer.seal(id.key(), secret.as_bytes()))`.
//!
//! **Doing something**: [`ResourceType::provision`] runs after the write is durable: inline before the
//! answer for [`Style::Sync`], as an operation for [`Style::LongRunning`]. It must be idempotent; it may
//! be killed at any instant and is then run again. Long-lived processes belong to a controller that
//! watches the store; `provision` then waits until the controller is done.
//!
//! **Paths that are not resources** (`checkNameAvailability`, `…/config/appsettings/list`): give
//! [`ResourceType::act`] (POST on a resource of the type, a last odd segment), or add a
//! [`Route`] in [`register`].
//!
//! **Handles**: what a type needs beyond [`Context`]'s fields is put there when the region is wired,
//! `Context::with(handle)`, and taken with `context.handle::<Arc<AppService>>()`.

use std::{collections::HashMap, sync::Arc};

use futures_util::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use lazuli_azure::ResourceId;
use serde_json::Value;

use super::{Context, error::ArmError};
use crate::store::{Batch, Resource};

mod cache_redis;
mod cache_redis_enterprise;
mod cache_redis_enterprise_databases;
mod cache_redis_patch_schedules;
mod cognitive_services_accounts;
mod consumption_budgets;
mod eventgrid_event_subscriptions;
mod federated_identity_credentials;
#[cfg(test)]
mod fidelity_tests;
mod insights_action_groups;
mod insights_autoscale_settings;
mod insights_components;
mod insights_diagnostic_categories;
mod insights_diagnostic_settings;
mod insights_metric_alerts;
mod insights_metrics;
mod insights_scheduled_query_rules;
pub(crate) mod key_vault_deleted_vaults;
mod key_vault_secrets;
mod key_vault_vaults;
pub(crate) mod locks;
mod managed_identities;
mod network;
mod network_dns_zones;
mod network_interfaces;
mod network_private_dns_zone_groups;
mod network_private_dns_zones;
mod network_private_endpoints;
mod network_record_sets;
mod network_security_groups;
mod network_security_rules;
mod network_subnets;
mod network_virtual_network_links;
mod network_virtual_networks;
mod operational_insights_workspaces;
mod postgres_capabilities;
mod postgres_configurations;
mod postgres_databases;
mod postgres_firewall_rules;
mod postgres_flexible_servers;
mod providers;
mod resource_groups;
mod resources_tags;
pub(crate) mod role_assignments;
mod role_definitions;
#[cfg(test)]
mod servers_tests;
mod storage_accounts;
mod storage_containers;
mod storage_services;
mod stored;
mod subscriptions;
mod web;
mod web_actions;
pub(crate) mod web_certificates;
mod web_host_name_bindings;
mod web_serverfarms;
mod web_sites;
mod web_static_linked_backends;
mod web_static_sites;

/// Every type and route of the region. One line each.
pub(crate) fn register(types: &mut Registry) {
    subscriptions::register(types);
    super::activity::register(types);
    providers::register(types);
    types.add(resource_groups::ResourceGroups);
    resources_tags::register(types);
    types.add(role_assignments::RoleAssignments);
    types.add(role_definitions::RoleDefinitions);
    types.add(locks::Locks);
    types.add(managed_identities::UserAssignedIdentities);
    types.add(federated_identity_credentials::Credentials);
    types.add(network_virtual_networks::VirtualNetworks);
    types.add(network_subnets::Subnets);
    types.add(network_security_groups::SecurityGroups);
    types.add(network_security_rules::SecurityRules);
    types.add(network_private_endpoints::PrivateEndpoints);
    types.add(network_private_dns_zone_groups::ZoneGroups);
    types.add(network_interfaces::Interfaces);
    types.add(network_private_dns_zones::Zones);
    types.add(network_virtual_network_links::Links);
    types.add(network_dns_zones::Zones);
    for records in network_record_sets::ALL {
        types.add(records);
    }
    types.add(postgres_flexible_servers::FlexibleServers);
    postgres_flexible_servers::register(types);
    postgres_capabilities::register(types);
    types.add(postgres_databases::Databases);
    types.add(postgres_configurations::Configurations);
    types.add(postgres_firewall_rules::FirewallRules);
    types.add(cache_redis::Caches);
    cache_redis::register(types);
    types.add(cache_redis_patch_schedules::PATCH_SCHEDULES);
    types.add(cache_redis_enterprise::Clusters);
    types.add(cache_redis_enterprise_databases::Databases);
    types.add(storage_accounts::Accounts);
    storage_accounts::register(types);
    types.add(storage_services::BLOB);
    types.add(storage_services::FILE);
    types.add(storage_containers::Containers);
    types.add(key_vault_vaults::KeyVaults);
    key_vault_vaults::register(types);
    types.add(key_vault_secrets::Secrets);
    key_vault_deleted_vaults::register(types);
    types.add(operational_insights_workspaces::Workspaces);
    operational_insights_workspaces::register(types);
    types.add(insights_components::Components);
    types.add(insights_action_groups::ACTION_GROUPS);
    types.add(insights_metric_alerts::METRIC_ALERTS);
    insights_metrics::register(types);
    types.add(insights_scheduled_query_rules::SCHEDULED_QUERY_RULES);
    types.add(insights_autoscale_settings::AUTOSCALE_SETTINGS);
    types.add(eventgrid_event_subscriptions::EVENT_SUBSCRIPTIONS);
    types.add(insights_diagnostic_settings::DIAGNOSTIC_SETTINGS);
    insights_diagnostic_categories::register(types);
    types.add(consumption_budgets::BUDGETS);
    types.add(cognitive_services_accounts::Accounts);
    cognitive_services_accounts::register(types);
    types.add(cognitive_services_accounts::Deployments);
    web::register(types);
    types.add(web_static_sites::StaticSites);
    types.add(web_static_linked_backends::LinkedBackends);
    types.add(web_certificates::Certificates);
    web_certificates::register(types);
    for bindings in web_host_name_bindings::ALL {
        types.add(bindings);
    }
}

/// Sets every stored database server and cache going, without waiting for any: they take longer than
/// the region itself, and whoever needs one waits for it by connecting.
pub(crate) fn resume_servers(context: &Context) {
    postgres_flexible_servers::resume(context);
    cache_redis::resume(context);
    cache_redis_enterprise_databases::resume(context);
}

/// Where resources of a type live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// `location` is one of the region's and required.
    Regional,
    /// `location` is `global`.
    Global,
    /// No `location`: children, extensions.
    None,
}

/// How a write came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The body is the whole resource.
    Put,
    /// The body is merged into what there is.
    Patch,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The principal's object ID (`oid`).
    pub object_id: String,
    /// The application's client ID (`appid`).
    pub app_id: String,
}

/// A write, before it is done.
#[derive(Debug)]
pub struct Write<'a> {
    /// The resource.
    pub id: &'a ResourceId,
    /// What is stored now.
    pub existing: Option<&'a Resource>,
    /// How the write came.
    pub method: Method,
    /// The request's body, an object.
    pub body: Value,
    /// `api-version`.
    pub api_version: &'a str,
    /// Who asks.
    pub caller: &'a Caller,
}

impl Write<'_> {
    /// Whether this creates the resource.
    pub fn creates(&self) -> bool {
        self.existing.is_none()
    }
}

/// A request that is not the plain life of a resource: an action (POST) or a [`Route`].
#[derive(Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: http::Method,
    /// The deepest resource, group or subscription in the path.
    pub id: ResourceId,
    /// What stands behind that, in lower case: `restart`, or `providers/microsoft.web/checknameavailability`.
    pub action: String,
    /// The path's segments as they came, decoded.
    pub segments: Vec<String>,
    /// The query.
    pub query: Query,
    /// The body, null when there was none.
    pub body: Value,
    /// `api-version`.
    pub api_version: &'a str,
    /// Who asks.
    pub caller: &'a Caller,
}

/// The query string's pairs; names are compared without regard to case.
#[derive(Debug, Clone, Default)]
pub struct Query(pub Vec<(String, String)>);

impl Query {
    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// Headers beyond the usual ones.
    pub headers: HeaderMap,
    /// The body, if any.
    pub body: Option<Value>,
    /// A body that is not JSON: its content type and text.
    pub text: Option<(&'static str, String)>,
    /// Work to be started as an operation once this is sent: see [`Reply::long_running`].
    pub(crate) work: Option<(LongRunning, String, Value)>,
}

impl Reply {
    /// 200 with a body.
    pub fn ok(body: Value) -> Self {
        Self::new(StatusCode::OK, Some(body))
    }

    /// 200 with a body that is not JSON.
    pub fn plain(content_type: &'static str, text: String) -> Self {
        Self { text: Some((content_type, text)), ..Self::new(StatusCode::OK, None) }
    }

    /// 204.
    pub fn no_content() -> Self {
        Self::new(StatusCode::NO_CONTENT, None)
    }

    /// Any status.
    pub fn new(status: StatusCode, body: Option<Value>) -> Self {
        Self { status, headers: HeaderMap::new(), body, text: None, work: None }
    }

    /// Accepts a long-running action: [`ResourceType::perform`] is called with `action` and `input` in
    /// an operation that survives restarts. `input` is stored in clear: no secrets.
    pub fn long_running(style: LongRunning, action: &str, input: Value) -> Self {
        let mut reply = Self::new(style.updated, None);
        reply.work = Some((style, action.to_owned(), input));
        reply
    }
}

/// How a service words a long-running operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongRunning {
    /// The status of a write that creates.
    pub created: StatusCode,
    /// The status of any other write, delete or action.
    pub updated: StatusCode,
    /// Whether `Azure-AsyncOperation` is sent.
    pub azure_async_operation: bool,
    /// Whether `Location` is sent.
    pub location: bool,
    /// The segment below `providers/{namespace}/locations/{location}/` of status addresses.
    pub statuses: &'static str,
    /// The segment of result addresses.
    pub results: &'static str,
}

impl LongRunning {
    /// 202, both headers, `operationStatuses` and `operationResults`: PostgreSQL's way.
    pub const ACCEPTED: Self = Self {
        created: StatusCode::ACCEPTED,
        updated: StatusCode::ACCEPTED,
        azure_async_operation: true,
        location: true,
        statuses: "operationStatuses",
        results: "operationResults",
    };
    /// 201 or 200 with the resource and `Azure-AsyncOperation`: the way of `Microsoft.Network`.
    pub const CREATED: Self = Self {
        created: StatusCode::CREATED,
        updated: StatusCode::OK,
        azure_async_operation: true,
        location: false,
        statuses: "operations",
        results: "operationResults",
    };
    /// 202 with `Location` alone: the way of resource groups, and of most deletions.
    pub const LOCATION: Self = Self {
        created: StatusCode::ACCEPTED,
        updated: StatusCode::ACCEPTED,
        azure_async_operation: false,
        location: true,
        statuses: "operationStatuses",
        results: "operationResults",
    };
}

/// How a write or delete is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Done when answered: 201 or 200 (writes), 200 or 204 (deletes).
    Sync,
    /// As [`Style::Sync`], but 200 for creations too.
    SyncOk,
    /// Answered at once, finished later.
    LongRunning(LongRunning),
}

/// One type of resource.
pub trait ResourceType: Send + Sync + 'static {
    /// `Microsoft.Network/virtualNetworks/subnets`.
    fn kind(&self) -> &'static str;

    /// The versions that `providers` lists, newest first. Any well-formed version is accepted.
    fn api_versions(&self) -> &'static [&'static str];

    /// Properties that are stored and shown but change nothing here. The fidelity reference is made
    /// from this.
    fn not_acted_upon(&self) -> &'static [&'static str];

    /// Where resources of this type live.
    fn placement(&self) -> Placement {
        Placement::Regional
    }

    /// Whether `properties.provisioningState` is shown.
    fn provisioning_state(&self) -> bool {
        true
    }

    /// Azure's rules for the name
    /// (<https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules>).
    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        super::names::general(self.kind(), name)
    }

    /// The name that no other resource of the region may have, in whatever group: the host name, of what
    /// has one. Two creations with one such name wait for one another, so that
    /// [`ResourceType::desired`] sees whether it is taken.
    fn unique_name(&self, _id: &ResourceId) -> Option<String> {
        None
    }

    /// The body to store: the request checked and completed, usually by a [`super::schema::Schema`].
    /// What else must be written together with it goes into `batch`. No I/O; called again if another
    /// writer was faster.
    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        batch: &mut Batch,
    ) -> Result<Value, ArmError>;

    /// How the write is answered.
    fn write_style(&self, _write: &Write<'_>) -> Style {
        Style::Sync
    }

    /// Makes reality follow what is stored. Idempotent.
    fn provision<'a>(
        &'a self,
        _context: &'a Arc<Context>,
        _id: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async { Ok(()) })
    }

    /// Whether [`ResourceType::provision`] is run for every stored resource when the region starts.
    fn provision_at_start(&self) -> bool {
        false
    }

    /// The resource, for types whose resources are not (all) in the store.
    fn find(&self, context: &Context, id: &ResourceId) -> Option<Arc<Resource>> {
        context.store.get(id)
    }

    /// The body as it is shown (`id`, `name`, `type` are added). Here go properties that are known
    /// only now, such as a state or a list of children.
    fn view(&self, _context: &Context, resource: &Resource) -> Value {
        resource.body.clone()
    }

    /// Every resource below `scope` (its parent, for a child; a group or subscription otherwise).
    fn list(
        &self,
        context: &Context,
        scope: &ResourceId,
        _query: &Query,
    ) -> Result<Vec<Arc<Resource>>, ArmError> {
        Ok(context.store.list(self.kind(), scope))
    }

    /// Refuses a deletion, or adds to the batch what must go with it (its private state).
    fn deletable(
        &self,
        _context: &Context,
        _resource: &Resource,
        _batch: &mut Batch,
    ) -> Result<(), ArmError> {
        Ok(())
    }

    /// How a deletion is answered.
    fn delete_style(&self) -> Style {
        Style::Sync
    }

    /// Whether the answer to a deletion shows what was deleted.
    fn delete_shows(&self) -> bool {
        false
    }

    /// Undoes what [`ResourceType::provision`] did; runs before the resource is forgotten. Idempotent.
    fn deprovision<'a>(
        &'a self,
        _context: &'a Arc<Context>,
        _resource: &'a Resource,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async { Ok(()) })
    }

    /// A POST on a resource of this type: `call.action` is the last segment in lower case. The
    /// resource exists, and the caller may do it.
    fn act<'a>(
        &'a self,
        _context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Reply, ArmError>> {
        let error = ArmError::method_not_allowed(&call.method);
        Box::pin(async move { Err(error) })
    }

    /// The work of a long-running action ([`Reply::long_running`]). Idempotent. Returns what the
    /// result address then shows.
    fn perform<'a>(
        &'a self,
        _context: &'a Arc<Context>,
        _id: &'a ResourceId,
        action: &'a str,
        _input: &'a Value,
    ) -> BoxFuture<'a, Result<Value, ArmError>> {
        Box::pin(
            async move { Err(ArmError::internal(&format!("no work for the action {action}"))) },
        )
    }

    /// A chance to answer a request on a resource (even segments) of this type in its own way, before
    /// the framework does: for sub-resources that are no records, such as `sites/config`. The caller is
    /// authorised, the parent may be absent.
    fn intercept<'a>(
        &'a self,
        _context: &'a Arc<Context>,
        _call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Option<Reply>, ArmError>> {
        Box::pin(async { Ok(None) })
    }
}

/// Answers a [`Route`].
pub type Handler =
    for<'a> fn(&'a Arc<Context>, &'a Call<'a>) -> BoxFuture<'a, Result<Reply, ArmError>>;

/// A path that is no resource.
pub struct Route {
    /// The method.
    pub method: http::Method,
    /// Lower case; `{}` stands for any one segment, a first `**` for any number of them:
    /// `/subscriptions/{}/providers/microsoft.web/checknameavailability`.
    pub path: &'static str,
    /// What the caller must be allowed to do at the deepest resource of the path; None for what every
    /// valid token may see.
    pub permission: Option<&'static str>,
    /// Who answers.
    pub handler: Handler,
}

/// The types and routes of the region.
#[derive(Default)]
pub struct Registry {
    types: HashMap<String, Arc<dyn ResourceType>>,
    /// By number of segments; those with `**` at 0.
    routes: HashMap<usize, Vec<Route>>,
}

impl Registry {
    /// Everything that [`register`] names.
    pub fn new() -> Self {
        let mut registry = Self::default();
        register(&mut registry);
        registry
    }

    /// Adds a type.
    pub fn add(&mut self, kind: impl ResourceType) {
        self.types.insert(kind.kind().to_ascii_lowercase(), Arc::new(kind));
    }

    /// Adds a route.
    pub fn route(
        &mut self,
        method: http::Method,
        path: &'static str,
        permission: Option<&'static str>,
        handler: Handler,
    ) {
        let open = path.starts_with("**");
        let count = if open { 0 } else { path.split('/').skip(1).count() };
        self.routes.entry(count).or_default().push(Route { method, path, permission, handler });
    }

    /// The type called `kind`, in any casing.
    pub fn get(&self, kind: &str) -> Option<&Arc<dyn ResourceType>> {
        self.types.get(&kind.to_ascii_lowercase())
    }

    /// Every type, ordered by name.
    pub fn types(&self) -> Vec<&Arc<dyn ResourceType>> {
        let mut types: Vec<_> = self.types.values().collect();
        types.sort_by_key(|t| t.kind());
        types
    }

    /// The route for a path in lower case, split at its slashes.
    pub fn find_route(&self, method: &http::Method, segments: &[String]) -> Option<&Route> {
        let fixed = self.routes.get(&segments.len()).into_iter().flatten();
        let open = self.routes.get(&0).into_iter().flatten();
        fixed.chain(open).find(|route| {
            route.method == method
                && match route.path.strip_prefix("**/") {
                    Some(tail) => {
                        let count = tail.split('/').count();
                        segments.len() >= count && fits(tail, &segments[segments.len() - count..])
                    }
                    None => fits(&route.path[1..], segments),
                }
        })
    }
}

fn fits(template: &str, segments: &[String]) -> bool {
    template.split('/').zip(segments).all(|(want, have)| want == "{}" || want == have)
}
