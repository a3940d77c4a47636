//! `Microsoft.Web/sites` and `Microsoft.Web/sites/slots`
//! (<https://learn.microsoft.com/rest/api/appservice/web-apps>). A slot is a site but for its name, so
//! both are one implementation. What a client writes becomes the slot's record; what it reads is made
//! from the record.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use lazuli_azure::ResourceId;
use serde_json::{Map, Value, json};

use super::{
    Call, Method, Placement, Reply, ResourceType, Style, Write,
    web::{self, app, internal, record_error},
};
use crate::{
    appservice::{
        AppService, access,
        records::{PLAN_KIND, SITE_KIND, SLOT_KIND, slot_key},
        render::{self, Default},
        site::{
            ConnectionString, SiteKey, SlotIdentity, SlotKey, SlotName, SlotRecord, valid_name,
        },
        swapping::SwapError,
    },
    control::{Context, error::ArmError},
    store::{Batch, Resource},
};

/// Sites.
pub(super) struct Sites;
/// Deployment slots.
pub(super) struct Slots;

macro_rules! site_like {
    ($type:ty, $kind:expr) => {
        impl ResourceType for $type {
            fn kind(&self) -> &'static str {
                $kind
            }
            fn api_versions(&self) -> &'static [&'static str] {
                web::VERSIONS
            }
            fn not_acted_upon(&self) -> &'static [&'static str] {
                NOT_ACTED_UPON
            }
            fn placement(&self) -> Placement {
                Placement::Regional
            }
            fn provisioning_state(&self) -> bool {
                false
            }
            fn check_name(&self, name: &str) -> Result<(), ArmError> {
                check_name($kind, name)
            }
            fn unique_name(&self, id: &ResourceId) -> Option<String> {
                slot_key(id).map(|key| key.host_name())
            }

            fn desired(
                &self,
                context: &Context,
                write: &Write<'_>,
                batch: &mut Batch,
            ) -> Result<Value, ArmError> {
                desired(context, write, batch)
            }
            fn write_style(&self, _: &Write<'_>) -> Style {
                Style::SyncOk
            }
            fn provision<'a>(
                &'a self,
                context: &'a Arc<Context>,
                id: &'a ResourceId,
            ) -> BoxFuture<'a, Result<(), ArmError>> {
                Box::pin(provision(context, id))
            }
            fn view(&self, context: &Context, resource: &Resource) -> Value {
                view(context, resource)
            }
            fn deletable(
                &self,
                context: &Context,
                resource: &Resource,
                batch: &mut Batch,
            ) -> Result<(), ArmError> {
                if let Some(key) = slot_key(&resource.id) {
                    app(context)?.records.delete_private(batch, &key);
                }
                Ok(())
            }
            fn deprovision<'a>(
                &'a self,
                context: &'a Arc<Context>,
                resource: &'a Resource,
            ) -> BoxFuture<'a, Result<(), ArmError>> {
                Box::pin(async move {
                    if let Some(key) = slot_key(&resource.id) {
                        app(context)?.remove(&key).await;
                    }
                    context
                        .identity
                        .delete_identity(&resource.id)
                        .await
                        .map_err(|error| internal(&error))
                })
            }
            fn act<'a>(
                &'a self,
                context: &'a Arc<Context>,
                call: &'a Call<'a>,
            ) -> BoxFuture<'a, Result<Reply, ArmError>> {
                Box::pin(super::web_actions::act(context, call))
            }
            fn perform<'a>(
                &'a self,
                context: &'a Arc<Context>,
                id: &'a ResourceId,
                action: &'a str,
                input: &'a Value,
            ) -> BoxFuture<'a, Result<Value, ArmError>> {
                Box::pin(perform(context, id, action, input))
            }
        }
    };
}

site_like!(Sites, SITE_KIND);
site_like!(Slots, SLOT_KIND);

