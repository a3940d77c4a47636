//! `Microsoft.Storage/storageAccounts`
//! (<https://learn.microsoft.com/rest/api/storagerp/storage-accounts>). Blobs are [`crate::storage`]'s;
//! queues, tables and files are named in the endpoints and not there.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Method as Verb, StatusCode};
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use lazuli_gateway::Target;
use serde_json::{Value, json};

use super::{Call, LongRunning, Registry, Reply, ResourceType, Style, Write};
use crate::{
    control::{
        Context,
        error::ArmError,
        names,
        schema::{self, Schema},
    },
    storage::{ACCOUNT, Keys, Storage, error::Refusal},
    store::{Batch, Resource},
};

/// Storage accounts.
pub(super) struct Accounts;

pub(super) const VERSIONS: &[&str] =
    &["2025-08-01", "2025-06-01", "2025-01-01", "2024-01-01", "2023-05-01", "2023-01-01"];

const SKUS: &[&str] = &[
    "Standard_LRS",
    "Standard_GRS",
    "Standard_RAGRS",
    "Standard_ZRS",
    "Standard_GZRS",
    "Standard_RAGZRS",
    "Premium_LRS",
    "Premium_ZRS",
];

const SCHEMA: Schema = Schema(&[
    schema::choice("/sku/name", SKUS).required(),
    schema::choice(
        "/kind",
        &["StorageV2", "BlobStorage", "BlockBlobStorage", "FileStorage", "Storage"],
    )
    .required()
    .immutable(),
    schema::choice("accessTier", &["Hot", "Cool", "Cold", "Premium"]).or_text("Hot"),
    schema::boolean("supportsHttpsTrafficOnly").or_bool(true),
    schema::choice("minimumTlsVersion", &["TLS1_0", "TLS1_1", "TLS1_2", "TLS1_3"])
        .or_text("TLS1_2"),
    schema::boolean("allowBlobPublicAccess").or_bool(false),
    schema::boolean("allowSharedKeyAccess").or_bool(true),
    schema::boolean("allowCrossTenantReplication").or_bool(false),
    schema::boolean("defaultToOAuthAuthentication").or_bool(false),
    schema::boolean("isHnsEnabled").or_bool(false).immutable(),
    schema::boolean("isNfsV3Enabled").or_bool(false).immutable(),
    schema::boolean("isSftpEnabled").or_bool(false),
    schema::boolean("isLocalUserEnabled").or_bool(false),
    schema::choice("publicNetworkAccess", &["Enabled", "Disabled", "SecuredByPerimeter"])
        .or_text("Enabled"),
    schema::choice("dnsEndpointType", &["Standard", "AzureDnsZone"])
        .or_text("Standard")
        .immutable(),
    schema::text("networkAcls/bypass").or_text("AzureServices"),
    schema::choice("networkAcls/defaultAction", &["Allow", "Deny"]).or_text("Allow"),
    schema::array("networkAcls/ipRules").or_empty(),
    schema::array("networkAcls/virtualNetworkRules").or_empty(),
    schema::choice("largeFileSharesState", &["Enabled", "Disabled"]),
    schema::choice("encryption/keySource", &["Microsoft.Storage", "Microsoft.Keyvault"])
        .or_text("Microsoft.Storage"),
    schema::any("creationTime").read_only(),
    schema::any("primaryEndpoints").read_only(),
    schema::any("primaryLocation").read_only(),
    schema::any("secondaryEndpoints").read_only(),
    schema::any("secondaryLocation").read_only(),
    schema::any("statusOfPrimary").read_only(),
    schema::any("statusOfSecondary").read_only(),
    schema::any("keyCreationTime").read_only(),
    schema::any("privateEndpointConnections").read_only(),
]);

