//! `Microsoft.Web/staticSites` and their settings
//! (<https://learn.microsoft.com/rest/api/appservice/static-sites>). What is deployed to one and served is
//! [`crate::staticweb`]'s.

mod builds;

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;
use http::Method;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Call, Reply, ResourceType, Style, Write,
    web::{VERSIONS, text_of},
};
use crate::{
    appservice::settings::hex,
    control::{
        Context,
        error::ArmError,
        schema::{self, Schema},
    },
    staticweb::{LINKED, PRODUCTION, SITE as KIND, StaticWeb},
    store::{Batch, Expect, Resource},
};

/// Static sites.
pub(super) struct StaticSites;

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
    /// Production's.
    settings: serde_json::Map<String, Value>,
    /// The other environments', by name.
    #[serde(default)]
    environments: BTreeMap<String, serde_json::Map<String, Value>>,
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

    /// The settings of an environment.
    fn of(&mut self, environment: &str) -> &mut serde_json::Map<String, Value> {
        if environment == PRODUCTION {
            &mut self.settings
        } else {
            self.environments.entry(environment.to_owned()).or_default()
        }
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
            "identity (it exists and can be given roles; nothing of a site uses it)",
            "app settings (for managed functions and custom sign-in, of which a region has none)",
            "allowConfigFileUpdates",
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
        read_identity(&mut body)?;
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

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            let Some(site) = context.store.get(id) else { return Ok(()) };
            if site.body["identity"]["type"].as_str() == Some("SystemAssigned") {
                context.identity.create_identity(id).await.map_err(|e| ArmError::internal(&e))?;
            } else {
                context.identity.delete_identity(id).await.map_err(|e| ArmError::internal(&e))?;
            }
            if let Some(web) = web(context) {
                web.provide(id);
            }
            Ok(())
        })
    }

    fn provision_at_start(&self) -> bool {
        true
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
        if let Some(identity) = context.identity.system_identity(&resource.id) {
            body["identity"]["principalId"] = json!(identity.principal_id);
            body["identity"]["tenantId"] = json!(identity.tenant_id);
        }
        body
    }

    fn deletable(
        &self,
        context: &Context,
        resource: &Resource,
        batch: &mut Batch,
    ) -> Result<(), ArmError> {
        batch.delete_state(PRIVATE, resource.id.key());
        for environment in StaticWeb::builds(&context.store, resource).keys() {
            StaticWeb::forget(batch, &resource.id, environment);
        }
        builds::forget_packages(context, &resource.id, batch);
        Ok(())
    }

    fn deprovision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        resource: &'a Resource,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            if let Some(web) = web(context) {
                web.withdraw(&resource.id);
                let builds = StaticWeb::builds(&context.store, resource);
                web.retire(builds.into_values().filter_map(|build| build.content));
            }
            context.identity.delete_identity(&resource.id).await.map_err(|e| ArmError::internal(&e))
        })
    }

    fn perform<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
        action: &'a str,
        input: &'a Value,
    ) -> BoxFuture<'a, Result<Value, ArmError>> {
        Box::pin(builds::perform(context, id, action, input))
    }

    fn act<'a>(
        &'a self,
        context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Reply, ArmError>> {
        Box::pin(async move {
            let id = &call.id;
            let shown =
                |kind: &str, name: &str, properties: Value| shown(id, kind, name, properties);
            match (&call.method, call.action.as_str()) {
                (&Method::POST, "listsecrets") => {
                    let private = Private::load(context, id);
                    Ok(shown("secrets", "secrets", json!({ "apiKey": private.api_key })))
                }
                (&Method::POST, "resetapikey") => {
                    let mut private = Private::load(context, id);
                    private.api_key = api_key()?;
                    let mut batch = Batch::new();
                    private.put(context, id, &mut batch);
                    context.store.commit(batch).await?;
                    Ok(Reply::new(http::StatusCode::OK, None))
                }
                (&Method::POST, "listappsettings") | (&Method::PUT, "config/appsettings") => {
                    settings(context, call, PRODUCTION).await
                }
                (&Method::POST, "zipdeploy") => builds::zip_deploy(context, call, PRODUCTION).await,
                (&Method::GET, "basicauth/default" | "basicauth") => Ok(shown(
                    "basicAuth",
                    "default",
                    json!({
                        "applicableEnvironmentsMode": "SpecifiedEnvironments", "environments": [],
                        "secretState": "None",
                    }),
                )),
                (_, action) if action == "builds" || action.starts_with("builds/") => {
                    builds::act(self, context, call).await
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
                (&Method::PUT | &Method::DELETE, action) if action.starts_with("basicauth") => {
                    Err(ArmError::not_implemented(
                        "A password for visitors is not available in this region: how Azure asks for it is not public.",
                    ))
                }
                (&Method::PUT, action) => Err(ArmError::not_implemented(format!(
                    "'{action}' of a static site is not available in this region."
                ))),
                _ => Err(ArmError::method_not_allowed(&call.method)),
            }
        })
    }
}

/// The content of static sites, where there is a front end.
pub(super) fn web(context: &Context) -> Option<&Arc<StaticWeb>> {
    context.handle::<Arc<StaticWeb>>()
}

/// A child that is no record.
fn shown(id: &ResourceId, kind: &str, name: &str, properties: Value) -> Reply {
    Reply::ok(json!({
        "id": format!("{id}/{kind}/{name}"), "name": name,
        "type": format!("{KIND}/{kind}"), "properties": properties,
    }))
}

/// `identity`, as far as a region has it.
fn read_identity(body: &mut Value) -> Result<(), ArmError> {
    let kind = match &body["identity"] {
        Value::Null => return Ok(()),
        identity => identity["type"].as_str().unwrap_or("None").to_owned(),
    };
    match kind.to_ascii_lowercase().as_str() {
        "systemassigned" => body["identity"] = json!({ "type": "SystemAssigned" }),
        "none" => body["identity"] = json!({ "type": "None" }),
        _ => {
            return Err(ArmError::not_implemented(
                "User-assigned identities are not available in this region; use 'SystemAssigned'.",
            ));
        }
    }
    Ok(())
}

/// Shows an environment's app settings, or replaces them.
async fn settings(
    context: &Arc<Context>,
    call: &Call<'_>,
    environment: &str,
) -> Result<Reply, ArmError> {
    let id = &call.id;
    let _turn = context.lock_writes(id).await;
    let mut private = Private::load(context, id);
    let kept = private.of(environment);
    if call.method == Method::PUT {
        kept.clear();
        for (name, value) in call.body["properties"].as_object().into_iter().flatten() {
            kept.insert(name.clone(), json!(text_of(value, name)?));
        }
        let shown = json!(kept);
        let mut batch = Batch::new();
        batch.expect(id, Expect::Present);
        private.put(context, id, &mut batch);
        context.store.commit(batch).await?;
        return Ok(self::shown(id, "config", "appsettings", shown));
    }
    Ok(shown(id, "config", "appsettings", json!(kept)))
}

/// The last segment of a request's path.
fn last<'a>(call: &'a Call<'_>) -> &'a str {
    call.segments.last().map_or("", String::as_str)
}
