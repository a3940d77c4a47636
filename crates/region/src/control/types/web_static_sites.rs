//! `Microsoft.Web/staticSites`, their linked back ends, their settings
//! (<https://learn.microsoft.com/rest/api/appservice/static-sites>). The control plane: what a static
//! site says of itself. No content is served here.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method;
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Call, Placement, Reply, ResourceType, Style, Write,
    web::{VERSIONS, text_of},
};
use crate::{
    appservice::settings::hex,
    control::{
        Context,
        error::ArmError,
        operation, router,
        schema::{self, Schema},
    },
    store::{Batch, Expect, Resource},
};

/// Static sites.
pub(super) struct StaticSites;
/// Their linked back ends.
pub(super) struct LinkedBackends;

const KIND: &str = "Microsoft.Web/staticSites";
const LINKED: &str = "Microsoft.Web/staticSites/linkedBackends";
/// Sealed private state, by site: the deployment token, the settings.
const PRIVATE: &str = "web.staticSites";
/// Where Azure offers them
/// (<https://learn.microsoft.com/azure/static-web-apps/overview>).
const LOCATIONS: &[&str] = &["westus2", "centralus", "eastus2", "westeurope", "eastasia"];

const SCHEMA: Schema = Schema(&[
    schema::choice("/sku/name", &["Free", "Standard"]).or_text("Free"),
    schema::choice("/sku/tier", &["Free", "Standard"]),
    schema::boolean("allowConfigFileUpdates").or_bool(true),
    schema::choice("stagingEnvironmentPolicy", &["Enabled", "Disabled"]).or_text("Enabled"),
    schema::choice("publicNetworkAccess", &["Enabled", "Disabled"]).or_text("Enabled"),
    schema::choice("enterpriseGradeCdnStatus", &["Disabled"]).or_text("Disabled"),
    schema::any("defaultHostname").read_only(),
    schema::any("contentDistributionEndpoint").read_only(),
    schema::any("customDomains").read_only(),
    schema::any("linkedBackends").read_only(),
    schema::any("privateEndpointConnections").read_only(),
    schema::any("databaseConnections").read_only(),
    schema::any("keyVaultReferenceIdentity").read_only(),
]);

/// What is private of a static site, sealed.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Private {
    api_key: String,
    settings: serde_json::Map<String, Value>,
}

impl Private {
    fn load(context: &Context, id: &ResourceId) -> Self {
        context
            .store
            .get_state(PRIVATE, id.key())
            .and_then(|sealed| context.sealer.open_sealed(id.key(), &sealed).ok())
            .and_then(|open| serde_json::from_slice(&open).ok())
            .unwrap_or_default()
    }

    fn put(&self, context: &Context, id: &ResourceId, batch: &mut Batch) {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        batch.put_state(PRIVATE, id.key(), context.sealer.seal(id.key(), &bytes));
    }
}

/// A deployment token: 64 hexadecimal digits and a GUID, as Azure's are.
fn api_key() -> Result<String, ArmError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ArmError::internal(&"no random numbers"))?;
    Ok(format!("{}-{}", hex(&bytes), Uuid::new_v4()))
}

/// `calm-stone-0a1b2c3d4.5.azurestaticapps.net`: a name that nobody else has.
fn host_name() -> String {
    const FIRST: [&str; 8] =
        ["calm", "brave", "gentle", "happy", "lively", "polite", "proud", "witty"];
    const SECOND: [&str; 8] =
        ["beach", "cliff", "field", "forest", "hill", "river", "stone", "wave"];
    let bytes = Uuid::new_v4().into_bytes();
    format!(
        "{}-{}-0{}.{}.azurestaticapps.net",
        FIRST[usize::from(bytes[0] % 8)],
        SECOND[usize::from(bytes[1] % 8)],
        hex(&bytes[9..13]),
        bytes[2] % 6 + 1
    )
}