/// Where geo-redundant copies lie
/// (<https://learn.microsoft.com/azure/reliability/regions-paired>).
fn pair(location: &str) -> &'static str {
    match location {
        "westeurope" => "northeurope",
        "northeurope" => "westeurope",
        "germanywestcentral" => "germanynorth",
        "francecentral" => "francesouth",
        "swedencentral" => "swedensouth",
        "switzerlandnorth" => "switzerlandwest",
        "uksouth" => "ukwest",
        "eastus" => "westus",
        "eastus2" => "centralus",
        "westus2" => "westcentralus",
        "westus3" => "eastus",
        "centralus" => "eastus2",
        "southeastasia" => "eastasia",
        "australiaeast" => "australiasoutheast",
        _ => "japanwest",
    }
}

fn host(name: &str, service: &str) -> String {
    format!("{}.{service}.core.windows.net", name.to_ascii_lowercase())
}

fn storage(context: &Context) -> Option<&Arc<Storage>> {
    context.handle::<Arc<Storage>>()
}

pub(super) fn internal(refusal: &Refusal) -> ArmError {
    ArmError::internal(refusal)
}

/// Adds this file's routes.
pub(super) fn register(types: &mut Registry) {
    types.route(
        Verb::POST,
        "/subscriptions/{}/providers/microsoft.storage/checknameavailability",
        Some("Microsoft.Storage/checknameavailability/read"),
        |context, call| {
            Box::pin(async move {
                let Some(name) = call.body["name"].as_str() else {
                    return Err(ArmError::invalid_content("Required property 'name' not found in JSON"));
                };
                Ok(Reply::ok(match (check_name(name), taken(context, name)) {
                    (Err(error), _) => json!({
                        "nameAvailable": false, "reason": "AccountNameInvalid", "message": error.message,
                    }),
                    (_, Some(error)) => json!({
                        "nameAvailable": false, "reason": "AlreadyExists", "message": error.message,
                    }),
                    _ => json!({ "nameAvailable": true }),
                }))
            })
        },
    );
}

fn check_name(name: &str) -> Result<(), ArmError> {
    names::check(name, 3..=24, |c| c.is_ascii_lowercase() || c.is_ascii_digit(), |_| true).map_err(
        |()| {
            ArmError::bad_request(
                "AccountNameInvalid",
                format!("{name} is not a valid storage account name. Storage account name must be between 3 and 24 characters in length and use numbers and lower-case letters only."),
            )
        },
    )
}

fn taken(context: &Context, name: &str) -> Option<ArmError> {
    let accounts = context.store.list(ACCOUNT, &ResourceId::root());
    accounts.iter().any(|other| other.id.name().eq_ignore_ascii_case(name)).then(|| {
        ArmError::conflict(
            "StorageAccountAlreadyTaken",
            format!("The storage account named {name} is already taken."),
        )
    })
}

