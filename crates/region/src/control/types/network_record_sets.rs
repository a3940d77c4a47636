//! `Microsoft.Network/privateDnsZones/{A, AAAA, CNAME, …}` and `Microsoft.Network/dnsZones/{A, …}`: the
//! record sets of private and public zones
//! (<https://learn.microsoft.com/rest/api/dns/privatedns/record-sets>,
//! <https://learn.microsoft.com/rest/api/dns/record-sets>). An A record in a private zone of a region's
//! network is a name that instances resolve; what a public zone says of a host name decides whether a site
//! may have it.

use std::{net::Ipv4Addr, sync::Arc};

use futures_util::future::BoxFuture;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{
    Call, Placement, Query, Reply, ResourceType, Write, network_private_dns_zones as zones,
};
use crate::{
    control::{
        Context,
        error::ArmError,
        names,
        schema::{self, Schema},
    },
    store::{Batch, Resource},
};

/// Record sets of one type: its kind, and the property that holds its records. Public zones spell their
/// properties in another case than private ones.
pub(super) struct RecordSets {
    kind: &'static str,
    records: &'static str,
    public: bool,
}

const fn private(kind: &'static str, records: &'static str) -> RecordSets {
    RecordSets { kind, records, public: false }
}

const fn public(kind: &'static str, records: &'static str) -> RecordSets {
    RecordSets { kind, records, public: true }
}

/// Every record type.
pub(super) const ALL: [RecordSets; 18] = [
    private("Microsoft.Network/privateDnsZones/A", "aRecords"),
    private("Microsoft.Network/privateDnsZones/AAAA", "aaaaRecords"),
    private("Microsoft.Network/privateDnsZones/CNAME", "cnameRecord"),
    private("Microsoft.Network/privateDnsZones/MX", "mxRecords"),
    private("Microsoft.Network/privateDnsZones/PTR", "ptrRecords"),
    private("Microsoft.Network/privateDnsZones/SOA", "soaRecord"),
    private("Microsoft.Network/privateDnsZones/SRV", "srvRecords"),
    private("Microsoft.Network/privateDnsZones/TXT", "txtRecords"),
    public("Microsoft.Network/dnsZones/A", "ARecords"),
    public("Microsoft.Network/dnsZones/AAAA", "AAAARecords"),
    public("Microsoft.Network/dnsZones/CAA", "caaRecords"),
    public("Microsoft.Network/dnsZones/CNAME", "CNAMERecord"),
    public("Microsoft.Network/dnsZones/MX", "MXRecords"),
    public("Microsoft.Network/dnsZones/NS", "NSRecords"),
    public("Microsoft.Network/dnsZones/PTR", "PTRRecords"),
    public("Microsoft.Network/dnsZones/SOA", "SOARecord"),
    public("Microsoft.Network/dnsZones/SRV", "SRVRecords"),
    public("Microsoft.Network/dnsZones/TXT", "TXTRecords"),
];

const SCHEMA: Schema = Schema(&[
    schema::integer("ttl", 0..=2_147_483_647).required(),
    schema::object("metadata"),
    schema::any("fqdn").read_only(),
    schema::any("isAutoRegistered").read_only(),
]);

const PUBLIC_SCHEMA: Schema = Schema(&[
    schema::integer("TTL", 1..=2_147_483_647).required(),
    schema::object("metadata"),
    schema::any("fqdn").read_only(),
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
        if self.public { super::network_dns_zones::API_VERSIONS } else { zones::API_VERSIONS }
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        match self.records {
            "aRecords" => &["ttl", "metadata", "aRecords[1…]"],
            // They decide which host names a site may have.
            "ARecords" | "CNAMERecord" | "TXTRecords" => &["TTL", "metadata"],
            _ => &["(all)"],
        }
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
        let schema = if self.public { &PUBLIC_SCHEMA } else { &SCHEMA };
        let mut body = schema.apply(write)?;
        let one = self.records.ends_with("Record");
        let soa = self.records.eq_ignore_ascii_case("soaRecord");
        if soa && write.creates() {
            return Err(ArmError::bad_request(
                "SoaRecordCannotBeCreated",
                "A zone's SOA record set is made with the zone and can only be updated.",
            ));
        }
        let records = &mut body["properties"][self.records];
        let fits = if one { records.is_object() } else { records.is_array() };
        // A public zone's record set may be empty for a while: `az network dns record-set txt create`.
        if self.public && records.is_null() {
            if !one {
                *records = json!([]);
            }
        } else if !fits {
            return Err(ArmError::invalid_content(format!(
                "Required property '{}' not found in JSON",
                self.records
            )));
        }
        if soa
            && let (Some(old), Some(new)) = (
                write.existing.and_then(|old| old.body["properties"][self.records].as_object()),
                records.as_object_mut(),
            )
        {
            for (key, value) in old {
                new.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        if self.records.eq_ignore_ascii_case("aRecords") {
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
        if !self.public {
            body["properties"]["isAutoRegistered"] = json!(false);
        }
        body
    }

    /// The records that a public zone is born with stay as long as it does.
    fn intercept<'a>(
        &'a self,
        _: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Option<Reply>, ArmError>> {
        Box::pin(async move {
            let born = self.public
                && call.id.name() == "@"
                && matches!(self.records, "NSRecords" | "SOARecord");
            if born && call.method == http::Method::DELETE {
                return Err(ArmError::bad_request(
                    "BadRequest",
                    format!(
                        "The record set '@' of type '{}' cannot be deleted: it is part of the zone.",
                        self.kind.rsplit('/').next().unwrap_or_default()
                    ),
                ));
            }
            Ok(None)
        })
    }
}
