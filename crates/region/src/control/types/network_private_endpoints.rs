//! `Microsoft.Network/privateEndpoints`: an address in the private-endpoint subnet at which a vault or a
//! storage account answers, and the name that leads to it
//! (<https://learn.microsoft.com/rest/api/virtualnetwork/private-endpoints>).

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ResourceType, Write, network};
use crate::{
    control::{
        Context,
        error::ArmError,
        schema::{self, Schema},
    },
    names::Subnet,
    store::{Batch, Resource},
};

/// Private endpoints.
pub(super) struct PrivateEndpoints;

const SCHEMA: Schema = Schema(&[
    schema::object("subnet").required(),
    schema::array("privateLinkServiceConnections").or_empty(),
    schema::array("manualPrivateLinkServiceConnections").or_empty(),
    schema::text("customNetworkInterfaceName"),
    schema::array("ipConfigurations").or_empty(),
    schema::array("applicationSecurityGroups"),
    schema::any("networkInterfaces").read_only(),
    schema::any("customDnsConfigs").read_only(),
    schema::text("resourceGuid").read_only(),
]);

/// What an endpoint can lead to: type, group ID, and the public suffix of its name.
const TARGETS: &[(&str, &str, &str)] = &[
    ("Microsoft.KeyVault/vaults", "vault", "vault.azure.net"),
    ("Microsoft.Cache/redis", "redisCache", "redis.cache.windows.net"),
    ("Microsoft.Cache/redisEnterprise", "redisEnterprise", "redis.azure.net"),
    (
        "Microsoft.DBforPostgreSQL/flexibleServers",
        "postgresqlServer",
        "postgres.database.azure.com",
    ),
    ("Microsoft.Storage/storageAccounts", "blob", "blob.core.windows.net"),
    ("Microsoft.Web/sites", "sites", "azurewebsites.net"),
    ("Microsoft.CognitiveServices/accounts", "account", "openai.azure.com"),
];

/// An endpoint's target, read from its body: the resource, the group, the name that leads there.
pub(super) fn target(body: &Value) -> Option<(ResourceId, &'static str, String)> {
    let properties = &body["properties"];
    let connection = ["privateLinkServiceConnections", "manualPrivateLinkServiceConnections"]
        .iter()
        .find_map(|list| properties[*list].get(0))?;
    let id = connection["properties"]["privateLinkServiceId"].as_str()?;
    let id = ResourceId::parse(id).ok()?;
    let (_, group, suffix) = TARGETS.iter().find(|(kind, _, _)| id.is(kind))?;
    let mut name = format!("{}.{suffix}", id.name().to_ascii_lowercase());
    if id.is("Microsoft.Cache/redisEnterprise")
        && let Some(location) = body["location"].as_str()
    {
        // The one service whose names hold their location; the endpoint's is the same.
        name = format!("{}.{location}.{suffix}", id.name().to_ascii_lowercase());
    }
    Some((id, *group, name))
}

/// Whether the gateway answers for a resource, at whatever address its endpoint has.
fn by_the_gateway(target: &ResourceId) -> bool {
    target.is("Microsoft.KeyVault/vaults") || target.is("Microsoft.Storage/storageAccounts")
}

/// The address of an endpoint. What it leads to may have one of its own already (a Redis server
/// listens by itself): then that is the endpoint's.
fn address(context: &Context, resource: &Resource) -> Option<Ipv4Addr> {
    let (target, _, name) = target(&resource.body)?;
    if !by_the_gateway(&target)
        && let Some(own) = context.names.get(&name)
    {
        return Some(own);
    }
    match context.addresses.of(resource.id.key(), Subnet::PrivateEndpoints) {
        Ok(address) => Some(address),
        Err(error) => {
            tracing::error!(%error, id = %resource.id, "a private endpoint got no address");
            None
        }
    }
}

