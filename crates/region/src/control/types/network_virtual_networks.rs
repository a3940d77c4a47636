//! `Microsoft.Network/virtualNetworks`
//! (<https://learn.microsoft.com/rest/api/virtualnetwork/virtual-networks>).

use lazuli_azure::ResourceId;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Method, ResourceType, Write, network, network_subnets::Subnets};
use crate::{
    control::{
        Context,
        error::ArmError,
        names, router,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// Virtual networks.
pub(super) struct VirtualNetworks;

const SCHEMA: Schema = Schema(&[
    schema::array("addressSpace/addressPrefixes").required(),
    schema::array("dhcpOptions/dnsServers"),
    schema::boolean("enableDdosProtection").or_bool(false),
    schema::boolean("enableVmProtection"),
    schema::choice("privateEndpointVNetPolicies", &["Disabled", "Basic"]).or_text("Disabled"),
    schema::integer("flowTimeoutInMinutes", 4..=30),
    schema::array("virtualNetworkPeerings").or_empty(),
    schema::array("subnets"),
    schema::text("resourceGuid").read_only(),
]);

impl ResourceType for VirtualNetworks {
    fn kind(&self) -> &'static str {
        "Microsoft.Network/virtualNetworks"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        network::API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[
            "addressSpace",
            "dhcpOptions",
            "enableDdosProtection",
            "enableVmProtection",
            "flowTimeoutInMinutes",
            "privateEndpointVNetPolicies",
            "virtualNetworkPeerings",
        ]
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        names::general(self.kind(), name).and_then(|()| {
            if name.len() <= 64 && name.len() >= 2 {
                Ok(())
            } else {
                Err(names::invalid(self.kind(), name, "2 to 64 characters long"))
            }
        })
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        batch: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        let prefixes = prefixes(&body);
        if prefixes.is_empty() {
            return Err(ArmError::invalid_content(
                "'addressSpace.addressPrefixes' must not be empty",
            ));
        }
        let mut space = Vec::new();
        for prefix in &prefixes {
            let range = network::cidr(prefix, write.id.as_str())?;
            if space.iter().any(|other| range.overlaps(*other)) {
                return Err(ArmError::bad_request(
                    "VnetAddressSpacesOverlap",
                    format!("Address spaces of virtual network {} overlap: {prefix}.", write.id),
                ));
            }
            space.push(range);
        }
        let inline = body["properties"].as_object_mut().and_then(|p| p.shift_remove("subnets"));
        let existing = context.store.list("Microsoft.Network/virtualNetworks/subnets", write.id);
        // Absent means untouched; a list is the whole truth. In a PATCH the stored body has none.
        let wanted = inline.as_ref().and_then(Value::as_array);
        if let Some(wanted) = wanted {
            network::named(&json!(wanted), "subnets")?;
            let mut taken = Vec::new();
            for entry in wanted {
                let id = write.id.child("subnets", entry["name"].as_str().unwrap_or_default())?;
                Subnets.check_name(id.name())?;
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
                let mut child = Subnets::settled(context, &inner, &space, &taken)?;
                taken.extend(super::network_subnets::ranges(&child));
                child["properties"]["provisioningState"] = json!("Succeeded");
                batch.put(&id, child);
            }
            for gone in &existing {
                let kept = wanted.iter().any(|entry| {
                    entry["name"]
                        .as_str()
                        .is_some_and(|name| name.eq_ignore_ascii_case(gone.id.name()))
                });
                if !kept {
                    Subnets.deletable(context, gone, batch)?;
                    batch.delete(&gone.id);
                }
            }
        } else {
            for subnet in &existing {
                for range in super::network_subnets::ranges(&subnet.body) {
                    if !space.iter().any(|s| s.holds(range)) {
                        return Err(super::network_subnets::outside(&subnet.id, write.id));
                    }
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
        let subnets: Vec<Value> = context
            .store
            .list("Microsoft.Network/virtualNetworks/subnets", &resource.id)
            .iter()
            .map(|subnet| router::show(context, subnet))
            .collect();
        body["properties"]["subnets"] = json!(subnets);
        body
    }
}

/// The address prefixes of a network.
fn prefixes(body: &Value) -> Vec<String> {
    body["properties"]["addressSpace"]["addressPrefixes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|prefix| prefix.as_str().unwrap_or_default().to_owned())
        .collect()
}

/// The address space of a stored network.
pub(super) fn space(context: &Context, id: &ResourceId) -> Vec<network::Cidr> {
    context
        .store
        .get(id)
        .map(|vnet| prefixes(&vnet.body).iter().filter_map(|p| p.parse().ok()).collect())
        .unwrap_or_default()
}
