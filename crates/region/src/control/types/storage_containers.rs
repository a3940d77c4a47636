//! `Microsoft.Storage/storageAccounts/blobServices/containers`
//! (<https://learn.microsoft.com/rest/api/storagerp/blob-containers>): the containers that the blob
//! service of [`crate::storage`] serves, and makes as well.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Placement, ResourceType, Style, Write, storage_accounts::VERSIONS};
use crate::{
    control::{
        Context,
        error::ArmError,
        schema::{self, Schema},
    },
    storage::{CONTAINER, forget_container, rest::valid_container},
    store::{Batch, Resource},
};

/// Blob containers.
pub(super) struct Containers;

const SCHEMA: Schema = Schema(&[
    schema::choice("publicAccess", &["None", "Blob", "Container"]).or_text("None"),
    schema::object("metadata").or_empty(),
    schema::text("defaultEncryptionScope").or_text("$account-encryption-key").immutable(),
    schema::boolean("denyEncryptionScopeOverride").or_bool(false).immutable(),
    schema::any("lastModifiedTime").read_only(),
    schema::any("leaseState").read_only(),
    schema::any("leaseStatus").read_only(),
    schema::any("hasImmutabilityPolicy").read_only(),
    schema::any("hasLegalHold").read_only(),
    schema::any("deleted").read_only(),
    schema::any("remainingRetentionDays").read_only(),
]);

impl ResourceType for Containers {
    fn kind(&self) -> &'static str {
        CONTAINER
    }

    fn api_versions(&self) -> &'static [&'static str] {
        VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["defaultEncryptionScope", "denyEncryptionScopeOverride", "immutableStorageWithVersioning"]
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn provisioning_state(&self) -> bool {
        false
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        if valid_container(name) {
            return Ok(());
        }
        Err(ArmError::bad_request(
            "ContainerOperationFailure",
            format!(
                "The container name '{name}' is invalid: 3 to 63 lower-case letters, digits and hyphens, neither beginning nor ending with a hyphen, and without two in a row."
            ),
        ))
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        let properties = &mut body["properties"];
        let account = write.id.parent().and_then(|service| service.parent());
        let open = account
            .and_then(|account| context.store.get(&account))
            .is_some_and(|account| account.properties()["allowBlobPublicAccess"] == true);
        if properties["publicAccess"] != "None" && !open {
            return Err(ArmError::conflict(
                "PublicAccessNotPermitted",
                "Public access is not permitted on this storage account.",
            ));
        }
        if !properties["metadata"].as_object().is_some_and(|map| map.values().all(Value::is_string))
        {
            return Err(ArmError::invalid_content(
                "'properties.metadata' must be an object of strings",
            ));
        }
        properties["lastModifiedTime"] = json!(Timestamp::now());
        Ok(body)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::Sync
    }

    fn view(&self, _: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        body["etag"] = json!(format!("\"{}\"", resource.etag));
        let properties = &mut body["properties"];
        // Made through the blob service, it has these by default.
        for (name, value) in [
            ("defaultEncryptionScope", json!("$account-encryption-key")),
            ("denyEncryptionScopeOverride", json!(false)),
        ] {
            if properties[name].is_null() {
                properties[name] = value;
            }
        }
        for (name, value) in [
            ("leaseStatus", json!("Unlocked")),
            ("leaseState", json!("Available")),
            ("hasImmutabilityPolicy", json!(false)),
            ("hasLegalHold", json!(false)),
            ("deleted", json!(false)),
            ("remainingRetentionDays", json!(0)),
        ] {
            properties[name] = value;
        }
        body
    }

    fn deletable(
        &self,
        context: &Context,
        resource: &Resource,
        batch: &mut Batch,
    ) -> Result<(), ArmError> {
        forget_container(&context.store, &resource.id, batch);
        Ok(())
    }
}
