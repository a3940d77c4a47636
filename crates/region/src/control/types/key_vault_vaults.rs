//! `Microsoft.KeyVault/vaults`: the vault itself; what is in it is [`crate::vault`]'s
//! (<https://learn.microsoft.com/rest/api/keyvault/keyvault/vaults>). Deleting is soft: see
//! [`super::key_vault_deleted_vaults`].

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method as Verb;
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{
    Call, Registry, Reply, ResourceType, Style, Write,
    key_vault_deleted_vaults::{self as deleted, DeletedVault},
    network, network_private_endpoints as endpoints,
};
use crate::{
    control::{
        Context,
        error::ArmError,
        names,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// Vaults.
pub(super) struct KeyVaults;

pub(super) const API_VERSIONS: &[&str] = &[
    "2026-02-01",
    "2025-05-01",
    "2024-11-01",
    "2023-07-01",
    "2023-02-01",
    "2022-07-01",
    "2021-10-01",
];

const SCHEMA: Schema = Schema(&[
    schema::text("tenantId").required(),
    schema::choice("sku/family", &["A"]).or_text("A"),
    schema::choice("sku/name", &["standard", "premium"]).required(),
    schema::array("accessPolicies").or_empty(),
    schema::boolean("enabledForDeployment").or_bool(false),
    schema::boolean("enabledForDiskEncryption"),
    schema::boolean("enabledForTemplateDeployment"),
    schema::boolean("enableSoftDelete").or_bool(true),
    schema::integer("softDeleteRetentionInDays", 7..=90).or_int(90).immutable(),
    schema::boolean("enableRbacAuthorization"),
    schema::boolean("enablePurgeProtection"),
    schema::object("networkAcls"),
    schema::choice("networkAcls/bypass", &["AzureServices", "None"]),
    schema::choice("networkAcls/defaultAction", &["Allow", "Deny"]),
    schema::choice("publicNetworkAccess", &["Enabled", "Disabled"]).or_text("Enabled"),
    schema::text("createMode"),
    schema::any("vaultUri").read_only(),
    schema::any("hsmPoolResourceId").read_only(),
    schema::any("privateEndpointConnections").read_only(),
]);

/// Adds this file's routes.
pub(super) fn register(types: &mut Registry) {
    types.route(
        Verb::POST,
        "/subscriptions/{}/providers/microsoft.keyvault/checknameavailability",
        Some("Microsoft.KeyVault/checkNameAvailability/read"),
        check_name_availability,
    );
    // What `az keyvault check-name` asks unless told otherwise.
    types.route(
        Verb::POST,
        "/subscriptions/{}/providers/microsoft.keyvault/checkmhsmnameavailability",
        Some("Microsoft.KeyVault/checkMhsmNameAvailability/read"),
        check_hsm_name,
    );
}

/// There are no managed HSMs here, so every valid name is free.
fn check_hsm_name<'a>(
    _: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let name = call.body["name"].as_str().unwrap_or_default();
        Ok(Reply::ok(if valid_name(name) {
            json!({ "nameAvailable": true })
        } else {
            json!({
                "nameAvailable": false, "reason": "AccountNameInvalid",
                "message": "Managed HSM name must be between 3-24 alphanumeric characters. The name must begin with a letter, end with a letter or digit, and not contain consecutive hyphens.",
            })
        }))
    })
}

fn valid_name(name: &str) -> bool {
    names::check(
        name,
        3..=24,
        |c| c.is_ascii_alphanumeric() || c == '-',
        |name| {
            name.starts_with(|c: char| c.is_ascii_alphabetic())
                && !name.ends_with('-')
                && !name.contains("--")
        },
    )
    .is_ok()
}

/// The vault of that name, wherever it is: names are unique in the world.
fn taken(context: &Context, name: &str) -> Option<Arc<Resource>> {
    context
        .store
        .list("Microsoft.KeyVault/vaults", &ResourceId::root())
        .into_iter()
        .find(|vault| vault.id.name().eq_ignore_ascii_case(name))
}

fn check_name_availability<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let name = call.body["name"].as_str().ok_or_else(|| {
            ArmError::invalid_content("Required property 'name' not found in JSON")
        })?;
        Ok(Reply::ok(if !valid_name(name) {
            json!({ "nameAvailable": false, "reason": "AccountNameInvalid", "message": "The vault name is invalid. A vault's name must be between 3-24 alphanumeric characters. The name must begin with a letter, end with a letter or digit, and not contain consecutive hyphens." })
        } else if taken(context, name).is_some() || deleted::find(context, name).is_some() {
            json!({ "nameAvailable": false, "reason": "AlreadyExists", "message": format!("The name '{name}' is already in use.") })
        } else {
            json!({ "nameAvailable": true })
        }))
    })
}

