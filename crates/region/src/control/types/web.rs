//! What the types of Microsoft.Web share, and their paths that are no resources.

use std::sync::Arc;

use aws_lc_rs::rand;
use futures_util::future::BoxFuture;
use http::Method;
use serde_json::{Value, json};

use super::{Call, Registry, Reply, web_serverfarms::Serverfarms, web_sites};
use crate::{
    appservice::{AppService, records::RecordError, settings::hex, site::valid_name},
    control::{Context, error::ArmError},
    store::Resource,
};

/// Versions of Microsoft.Web.
pub(super) const VERSIONS: &[&str] = &[
    "2025-03-01",
    "2024-11-01",
    "2024-04-01",
    "2023-12-01",
    "2023-01-01",
    "2022-09-01",
    "2022-03-01",
    "2021-03-01",
    "2021-02-01",
    "2020-12-01",
    "2020-06-01",
    "2019-08-01",
    "2018-11-01",
    "2018-02-01",
    "2016-08-01",
];

/// The types and routes of Microsoft.Web.
pub(super) fn register(types: &mut Registry) {
    types.add(Serverfarms);
    types.add(web_sites::Sites);
    types.add(web_sites::Slots);
    types.route(
        Method::POST,
        "/subscriptions/{}/providers/microsoft.web/checknameavailability",
        None,
        check_name_availability,
    );
    for path in [
        "/providers/microsoft.web/webappstacks",
        "/providers/microsoft.web/locations/{}/webappstacks",
        "/subscriptions/{}/providers/microsoft.web/webappstacks",
    ] {
        types.route(Method::GET, path, None, web_app_stacks);
    }
    for path in [
        "/providers/microsoft.web/availablestacks",
        "/subscriptions/{}/providers/microsoft.web/availablestacks",
    ] {
        types.route(Method::GET, path, None, available_stacks);
    }
    types.route(Method::GET, "/providers/microsoft.web/publishingusers/web", None, publishing_user);
    types.route(
        Method::GET,
        "/subscriptions/{}/providers/microsoft.web/georegions",
        None,
        geo_regions,
    );
}

/// The publishing user of the caller, for FTP and Git: nobody has one here.
fn publishing_user<'a>(
    _: &'a Arc<Context>,
    _: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        Ok(Reply::ok(json!({
            "id": null, "name": "web", "type": "Microsoft.Web/publishingUsers/web",
            "properties": { "name": null, "publishingUserName": null, "publishingPassword": null, "scmUri": null },
        })))
    })
}

/// The running App Service.
pub(super) fn app(context: &Context) -> Result<&Arc<AppService>, ArmError> {
    context
        .handle::<Arc<AppService>>()
        .ok_or_else(|| ArmError::internal(&"App Service is not part of this region"))
}

/// A site as it is shown in lists that are not its own.
pub(super) fn shown(context: &Context, resource: &Resource) -> Value {
    let mut body = web_sites::view(context, resource);
    body["id"] = json!(resource.id);
    body["name"] = json!(resource.id.full_name());
    body["type"] = json!(resource.id.kind());
    body
}

pub(super) fn internal(error: &dyn std::fmt::Display) -> ArmError {
    ArmError::internal(error)
}

pub(super) fn record_error(error: &RecordError) -> ArmError {
    match error {
        RecordError::NotFound(what) => ArmError::new(
            http::StatusCode::NOT_FOUND,
            "ResourceNotFound",
            format!("{what} was not found."),
        ),
        RecordError::Refused(why) => ArmError::bad_request("BadRequest", why.clone()),
        RecordError::Store(error) => error.clone().into(),
        RecordError::Damaged(..) => ArmError::internal(error),
    }
}

/// A setting's value: a string; numbers and booleans are taken as they are written.
pub(super) fn text_of(value: &Value, name: &str) -> Result<String, ArmError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Array(_) | Value::Object(_) => {
            Err(ArmError::invalid_content(format!("The value of '{name}' must be a string"))
                .at(name))
        }
    }
}