impl ResourceType for PrivateEndpoints {
    fn kind(&self) -> &'static str {
        "Microsoft.Network/privateEndpoints"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        network::API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["ipConfigurations", "applicationSecurityGroups", "customNetworkInterfaceName"]
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        let subnet = network::reference(
            context,
            write.id,
            &body["properties"]["subnet"],
            "Microsoft.Network/virtualNetworks/subnets",
        )?
        .ok_or_else(|| {
            ArmError::invalid_content("Required property 'subnet.id' not found in JSON")
        })?;
        body["properties"]["subnet"] = json!({ "id": subnet });
        let lists = ["privateLinkServiceConnections", "manualPrivateLinkServiceConnections"];
        let mut count = 0;
        for list in lists {
            network::named(&body["properties"][list], list)?;
            for connection in body["properties"][list].as_array_mut().into_iter().flatten() {
                count += 1;
                let properties = &mut connection["properties"];
                let id = properties["privateLinkServiceId"].as_str().unwrap_or_default();
                let id = ResourceId::parse(id).map_err(|_| {
                    ArmError::bad_request("LinkedInvalidPropertyId", format!("Property id '{id}' at path 'properties.{list}[0].properties.privateLinkServiceId' is invalid."))
                })?;
                let Some((_, group, _)) = TARGETS.iter().find(|(kind, _, _)| id.is(kind)) else {
                    return Err(ArmError::bad_request(
                        "UnsupportedPrivateLinkServiceType",
                        format!(
                            "Private endpoints to resources of type '{}' are not supported by this region.",
                            id.kind()
                        ),
                    ));
                };
                let given = properties["groupIds"].as_array().cloned().unwrap_or_default();
                if !given.iter().all(|g| g.as_str().is_some_and(|g| g.eq_ignore_ascii_case(group)))
                    || given.len() > 1
                {
                    return Err(ArmError::bad_request(
                        "PrivateEndpointGroupIdInvalid",
                        format!(
                            "The group IDs of a private endpoint to '{id}' can only be '{group}'."
                        ),
                    ));
                }
                // Only types the region has can be told to be missing.
                if context.registry.get(id.kind()).is_some() && context.store.get(&id).is_none() {
                    return Err(ArmError::bad_request(
                        "InvalidResourceReference",
                        format!(
                            "Resource {id} referenced by resource {} was not found. Please make sure that the referenced resource exists, and that both resources are in the same region.",
                            write.id
                        ),
                    ));
                }
                properties["privateLinkServiceId"] = json!(id);
                properties["groupIds"] = json!([group]);
                properties["privateLinkServiceConnectionState"] = json!({
                    "status": "Approved", "description": "Auto-Approved", "actionsRequired": "None",
                });
            }
        }
        if count != 1 {
            return Err(ArmError::bad_request(
                "PrivateEndpointConnectionCountInvalid",
                format!(
                    "Private endpoint {} must have exactly one private link service connection; it has {count}.",
                    write.id
                ),
            ));
        }
        if body["properties"]["customNetworkInterfaceName"] == "" {
            body["properties"]
                .as_object_mut()
                .map(|p| p.shift_remove("customNetworkInterfaceName"));
        }
        if write.creates() {
            body["properties"]["resourceGuid"] = json!(Uuid::new_v4());
        } else if write.existing.and_then(|old| target(&old.body)).map(|t| t.0)
            != target(&body).map(|t| t.0)
        {
            return Err(ArmError::bad_request(
                "CannotChangePrivateLinkConnectionOnPrivateEndpoint",
                format!(
                    "Cannot change private link service connection on private endpoint {}.",
                    write.id
                ),
            ));
        }
        Ok(body)
    }

    fn provision_at_start(&self) -> bool {
        true
    }

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            let Some(resource) = context.store.get(id) else { return Ok(()) };
            let Some((target, _, name)) = target(&resource.body) else { return Ok(()) };
            if !by_the_gateway(&target) {
                return Ok(());
            }
            let Some(address) = address(context, &resource) else { return Ok(()) };
            if let Some(host) = &context.host {
                host.add_address(address).await.map_err(|error| ArmError::internal(&error))?;
                listen(context, address)?;
            }
            context.names.set(&name, address);
            Ok(())
        })
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = network::with_etag(resource);
        network::nested(
            &mut body,
            resource,
            "privateLinkServiceConnections",
            "privateLinkServiceConnections",
        );
        network::nested(
            &mut body,
            resource,
            "manualPrivateLinkServiceConnections",
            "manualPrivateLinkServiceConnections",
        );
        body["properties"]["networkInterfaces"] = json!([{ "id": interface(resource) }]);
        if let (Some((_, _, name)), Some(address)) =
            (target(&resource.body), address(context, resource))
        {
            body["properties"]["customDnsConfigs"] =
                json!([{ "fqdn": name, "ipAddresses": [address] }]);
        }
        body
    }

    fn deprovision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        resource: &'a Resource,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            let Some((target, _, name)) = target(&resource.body) else { return Ok(()) };
            if !by_the_gateway(&target) {
                return Ok(());
            }
            if let Some(address) = address(context, resource) {
                if context.names.get(&name) == Some(address) {
                    context.names.remove(&name);
                }
                if let Some(host) = &context.host {
                    host.remove_address(address)
                        .await
                        .map_err(|error| ArmError::internal(&error))?;
                }
            }
            context
                .addresses
                .release(resource.id.key(), Subnet::PrivateEndpoints)
                .map_err(|error| ArmError::internal(&error))
        })
    }
}