/// Stored and shown; nothing here follows them.
const NOT_ACTED_UPON: &[&str] = &[
    "clientCertEnabled",
    "clientCertMode",
    "clientCertExclusionPaths",
    "virtualNetworkSubnetId",
    "vnetRouteAllEnabled",
    "siteConfig.alwaysOn",
    "siteConfig.ftpsState",
    "siteConfig.ipSecurityRestrictions of service tags and subnets (nobody comes from one)",
    "siteConfig.loadBalancing",
    "siteConfig.managedPipelineMode",
    "siteConfig.remoteDebuggingEnabled",
    "siteConfig.scmMinTlsVersion",
    "siteConfig.use32BitWorkerProcess",
    "siteConfig.vnetRouteAllEnabled",
    "siteConfig.autoHealRules",
    "storageAccountRequired",
    "keyVaultReferenceIdentity (the system-assigned one is used)",
    "redundancyMode",
    "endToEndEncryptionEnabled",
];

fn check_name(kind: &str, name: &str) -> Result<(), ArmError> {
    if valid_name(name, 60) {
        return Ok(());
    }
    Err(crate::control::names::invalid(
        kind,
        name,
        "2 to 60 letters, digits or '-', neither beginning nor ending with '-'",
    ))
}

fn key_of(id: &ResourceId) -> Result<SlotKey, ArmError> {
    slot_key(id).ok_or_else(|| ArmError::not_found(id))
}

fn desired(context: &Context, write: &Write<'_>, batch: &mut Batch) -> Result<Value, ArmError> {
    let app = app(context)?;
    let key = key_of(write.id)?;
    let existing = app.records.slot(&key);
    let body = &write.body;
    let properties = body.get("properties").cloned().unwrap_or_else(|| json!({}));
    let Value::Object(properties) = properties else {
        return Err(ArmError::invalid_content("'properties' must be an object"));
    };
    let creates = existing.is_none();
    if key.slot == SlotName::Production && write.id.is(SLOT_KIND) {
        return Err(ArmError::bad_request(
            "BadRequest",
            "The slot name 'production' is reserved for the site itself.",
        ));
    }
    let now = jiff::Timestamp::now().to_string();
    let mut record = existing.clone().unwrap_or_else(|| SlotRecord {
        location: String::new(),
        kind: "app,linux".to_owned(),
        tags: Map::new(),
        plan: String::new(),
        identity: None,
        wants_identity: false,
        running: true,
        restarts: 0,
        properties: Map::new(),
        config: Map::new(),
        app_settings: std::collections::BTreeMap::new(),
        connection_strings: std::collections::BTreeMap::new(),
        documents: std::collections::BTreeMap::new(),
        basic_auth: std::collections::BTreeMap::new(),
        publishing_password: web::password(),
        volume: uuid::Uuid::new_v4().to_string(),
        deployment: None,
        preview: None,
        created: now.clone(),
        changed: now.clone(),
    });
    record.changed = now;
    if let Some(location) = body["location"].as_str() {
        location.clone_into(&mut record.location);
    }
    if let Some(kind) = body["kind"].as_str() {
        if !kind.split(',').any(|part| part.trim().eq_ignore_ascii_case("linux"))
            && kind.contains("container")
        {
            return Err(ArmError::invalid_value(
                "kind",
                format!(
                    "The kind '{kind}' is not available here: this region runs Python on Linux."
                ),
            ));
        }
        kind.clone_into(&mut record.kind);
    }
    match (body.get("tags"), write.method) {
        (Some(Value::Object(tags)), _) => record.tags.clone_from(tags),
        (Some(_), _) | (None, Method::Put) => record.tags.clear(),
        (None, Method::Patch) => {}
    }
    read_plan(context, &key, &properties, &mut record)?;
    if creates {
        check_host(app, &key)?;
        check_slots(app, &key, &record)?;
    }
    for (name, default) in render::PROPERTIES {
        if let Some(value) = properties.get(*name) {
            check_kind(name, *default, value)?;
            record.properties.insert((*name).to_owned(), value.clone());
        }
    }
    if let Some(enabled) = properties.get("enabled").and_then(Value::as_bool) {
        record.running = enabled;
        record.properties.insert("enabled".to_owned(), json!(enabled));
    }
    match properties.get("siteConfig") {
        None | Some(Value::Null) => {}
        Some(Value::Object(config)) => read_config(config, &mut record)?,
        Some(_) => {
            return Err(ArmError::invalid_content("'properties.siteConfig' must be an object"));
        }
    }
    read_identity(body, &mut record)?;
    if let Some(states) = properties.get("hostNameSslStates") {
        super::web_host_name_bindings::update_states(context, write.id, states, batch)?;
    }
    app.records.put_private(batch, &key, &record).map_err(|error| record_error(&error))?;
    Ok(render::body(&key, &record))
}