impl ResourceType for StaticSites {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn api_versions(&self) -> &'static [&'static str] {
        VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[
            "(all): no content is served, no environment is built",
            "identity",
            "repositoryUrl, branch, repositoryToken, buildProperties",
        ]
    }

    fn provisioning_state(&self) -> bool {
        false
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        batch: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        let location = body["location"].as_str().unwrap_or_default();
        if !LOCATIONS.contains(&location) {
            return Err(ArmError::bad_request(
                "LocationNotAvailableForResourceType",
                format!(
                    "The provided location '{location}' is not available for resource type '{KIND}'. List of available regions for the resource type is '{}'.",
                    LOCATIONS.join(",")
                ),
            )
            .at("location"));
        }
        body["sku"]["tier"] = body["sku"]["name"].clone();
        if let Some(properties) = body["properties"].as_object_mut() {
            properties.shift_remove("repositoryToken");
        }
        if write.creates() {
            body["properties"]["defaultHostname"] = json!(host_name());
            Private { api_key: api_key()?, ..Private::default() }.put(context, write.id, batch);
        }
        let free = body["sku"]["name"] == "Free";
        if free && !context.store.list(LINKED, write.id).is_empty() {
            return Err(ArmError::bad_request(
                "BadRequest",
                "A static site with a linked backend needs the Standard SKU.",
            ));
        }
        Ok(body)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::SyncOk
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        let properties = &mut body["properties"];
        let linked: Vec<Value> = context
            .store
            .list(LINKED, &resource.id)
            .iter()
            .map(|linked| {
                json!({
                    "backendResourceId": linked.properties()["backendResourceId"],
                    "region": linked.properties()["region"],
                    "createdOn": linked.properties()["createdOn"],
                    "provisioningState": "Succeeded",
                })
            })
            .collect();
        properties["linkedBackends"] = json!(linked);
        properties["customDomains"] = json!([]);
        properties["privateEndpointConnections"] = json!([]);
        properties["databaseConnections"] = json!([]);
        properties["keyVaultReferenceIdentity"] = json!("SystemAssigned");
        properties["contentDistributionEndpoint"] =
            json!("https://content-am2.infrastructure.azurestaticapps.net");
        if properties["provider"].is_null() {
            properties["provider"] = json!("None");
        }
        body
    }

    fn deletable(
        &self,
        _: &Context,
        resource: &Resource,
        batch: &mut Batch,
    ) -> Result<(), ArmError> {
        batch.delete_state(PRIVATE, resource.id.key());
        Ok(())
    }

    fn act<'a>(
        &'a self,
        context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Reply, ArmError>> {
        Box::pin(async move {
            let id = &call.id;
            let mut private = Private::load(context, id);
            let shown = |kind: &str, name: &str, properties: Value| {
                Reply::ok(json!({
                    "id": format!("{id}/{kind}/{name}"), "name": name,
                    "type": format!("{KIND}/{kind}"), "properties": properties,
                }))
            };
            match (&call.method, call.action.as_str()) {
                (&Method::POST, "listsecrets") => {
                    Ok(shown("secrets", "secrets", json!({ "apiKey": private.api_key })))
                }
                (&Method::POST, "resetapikey") => {
                    private.api_key = api_key()?;
                    let mut batch = Batch::new();
                    private.put(context, id, &mut batch);
                    context.store.commit(batch).await?;
                    Ok(Reply::new(http::StatusCode::OK, None))
                }
                (&Method::POST, "listappsettings") => {
                    Ok(shown("config", "appsettings", json!(private.settings)))
                }
                (&Method::PUT, "config/appsettings") => {
                    private.settings = serde_json::Map::new();
                    for (name, value) in call.body["properties"].as_object().into_iter().flatten() {
                        private.settings.insert(name.clone(), json!(text_of(value, name)?));
                    }
                    let mut batch = Batch::new();
                    private.put(context, id, &mut batch);
                    context.store.commit(batch).await?;
                    Ok(shown("config", "appsettings", json!(private.settings)))
                }
                (&Method::GET, "basicauth/default" | "basicauth") => Ok(shown(
                    "basicAuth",
                    "default",
                    json!({
                        "applicableEnvironmentsMode": "SpecifiedEnvironments", "environments": [],
                        "secretState": "None",
                    }),
                )),
                (_, action) if action == "builds" || action.starts_with("builds/") => {
                    build(self, context, call).await
                }
                (&Method::GET, "customdomains" | "userprovidedfunctionapps") => {
                    Ok(Reply::ok(json!({ "value": [] })))
                }
                (&Method::GET | &Method::DELETE, action)
                    if action.starts_with("customdomains/") =>
                {
                    Err(ArmError::new(
                        http::StatusCode::NOT_FOUND,
                        "NotFound",
                        format!("Cannot find CustomDomain with name {}.", last(call)),
                    ))
                }
                // A region has no public DNS: no name of one's own leads here, and that is what Azure
                // says of a name that does not lead to the site.
                (&Method::POST | &Method::PUT, action) if action.starts_with("customdomains/") => {
                    Err(ArmError::bad_request(
                        "BadRequest",
                        "CNAME Record is invalid. Please ensure the CNAME record has been created.",
                    ))
                }
                (&Method::PUT, _) => Err(ArmError::not_implemented(
                    "Static sites of this region serve no content: they take app settings and linked back ends, nothing else.",
                )),
                _ => Err(ArmError::method_not_allowed(&call.method)),
            }
        })
    }
}

