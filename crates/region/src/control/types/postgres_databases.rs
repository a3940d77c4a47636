//! `Microsoft.DBforPostgreSQL/flexibleServers/databases`
//! (<https://learn.microsoft.com/rest/api/postgresql/databases>).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use lazuli_azure::ResourceId;
use serde_json::Value;

use super::{
    LongRunning, Placement, ResourceType, Style, Write, postgres_flexible_servers as servers,
};
use crate::{
    control::{
        Context,
        error::ArmError,
        names,
        schema::{self, Schema},
    },
    postgres::PostgresError,
    store::{Batch, Resource},
};

/// Databases.
pub(super) struct Databases;

const KIND: &str = "Microsoft.DBforPostgreSQL/flexibleServers/databases";

const SCHEMA: Schema = Schema(&[
    schema::choice("charset", &["UTF8"]).or_text("UTF8").immutable(),
    schema::text("collation").or_text("en_US.utf8").immutable(),
]);

/// Those that every server has from the start.
const RESERVED: [&str; 5] =
    ["postgres", "template0", "template1", "azure_maintenance", "azure_sys"];

impl ResourceType for Databases {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn api_versions(&self) -> &'static [&'static str] {
        servers::API_VERSIONS
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
            1..=63,
            |c| c.is_ascii_alphanumeric() || c == '_' || c == '-',
            |name| {
                !name.starts_with(|c: char| c.is_ascii_digit() || c == '-')
                    && !RESERVED.contains(&name)
            },
        )
        .map_err(|()| {
            let rule = "1 to 63 letters, digits, hyphens and underscores, beginning with a letter or an underscore, and not the name of a system database";
            names::invalid(KIND, name, rule)
        })
    }

    fn desired(&self, _: &Context, write: &Write<'_>, _: &mut Batch) -> Result<Value, ArmError> {
        let body = SCHEMA.apply(write)?;
        let collation = body["properties"]["collation"].as_str().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@');
        if collation.is_empty() || collation.len() > 63 || !collation.chars().all(plain) {
            return Err(ArmError::invalid_value(
                "properties.collation",
                format!("The collation '{collation}' is not one."),
            ));
        }
        Ok(body)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::LongRunning(LongRunning::ACCEPTED)
    }

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            let (Some(database), Some(server), Some(postgres)) =
                (context.store.get(id), id.parent(), servers::servers(context))
            else {
                return Ok(());
            };
            postgres
                .create_database(
                    server.name(),
                    id.name(),
                    database.text("/properties/charset").unwrap_or("UTF8"),
                    database.text("/properties/collation").unwrap_or("en_US.utf8"),
                )
                .await
                .map_err(|error| servers::failed(&error))
        })
    }

    fn delete_style(&self) -> Style {
        Style::LongRunning(LongRunning::ACCEPTED)
    }

    fn deprovision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        resource: &'a Resource,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            let (Some(server), Some(postgres)) = (resource.id.parent(), servers::servers(context))
            else {
                return Ok(());
            };
            match postgres.drop_database(server.name(), resource.id.name()).await {
                Ok(()) => Ok(()),
                Err(error @ PostgresError::Refused { .. }) => Err(servers::failed(&error)),
                // A server that does not run must not stand in the way of its own deletion.
                Err(error) => {
                    tracing::warn!(id = %resource.id, %error, "not dropped");
                    Ok(())
                }
            }
        })
    }
}