fn read_plan(
    context: &Context,
    key: &SlotKey,
    properties: &Map<String, Value>,
    record: &mut SlotRecord,
) -> Result<(), ArmError> {
    let inherited = match &key.slot {
        SlotName::Production => None,
        SlotName::Named(_) => {
            app(context)?.records.slot(&key.site.slot(SlotName::Production)).map(|site| site.plan)
        }
    };
    let asked = properties.get("serverFarmId").and_then(Value::as_str).filter(|id| !id.is_empty());
    let plan = match asked {
        Some(id) => id.to_owned(),
        None if !record.plan.is_empty() => record.plan.clone(),
        None => inherited.ok_or_else(|| {
            ArmError::invalid_content(
                "Required property 'properties.serverFarmId' not found in JSON",
            )
        })?,
    };
    let found = ResourceId::parse(&plan)
        .ok()
        .filter(|id| id.is(PLAN_KIND))
        .and_then(|id| context.store.get(&id));
    let found = found.ok_or_else(|| {
        let name = plan.rsplit('/').next().unwrap_or_default();
        ArmError::new(
            http::StatusCode::NOT_FOUND,
            "NotFound",
            format!("Cannot find serverfarm with name {name}."),
        )
    })?;
    let location = found.text("/location").unwrap_or_default();
    if !record.location.is_empty() && !location.eq_ignore_ascii_case(&record.location) {
        return Err(ArmError::conflict(
            "Conflict",
            format!(
                "The plan '{}' is in {location}, the site in {}.",
                found.id.name(),
                record.location
            ),
        ));
    }
    found.id.as_str().clone_into(&mut record.plan);
    Ok(())
}

/// Host names are unique in the whole region: `notes-staging` may be a site or a slot, not both.
fn check_host(app: &AppService, key: &SlotKey) -> Result<(), ArmError> {
    let host = key.host_name();
    if app.records.all().iter().any(|other| other != key && other.host_name() == host) {
        return Err(ArmError::conflict(
            "Conflict",
            format!("Website with given name {} already exists.", key.label()),
        ));
    }
    Ok(())
}

fn check_slots(app: &AppService, key: &SlotKey, record: &SlotRecord) -> Result<(), ArmError> {
    if key.slot == SlotName::Production {
        return Ok(());
    }
    let plan = ResourceId::parse(&record.plan).ok().and_then(|id| app.records.store().get(&id));
    let tier = plan.and_then(|plan| plan.text("/sku/tier").map(str::to_owned)).unwrap_or_default();
    let others = app
        .records
        .slots_of(&key.site)
        .iter()
        .filter(|slot| slot.slot != SlotName::Production)
        .count();
    if others >= super::web_serverfarms::slots_allowed(&tier) {
        return Err(ArmError::conflict(
            "Conflict",
            format!(
                "Cannot complete the operation because the site will exceed the number of slots allowed for the '{tier}' SKU."
            ),
        ));
    }
    Ok(())
}

fn check_kind(name: &str, default: Default, value: &Value) -> Result<(), ArmError> {
    let fits = match default {
        Default::Null => true,
        Default::Bool(_) => value.is_boolean() || value.is_null(),
        Default::Int(_) => value.is_i64() || value.is_u64() || value.is_null(),
        Default::Text(_) => value.is_string() || value.is_null(),
    };
    if fits {
        return Ok(());
    }
    let wanted = match default {
        Default::Bool(_) => "true or false",
        Default::Int(_) => "a whole number",
        _ => "a string",
    };
    Err(ArmError::invalid_content(format!("The value of '{name}' must be {wanted}")).at(name))
}

