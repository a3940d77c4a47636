//! `Microsoft.Network/virtualNetworks/subnets`
//! (<https://learn.microsoft.com/rest/api/virtualnetwork/subnets>).

use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{Placement, ResourceType, Write, network, network_virtual_networks};
use crate::{
    control::{
        Context,
        error::ArmError,
        names,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// Subnets.
pub(super) struct Subnets;

const SCHEMA: Schema = Schema(&[
    schema::text("addressPrefix"),
    schema::array("addressPrefixes"),
    schema::object("networkSecurityGroup"),
    schema::object("routeTable"),
    schema::object("natGateway"),
    schema::array("serviceEndpoints"),
    schema::array("serviceEndpointPolicies"),
    schema::array("delegations").or_empty(),
    schema::choice(
        "privateEndpointNetworkPolicies",
        &["Disabled", "Enabled", "NetworkSecurityGroupEnabled", "RouteTableEnabled"],
    )
    .or_text("Disabled"),
    schema::choice("privateLinkServiceNetworkPolicies", &["Enabled", "Disabled"])
        .or_text("Enabled"),
    schema::boolean("defaultOutboundAccess"),
    schema::text("sharingScope"),
    schema::any("privateEndpoints").read_only(),
    schema::any("ipConfigurations").read_only(),
]);

/// What may stand in a subnet: (type, where its body names the subnet).
const TENANTS: &[(&str, &str)] = &[
    ("Microsoft.Network/privateEndpoints", "/properties/subnet/id"),
    ("Microsoft.Web/sites", "/properties/virtualNetworkSubnetId"),
    ("Microsoft.Web/sites/slots", "/properties/virtualNetworkSubnetId"),
    ("Microsoft.DBforPostgreSQL/flexibleServers", "/properties/network/delegatedSubnetResourceId"),
    ("Microsoft.Cache/redis", "/properties/subnetId"),
];

impl Subnets {
    /// The subnet that a request asks for, in a network with this address space next to these ranges.
    pub(super) fn settled(
        context: &Context,
        write: &Write<'_>,
        space: &[network::Cidr],
        taken: &[network::Cidr],
    ) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        if body["properties"]["sharingScope"] == "" {
            // What Terraform sends for "not shared".
            body["properties"].as_object_mut().map(|p| p.shift_remove("sharingScope"));
        }
        let texts: Vec<&str> = prefixes(&body).collect();
        if texts.is_empty() {
            return Err(ArmError::bad_request(
                "NoAddressPrefixOrPoolProvided",
                format!("No address prefix or pool provided for resource {}.", write.id),
            ));
        }
        let vnet = write.id.parent().unwrap_or_else(ResourceId::root);
        let mut own: Vec<network::Cidr> = Vec::new();
        for text in texts {
            let range = network::cidr(text, write.id.as_str())?;
            if range.bits > 29 {
                return Err(ArmError::bad_request(
                    "NetcfgInvalidSubnet",
                    format!(
                        "Subnet '{}' is not valid in virtual network '{}': the smallest subnet is a /29.",
                        write.id.name(),
                        vnet.name()
                    ),
                ));
            }
            if !space.iter().any(|s| s.holds(range)) {
                return Err(outside(write.id, &vnet));
            }
            if taken.iter().chain(&own).any(|other| range.overlaps(*other)) {
                return Err(ArmError::bad_request(
                    "NetcfgSubnetRangesOverlap",
                    format!(
                        "Subnet '{}' is not valid because its IP address range overlaps with that of an existing subnet in virtual network '{}'.",
                        write.id.name(),
                        vnet.name()
                    ),
                ));
            }
            own.push(range);
        }
        network::named(&body["properties"]["delegations"], "delegations")?;
        for delegation in body["properties"]["delegations"].as_array_mut().into_iter().flatten() {
            if !delegation["properties"]["serviceName"].is_string() {
                return Err(ArmError::invalid_content(
                    "A delegation needs 'properties.serviceName'",
                ));
            }
        }
        network::reference(
            context,
            write.id,
            &body["properties"]["networkSecurityGroup"],
            "Microsoft.Network/networkSecurityGroups",
        )?;
        Ok(body)
    }
}

impl ResourceType for Subnets {
    fn kind(&self) -> &'static str {
        "Microsoft.Network/virtualNetworks/subnets"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        network::API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[
            "addressPrefix",
            "addressPrefixes",
            "defaultOutboundAccess",
            "delegations",
            "natGateway",
            "networkSecurityGroup",
            "privateEndpointNetworkPolicies",
            "privateLinkServiceNetworkPolicies",
            "routeTable",
            "serviceEndpointPolicies",
            "serviceEndpoints",
            "sharingScope",
        ]
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        names::general(self.kind(), name)
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let vnet = write.id.parent().unwrap_or_else(ResourceId::root);
        let taken: Vec<_> = context
            .store
            .list(self.kind(), &vnet)
            .iter()
            .filter(|other| other.id != *write.id)
            .flat_map(|other| ranges(&other.body))
            .collect();
        Self::settled(context, write, &network_virtual_networks::space(context, &vnet), &taken)
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = network::with_etag(resource);
        network::nested(&mut body, resource, "delegations", "delegations");
        let endpoints: Vec<Value> = network::referring(
            context,
            "Microsoft.Network/privateEndpoints",
            "/properties/subnet/id",
            &resource.id,
        )
        .iter()
        .map(|endpoint| json!({ "id": endpoint.id }))
        .collect();
        if !endpoints.is_empty() {
            body["properties"]["privateEndpoints"] = json!(endpoints);
        }
        body
    }

    fn deletable(
        &self,
        context: &Context,
        resource: &Resource,
        _: &mut Batch,
    ) -> Result<(), ArmError> {
        for (kind, pointer) in TENANTS {
            if let Some(tenant) = network::referring(context, kind, pointer, &resource.id).first() {
                return Err(ArmError::bad_request(
                    "InUseSubnetCannotBeDeleted",
                    format!(
                        "Subnet {} is in use by {} and cannot be deleted. In order to delete the subnet, delete all the resources within the subnet.",
                        resource.id.name(),
                        tenant.id
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn prefixes(body: &Value) -> impl Iterator<Item = &str> {
    let properties = &body["properties"];
    let list = properties["addressPrefixes"].as_array().filter(|list| !list.is_empty());
    let one = properties["addressPrefix"].as_str().filter(|_| list.is_none());
    list.into_iter().flatten().map(|prefix| prefix.as_str().unwrap_or_default()).chain(one)
}

/// The ranges of a subnet's body.
pub(super) fn ranges(body: &Value) -> Vec<network::Cidr> {
    prefixes(body).filter_map(|prefix| prefix.parse().ok()).collect()
}

/// The error for a subnet that its network's address space does not hold.
pub(super) fn outside(subnet: &ResourceId, vnet: &ResourceId) -> ArmError {
    ArmError::bad_request(
        "NetcfgSubnetRangeOutsideVnet",
        format!(
            "Subnet '{}' is not valid because its IP address range is outside the IP address range of virtual network '{}'.",
            subnet.name(),
            vnet.name()
        ),
    )
}
