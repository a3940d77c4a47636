//! Tenants, subscriptions, locations, and lists over everything
//! (<https://learn.microsoft.com/rest/api/resources/subscriptions>).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method as Verb;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{Call, Registry, Reply};
use crate::{
    control::{Context, error::ArmError, router},
    tenancy::LOCATIONS,
};

/// Adds this file's routes.
pub(super) fn register(types: &mut Registry) {
    types.route(Verb::GET, "/tenants", None, tenants);
    types.route(Verb::GET, "/subscriptions", None, list);
    types.route(
        Verb::GET,
        "/subscriptions/{}",
        Some("Microsoft.Resources/subscriptions/read"),
        get,
    );
    types.route(
        Verb::GET,
        "/subscriptions/{}/locations",
        Some("Microsoft.Resources/subscriptions/locations/read"),
        locations,
    );
    types.route(
        Verb::GET,
        "/subscriptions/{}/resources",
        Some("Microsoft.Resources/subscriptions/resources/read"),
        resources,
    );
    types.route(
        Verb::GET,
        "/subscriptions/{}/resourcegroups/{}/resources",
        Some("Microsoft.Resources/subscriptions/resourceGroups/resources/read"),
        resources,
    );
    types.route(
        Verb::POST,
        "/subscriptions/{}/providers/microsoft.resources/checkresourcename",
        None,
        check_resource_name,
    );
    types.route(
        Verb::POST,
        "/providers/microsoft.resources/checkresourcename",
        None,
        check_resource_name,
    );
}

fn tenants<'a>(
    context: &'a Arc<Context>,
    _: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let tenant = &context.tenancy.tenant_id;
        Ok(Reply::ok(json!({ "value": [{
            "id": format!("/tenants/{tenant}"), "tenantId": tenant, "countryCode": "NL",
            "displayName": "Lazuli", "domains": ["lazuli.onmicrosoft.com"],
            "defaultDomain": "lazuli.onmicrosoft.com", "tenantCategory": "Home", "tenantType": "AAD",
        }]})))
    })
}

fn subscription(context: &Context) -> Value {
    let id = &context.tenancy.subscription_id;
    json!({
        "id": format!("/subscriptions/{id}"), "subscriptionId": id,
        "tenantId": context.tenancy.tenant_id, "displayName": context.tenancy.subscription_name,
        "state": "Enabled", "authorizationSource": "RoleBased", "managedByTenants": [],
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01", "quotaId": "PayAsYouGo_2014-09-01",
            "spendingLimit": "Off",
        },
    })
}

/// A caller sees the subscription when it has any role in it.
fn list<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let seen = context
            .store
            .list("Microsoft.Authorization/roleAssignments", &ResourceId::root())
            .iter()
            .any(|one| one.text("/properties/principalId") == Some(&call.caller.object_id));
        let value: Vec<Value> = seen.then(|| subscription(context)).into_iter().collect();
        Ok(Reply::ok(json!({ "value": value, "count": { "type": "Total", "value": value.len() } })))
    })
}

fn get<'a>(context: &'a Arc<Context>, _: &'a Call<'a>) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move { Ok(Reply::ok(subscription(context))) })
}

fn locations<'a>(
    context: &'a Arc<Context>,
    _: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let id = &context.tenancy.subscription_id;
        let value: Vec<Value> = LOCATIONS
            .iter()
            .map(|(name, display)| {
                json!({
                    "id": format!("/subscriptions/{id}/locations/{name}"), "name": name,
                    "type": "Region", "displayName": display, "regionalDisplayName": display,
                    "metadata": { "regionType": "Physical", "regionCategory": "Recommended" },
                })
            })
            .collect();
        Ok(Reply::ok(json!({ "value": value })))
    })
}

/// Everything at the top level of groups: no children, no extensions, no groups.
fn resources<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let scope = if call.segments.len() == 5 {
            let group =
                ResourceId::of_resource_group(&context.tenancy.subscription_id, &call.segments[3])?;
            if context.store.get(&group).is_none() {
                return Err(ArmError::not_found(&group));
            }
            group
        } else {
            context.subscription()
        };
        let below = context.store.list_below(&scope);
        let top = below
            .iter()
            .filter(|one| {
                one.id.namespace().is_some()
                    && one.id.resource_group().is_some()
                    && one.id.parent() == one.id.resource_group_id()
            })
            .map(|one| {
                // What the list shows of a resource is short, on Azure too.
                let shown = router::show(context, one);
                let mut brief = json!({});
                for key in [
                    "id",
                    "name",
                    "type",
                    "location",
                    "kind",
                    "sku",
                    "tags",
                    "identity",
                    "managedBy",
                ] {
                    if let Some(value) = shown.get(key) {
                        brief[key] = value.clone();
                    }
                }
                brief
            });
        router::filtered(call, top)
    })
}

fn check_resource_name<'a>(
    _: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let name = call.body["name"].as_str().unwrap_or_default();
        let reserved = [
            "ACCESS",
            "AZURE",
            "BING",
            "BIZSPARK",
            "BIZTALK",
            "CORTANA",
            "DIRECTX",
            "DOTNET",
            "DYNAMICS",
            "EXCEL",
            "EXCHANGE",
            "FOREFRONT",
            "GROOVE",
            "HOLOLENS",
            "HYPERV",
            "KINECT",
            "LYNC",
            "MSDN",
            "O365",
            "OFFICE",
            "OFFICE365",
            "ONEDRIVE",
            "ONENOTE",
            "OUTLOOK",
            "POWERPOINT",
            "SHAREPOINT",
            "SKYPE",
            "VISIO",
            "VISUALSTUDIO",
        ];
        let status = if reserved.iter().any(|word| word.eq_ignore_ascii_case(name)) {
            "Reserved"
        } else {
            "Allowed"
        };
        Ok(Reply::ok(json!({ "name": name, "type": call.body["type"], "status": status })))
    })
}