/// `siteConfig`: web configuration, and with it settings and connection strings when they are given.
pub(super) fn read_config(
    config: &Map<String, Value>,
    record: &mut SlotRecord,
) -> Result<(), ArmError> {
    for (name, value) in config {
        match name.as_str() {
            "appSettings" => {
                if let Some(settings) = value.as_array() {
                    record.app_settings =
                        settings.iter().map(name_value).collect::<Result<_, _>>()?;
                }
            }
            "connectionStrings" => {
                if let Some(strings) = value.as_array() {
                    record.connection_strings =
                        strings.iter().map(named_string).collect::<Result<_, _>>()?;
                }
            }
            "linuxFxVersion" => {
                let version = value.as_str().unwrap_or_default();
                let python = version
                    .split_once('|')
                    .is_some_and(|(stack, _)| stack.eq_ignore_ascii_case("PYTHON"));
                if !version.is_empty() && !python {
                    return Err(ArmError::invalid_value(
                        "siteConfig.linuxFxVersion",
                        format!(
                            "The parameter LinuxFxVersion has an invalid value '{version}': this region runs 'PYTHON|<version>'."
                        ),
                    ));
                }
                record.config.insert(name.clone(), value.clone());
            }
            "minTlsVersion" if !value.is_null() => {
                let version = value.as_str().unwrap_or_default();
                if !["1.0", "1.1", "1.2", "1.3"].contains(&version) {
                    return Err(ArmError::invalid_value(
                        "siteConfig.minTlsVersion",
                        format!("'{version}' is not a TLS version: 1.0, 1.1, 1.2 or 1.3."),
                    ));
                }
                record.config.insert(name.clone(), value.clone());
            }
            "healthCheckPath"
                if value
                    .as_str()
                    .is_some_and(|path| !path.is_empty() && !path.starts_with('/')) =>
            {
                return Err(ArmError::invalid_value(
                    "siteConfig.healthCheckPath",
                    "The health check path must begin with '/'.",
                ));
            }
            "ipSecurityRestrictions" | "scmIpSecurityRestrictions" => {
                access::check(value).map_err(|why| {
                    ArmError::bad_request("BadRequest", why).at(&format!("siteConfig.{name}"))
                })?;
                record.config.insert(name.clone(), access::kept(value));
            }
            "cors" if !value.is_null() => {
                access::cors(value).map_err(|why| {
                    ArmError::bad_request("BadRequest", why).at("siteConfig.cors")
                })?;
                record.config.insert(name.clone(), value.clone());
            }
            // Read-only, or of no meaning here.
            "machineKey"
            | "metadata"
            | "limits"
            | "publishingUsername"
            | "defaultDocuments"
            | "virtualApplications" => {}
            _ => {
                if let Some((_, default)) = render::CONFIG.iter().find(|(known, _)| known == name) {
                    check_kind(&format!("siteConfig.{name}"), *default, value)?;
                }
                // Terraform's provider writes "no particular suite" so; it is read back as null.
                let unset = value.is_null() || (name == "minTlsCipherSuite" && value == "");
                if unset {
                    record.config.shift_remove(name);
                } else {
                    record.config.insert(name.clone(), value.clone());
                }
            }
        }
    }
    Ok(())
}

fn name_value(setting: &Value) -> Result<(String, String), ArmError> {
    let name = setting["name"].as_str().filter(|name| !name.is_empty());
    let name =
        name.ok_or_else(|| ArmError::invalid_content("every entry of 'appSettings' needs a name"))?;
    Ok((name.to_owned(), web::text_of(&setting["value"], name)?))
}

fn named_string(string: &Value) -> Result<(String, ConnectionString), ArmError> {
    let name = string["name"].as_str().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| {
        ArmError::invalid_content("every entry of 'connectionStrings' needs a name")
    })?;
    let value = web::text_of(&string["connectionString"], name)?;
    let kind = string["type"].as_str().unwrap_or("Custom").to_owned();
    Ok((name.to_owned(), ConnectionString { value, kind }))
}

