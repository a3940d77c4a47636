//! `Microsoft.Network/networkInterfaces`: only those of private endpoints, which the endpoints make
//! (<https://learn.microsoft.com/rest/api/virtualnetwork/network-interfaces>).

use std::sync::Arc;

use lazuli_azure::ResourceId;
use serde_json::Value;

use super::{Query, ResourceType, Write, network, network_private_endpoints as endpoints};
use crate::{
    control::{Context, error::ArmError},
    store::{Batch, Resource},
};

/// Network interfaces.
pub(super) struct Interfaces;

impl ResourceType for Interfaces {
    fn kind(&self) -> &'static str {
        "Microsoft.Network/networkInterfaces"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        network::API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[]
    }

    fn desired(&self, _: &Context, _: &Write<'_>, _: &mut Batch) -> Result<Value, ArmError> {
        Err(ArmError::not_implemented(
            "This region has no virtual machines; network interfaces come with private endpoints.",
        ))
    }

    fn find(&self, context: &Context, id: &ResourceId) -> Option<Arc<Resource>> {
        self.list(context, &id.scope(), &Query::default())
            .ok()?
            .into_iter()
            .find(|interface| interface.id == *id)
    }

    fn list(
        &self,
        context: &Context,
        scope: &ResourceId,
        _: &Query,
    ) -> Result<Vec<Arc<Resource>>, ArmError> {
        Ok(context
            .store
            .list("Microsoft.Network/privateEndpoints", scope)
            .iter()
            .filter_map(|endpoint| {
                let id = ResourceId::parse(&endpoints::interface(endpoint)).ok()?;
                let body = endpoints::interface_view(context, endpoint);
                Some(Arc::new(Resource { id, body, ..Resource::clone(endpoint) }))
            })
            .collect())
    }
}
