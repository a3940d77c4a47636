//! What flexible servers a location offers, and what a server may become: clients read it before they
//! create or change one (<https://learn.microsoft.com/rest/api/postgresql/capabilities-by-location>).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{Call, Registry, Reply, postgres_flexible_servers as servers};
use crate::control::{Context, error::ArmError};

/// Storage: size in GiB, the performance tier it comes with, that tier's IOPS
/// (<https://learn.microsoft.com/azure/virtual-machines/disks-types#premium-ssd-size>).
const STORAGE: [(u32, &str, u32); 11] = [
    (32, "P4", 120),
    (64, "P6", 240),
    (128, "P10", 500),
    (256, "P15", 1_100),
    (512, "P20", 2_300),
    (1_024, "P30", 5_000),
    (2_048, "P40", 7_500),
    (4_096, "P50", 7_500),
    (8_192, "P60", 16_000),
    (16_384, "P70", 18_000),
    (32_767, "P80", 20_000),
];

/// Each tier's sizes and the one that is taken when none is named.
const TIERS: [(&str, &str, &[&str]); 3] = [
    (
        "Burstable",
        "Standard_B1ms",
        &[
            "Standard_B1ms",
            "Standard_B2s",
            "Standard_B2ms",
            "Standard_B4ms",
            "Standard_B8ms",
            "Standard_B12ms",
            "Standard_B16ms",
            "Standard_B20ms",
        ],
    ),
    (
        "GeneralPurpose",
        "Standard_D4ds_v5",
        &[
            "Standard_D2s_v3",
            "Standard_D4s_v3",
            "Standard_D8s_v3",
            "Standard_D2ds_v4",
            "Standard_D4ds_v4",
            "Standard_D8ds_v4",
            "Standard_D2ds_v5",
            "Standard_D4ds_v5",
            "Standard_D8ds_v5",
            "Standard_D16ds_v5",
            "Standard_D32ds_v5",
            "Standard_D2ads_v5",
            "Standard_D4ads_v5",
            "Standard_D8ads_v5",
        ],
    ),
    (
        "MemoryOptimized",
        "Standard_E4ds_v5",
        &[
            "Standard_E2ds_v4",
            "Standard_E4ds_v4",
            "Standard_E8ds_v4",
            "Standard_E2ds_v5",
            "Standard_E4ds_v5",
            "Standard_E8ds_v5",
            "Standard_E16ds_v5",
            "Standard_E32ds_v5",
            "Standard_E2ads_v5",
            "Standard_E4ads_v5",
            "Standard_E8ads_v5",
        ],
    ),
];

const ZONES: [&str; 3] = ["1", "2", "3"];

/// Adds this file's routes.
pub(super) fn register(types: &mut Registry) {
    types.route(
        http::Method::GET,
        "/subscriptions/{}/providers/microsoft.dbforpostgresql/locations/{}/capabilities",
        Some("Microsoft.DBforPostgreSQL/locations/capabilities/read"),
        of_location,
    );
}

fn of_location<'a>(
    _: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let location = &call.segments[5];
        if crate::tenancy::location(location).is_none() {
            return Err(ArmError::bad_request(
                "InvalidLocation",
                format!("The location '{location}' is not available for flexible servers."),
            ));
        }
        Ok(all())
    })
}

/// The one entry of both lists: every location of the region offers the same.
pub(super) fn all() -> Reply {
    let feature = |name: &str, on: bool| json!({ "name": name, "status": if on { "Enabled" } else { "Disabled" } });
    let storage: Vec<Value> = STORAGE
        .iter()
        .enumerate()
        .map(|(index, (gib, tier, iops))| {
            // A larger tier may be taken for a smaller size.
            let tiers: Vec<Value> = STORAGE[index..]
                .iter()
                .map(|(_, name, iops)| json!({ "name": name, "iops": iops }))
                .collect();
            json!({
                "storageSizeMb": u64::from(*gib) * 1_024, "supportedIops": iops, "defaultIopsTier": tier,
                "supportedIopsTiers": tiers,
            })
        })
        .collect();
    let editions: Vec<Value> = TIERS
        .iter()
        .map(|(tier, default, names)| {
            let skus: Vec<Value> = names
                .iter()
                .filter_map(|name| {
                    let (cores, memory_gib) = servers::cores_and_memory(name)?;
                    Some(json!({
                        "name": name, "vCores": cores, "supportedMemoryPerVcoreMb": memory_gib * 1_024 / cores.max(1),
                        "supportedIops": 20_000, "supportedZones": ZONES,
                        "supportedHaMode": if *tier == "Burstable" { json!([]) } else { json!(["SameZone", "ZoneRedundant"]) },
                        "supportedFeatures": [],
                    }))
                })
                .collect();
            json!({
                "name": tier, "defaultSkuName": default, "supportedServerSkus": skus,
                "supportedStorageEditions": [{
                    "name": "ManagedDisk", "defaultStorageSizeMb": 32 * 1_024, "supportedStorageMb": storage,
                }],
            })
        })
        .collect();
    let versions: Vec<Value> = servers::VERSIONS
        .iter()
        .map(|version| {
            json!({ "name": version, "supportedVersionsToUpgrade": [], "supportedFeatures": [] })
        })
        .collect();
    Reply::ok(json!({ "value": [{
        "name": "FlexibleServerCapabilities",
        "supportedServerEditions": editions,
        "supportedServerVersions": versions,
        "supportedFeatures": [
            feature("OfferRestricted", false),
            feature("ZoneRedundantHa", true),
            feature("GeoBackup", true),
            feature("FastProvisioning", false),
            feature("StorageAutoGrowth", true),
            feature("OnlineResize", true),
            feature("IndexTuning", false),
        ],
        "fastProvisioningSupported": "Disabled",
        "geoBackupSupported": "Enabled",
        "zoneRedundantHaSupported": "Enabled",
        "zoneRedundantHaAndGeoBackupSupported": "Enabled",
        "storageAutoGrowthSupported": "Enabled",
        "onlineResizeSupported": "Enabled",
        "restricted": "Disabled",
    }] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_can_be_had() {
        for (tier, default, names) in TIERS {
            assert!(names.contains(&default), "{default} is one of its tier's");
            for name in names {
                assert_eq!(servers::tier_of(name), Some(tier), "{name}");
            }
        }
    }
}