/// The ID of an endpoint's network interface.
pub(super) fn interface(endpoint: &Resource) -> String {
    let name = endpoint.text("/properties/customNetworkInterfaceName").map_or_else(
        || {
            format!(
                "{}.nic.{}",
                endpoint.id.name(),
                endpoint.text("/properties/resourceGuid").unwrap_or_default()
            )
        },
        ToOwned::to_owned,
    );
    format!("{}/providers/Microsoft.Network/networkInterfaces/{name}", endpoint.id.scope())
}

/// The interface as Azure shows it, made from its endpoint.
pub(super) fn interface_view(context: &Context, endpoint: &Resource) -> Value {
    let id = interface(endpoint);
    json!({
        "location": endpoint.body["location"],
        "etag": network::etag(endpoint),
        "properties": {
            "provisioningState": "Succeeded",
            "resourceGuid": endpoint.body["properties"]["resourceGuid"],
            "ipConfigurations": [{
                "name": "privateEndpointIpConfig", "id": format!("{id}/ipConfigurations/privateEndpointIpConfig"),
                "etag": network::etag(endpoint),
                "type": "Microsoft.Network/networkInterfaces/ipConfigurations",
                "properties": {
                    "provisioningState": "Succeeded",
                    "privateIPAddress": address(context, endpoint),
                    "privateIPAllocationMethod": "Dynamic", "privateIPAddressVersion": "IPv4",
                    "primary": true, "subnet": endpoint.body["properties"]["subnet"],
                }
            }],
            "dnsSettings": { "dnsServers": [], "appliedDnsServers": [] },
            "enableAcceleratedNetworking": false, "enableIPForwarding": false,
            "privateEndpoint": { "id": endpoint.id }, "nicType": "Standard",
        }
    })
}

/// Serves TLS at a private address. A listener outlives its address harmlessly: it is
/// found again when the address comes back.
fn listen(context: &Context, address: Ipv4Addr) -> Result<(), ArmError> {
    let Some(gateway) = &context.gateway else { return Ok(()) };
    let listener = match std::net::TcpListener::bind(SocketAddr::from((address, 443))) {
        Ok(listener) => listener,
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Ok(()),
        Err(error) => return Err(ArmError::internal(&error)),
    };
    listener
        .set_nonblocking(true)
        .and_then(|()| gateway.serve_inside_tls(listener))
        .map_err(|error| ArmError::internal(&error))
}