/// A publishing password: 60 characters, as Azure's are.
pub(super) fn password() -> String {
    let mut bytes = [0; 30];
    // Fails only where the system has no randomness at all; then nobody can sign in with it.
    if rand::fill(&mut bytes).is_err() {
        return uuid::Uuid::new_v4().simple().to_string();
    }
    hex(&bytes)
}

fn check_name_availability<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let name = call.body["name"].as_str().unwrap_or_default();
        let is_site = call.body["type"].as_str().is_none_or(|kind| {
            kind.eq_ignore_ascii_case("Site") || kind.eq_ignore_ascii_case("Microsoft.Web/sites")
        });
        let answer = if is_site && !valid_name(name, 60) {
            json!({ "nameAvailable": false, "reason": "Invalid", "message": format!("The name '{name}' is not valid.") })
        } else if is_site && web_sites::taken(app(context)?, name) {
            json!({
                "nameAvailable": false, "reason": "AlreadyExists",
                "message": format!("Hostname '{name}' already exists. Please select a different name."),
            })
        } else {
            json!({ "nameAvailable": true, "reason": "", "message": "" })
        };
        Ok(Reply::ok(answer))
    })
}

const PYTHONS: &[&str] = &["3.14", "3.13", "3.12", "3.11", "3.10", "3.9"];

fn web_app_stacks<'a>(
    _: &'a Arc<Context>,
    _: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    let minors: Vec<Value> = PYTHONS
        .iter()
        .map(|version| {
            json!({
                "displayText": format!("Python {version}"),
                "value": version,
                "stackSettings": { "linuxRuntimeSettings": {
                    "runtimeVersion": format!("PYTHON|{version}"),
                    "remoteDebuggingSupported": false,
                    "appInsightsSettings": { "isSupported": true, "isDefaultOff": true },
                    "gitHubActionSettings": { "isSupported": true, "supportedVersion": version },
                    "isHidden": false, "isEarlyAccess": false, "isAutoUpdate": false, "isPreview": false,
                } },
            })
        })
        .collect();
    let stack = json!({
        "id": null,
        "name": "python",
        "type": "Microsoft.Web/webAppStacks",
        "properties": {
            "displayText": "Python",
            "value": "python",
            "preferredOs": "linux",
            "majorVersions": [{ "displayText": "Python 3", "value": "3", "minorVersions": minors }],
        },
    });
    Box::pin(
        async move { Ok(Reply::ok(json!({ "value": [stack], "nextLink": null, "id": null }))) },
    )
}

fn available_stacks<'a>(
    _: &'a Arc<Context>,
    _: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    let minors: Vec<Value> = PYTHONS
        .iter()
        .map(|version| json!({ "displayVersion": version, "runtimeVersion": format!("PYTHON|{version}"), "isDefault": false }))
        .collect();
    let stack = json!({
        "id": null, "name": "python", "type": "Microsoft.Web/availableStacks?osTypeSelected=Linux",
        "properties": {
            "name": "python", "display": "Python",
            "majorVersions": [{ "displayVersion": "Python 3", "runtimeVersion": "PYTHON|3", "minorVersions": minors }],
        },
    });
    Box::pin(
        async move { Ok(Reply::ok(json!({ "value": [stack], "nextLink": null, "id": null }))) },
    )
}

fn geo_regions<'a>(
    _: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    let tier = call.query.get("sku").unwrap_or_default();
    let regions: Vec<Value> = crate::tenancy::LOCATIONS
        .iter()
        .filter(|(name, _)| super::web_serverfarms::offered(tier, name))
        .map(|(name, display)| {
            json!({
                "id": format!("{}/providers/Microsoft.Web/geoRegions/{display}", call.id),
                "name": display,
                "type": "Microsoft.Web/geoRegions",
                "properties": { "name": display, "description": null, "displayName": display, "orgDomain": "PUBLIC;LINUX;PYTHON", "location": name },
            })
        })
        .collect();
    Box::pin(
        async move { Ok(Reply::ok(json!({ "value": regions, "nextLink": null, "id": null }))) },
    )
}
