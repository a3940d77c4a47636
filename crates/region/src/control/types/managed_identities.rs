//! `Microsoft.ManagedIdentity/userAssignedIdentities`
//! (<https://learn.microsoft.com/rest/api/managedidentity/user-assigned-identities>).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{ResourceType, Write};
use crate::{
    control::{
        Context,
        error::ArmError,
        names,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// User-assigned identities.
pub(super) struct UserAssignedIdentities;

const SCHEMA: Schema = Schema(&[
    schema::any("principalId").read_only(),
    schema::any("clientId").read_only(),
    schema::any("tenantId").read_only(),
    schema::choice("isolationScope", &["None", "Regional"]),
]);

impl ResourceType for UserAssignedIdentities {
    fn kind(&self) -> &'static str {
        "Microsoft.ManagedIdentity/userAssignedIdentities"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        &["2024-11-30", "2023-01-31", "2018-11-30"]
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["isolationScope"]
    }

    fn provisioning_state(&self) -> bool {
        false
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        names::check(
            name,
            3..=128,
            |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'),
            |name| name.starts_with(|c: char| c.is_ascii_alphanumeric()),
        )
        .map_err(|()| {
            names::invalid(
                self.kind(),
                name,
                "3 to 128 letters, digits, '-' or '_', beginning with a letter or digit",
            )
        })
    }

    fn desired(&self, _: &Context, write: &Write<'_>, _: &mut Batch) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        if !body["properties"].is_object() {
            body["properties"] = json!({});
        }
        Ok(body)
    }

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            context
                .identity
                .create_identity(id)
                .await
                .map_err(|error| ArmError::internal(&error))?;
            Ok(())
        })
    }

    fn provision_at_start(&self) -> bool {
        true
    }

    fn deprovision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        resource: &'a Resource,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            context
                .identity
                .delete_identity(&resource.id)
                .await
                .map_err(|error| ArmError::internal(&error))
        })
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        if let Some(identity) = context.identity.system_identity(&resource.id) {
            body["properties"]["principalId"] = json!(identity.principal_id);
            body["properties"]["clientId"] = json!(identity.client_id);
            body["properties"]["tenantId"] = json!(identity.tenant_id);
        }
        body
    }
}