/// The last segment of a request's path.
fn last<'a>(call: &'a Call<'_>) -> &'a str {
    call.segments.last().map_or("", String::as_str)
}

/// What stands below `builds`. A site without a repository has one build, `default`: production
/// (<https://learn.microsoft.com/rest/api/appservice/static-sites/get-static-site-build>). Its settings and
/// its back end are the site's own.
async fn build(
    sites: &StaticSites,
    context: &Arc<Context>,
    call: &Call<'_>,
) -> Result<Reply, ArmError> {
    let id = &call.id;
    let site = context.store.get(id).ok_or_else(|| ArmError::not_found(id))?;
    let default = || {
        let shown = sites.view(context, &site);
        let properties = &shown["properties"];
        json!({
            "id": format!("{id}/builds/default"), "name": "default", "type": format!("{KIND}/builds"),
            "properties": {
                "buildId": "default", "sourceBranch": properties["branch"], "pullRequestTitle": null,
                "hostname": properties["defaultHostname"], "status": "WaitingForDeployment",
                "createdTimeUtc": site.created, "lastUpdatedOn": site.changed,
                "linkedBackends": properties["linkedBackends"],
            },
        })
    };
    let Some(below) = call.action.strip_prefix("builds/") else {
        return Ok(Reply::ok(json!({ "value": [default()] })));
    };
    let (name, below) = below.split_once('/').unwrap_or((below, ""));
    if name != "default" {
        return Err(ArmError::new(
            http::StatusCode::NOT_FOUND,
            "NotFound",
            format!("Cannot find StaticSiteBuild with name {name}."),
        ));
    }
    let shown = |linked: &Resource| router::show(context, linked);
    match (&call.method, below.split_once('/').unwrap_or((below, ""))) {
        (&Method::GET, ("", _)) => Ok(Reply::ok(default())),
        (_, ("listappsettings", _) | ("config", "appsettings")) => {
            let call = Call {
                method: call.method.clone(),
                id: id.clone(),
                action: below.to_owned(),
                segments: call.segments.clone(),
                query: call.query.clone(),
                body: call.body.clone(),
                api_version: call.api_version,
                caller: call.caller,
            };
            sites.act(context, &call).await
        }
        (&Method::GET, ("linkedbackends", "")) => {
            let linked = context.store.list(LINKED, id);
            Ok(Reply::ok(
                json!({ "value": linked.iter().map(|one| shown(one)).collect::<Vec<_>>() }),
            ))
        }
        (method, ("linkedbackends", rest)) => {
            let (validates, name) = match rest.strip_suffix("/validate") {
                Some(_) => (true, call.segments.iter().nth_back(1).map_or("", String::as_str)),
                None => (false, last(call)),
            };
            let linked = id.child("linkedBackends", name).map_err(|_| ArmError::not_found(id))?;
            let existing = context.store.get(&linked);
            match method {
                &Method::GET => existing
                    .map(|linked| Reply::ok(shown(&linked)))
                    .ok_or_else(|| ArmError::not_found(&linked)),
                &Method::DELETE => {
                    if existing.is_none() {
                        return Ok(Reply::no_content());
                    }
                    operation::remove(context, &linked).await?;
                    Ok(Reply::new(http::StatusCode::OK, None))
                }
                &Method::PUT | &Method::POST if validates == (method == Method::POST) => {
                    let _turn = context.lock_writes(&linked).await;
                    let write = Write {
                        id: &linked,
                        existing: existing.as_deref(),
                        method: super::Method::Put,
                        body: call.body.clone(),
                        api_version: call.api_version,
                        caller: call.caller,
                    };
                    let mut batch = Batch::new();
                    let mut body = LinkedBackends.desired(context, &write, &mut batch)?;
                    if validates {
                        return Ok(Reply::no_content());
                    }
                    body["properties"]["provisioningState"] = json!("Succeeded");
                    batch.expect(id, Expect::Present).put(&linked, body);
                    context.store.commit(batch).await?;
                    let linked =
                        context.store.get(&linked).ok_or_else(|| ArmError::not_found(&linked))?;
                    Ok(Reply::ok(shown(&linked)))
                }
                _ => Err(ArmError::method_not_allowed(method)),
            }
        }
        _ => Err(ArmError::not_implemented(
            "Static sites of this region serve no content: a build has settings and a linked back end, nothing else.",
        )),
    }
}

