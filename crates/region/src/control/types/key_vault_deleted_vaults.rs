//! Deleted vaults: kept with everything in them until they are recovered, purged, or their retention
//! is over (<https://learn.microsoft.com/azure/key-vault/general/soft-delete-overview>).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Method as Verb, StatusCode};
use jiff::{SignedDuration, Timestamp};
use lazuli_azure::ResourceId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Call, LongRunning, Registry, Reply};
use crate::{
    control::{Context, error::ArmError, operation::Operation, router},
    store::{Batch, Resource},
};

const NAMESPACE: &str = "keyvault.deleted";

/// A vault that was deleted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DeletedVault {
    pub(super) id: ResourceId,
    pub(super) body: Value,
    deleted: Timestamp,
    purge: Timestamp,
}

impl DeletedVault {
    pub(super) fn of(resource: &Resource) -> Self {
        let days = resource.properties()["softDeleteRetentionInDays"].as_i64().unwrap_or(90);
        let deleted = Timestamp::now();
        Self {
            id: resource.id.clone(),
            body: resource.body.clone(),
            deleted,
            purge: deleted
                .saturating_add(SignedDuration::from_hours(24 * days))
                .unwrap_or(Timestamp::MAX),
        }
    }

    pub(super) fn store(&self, batch: &mut Batch) {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        batch.put_state(NAMESPACE, &self.id.name().to_ascii_lowercase(), bytes);
    }

    fn protected(&self) -> bool {
        self.body["properties"]["enablePurgeProtection"] == true
    }

    fn show(&self, context: &Context) -> Value {
        let location = self.body["location"].as_str().unwrap_or_default();
        let mut properties = json!({
            "vaultId": self.id, "location": location, "tags": self.body["tags"],
            "deletionDate": self.deleted, "scheduledPurgeDate": self.purge,
        });
        if self.protected() {
            properties["purgeProtectionEnabled"] = json!(true);
        }
        json!({
            "id": format!(
                "/subscriptions/{}/providers/Microsoft.KeyVault/locations/{location}/deletedVaults/{}",
                context.tenancy.subscription_id, self.id.name()
            ),
            "name": self.id.name(), "type": "Microsoft.KeyVault/deletedVaults", "properties": properties,
        })
    }
}

/// The deleted vault of that name.
pub(super) fn find(context: &Context, name: &str) -> Option<DeletedVault> {
    let bytes = context.store.get_state(NAMESPACE, &name.to_ascii_lowercase())?;
    serde_json::from_slice(&bytes).ok()
}

/// Takes it off the list: it was recovered or purged.
pub(super) fn forget(name: &str, batch: &mut Batch) {
    batch.delete_state(NAMESPACE, &name.to_ascii_lowercase());
}

/// Adds this file's routes.
pub(super) fn register(types: &mut Registry) {
    types.route(
        Verb::GET,
        "/subscriptions/{}/providers/microsoft.keyvault/deletedvaults",
        Some("Microsoft.KeyVault/deletedVaults/read"),
        list,
    );
    // `az keyvault list-deleted` asks for both; there are no managed HSMs here, so none is deleted.
    types.route(
        Verb::GET,
        "/subscriptions/{}/providers/microsoft.keyvault/deletedmanagedhsms",
        Some("Microsoft.KeyVault/deletedManagedHsms/read"),
        no_hsms,
    );
    types.route(
        Verb::GET,
        "/subscriptions/{}/providers/microsoft.keyvault/locations/{}/deletedvaults/{}",
        Some("Microsoft.KeyVault/locations/deletedVaults/read"),
        get,
    );
    types.route(
        Verb::POST,
        "/subscriptions/{}/providers/microsoft.keyvault/locations/{}/deletedvaults/{}/purge",
        Some("Microsoft.KeyVault/locations/deletedVaults/purge/action"),
        purge,
    );
}

fn list<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let all = context
            .store
            .list_state(NAMESPACE, "")
            .iter()
            .filter_map(|(_, bytes)| serde_json::from_slice::<DeletedVault>(bytes).ok())
            .map(|vault| vault.show(context))
            .collect();
        router::page(&call.segments, &call.query, call.api_version, all)
    })
}

fn no_hsms<'a>(_: &'a Arc<Context>, _: &'a Call<'a>) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async { Ok(Reply::ok(json!({ "value": [] }))) })
}

fn named(context: &Context, call: &Call<'_>) -> Result<DeletedVault, ArmError> {
    let (location, name) = (&call.segments[5], &call.segments[7]);
    find(context, name)
        .filter(|vault| vault.body["location"].as_str() == crate::tenancy::location(location))
        .ok_or_else(|| {
            ArmError::new(
                StatusCode::NOT_FOUND,
                "DeletedVaultNotFound",
                format!("The specified deleted vault '{name}' does not exist."),
            )
        })
}

fn get<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move { Ok(Reply::ok(named(context, call)?.show(context))) })
}

fn purge<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let vault = named(context, call)?;
        if vault.protected() {
            return Err(ArmError::bad_request(
                "DeletedVaultPurge",
                format!(
                    "The vault '{}' has purge protection enabled and cannot be purged before its retention is over ({}).",
                    vault.id.name(),
                    vault.purge
                ),
            ));
        }
        bury(context, &vault).await?;
        // The name is free by now; clients poll where `Location` says.
        let location = vault.body["location"].as_str().unwrap_or_default();
        let operation = Operation::done(&vault.id, call.api_version, location);
        let mut batch = Batch::new();
        operation.store(&mut batch);
        context.store.commit(batch).await?;
        let mut reply = Reply::new(StatusCode::ACCEPTED, None);
        reply.headers = operation.headers(context, &LongRunning::LOCATION);
        Ok(reply)
    })
}

/// Forgets a vault and everything in it.
async fn bury(context: &Context, vault: &DeletedVault) -> Result<(), ArmError> {
    context
        .vaults
        .purge_vault(vault.id.name())
        .await
        .map_err(|error| ArmError::internal(&error))?;
    let mut batch = Batch::new();
    forget(vault.id.name(), &mut batch);
    context.store.commit(batch).await?;
    Ok(())
}

/// Forgets the vaults whose retention is over. To be called now and then.
pub(crate) async fn purge_expired(context: &Context) -> Result<(), ArmError> {
    for (_, bytes) in context.store.list_state(NAMESPACE, "") {
        if let Ok(vault) = serde_json::from_slice::<DeletedVault>(&bytes)
            && vault.purge <= Timestamp::now()
        {
            bury(context, &vault).await?;
        }
    }
    Ok(())
}
