//! `Microsoft.Network/privateDnsZones/virtualNetworkLinks`
//! (<https://learn.microsoft.com/rest/api/dns/privatedns/virtual-network-links>). The region has one
//! network in which every private name is known; a link is kept and checked.

use serde_json::{Value, json};

use super::{Placement, ResourceType, Write, network, network_private_dns_zones as zones};
use crate::{
    control::{
        Context,
        error::ArmError,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// Links of zones to networks.
pub(super) struct Links;

const SCHEMA: Schema = Schema(&[
    schema::object("virtualNetwork").required(),
    schema::boolean("registrationEnabled").or_bool(false),
    schema::choice("resolutionPolicy", &["Default", "NxDomainRedirect"]),
    schema::any("virtualNetworkLinkState").read_only(),
]);

impl ResourceType for Links {
    fn kind(&self) -> &'static str {
        "Microsoft.Network/privateDnsZones/virtualNetworkLinks"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        zones::API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["virtualNetwork", "registrationEnabled", "resolutionPolicy"]
    }

    fn placement(&self) -> Placement {
        Placement::Global
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        let vnet = network::reference(
            context,
            write.id,
            &body["properties"]["virtualNetwork"],
            "Microsoft.Network/virtualNetworks",
        )?
        .ok_or_else(|| {
            ArmError::invalid_content("Required property 'virtualNetwork.id' not found in JSON")
        })?;
        if write.existing.is_some_and(|old| {
            !old.text("/properties/virtualNetwork/id")
                .is_some_and(|o| o.eq_ignore_ascii_case(vnet.as_str()))
        }) {
            return Err(ArmError::bad_request(
                "PropertyChangeNotAllowed",
                "The virtual network of a link cannot be changed.",
            ));
        }
        body["properties"]["virtualNetwork"] = json!({ "id": vnet });
        body["properties"]["virtualNetworkLinkState"] = json!("Completed");
        Ok(body)
    }

    fn view(&self, _: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        body["etag"] = json!(format!("\"{}\"", resource.etag));
        body
    }
}
