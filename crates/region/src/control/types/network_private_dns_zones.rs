//! `Microsoft.Network/privateDnsZones`
//! (<https://learn.microsoft.com/rest/api/dns/privatedns/private-zones>). A zone has its SOA record
//! from birth.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{Call, Placement, Reply, ResourceType, Write};
use crate::{
    control::{
        Context,
        error::ArmError,
        names, router,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

pub(super) const API_VERSIONS: &[&str] = &["2024-06-01", "2020-06-01", "2020-01-01", "2018-09-01"];

const LINKS: &str = "Microsoft.Network/privateDnsZones/virtualNetworkLinks";

/// Private DNS zones.
pub(super) struct Zones;

const SCHEMA: Schema = Schema(&[
    schema::any("maxNumberOfRecordSets").read_only(),
    schema::any("maxNumberOfVirtualNetworkLinks").read_only(),
    schema::any("maxNumberOfVirtualNetworkLinksWithRegistration").read_only(),
    schema::any("numberOfRecordSets").read_only(),
    schema::any("numberOfVirtualNetworkLinks").read_only(),
    schema::any("numberOfVirtualNetworkLinksWithRegistration").read_only(),
    schema::any("internalId").read_only(),
]);

impl ResourceType for Zones {
    fn kind(&self) -> &'static str {
        "Microsoft.Network/privateDnsZones"
    }

    fn api_versions(&self) -> &'static [&'static str] {
        API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[]
    }

    fn placement(&self) -> Placement {
        Placement::Global
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        };
        names::check(
            name,
            3..=253,
            |_| true,
            |name| name.split('.').count() >= 2 && name.split('.').all(label),
        )
        .map_err(|()| {
            names::invalid(
                self.kind(),
                name,
                "2 to 34 labels separated by '.', each 1 to 63 letters, digits, '-' or '_'",
            )
        })
    }

    fn desired(
        &self,
        _: &Context,
        write: &Write<'_>,
        batch: &mut Batch,
    ) -> Result<Value, ArmError> {
        let body = SCHEMA.apply(write)?;
        if write.creates() {
            let soa = write.id.child("SOA", "@")?;
            batch.put(
                &soa,
                json!({ "properties": {
                    "ttl": 3600,
                    "soaRecord": {
                        "host": "azureprivatedns.net", "email": "azureprivatedns-host.microsoft.com",
                        "serialNumber": 1, "refreshTime": 3600, "retryTime": 300,
                        "expireTime": 2_419_200, "minimumTtl": 10,
                    },
                }}),
            );
        }
        Ok(body)
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        let links = context.store.list(LINKS, &resource.id);
        let registering = links
            .iter()
            .filter(|link| link.body["properties"]["registrationEnabled"] == true)
            .count();
        body["etag"] = json!(&*resource.etag);
        let properties = &mut body["properties"];
        properties["maxNumberOfRecordSets"] = json!(25_000);
        properties["maxNumberOfVirtualNetworkLinks"] = json!(1_000);
        properties["maxNumberOfVirtualNetworkLinksWithRegistration"] = json!(100);
        properties["numberOfRecordSets"] =
            json!(context.store.list_below(&resource.id).len() - links.len());
        properties["numberOfVirtualNetworkLinks"] = json!(links.len());
        properties["numberOfVirtualNetworkLinksWithRegistration"] = json!(registering);
        body
    }

    /// `…/ALL`: the record sets of every type.
    fn act<'a>(
        &'a self,
        context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Reply, ArmError>> {
        Box::pin(async move {
            if call.method != http::Method::GET || call.action != "all" {
                return Err(ArmError::method_not_allowed(&call.method));
            }
            let below = context.store.list_below(&call.id);
            let sets = below.iter().filter(|one| !one.id.is(LINKS));
            let shown = sets.map(|one| router::show(context, one)).collect();
            router::page(&call.segments, &call.query, call.api_version, shown)
        })
    }

    fn deletable(
        &self,
        context: &Context,
        resource: &Resource,
        _: &mut Batch,
    ) -> Result<(), ArmError> {
        match context.store.list(LINKS, &resource.id).first() {
            None => Ok(()),
            Some(link) => Err(ArmError::conflict(
                "CannotDeleteResource",
                format!(
                    "Cannot delete resource while nested resources exist. Some existing nested resource IDs include: '{}'. Please delete all nested resources before deleting this resource.",
                    link.id
                ),
            )),
        }
    }
}