impl ResourceType for Accounts {
    fn kind(&self) -> &'static str {
        ACCOUNT
    }

    fn api_versions(&self) -> &'static [&'static str] {
        VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[
            "sku (one copy, on this machine's disk)",
            "accessTier",
            "supportsHttpsTrafficOnly (HTTPS only, always)",
            "minimumTlsVersion (1.2, always)",
            "networkAcls.ipRules, networkAcls.virtualNetworkRules, networkAcls.bypass",
            "allowCrossTenantReplication",
            "defaultToOAuthAuthentication",
            "isHnsEnabled, isNfsV3Enabled, isSftpEnabled, isLocalUserEnabled",
            "dnsEndpointType",
            "encryption (sealed with the region's key, always)",
            "identity",
            "queue, table and file services; page and append blobs; shared access signatures",
        ]
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        check_name(name)
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        batch: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        if write.creates() {
            if let Some(error) = taken(context, write.id.name()) {
                return Err(error);
            }
            body["properties"]["creationTime"] = json!(Timestamp::now());
            Keys::new().map_err(|e| internal(&e))?.store(&context.sealer, write.id, batch);
        }
        let name = body["sku"]["name"].as_str().unwrap_or_default();
        body["sku"] = json!({ "name": name, "tier": name.split('_').next().unwrap_or("Standard") });
        Ok(body)
    }

    fn write_style(&self, write: &Write<'_>) -> Style {
        if write.creates() { Style::LongRunning(LongRunning::LOCATION) } else { Style::SyncOk }
    }

    fn provision_at_start(&self) -> bool {
        true
    }

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            if let (Some(gateway), Some(storage)) = (&context.gateway, storage(context)) {
                let host = host(id.name(), "blob");
                gateway.update(|table| {
                    table.insert(&host, Target::Service(storage.clone()));
                });
            }
            Ok(())
        })
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        let location = resource.text("/location").unwrap_or("westeurope").to_owned();
        let sku = resource.text("/sku/name").unwrap_or_default().to_owned();
        let name = resource.id.name();
        let made = body["properties"]["creationTime"].clone();
        let keys = Keys::load(&context.store, &context.sealer, &resource.id);
        let properties = &mut body["properties"];
        let endpoints = |suffix: &str| {
            let name = format!("{name}{suffix}");
            let at = |service: &str| format!("https://{}/", host(&name, service));
            json!({
                "blob": at("blob"), "dfs": at("dfs"), "file": at("file"), "queue": at("queue"),
                "table": at("table"), "web": at("z6.web"),
            })
        };
        properties["primaryEndpoints"] = endpoints("");
        properties["primaryLocation"] = json!(location);
        properties["statusOfPrimary"] = json!("available");
        if ["_GRS", "_RAGRS", "_GZRS", "_RAGZRS"].iter().any(|geo| sku.ends_with(geo)) {
            properties["secondaryLocation"] = json!(pair(&location));
            properties["statusOfSecondary"] = json!("available");
            if sku.contains("RAG") {
                let mut secondary = endpoints("-secondary");
                secondary.as_object_mut().map(|map| map.shift_remove("file"));
                properties["secondaryEndpoints"] = secondary;
            }
        }
        properties["privateEndpointConnections"] = json!([]);
        if let Some(keys) = keys {
            properties["keyCreationTime"] = json!({ "key1": keys.made[0], "key2": keys.made[1] });
        }
        for service in ["file", "blob"] {
            properties["encryption"]["services"][service] =
                json!({ "keyType": "Account", "enabled": true, "lastEnabledTime": made });
        }
        for service in ["queue", "table"] {
            if properties["encryption"]["services"][service].is_object() {
                properties["encryption"]["services"][service]["enabled"] = json!(true);
            }
        }
        body
    }

    fn deletable(
        &self,
        _: &Context,
        resource: &Resource,
        batch: &mut Batch,
    ) -> Result<(), ArmError> {
        Keys::forget(&resource.id, batch);
        Ok(())
    }

    fn deprovision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        resource: &'a Resource,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            if let Some(gateway) = &context.gateway {
                let host = host(resource.id.name(), "blob");
                gateway.update(|table| {
                    table.remove(&host);
                });
            }
            Ok(())
        })
    }

    fn act<'a>(
        &'a self,
        context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Reply, ArmError>> {
        Box::pin(async move {
            let id = &call.id;
            let mut keys = Keys::load(&context.store, &context.sealer, id)
                .ok_or_else(|| ArmError::internal(&format!("the keys of {id} are lost")))?;
            match call.action.as_str() {
                "listkeys" => {}
                "regeneratekey" => {
                    let name = call.body["keyName"].as_str().unwrap_or_default();
                    if !keys.regenerate(name).map_err(|e| internal(&e))? {
                        return Err(ArmError::invalid_value(
                            "keyName",
                            format!("The key name '{name}' is not valid: it is key1 or key2."),
                        ));
                    }
                    let mut batch = Batch::new();
                    keys.store(&context.sealer, id, &mut batch);
                    context.store.commit(batch).await?;
                }
                _ => return Err(ArmError::method_not_allowed(&call.method)),
            }
            let shown: Vec<Value> = (0..2)
                .map(|index| {
                    json!({
                        "keyName": format!("key{}", index + 1), "value": keys.values[index],
                        "permissions": "FULL", "creationTime": keys.made[index],
                    })
                })
                .collect();
            Ok(Reply::new(StatusCode::OK, Some(json!({ "keys": shown }))))
        })
    }
}
