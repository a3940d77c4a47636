//! `Microsoft.Storage/storageAccounts/blobServices` and `…/fileServices`: settings that every account
//! has from birth, under the one name `default`
//! (<https://learn.microsoft.com/rest/api/storagerp/blob-services>).

use std::sync::Arc;

use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{Placement, Query, ResourceType, Style, Write, storage_accounts::VERSIONS};
use crate::{
    control::{
        Context,
        error::ArmError,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// The settings of one service of an account.
pub(super) struct Service {
    kind: &'static str,
    not_acted_upon: &'static [&'static str],
    schema: Schema,
    at_birth: fn() -> Value,
}

/// The blob service.
pub(super) const BLOB: Service = Service {
    kind: "Microsoft.Storage/storageAccounts/blobServices",
    not_acted_upon: &[
        "isVersioningEnabled",
        "deleteRetentionPolicy, containerDeleteRetentionPolicy (deleted is deleted)",
        "changeFeed, restorePolicy, lastAccessTimeTrackingPolicy",
        "cors",
        "defaultServiceVersion",
    ],
    schema: Schema(&[
        schema::array("cors/corsRules").or_empty(),
        schema::boolean("deleteRetentionPolicy/enabled").or_bool(false),
        schema::boolean("deleteRetentionPolicy/allowPermanentDelete").or_bool(false),
        schema::integer("deleteRetentionPolicy/days", 1..=365),
        schema::boolean("isVersioningEnabled"),
        schema::text("defaultServiceVersion"),
    ]),
    at_birth: || {
        json!({
            "cors": { "corsRules": [] },
            "deleteRetentionPolicy": { "enabled": false, "allowPermanentDelete": false },
        })
    },
};

/// The file service.
pub(super) const FILE: Service = Service {
    kind: "Microsoft.Storage/storageAccounts/fileServices",
    not_acted_upon: &["(all): there are no file shares"],
    schema: Schema(&[
        schema::array("cors/corsRules").or_empty(),
        schema::boolean("shareDeleteRetentionPolicy/enabled").or_bool(true),
        schema::integer("shareDeleteRetentionPolicy/days", 1..=365),
        schema::object("protocolSettings/smb").or_empty(),
    ]),
    at_birth: || {
        json!({
            "cors": { "corsRules": [] },
            "protocolSettings": { "smb": {} },
            "shareDeleteRetentionPolicy": { "enabled": true, "days": 7 },
        })
    },
};

impl ResourceType for Service {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn api_versions(&self) -> &'static [&'static str] {
        VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        self.not_acted_upon
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn provisioning_state(&self) -> bool {
        false
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        if name == "default" {
            return Ok(());
        }
        Err(ArmError::bad_request(
            "InvalidResourceName",
            format!("The service's settings are called 'default', not '{name}'."),
        ))
    }

    fn desired(&self, _: &Context, write: &Write<'_>, _: &mut Batch) -> Result<Value, ArmError> {
        self.schema.apply(write)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::SyncOk
    }

    fn find(&self, context: &Context, id: &ResourceId) -> Option<Arc<Resource>> {
        if let Some(found) = context.store.get(id) {
            return Some(found);
        }
        let account = id.parent().and_then(|account| context.store.get(&account))?;
        (id.name() == "default").then(|| {
            Arc::new(Resource {
                id: id.clone(),
                etag: account.etag.clone(),
                body: json!({ "properties": (self.at_birth)() }),
                created: account.created,
                changed: account.created,
            })
        })
    }

    fn list(
        &self,
        context: &Context,
        scope: &ResourceId,
        _: &Query,
    ) -> Result<Vec<Arc<Resource>>, ArmError> {
        let last = self.kind.rsplit('/').next().unwrap_or_default();
        Ok(scope
            .child(last, "default")
            .ok()
            .and_then(|id| self.find(context, &id))
            .into_iter()
            .collect())
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        if let Some(account) = resource.id.parent().and_then(|account| context.store.get(&account))
        {
            body["sku"] = account.body["sku"].clone();
        }
        body
    }
}
