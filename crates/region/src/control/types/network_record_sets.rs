//! `Microsoft.Network/privateDnsZones/{A, AAAA, CNAME, …}`: the record sets of a private zone
//! (<https://learn.microsoft.com/rest/api/dns/privatedns/record-sets>). An A record in a zone of a
//! region's network is a name that instances resolve.

use std::{net::Ipv4Addr, sync::Arc};

use futures_util::future::BoxFuture;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{Placement, Query, ResourceType, Write, network_private_dns_zones as zones};
use crate::{
    control::{
        Context,
        error::ArmError,
        names,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// Record sets of one type: its kind, and the property that holds its records.
pub(super) struct RecordSets {
    kind: &'static str,
    records: &'static str,
}

/// Every record type.
pub(super) const ALL: [RecordSets; 8] = [
    RecordSets { kind: "Microsoft.Network/privateDnsZones/A", records: "aRecords" },
    RecordSets { kind: "Microsoft.Network/privateDnsZones/AAAA", records: "aaaaRecords" },
    RecordSets { kind: "Microsoft.Network/privateDnsZones/CNAME", records: "cnameRecord" },
    RecordSets { kind: "Microsoft.Network/privateDnsZones/MX", records: "mxRecords" },
    RecordSets { kind: "Microsoft.Network/privateDnsZones/PTR", records: "ptrRecords" },
    RecordSets { kind: "Microsoft.Network/privateDnsZones/SOA", records: "soaRecord" },
    RecordSets { kind: "Microsoft.Network/privateDnsZones/SRV", records: "srvRecords" },
    RecordSets { kind: "Microsoft.Network/privateDnsZones/TXT", records: "txtRecords" },
];

const SCHEMA: Schema = Schema(&[
    schema::integer("ttl", 0..=2_147_483_647).required(),
    schema::object("metadata"),
    schema::any("fqdn").read_only(),
    schema::any("isAutoRegistered").read_only(),
]);

/// `notes-kv.privatelink.vaultcore.azure.net`, from a record set's ID.
fn fqdn(id: &ResourceId) -> String {
    let zone = id.parent().map(|zone| zone.name().to_owned()).unwrap_or_default();
    if id.name() == "@" { zone } else { format!("{}.{zone}", id.name()) }
}

fn address(resource: &Resource) -> Option<Ipv4Addr> {
    resource.text("/properties/aRecords/0/ipv4Address")?.parse().ok()
}

impl ResourceType for RecordSets {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn api_versions(&self) -> &'static [&'static str] {
        zones::API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        if self.records == "aRecords" { &["ttl", "metadata", "aRecords[1…]"] } else { &["(all)"] }
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn provisioning_state(&self) -> bool {
        false
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        names::check(
            name,
            1..=253,
            |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*' | '@'),
            |name| name == "@" || !name.contains('@'),
        )
        .map_err(|()| {
            names::invalid(
                self.kind,
                name,
                "'@', or labels of letters, digits, '-', '_', separated by '.'",
            )
        })
    }

    fn desired(&self, _: &Context, write: &Write<'_>, _: &mut Batch) -> Result<Value, ArmError> {
        let mut body = SCHEMA.apply(write)?;
        let one = self.records.ends_with("Record");
        if self.records == "soaRecord" && write.creates() {
            return Err(ArmError::bad_request(
                "SoaRecordCannotBeCreated",
                "A zone's SOA record set is made with the zone and can only be updated.",
            ));
        }
        let records = &mut body["properties"][self.records];
        let fits = if one { records.is_object() } else { records.is_array() };
        if !fits {
            return Err(ArmError::invalid_content(format!(
                "Required property '{}' not found in JSON",
                self.records
            )));
        }
        if self.records == "soaRecord"
            && let (Some(old), Some(new)) = (
                write.existing.and_then(|old| old.body["properties"]["soaRecord"].as_object()),
                records.as_object_mut(),
            )
        {
            for (key, value) in old {
                new.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        if self.records == "aRecords" {
            for record in records.as_array().into_iter().flatten() {
                let text = record["ipv4Address"].as_str().unwrap_or_default();
                if text.parse::<Ipv4Addr>().is_err() {
                    return Err(ArmError::bad_request(
                        "BadRequest",
                        format!("The record value '{text}' is not a valid IPv4 address."),
                    ));
                }
            }
        }
        Ok(body)
    }

    fn provision_at_start(&self) -> bool {
        self.records == "aRecords"
    }

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            let name = fqdn(id);
            match context.store.get(id).as_deref().and_then(address) {
                Some(address) => context.names.set(&name, address),
                None if self.records == "aRecords" => context.names.remove(&name),
                None => {}
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
            if self.records == "aRecords" {
                context.names.remove(&fqdn(&resource.id));
            }
            Ok(())
        })
    }

    fn list(
        &self,
        context: &Context,
        scope: &ResourceId,
        _: &Query,
    ) -> Result<Vec<Arc<Resource>>, ArmError> {
        Ok(context.store.list(self.kind, scope))
    }

    fn view(&self, _: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        body["etag"] = json!(&*resource.etag);
        body["properties"]["fqdn"] = json!(format!("{}.", fqdn(&resource.id)));
        body["properties"]["isAutoRegistered"] = json!(false);
        body
    }
}
