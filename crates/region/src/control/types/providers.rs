//! Resource providers and their registration
//! (<https://learn.microsoft.com/rest/api/resources/providers>). Registration is remembered, and
//! nothing depends on it: every type the region has can be used at once.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;
use http::Method as Verb;
use serde_json::{Value, json};

use super::{Call, Registry, Reply};
use crate::{
    control::{Context, error::ArmError, router},
    store::Batch,
    tenancy::LOCATIONS,
};

const NAMESPACE: &str = "control.providers";

/// Namespaces that clients register as a matter of course and that the region has no types of.
const OTHERS: &[&str] = &[
    "Microsoft.ADHybridHealthService",
    "Microsoft.AlertsManagement",
    "Microsoft.ApiManagement",
    "Microsoft.App",
    "Microsoft.AppConfiguration",
    "Microsoft.AppPlatform",
    "Microsoft.Authorization",
    "Microsoft.Automation",
    "Microsoft.AVS",
    "Microsoft.Billing",
    "Microsoft.BotService",
    "Microsoft.Cache",
    "Microsoft.Cdn",
    "Microsoft.ClassicSubscription",
    "Microsoft.CognitiveServices",
    "Microsoft.Commerce",
    "Microsoft.Compute",
    "Microsoft.Consumption",
    "Microsoft.ContainerInstance",
    "Microsoft.ContainerRegistry",
    "Microsoft.ContainerService",
    "Microsoft.CostManagement",
    "Microsoft.CostManagementExports",
    "Microsoft.CustomProviders",
    "Microsoft.DataFactory",
    "Microsoft.DataMigration",
    "Microsoft.DataProtection",
    "Microsoft.Databricks",
    "Microsoft.DBforMariaDB",
    "Microsoft.DBforMySQL",
    "Microsoft.DBforPostgreSQL",
    "Microsoft.DesktopVirtualization",
    "Microsoft.Devices",
    "Microsoft.DevTestLab",
    "Microsoft.DocumentDB",
    "Microsoft.EventGrid",
    "Microsoft.EventHub",
    "Microsoft.Features",
    "Microsoft.GuestConfiguration",
    "Microsoft.HDInsight",
    "Microsoft.HealthcareApis",
    "Microsoft.Insights",
    "Microsoft.KeyVault",
    "Microsoft.Kusto",
    "Microsoft.Logic",
    "Microsoft.MachineLearningServices",
    "Microsoft.Maintenance",
    "Microsoft.ManagedIdentity",
    "Microsoft.ManagedServices",
    "Microsoft.Management",
    "Microsoft.Maps",
    "Microsoft.MarketplaceOrdering",
    "Microsoft.MixedReality",
    "Microsoft.Monitor",
    "Microsoft.Network",
    "Microsoft.NotificationHubs",
    "Microsoft.OperationalInsights",
    "Microsoft.OperationsManagement",
    "Microsoft.PolicyInsights",
    "Microsoft.Portal",
    "Microsoft.PowerBIDedicated",
    "Microsoft.RecoveryServices",
    "Microsoft.Relay",
    "Microsoft.ResourceGraph",
    "Microsoft.ResourceHealth",
    "Microsoft.Resources",
    "Microsoft.Search",
    "Microsoft.Security",
    "Microsoft.SecurityInsights",
    "Microsoft.SerialConsole",
    "Microsoft.ServiceBus",
    "Microsoft.ServiceFabric",
    "Microsoft.SignalRService",
    "Microsoft.Sql",
    "Microsoft.Storage",
    "Microsoft.StreamAnalytics",
    "Microsoft.Subscription",
    "Microsoft.Support",
    "Microsoft.TimeSeriesInsights",
    "Microsoft.Web",
    "microsoft.insights",
];

/// Adds this file's routes.
pub(super) fn register(types: &mut Registry) {
    let read = Some("Microsoft.Resources/subscriptions/providers/read");
    types.route(Verb::GET, "/providers", None, list);
    types.route(Verb::GET, "/providers/{}", None, get);
    types.route(Verb::GET, "/subscriptions/{}/providers", read, list);
    types.route(Verb::GET, "/subscriptions/{}/providers/{}", read, get);
    types.route(
        Verb::POST,
        "/subscriptions/{}/providers/{}/register",
        Some("Microsoft.Resources/subscriptions/providers/register/action"),
        set,
    );
    types.route(
        Verb::POST,
        "/subscriptions/{}/providers/{}/unregister",
        Some("Microsoft.Resources/subscriptions/providers/unregister/action"),
        set,
    );
}

/// Every namespace, and its types as the region has them.
fn known(context: &Context) -> BTreeMap<String, (String, Vec<Value>)> {
    let mut map: BTreeMap<String, (String, Vec<Value>)> = BTreeMap::new();
    let locations: Vec<&str> = LOCATIONS.iter().map(|(_, display)| *display).collect();
    for kind in context.registry.types() {
        let Some((namespace, name)) = kind.kind().split_once('/') else { continue };
        let placed = match kind.placement() {
            super::Placement::Regional => json!(locations),
            super::Placement::Global => json!(["global"]),
            super::Placement::None => json!([]),
        };
        map.entry(namespace.to_ascii_lowercase())
            .or_insert_with(|| (namespace.to_owned(), Vec::new()))
            .1
            .push(json!({
                "resourceType": name, "locations": placed, "apiVersions": kind.api_versions(),
                "capabilities": "SupportsTags, SupportsLocation",
            }));
    }
    for namespace in OTHERS {
        map.entry(namespace.to_ascii_lowercase())
            .or_insert_with(|| ((*namespace).to_owned(), Vec::new()));
    }
    map
}

fn shown(context: &Context, key: &str, namespace: &str, types: &[Value]) -> Value {
    let state = match context.store.get_state(NAMESPACE, key).as_deref() {
        Some(state) => String::from_utf8_lossy(state).into_owned(),
        None if types.is_empty() => "NotRegistered".into(),
        None => "Registered".into(),
    };
    json!({
        "id": format!("/subscriptions/{}/providers/{namespace}", context.tenancy.subscription_id),
        "namespace": namespace, "registrationPolicy": "RegistrationRequired",
        "registrationState": state, "resourceTypes": types,
    })
}

fn list<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let all = known(context)
            .iter()
            .map(|(key, (namespace, types))| shown(context, key, namespace, types))
            .collect();
        router::page(&call.segments, &call.query, call.api_version, all)
    })
}

fn one(context: &Context, name: &str) -> Result<Value, ArmError> {
    let key = name.to_ascii_lowercase();
    match known(context).get(&key) {
        Some((namespace, types)) => Ok(shown(context, &key, namespace, types)),
        None => Err(ArmError::new(
            http::StatusCode::NOT_FOUND,
            "InvalidResourceNamespace",
            format!("The resource namespace '{name}' is invalid."),
        )),
    }
}

fn get<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let name = call.segments.last().map(String::as_str).unwrap_or_default();
        one(context, name).map(Reply::ok)
    })
}

fn set<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let name = &call.segments[3];
        one(context, name)?;
        let verb = call.segments[4].to_ascii_lowercase();
        let state = if verb == "register" { "Registered" } else { "Unregistered" };
        let mut batch = Batch::new();
        batch.put_state(NAMESPACE, &name.to_ascii_lowercase(), state.as_bytes());
        context.store.commit(batch).await?;
        one(context, name).map(Reply::ok)
    })
}