fn read_identity(body: &Value, record: &mut SlotRecord) -> Result<(), ArmError> {
    let Some(kind) = body.pointer("/identity/type").and_then(Value::as_str) else { return Ok(()) };
    let parts: Vec<&str> = kind.split(',').map(str::trim).collect();
    if parts.iter().any(|part| part.eq_ignore_ascii_case("UserAssigned")) {
        return Err(ArmError::invalid_value(
            "identity.type",
            "User-assigned identities are not available in this region; use 'SystemAssigned'.",
        ));
    }
    record.wants_identity = match parts.as_slice() {
        [one] if one.eq_ignore_ascii_case("SystemAssigned") => true,
        [one] if one.eq_ignore_ascii_case("None") => false,
        _ => {
            return Err(ArmError::invalid_value(
                "identity.type",
                format!("'{kind}' is not an identity type."),
            ));
        }
    };
    if !record.wants_identity {
        record.identity = None;
    }
    Ok(())
}

async fn provision(context: &Arc<Context>, id: &ResourceId) -> Result<(), ArmError> {
    let app = app(context)?;
    let key = key_of(id)?;
    let Some(record) = app.records.slot(&key) else { return Ok(()) };
    if record.wants_identity && record.identity.is_none() {
        let made = context.identity.create_identity(id).await.map_err(|error| internal(&error))?;
        let identity = SlotIdentity { principal_id: made.principal_id, tenant_id: made.tenant_id };
        app.records
            .update(&key, |record| {
                record.identity = Some(identity.clone());
                Ok(())
            })
            .await
            .map_err(|error| record_error(&error))?;
    } else if !record.wants_identity {
        context.identity.delete_identity(id).await.map_err(|error| internal(&error))?;
    }
    app.changed(&key);
    Ok(())
}

/// What is shown of a site: its record, and how it is.
pub(super) fn view(context: &Context, resource: &Resource) -> Value {
    let (Ok(app), Some(key)) = (app(context), slot_key(&resource.id)) else {
        return resource.body.clone();
    };
    let Some(record) = app.records.slot(&key) else { return resource.body.clone() };
    let mut body = render::body(&key, &record);
    super::web_host_name_bindings::show_on_site(context, &resource.id, &mut body["properties"]);
    // A slot is called `notes/staging`.
    body["name"] = json!(resource.id.full_name());
    if record.running && record.deployment.is_some() && app.failure(&key).is_some() {
        body["properties"]["availabilityState"] = json!("Limited");
        body["properties"]["runtimeAvailabilityState"] = json!("Degraded");
    }
    if let Some(plan) = ResourceId::parse(&record.plan).ok().and_then(|id| context.store.get(&id)) {
        body["properties"]["sku"] = plan.body["sku"]["tier"].clone();
    }
    body
}

async fn perform(
    context: &Arc<Context>,
    id: &ResourceId,
    action: &str,
    input: &Value,
) -> Result<Value, ArmError> {
    if action != "slotsswap" {
        return Err(ArmError::internal(&format!("no work for the action {action}")));
    }
    let app = app(context)?;
    let key = key_of(id)?;
    let text = |name: &str| input[name].as_str().unwrap_or_default();
    let (source, target) = (SlotName::new(text("source")), SlotName::new(text("target")));
    app.swap(&key.site, &source, &target, text("token"))
        .await
        .map_err(|error| swap_error(&error))?;
    Ok(Value::Null)
}

pub(super) fn swap_error(error: &SwapError) -> ArmError {
    match error {
        SwapError::NoSlot(_) => {
            ArmError::new(http::StatusCode::NOT_FOUND, "NotFound", error.to_string())
        }
        SwapError::Record(error) => record_error(error),
        _ => ArmError::conflict("Conflict", error.to_string()),
    }
}

/// The sites whose names are taken.
pub(super) fn taken(app: &AppService, name: &str) -> bool {
    let host = SiteKey::new("", "", name).slot(SlotName::Production).host_name();
    app.records.all().iter().any(|key| key.host_name() == host)
}
