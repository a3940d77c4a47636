//! `Microsoft.Network/networkSecurityGroups`
//! (<https://learn.microsoft.com/rest/api/virtualnetwork/network-security-groups>). The region's
//! network is flat: rules are kept and checked, not enforced yet.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Method, ResourceType, Write, network,
    network_security_rules::{self, SecurityRules},
};
use crate::{
    control::{
        Context,
        error::ArmError,
        router,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// Network security groups.
pub(super) struct SecurityGroups;

const RULES: &str = "Microsoft.Network/networkSecurityGroups/securityRules";

const SCHEMA: Schema = Schema(&[
    schema::array("securityRules"),
    schema::boolean("flushConnection"),
    schema::any("defaultSecurityRules").read_only(),
    schema::any("networkInterfaces").read_only(),
    schema::any("subnets").read_only(),
    schema::text("resourceGuid").read_only(),
]);

/// The rules that every group ends with: name, priority, direction, access, source, destination.
const DEFAULT: &[(&str, u32, &str, &str, &str, &str)] = &[
    ("AllowVnetInBound", 65000, "Inbound", "Allow", "VirtualNetwork", "VirtualNetwork"),
    ("AllowAzureLoadBalancerInBound", 65001, "Inbound", "Allow", "AzureLoadBalancer", "*"),
    ("DenyAllInBound", 65500, "Inbound", "Deny", "*", "*"),
    ("AllowVnetOutBound", 65000, "Outbound", "Allow", "VirtualNetwork", "VirtualNetwork"),
    ("AllowInternetOutBound", 65001, "Outbound", "Allow", "*", "Internet"),
    ("DenyAllOutBound", 65500, "Outbound", "Deny", "*", "*"),
];

impl ResourceType for SecurityGroups {
    fn kind(&self) -> &'static str {
        "Microsoft.Network/networkSecurityGroups"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        network::API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["securityRules", "flushConnection"]
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        batch: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        let inline =
            body["properties"].as_object_mut().and_then(|p| p.shift_remove("securityRules"));
        if let Some(wanted) = inline.as_ref().and_then(Value::as_array) {
            network::named(&json!(wanted), "securityRules")?;
            let mut taken = Vec::new();
            for entry in wanted {
                let id =
                    write.id.child("securityRules", entry["name"].as_str().unwrap_or_default())?;
                SecurityRules.check_name(id.name())?;
                let old = context.store.get(&id);
                let mut inner = entry.clone();
                if let Some(map) = inner.as_object_mut() {
                    map.shift_remove("id");
                }
                let inner = Write {
                    id: &id,
                    existing: old.as_deref(),
                    method: Method::Put,
                    body: inner,
                    api_version: write.api_version,
                    caller: write.caller,
                };
                let mut rule = SecurityRules::settled(&inner, &taken)?;
                taken.push((id.name().to_owned(), network_security_rules::place(&rule)));
                rule["properties"]["provisioningState"] = json!("Succeeded");
                batch.put(&id, rule);
            }
            for gone in context.store.list(RULES, write.id) {
                if !taken.iter().any(|(name, _)| name.eq_ignore_ascii_case(gone.id.name())) {
                    batch.delete(&gone.id);
                }
            }
        }
        if write.creates() {
            body["properties"]["resourceGuid"] = json!(Uuid::new_v4());
        }
        Ok(body)
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = network::with_etag(resource);
        let rules: Vec<Value> = context
            .store
            .list(RULES, &resource.id)
            .iter()
            .map(|rule| router::show(context, rule))
            .collect();
        let default: Vec<Value> = DEFAULT
            .iter()
            .map(|(name, priority, direction, access, source, destination)| {
                json!({
                    "name": name,
                    "id": format!("{}/defaultSecurityRules/{name}", resource.id),
                    "etag": network::etag(resource),
                    "type": "Microsoft.Network/networkSecurityGroups/defaultSecurityRules",
                    "properties": {
                        "provisioningState": "Succeeded", "protocol": "*",
                        "sourcePortRange": "*", "destinationPortRange": "*",
                        "sourceAddressPrefix": source, "destinationAddressPrefix": destination,
                        "access": access, "priority": priority, "direction": direction,
                        "sourcePortRanges": [], "destinationPortRanges": [],
                        "sourceAddressPrefixes": [], "destinationAddressPrefixes": [],
                    }
                })
            })
            .collect();
        body["properties"]["securityRules"] = json!(rules);
        body["properties"]["defaultSecurityRules"] = json!(default);
        let subnets: Vec<Value> = network::referring(
            context,
            "Microsoft.Network/virtualNetworks/subnets",
            "/properties/networkSecurityGroup/id",
            &resource.id,
        )
        .iter()
        .map(|subnet| json!({ "id": subnet.id }))
        .collect();
        if !subnets.is_empty() {
            body["properties"]["subnets"] = json!(subnets);
        }
        body
    }

    fn deletable(
        &self,
        context: &Context,
        resource: &Resource,
        _: &mut Batch,
    ) -> Result<(), ArmError> {
        let users = network::referring(
            context,
            "Microsoft.Network/virtualNetworks/subnets",
            "/properties/networkSecurityGroup/id",
            &resource.id,
        );
        match users.first() {
            None => Ok(()),
            Some(subnet) => Err(ArmError::bad_request(
                "InUseNetworkSecurityGroupCannotBeDeleted",
                format!(
                    "Network security group {} cannot be deleted because it is in use by the following resources: {}.",
                    resource.id, subnet.id
                ),
            )),
        }
    }
}