impl ResourceType for KeyVaults {
    fn kind(&self) -> &'static str {
        "Microsoft.KeyVault/vaults"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[
            "accessPolicies",
            "enabledForDeployment",
            "enabledForDiskEncryption",
            "enabledForTemplateDeployment",
            "sku",
        ]
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        if valid_name(name) {
            return Ok(());
        }
        Err(ArmError::bad_request(
            "VaultNameNotValid",
            format!(
                "The vault name '{name}' is invalid. A vault's name must be between 3-24 alphanumeric characters. The name must begin with a letter, end with a letter or digit, and not contain consecutive hyphens. Follow this link for more information: https://go.microsoft.com/fwlink/?linkid=2147742"
            ),
        ))
    }

    fn unique_name(&self, id: &ResourceId) -> Option<String> {
        Some(format!("{}.vault.azure.net", id.name()))
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        batch: &mut Batch,
    ) -> Result<Value, ArmError> {
        let name = write.id.name();
        let mode = write.body["properties"]["createMode"].as_str().unwrap_or("default").to_owned();
        let dead = deleted::find(context, name);
        if write.creates() {
            if taken(context, name).is_some() {
                return Err(ArmError::conflict(
                    "VaultAlreadyExists",
                    format!(
                        "The vault name '{name}' is already in use. Vault names are globally unique so it is possible that the name is already taken. If you are sure that the vault name was not taken then it is possible that a vault with the same name was recently deleted but not purged after being placed in a recoverable state."
                    ),
                ));
            }
            match (mode.to_ascii_lowercase().as_str(), &dead) {
                ("recover", Some(dead)) if dead.id == *write.id => {
                    deleted::forget(name, batch);
                    let mut body = dead.body.clone();
                    stamp(&mut body, write, write.creates());
                    return Ok(body);
                }
                ("recover", _) => {
                    return Err(ArmError::new(
                        http::StatusCode::NOT_FOUND,
                        "DeletedVaultNotFound",
                        format!("The specified deleted vault '{name}' does not exist."),
                    ));
                }
                (_, Some(_)) => {
                    return Err(ArmError::conflict(
                        "ConflictError",
                        "A vault with the same name already exists in deleted state. You need to either recover or purge existing key vault. Follow this link https://go.microsoft.com/fwlink/?linkid=2149745 for more information on soft delete.",
                    ));
                }
                _ => {}
            }
        }
        let mut body = SCHEMA.apply(write)?;
        let before = write.existing.map(|old| old.body["properties"].clone()).unwrap_or_default();
        let properties = &mut body["properties"];
        if let Some(map) = properties.as_object_mut() {
            map.shift_remove("createMode");
        }
        let tenant = properties["tenantId"].as_str().unwrap_or_default();
        if !tenant.eq_ignore_ascii_case(&context.tenancy.tenant_id) {
            return Err(ArmError::bad_request(
                "BadRequest",
                format!(
                    "An invalid value was provided for 'tenantId': the subscription is in the tenant '{}'.",
                    context.tenancy.tenant_id
                ),
            ));
        }
        if properties["enableSoftDelete"] == false {
            return Err(ArmError::bad_request(
                "BadRequest",
                "The property \"enableSoftDelete\" can be set to false only for creating new vault. Enabling the 'soft delete' functionality is an irreversible action.",
            ));
        }
        match properties["enablePurgeProtection"].as_bool() {
            Some(false) => {
                return Err(ArmError::bad_request(
                    "BadRequest",
                    "The property \"enablePurgeProtection\" cannot be set to false. Enabling the purge protection for a vault is an irreversible action.",
                ));
            }
            None if before["enablePurgeProtection"] == true => {
                properties["enablePurgeProtection"] = json!(true);
            }
            _ => {}
        }
        if properties.get("enableRbacAuthorization").is_none_or(Value::is_null) {
            // From 2026-02-01 on, RBAC is what a vault gets that does not say.
            properties["enableRbacAuthorization"] = match &before["enableRbacAuthorization"] {
                Value::Null => json!(write.api_version >= "2026-02-01"),
                before => before.clone(),
            };
        }
        if properties["accessPolicies"].as_array().is_some_and(|policies| policies.len() > 1024) {
            return Err(ArmError::bad_request(
                "BadRequest",
                "A vault can have at most 1024 access policies.",
            ));
        }
        properties["vaultUri"] =
            json!(format!("https://{}.vault.azure.net/", name.to_ascii_lowercase()));
        stamp(&mut body, write, write.creates());
        Ok(body)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::SyncOk
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
            context.publish_vault(id.name());
            Ok(())
        })
    }

    fn deprovision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        resource: &'a Resource,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            context.withdraw_vault(resource.id.name());
            Ok(())
        })
    }

    fn deletable(
        &self,
        _: &Context,
        resource: &Resource,
        batch: &mut Batch,
    ) -> Result<(), ArmError> {
        DeletedVault::of(resource).store(batch);
        Ok(())
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        let connections: Vec<Value> = context
            .store
            .list("Microsoft.Network/privateEndpoints", &ResourceId::root())
            .iter()
            .filter(|endpoint| endpoints::target(&endpoint.body).is_some_and(|t| t.0 == resource.id))
            .map(|endpoint| {
                json!({
                    "id": format!("{}/privateEndpointConnections/{}", resource.id, endpoint.id.name()),
                    "etag": network::etag(endpoint),
                    "properties": {
                        "provisioningState": "Succeeded",
                        "privateEndpoint": { "id": endpoint.id },
                        "privateLinkServiceConnectionState": { "status": "Approved", "actionsRequired": "None" },
                    },
                })
            })
            .collect();
        if !connections.is_empty() {
            body["properties"]["privateEndpointConnections"] = json!(connections);
        }
        body
    }
}

/// `systemData`: who made and changed it, when.
fn stamp(body: &mut Value, write: &Write<'_>, creates: bool) {
    let now = json!(Timestamp::now());
    let mut data = write.existing.map(|old| old.body["systemData"].clone()).unwrap_or_default();
    if creates || !data.is_object() {
        data = json!({
            "createdBy": write.caller.app_id, "createdByType": "Application", "createdAt": now,
        });
    }
    data["lastModifiedBy"] = json!(write.caller.app_id);
    data["lastModifiedByType"] = json!("Application");
    data["lastModifiedAt"] = now;
    body["systemData"] = data;
}
