//! `Microsoft.Network/privateEndpoints/privateDnsZoneGroups`: writes an endpoint's address into
//! private zones
//! (<https://learn.microsoft.com/rest/api/virtualnetwork/private-dns-zone-groups>).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{Placement, ResourceType, Write, network, network_private_endpoints as endpoints};
use crate::{
    control::{
        Context,
        error::ArmError,
        operation,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// Zone groups.
pub(super) struct ZoneGroups;

const SCHEMA: Schema = Schema(&[schema::array("privateDnsZoneConfigs").required()]);

fn zones(body: &Value) -> Vec<ResourceId> {
    body["properties"]["privateDnsZoneConfigs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|config| {
            ResourceId::parse(config["properties"]["privateDnsZoneId"].as_str()?).ok()
        })
        .collect()
}

/// The A record that a group keeps in a zone.
fn record(context: &Context, group: &ResourceId, zone: &ResourceId) -> Option<(ResourceId, Value)> {
    let endpoint = context.store.get(&group.parent()?)?;
    let (target, _, _) = endpoints::target(&endpoint.body)?;
    let kind = context.registry.get("Microsoft.Network/privateEndpoints")?;
    let shown = kind.view(context, &endpoint);
    let address = shown.pointer("/properties/customDnsConfigs/0/ipAddresses/0")?.clone();
    let id = zone.child("A", &target.name().to_ascii_lowercase()).ok()?;
    let body = json!({ "properties": {
        "ttl": 10, "aRecords": [{ "ipv4Address": address }],
        "metadata": { "creator": format!("created by private endpoint {} with resource guid {}", endpoint.id.name(), endpoint.text("/properties/resourceGuid").unwrap_or_default()) },
    }});
    Some((id, body))
}

impl ResourceType for ZoneGroups {
    fn kind(&self) -> &'static str {
        "Microsoft.Network/privateEndpoints/privateDnsZoneGroups"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        network::API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[]
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
        let mut body = SCHEMA.apply(write)?;
        network::named(&body["properties"]["privateDnsZoneConfigs"], "privateDnsZoneConfigs")?;
        for config in
            body["properties"]["privateDnsZoneConfigs"].as_array_mut().into_iter().flatten()
        {
            let given = json!({ "id": config["properties"]["privateDnsZoneId"] });
            let zone =
                network::reference(context, write.id, &given, "Microsoft.Network/privateDnsZones")?
                    .ok_or_else(|| {
                        ArmError::invalid_content(
                            "Required property 'privateDnsZoneId' not found in JSON",
                        )
                    })?;
            config["properties"] = json!({ "privateDnsZoneId": zone });
        }
        Ok(body)
    }

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            let Some(group) = context.store.get(id) else { return Ok(()) };
            for zone in zones(&group.body) {
                if let Some((id, body)) = record(context, id, &zone) {
                    let mut batch = Batch::new();
                    batch.put(&id, body);
                    context.store.commit(batch).await?;
                    operation::provision(context, &id).await?;
                }
            }
            Ok(())
        })
    }

    fn deprovision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        resource: &'a Resource,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            for zone in zones(&resource.body) {
                if let Some((id, _)) = record(context, &resource.id, &zone) {
                    operation::remove(context, &id).await?;
                }
            }
            Ok(())
        })
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = network::with_etag(resource);
        for config in
            body["properties"]["privateDnsZoneConfigs"].as_array_mut().into_iter().flatten()
        {
            let name = config["name"].as_str().unwrap_or_default().to_owned();
            config["id"] = json!(format!("{}/privateDnsZoneConfigs/{name}", resource.id));
            config["etag"] = network::etag(resource);
            config["properties"]["provisioningState"] = json!("Succeeded");
            let Some(zone) = config["properties"]["privateDnsZoneId"]
                .as_str()
                .and_then(|id| ResourceId::parse(id).ok())
            else {
                continue;
            };
            let sets: Vec<Value> = record(context, &resource.id, &zone)
                .into_iter()
                .map(|(id, body)| {
                    json!({
                        "recordType": "A", "recordSetName": id.name(),
                        "fqdn": format!("{}.{}", id.name(), zone.name()),
                        "ttl": 10, "provisioningState": "Succeeded",
                        "ipAddresses": [body.pointer("/properties/aRecords/0/ipv4Address")],
                    })
                })
                .collect();
            config["properties"]["recordSets"] = json!(sets);
        }
        body
    }
}
