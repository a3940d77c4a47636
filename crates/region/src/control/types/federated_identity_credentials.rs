//! `Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials`: whose tokens an
//! identity trusts instead of a secret
//! (<https://learn.microsoft.com/rest/api/managedidentity/federated-identity-credentials>). Entra asks
//! for them: [`crate::identity::federation`].

use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{Placement, ResourceType, Style, Write};
use crate::{
    control::{
        Context,
        error::ArmError,
        names,
        schema::{self, Schema},
    },
    identity::federation::KIND,
    store::Batch,
};

/// Federated identity credentials.
pub(super) struct Credentials;

const SCHEMA: Schema = Schema(&[
    schema::text("issuer").required(),
    schema::text("subject").required(),
    schema::array("audiences").required(),
]);

/// An identity trusts at most so many.
const MOST: usize = 20;

impl ResourceType for Credentials {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn api_versions(&self) -> &'static [&'static str] {
        &["2024-11-30", "2023-01-31"]
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[]
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn provisioning_state(&self) -> bool {
        false
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        names::check(
            name,
            3..=120,
            |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'),
            |name| name.starts_with(|c: char| c.is_ascii_alphanumeric()),
        )
        .map_err(|()| {
            names::invalid(
                KIND,
                name,
                "3 to 120 letters, digits, '-' or '_', beginning with a letter or digit",
            )
        })
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let body = SCHEMA.apply(write)?;
        let properties = &body["properties"];
        let audiences = properties["audiences"].as_array().map(Vec::as_slice).unwrap_or_default();
        if audiences.len() != 1 || !audiences[0].is_string() {
            return Err(ArmError::bad_request(
                "BadRequest",
                "Federated identity credentials have exactly one audience, usually 'api://AzureADTokenExchange'.",
            )
            .at("properties.audiences"));
        }
        if !properties["issuer"].as_str().is_some_and(|issuer| issuer.starts_with("https://")) {
            return Err(ArmError::bad_request(
                "BadRequest",
                "Issuer must be a valid URL that begins with https://.",
            )
            .at("properties.issuer"));
        }
        let owner = write.id.parent().unwrap_or_else(ResourceId::root);
        let others = context.store.list(KIND, &owner);
        if write.creates() && others.len() >= MOST {
            return Err(ArmError::bad_request(
                "BadRequest",
                format!("An identity can have at most {MOST} federated identity credentials."),
            ));
        }
        if others.iter().any(|other| {
            other.id != *write.id
                && other.properties()["issuer"] == properties["issuer"]
                && other.properties()["subject"] == properties["subject"]
        }) {
            return Err(ArmError::conflict(
                "Conflict",
                "Issuer and subject combination already exists for this Managed Identity.",
            ));
        }
        Ok(json!({ "properties": properties }))
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::Sync
    }
}
