//! `Microsoft.Network/networkSecurityGroups/securityRules`
//! (<https://learn.microsoft.com/rest/api/virtualnetwork/security-rules>).

use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{Placement, ResourceType, Write, network};
use crate::{
    control::{
        Context,
        error::ArmError,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// Security rules.
pub(super) struct SecurityRules;

const SCHEMA: Schema = Schema(&[
    schema::text("description"),
    schema::choice("protocol", &["Tcp", "Udp", "Icmp", "Esp", "Ah", "*"]).required(),
    schema::choice("access", &["Allow", "Deny"]).required(),
    schema::choice("direction", &["Inbound", "Outbound"]).required(),
    schema::integer("priority", 100..=4096).required(),
    schema::text("sourcePortRange"),
    schema::text("destinationPortRange"),
    schema::text("sourceAddressPrefix"),
    schema::text("destinationAddressPrefix"),
    schema::array("sourcePortRanges").or_empty(),
    schema::array("destinationPortRanges").or_empty(),
    schema::array("sourceAddressPrefixes").or_empty(),
    schema::array("destinationAddressPrefixes").or_empty(),
]);

/// Where a rule stands: direction and priority, unique in a group.
pub(super) type Place = (String, i64);

impl SecurityRules {
    /// The rule that a request asks for, next to others at these places.
    pub(super) fn settled(write: &Write<'_>, taken: &[(String, Place)]) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        let properties = &mut body["properties"];
        for (one, many) in [
            ("sourcePortRange", "sourcePortRanges"),
            ("destinationPortRange", "destinationPortRanges"),
        ] {
            for port in either(properties, one, many, write.id)? {
                if !is_port_range(&port) {
                    return Err(ArmError::bad_request(
                        "SecurityRuleInvalidPortRange",
                        format!(
                            "Security rule has invalid Port range. Value provided: {port}. Value should be an integer OR integer range with '-' delimiter. Valid range 0-65535."
                        ),
                    ));
                }
            }
        }
        for (one, many) in [
            ("sourceAddressPrefix", "sourceAddressPrefixes"),
            ("destinationAddressPrefix", "destinationAddressPrefixes"),
        ] {
            for address in either(properties, one, many, write.id)? {
                if !is_address(&address) {
                    return Err(ArmError::bad_request(
                        "SecurityRuleInvalidAddressPrefix",
                        format!(
                            "Security rule {} has invalid Address prefix. Value provided: {address}.",
                            write.id
                        ),
                    ));
                }
            }
        }
        let place = place(&body);
        if let Some((other, _)) = taken.iter().find(|(_, other)| *other == place) {
            return Err(ArmError::bad_request(
                "SecurityRuleConflict",
                format!(
                    "Security rule {other} conflicts with rule {}. Rules cannot have the same Priority and Direction.",
                    write.id.name()
                ),
            ));
        }
        Ok(body)
    }
}

/// The one value or the many; there must be one of them.
fn either(
    properties: &mut Value,
    one: &str,
    many: &str,
    id: &ResourceId,
) -> Result<Vec<String>, ArmError> {
    // An empty text is what some clients send for "see the list".
    if properties[one] == "" {
        properties.as_object_mut().map(|p| p.shift_remove(one));
    }
    let list: Vec<String> = properties[many]
        .as_array()
        .into_iter()
        .flatten()
        .map(|v| v.as_str().unwrap_or_default().to_owned())
        .collect();
    match (properties[one].as_str(), list.is_empty()) {
        (Some(single), true) => Ok(vec![single.to_owned()]),
        (None, false) => Ok(list),
        (Some(_), false) => Err(ArmError::bad_request(
            "SecurityRuleParameterContainsMultipleValues",
            format!(
                "Security rule {id} may only have a single value for parameter {one} or {many}, not both."
            ),
        )),
        (None, true) => Err(ArmError::bad_request(
            "SecurityRuleInvalidParameter",
            format!("Security rule {id} must specify {one} or {many}."),
        )),
    }
}

fn is_port_range(text: &str) -> bool {
    let port = |text: &str| {
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten()
    };
    text == "*"
        || match text.split_once('-') {
            None => port(text).is_some(),
            Some((from, to)) => matches!((port(from), port(to)), (Some(a), Some(b)) if a <= b),
        }
}

/// A range, an address, `*`, or a service tag such as `VirtualNetwork` or `Storage.WestEurope`.
fn is_address(text: &str) -> bool {
    text == "*"
        || text.parse::<network::Cidr>().is_ok()
        || text.parse::<std::net::IpAddr>().is_ok()
        || text.split_once('/').is_some_and(|(ip, bits)| {
            ip.parse::<std::net::Ipv6Addr>().is_ok() && bits.parse::<u8>().is_ok_and(|b| b <= 128)
        })
        || (text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.'))
}

/// Where a rule's body places it.
pub(super) fn place(body: &Value) -> Place {
    (
        body["properties"]["direction"].as_str().unwrap_or_default().to_owned(),
        body["properties"]["priority"].as_i64().unwrap_or_default(),
    )
}

impl ResourceType for SecurityRules {
    fn kind(&self) -> &'static str {
        "Microsoft.Network/networkSecurityGroups/securityRules"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        network::API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["access", "direction", "priority", "protocol", "source…", "destination…"]
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let group = write.id.parent().unwrap_or_else(ResourceId::root);
        let taken: Vec<_> = context
            .store
            .list(self.kind(), &group)
            .iter()
            .filter(|other| other.id != *write.id)
            .map(|other| (other.id.name().to_owned(), place(&other.body)))
            .collect();
        Self::settled(write, &taken)
    }

    fn view(&self, _: &Context, resource: &Resource) -> Value {
        let mut body = network::with_etag(resource);
        for key in [
            "sourcePortRange",
            "destinationPortRange",
            "sourceAddressPrefix",
            "destinationAddressPrefix",
        ] {
            if body["properties"].get(key).is_none() && key.ends_with("Range") {
                body["properties"][key] = json!("");
            }
        }
        body
    }
}