const LINK: Schema = Schema(&[
    schema::text("backendResourceId").required().immutable(),
    schema::text("region"),
    schema::any("createdOn").read_only(),
]);

impl ResourceType for LinkedBackends {
    fn kind(&self) -> &'static str {
        LINKED
    }

    fn api_versions(&self) -> &'static [&'static str] {
        VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["(all): no content is served, so nothing is passed on to the back end"]
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = LINK.apply(write)?;
        let Some(site) = write.id.parent().and_then(|id| context.store.get(&id)) else {
            return Err(ArmError::parent_not_found(write.id));
        };
        if site.text("/sku/name") != Some("Standard") {
            return Err(ArmError::bad_request(
                "BadRequest",
                "Linked backends need a static site of the Standard SKU.",
            ));
        }
        let text = body["properties"]["backendResourceId"].as_str().unwrap_or_default().to_owned();
        let backend = ResourceId::parse(&text)
            .ok()
            .filter(|id| id.is("Microsoft.Web/sites"))
            .and_then(|id| context.store.get(&id))
            .ok_or_else(|| {
                ArmError::bad_request(
                    "BadRequest",
                    format!(
                        "The backend resource '{text}' is not an App Service site of this region."
                    ),
                )
                .at("properties.backendResourceId")
            })?;
        let others = context.store.list(LINKED, &site.id);
        if write.creates() && others.iter().any(|other| other.id != *write.id) {
            return Err(ArmError::bad_request(
                "BadRequest",
                "A static site can have one linked backend.",
            ));
        }
        let properties = &mut body["properties"];
        properties["backendResourceId"] = json!(backend.id);
        if properties["region"].is_null() {
            properties["region"] = backend.body["location"].clone();
        }
        if write.creates() {
            properties["createdOn"] = json!(Timestamp::now());
        }
        Ok(body)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::SyncOk
    }
}
