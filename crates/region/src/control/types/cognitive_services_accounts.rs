//! `Microsoft.CognitiveServices/accounts` and their `deployments`: the control plane alone
//! (<https://learn.microsoft.com/rest/api/aiservices/accountmanagement/accounts>). No model runs here.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Method as Verb, StatusCode};
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{Call, Placement, Registry, Reply, ResourceType, Style, Write, cache_redis};
use crate::{
    appservice::settings::hex,
    control::{
        Context,
        error::ArmError,
        names,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// Accounts.
pub(super) struct Accounts;
/// Deployments of models.
pub(super) struct Deployments;

const KIND: &str = "Microsoft.CognitiveServices/accounts";
/// Sealed keys, by account.
const KEYS: &str = "cognitive.keys";
const VERSIONS: &[&str] = &["2025-06-01", "2024-10-01", "2023-05-01"];

const SCHEMA: Schema = Schema(&[
    schema::text("/kind").required().immutable(),
    schema::text("/sku/name").required(),
    schema::text("customSubDomainName").immutable(),
    schema::choice("publicNetworkAccess", &["Enabled", "Disabled"]).or_text("Enabled"),
    schema::boolean("disableLocalAuth").or_bool(false),
    schema::boolean("restrictOutboundNetworkAccess"),
    schema::boolean("dynamicThrottlingEnabled"),
    schema::choice("networkAcls/defaultAction", &["Allow", "Deny"]),
    schema::any("endpoint").read_only(),
    schema::any("endpoints").read_only(),
    schema::any("dateCreated").read_only(),
    schema::any("capabilities").read_only(),
    schema::any("callRateLimit").read_only(),
    schema::any("isMigrated").read_only(),
    schema::any("internalId").read_only(),
    schema::any("privateEndpointConnections").read_only(),
]);

/// Adds this file's routes.
pub(super) fn register(types: &mut Registry) {
    // The region forgets a deleted account at once, so there is nothing to purge or to recover.
    let read = Some("Microsoft.CognitiveServices/deletedAccounts/read");
    types.route(
        Verb::GET,
        "/subscriptions/{}/providers/microsoft.cognitiveservices/deletedaccounts",
        read,
        |_, _| Box::pin(async { Ok(Reply::ok(json!({ "value": [] }))) }),
    );
    types.route(
        Verb::DELETE,
        "/subscriptions/{}/providers/microsoft.cognitiveservices/locations/{}/resourcegroups/{}/deletedaccounts/{}",
        Some("Microsoft.CognitiveServices/locations/resourceGroups/deletedAccounts/delete"),
        |_, _| Box::pin(async { Ok(Reply::no_content()) }),
    );
}

fn endpoint(resource: &Resource) -> String {
    let location = resource.text("/location").unwrap_or("westeurope");
    let Some(name) = resource.text("/properties/customSubDomainName") else {
        return format!("https://{location}.api.cognitive.microsoft.com/");
    };
    match resource.text("/kind") {
        Some("OpenAI") => format!("https://{name}.openai.azure.com/"),
        _ => format!("https://{name}.cognitiveservices.azure.com/"),
    }
}

impl ResourceType for Accounts {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn api_versions(&self) -> &'static [&'static str] {
        VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["(all): no model answers at the endpoint", "soft delete: deleted is deleted"]
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        names::check(
            name,
            2..=64,
            |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
            |name| {
                name.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && name.ends_with(|c: char| c.is_ascii_alphanumeric())
            },
        )
        .map_err(|()| {
            names::invalid(KIND, name, "2 to 64 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit")
        })
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        batch: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        if let Some(wanted) = body["properties"]["customSubDomainName"].as_str()
            && context.store.list(KIND, &ResourceId::root()).iter().any(|other| {
                other.id != *write.id
                    && other
                        .text("/properties/customSubDomainName")
                        .is_some_and(|name| name.eq_ignore_ascii_case(wanted))
            })
        {
            return Err(ArmError::conflict(
                "CustomDomainInUse",
                format!("The subdomain name '{wanted}' is already used by another account."),
            ));
        }
        if write.creates() {
            body["properties"]["dateCreated"] = json!(Timestamp::now());
            Keys::new()?.put(context, write.id, batch);
        }
        Ok(body)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::Sync
    }

    fn view(&self, _: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        let at = endpoint(resource);
        let properties = &mut body["properties"];
        properties["endpoints"] = json!({ "Token Service": at });
        properties["endpoint"] = json!(at);
        properties["isMigrated"] = json!(false);
        properties["privateEndpointConnections"] = json!([]);
        body
    }

    fn deletable(
        &self,
        _: &Context,
        resource: &Resource,
        batch: &mut Batch,
    ) -> Result<(), ArmError> {
        batch.delete_state(KEYS, resource.id.key());
        Ok(())
    }

    fn act<'a>(
        &'a self,
        context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Reply, ArmError>> {
        Box::pin(async move {
            let mut keys = Keys::load(context, &call.id)?;
            match call.action.as_str() {
                "listkeys" => {}
                "regeneratekey" => {
                    match call.body["keyName"].as_str().map(str::to_ascii_lowercase).as_deref() {
                        Some("key1") => keys.0 = new_key()?,
                        Some("key2") => keys.1 = new_key()?,
                        _ => {
                            return Err(ArmError::invalid_content(
                                "The value of 'keyName' must be Key1 or Key2",
                            ));
                        }
                    }
                    let mut batch = Batch::new();
                    keys.put(context, &call.id, &mut batch);
                    context.store.commit(batch).await?;
                }
                _ => return Err(ArmError::method_not_allowed(&call.method)),
            }
            if context
                .store
                .get(&call.id)
                .is_some_and(|account| account.body["properties"]["disableLocalAuth"] == true)
            {
                return Err(ArmError::bad_request(
                    "BadRequest",
                    "Failed to list key. disableLocalAuth is set to be true",
                ));
            }
            Ok(Reply::new(StatusCode::OK, Some(json!({ "key1": keys.0, "key2": keys.1 }))))
        })
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Keys(String, String);

fn new_key() -> Result<String, ArmError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ArmError::internal(&"no random numbers"))?;
    Ok(hex(&bytes))
}

impl Keys {
    fn new() -> Result<Self, ArmError> {
        Ok(Self(new_key()?, new_key()?))
    }

    fn load(context: &Context, id: &ResourceId) -> Result<Self, ArmError> {
        context
            .store
            .get_state(KEYS, id.key())
            .and_then(|sealed| context.sealer.open_sealed(id.key(), &sealed).ok())
            .and_then(|open| serde_json::from_slice(&open).ok())
            .ok_or_else(|| ArmError::internal(&format!("the keys of {id} are lost")))
    }

    fn put(&self, context: &Context, id: &ResourceId, batch: &mut Batch) {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        batch.put_state(KEYS, id.key(), context.sealer.seal(id.key(), &bytes));
    }
}

const DEPLOYMENT: Schema = Schema(&[
    schema::text("/sku/name").or_text("Standard"),
    schema::integer("/sku/capacity", 1..=1_000_000),
    schema::text("model/format").required(),
    schema::text("model/name").required(),
    schema::text("model/version"),
    schema::choice(
        "versionUpgradeOption",
        &["OnceNewDefaultVersionAvailable", "OnceCurrentVersionExpired", "NoAutoUpgrade"],
    )
    .or_text("OnceNewDefaultVersionAvailable"),
    schema::text("raiPolicyName"),
    schema::any("capabilities").read_only(),
    schema::any("rateLimits").read_only(),
]);

impl ResourceType for Deployments {
    fn kind(&self) -> &'static str {
        "Microsoft.CognitiveServices/accounts/deployments"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["(all): no model answers"]
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn desired(&self, _: &Context, write: &Write<'_>, _: &mut Batch) -> Result<Value, ArmError> {
        DEPLOYMENT.apply(write)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::LongRunning(cache_redis::WRITES)
    }
}
