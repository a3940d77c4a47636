//! `Microsoft.DBforPostgreSQL/flexibleServers/firewallRules`
//! (<https://learn.microsoft.com/rest/api/postgresql/firewall-rules>): kept for servers with public
//! access, refused for those in a subnet, as Azure does. Nothing outside reaches a server here.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::{
    LongRunning, Placement, ResourceType, Style, Write, postgres_flexible_servers as servers,
};
use crate::{
    control::{
        Context,
        error::ArmError,
        schema::{self, Schema},
    },
    store::Batch,
};

/// Firewall rules.
pub(super) struct FirewallRules;

const SCHEMA: Schema =
    Schema(&[schema::text("startIpAddress").required(), schema::text("endIpAddress").required()]);

impl ResourceType for FirewallRules {
    fn kind(&self) -> &'static str {
        "Microsoft.DBforPostgreSQL/flexibleServers/firewallRules"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        servers::API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["startIpAddress", "endIpAddress"]
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn provisioning_state(&self) -> bool {
        false
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let body = SCHEMA.apply(write)?;
        let server = write.id.parent().and_then(|id| context.store.get(&id));
        if server.is_some_and(|server| {
            server.text("/properties/network/delegatedSubnetResourceId").is_some()
        }) {
            return Err(ArmError::bad_request(
                "FirewallRuleOperationsNotSupported",
                "Firewall rule operations cannot be requested for a private access enabled server.",
            ));
        }
        let address = |name: &str| -> Result<Ipv4Addr, ArmError> {
            let text = body["properties"][name].as_str().unwrap_or_default();
            text.parse().map_err(|_| {
                ArmError::invalid_value(
                    &format!("properties.{name}"),
                    format!("The value '{text}' of '{name}' is not an IPv4 address."),
                )
            })
        };
        if address("startIpAddress")? > address("endIpAddress")? {
            return Err(ArmError::invalid_value(
                "properties.endIpAddress",
                "The end of the range lies before its start.",
            ));
        }
        Ok(body)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::LongRunning(LongRunning::ACCEPTED)
    }

    fn delete_style(&self) -> Style {
        Style::LongRunning(LongRunning::ACCEPTED)
    }
}
