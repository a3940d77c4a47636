//! `Microsoft.Network/dnsZones`: public zones (<https://learn.microsoft.com/rest/api/dns/zones>). A zone has
//! its SOA and NS record sets from birth. Nobody outside asks the region for names: a zone is what the
//! region's own services look names up in, when a site is to have one.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use lazuli_azure::ResourceId;
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

pub(super) const API_VERSIONS: &[&str] = &["2023-07-01-preview", "2018-05-01", "2017-10-01"];

const KIND: &str = "Microsoft.Network/dnsZones";
const SERVERS: [&str; 4] = [
    "ns1-01.azure-dns.com.",
    "ns2-01.azure-dns.net.",
    "ns3-01.azure-dns.org.",
    "ns4-01.azure-dns.info.",
];

/// Public DNS zones.
pub(super) struct Zones;

const SCHEMA: Schema = Schema(&[
    schema::choice("zoneType", &["Public"]).or_text("Public"),
    schema::any("maxNumberOfRecordSets").read_only(),
    schema::any("maxNumberOfRecordsPerRecordSet").read_only(),
    schema::any("numberOfRecordSets").read_only(),
    schema::any("nameServers").read_only(),
]);

impl ResourceType for Zones {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn api_versions(&self) -> &'static [&'static str] {
        API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &["nameServers: nobody outside the region asks them"]
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
            batch.put(
                &write.id.child("SOA", "@")?,
                json!({ "properties": {
                    "TTL": 3600,
                    "SOARecord": {
                        "host": SERVERS[0], "email": "azuredns-hostmaster.microsoft.com",
                        "serialNumber": 1, "refreshTime": 3600, "retryTime": 300,
                        "expireTime": 2_419_200, "minimumTTL": 300,
                    },
                }}),
            );
            let servers: Vec<Value> =
                SERVERS.iter().map(|server| json!({ "nsdname": server })).collect();
            batch.put(
                &write.id.child("NS", "@")?,
                json!({ "properties": { "TTL": 172_800, "NSRecords": servers } }),
            );
        }
        Ok(body)
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        body["etag"] = json!(&*resource.etag);
        let properties = &mut body["properties"];
        properties["maxNumberOfRecordSets"] = json!(10_000);
        properties["maxNumberOfRecordsPerRecordSet"] = Value::Null;
        properties["nameServers"] = json!(SERVERS);
        properties["numberOfRecordSets"] = json!(context.store.list_below(&resource.id).len());
        body
    }

    /// `…/recordsets` and `…/all`: the record sets of every type.
    fn act<'a>(
        &'a self,
        context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Reply, ArmError>> {
        Box::pin(async move {
            let asked = matches!(call.action.as_str(), "recordsets" | "all");
            if call.method != http::Method::GET || !asked {
                return Err(ArmError::method_not_allowed(&call.method));
            }
            let below = context.store.list_below(&call.id);
            let shown = below.iter().map(|one| router::show(context, one)).collect();
            router::page(&call.segments, &call.query, call.api_version, shown)
        })
    }
}

/// What the region's public zones say of a name, a record set's properties: those of the zones that are
/// nearest to it.
pub(super) fn lookup(context: &Context, host: &str, kind: &str) -> Vec<Value> {
    let host = host.to_ascii_lowercase();
    let within = |zone: &str| {
        host == zone || host.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.'))
    };
    let mut zones = context.store.list(KIND, &ResourceId::root());
    zones.retain(|zone| within(&zone.id.name().to_ascii_lowercase()));
    let nearest = zones.iter().map(|zone| zone.id.name().len()).max().unwrap_or_default();
    zones.retain(|zone| zone.id.name().len() == nearest);
    let mut found = Vec::new();
    for zone in zones {
        let label = host[..host.len() - nearest].trim_end_matches('.');
        let label = if label.is_empty() { "@" } else { label };
        let set = zone.id.child(kind, label).ok().and_then(|id| context.store.get(&id));
        found.extend(set.map(|set| set.properties().clone()));
    }
    found
}

/// The texts of a name's TXT records.
pub(super) fn texts(context: &Context, host: &str) -> Vec<String> {
    let parts = |record: &Value| {
        let parts = record["value"].as_array().into_iter().flatten();
        parts.filter_map(Value::as_str).collect::<String>()
    };
    let sets = lookup(context, host, "TXT");
    sets.iter().filter_map(|set| set["TXTRecords"].as_array()).flatten().map(parts).collect()
}

/// What a name is another name for.
pub(super) fn alias(context: &Context, host: &str) -> Option<String> {
    let sets = lookup(context, host, "CNAME");
    let name = sets.iter().find_map(|set| set["CNAMERecord"]["cname"].as_str())?;
    Some(name.trim_end_matches('.').to_ascii_lowercase())
}

/// A name's addresses.
pub(super) fn addresses(context: &Context, host: &str) -> Vec<String> {
    let sets = lookup(context, host, "A");
    let records = sets.iter().filter_map(|set| set["ARecords"].as_array()).flatten();
    records.filter_map(|record| record["ipv4Address"].as_str().map(str::to_owned)).collect()
}
