//! `Microsoft.Cache/redisEnterprise`: Azure Managed Redis
//! (<https://learn.microsoft.com/rest/api/redis/redisenterprisecache/redis-enterprise>). What runs is
//! its database's server: see [`super::cache_redis_enterprise_databases`].

use std::sync::Arc;

use futures_util::future::BoxFuture;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{
    LongRunning, ResourceType, Style, Write, cache_redis, cache_redis_enterprise_databases,
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

/// Managed caches.
pub(super) struct Clusters;

pub(super) const KIND: &str = "Microsoft.Cache/redisEnterprise";
pub(super) const VERSIONS: &[&str] = &["2025-07-01", "2025-04-01", "2024-10-01"];

const SCHEMA: Schema = Schema(&[
    schema::text("/sku/name").required(),
    schema::integer("/sku/capacity", 2..=10),
    schema::choice("minimumTlsVersion", &["1.2"]).or_text("1.2"),
    schema::choice("highAvailability", &["Enabled", "Disabled"]).or_text("Enabled"),
    schema::choice("publicNetworkAccess", &["Enabled", "Disabled"]).or_text("Enabled"),
    schema::object("encryption"),
    schema::any("hostName").read_only(),
    schema::any("redisVersion").read_only(),
    schema::any("resourceState").read_only(),
    schema::any("redundancyMode").read_only(),
    schema::any("privateEndpointConnections").read_only(),
]);

/// Memory in bytes and connections of an SKU; None for one that is not offered. Half a gibibyte in the
/// smallest, then the number in the name, at least one
/// (<https://learn.microsoft.com/azure/redis/overview#choosing-the-right-tier>).
pub(super) fn size(sku: &str) -> Option<(u64, u32)> {
    const MIB: u64 = 1 << 20;
    let (tier, size) = sku.split_once('_')?;
    let mib = match (tier, size) {
        ("Balanced", "B0") => 512,
        ("Balanced", "B1") => 1024,
        ("Balanced", "B3") | ("ComputeOptimized", "X3") => 3 * 1024,
        ("Balanced", "B5") | ("ComputeOptimized", "X5") => 6 * 1024,
        ("Balanced", "B10") | ("MemoryOptimized", "M10") | ("ComputeOptimized", "X10") => 12 * 1024,
        ("Balanced", "B20") | ("MemoryOptimized", "M20") | ("ComputeOptimized", "X20") => 24 * 1024,
        ("Balanced", "B50") | ("MemoryOptimized", "M50") | ("ComputeOptimized", "X50") => 60 * 1024,
        ("Balanced", "B100") | ("MemoryOptimized", "M100") | ("ComputeOptimized", "X100") => {
            120 * 1024
        }
        _ => return None,
    };
    // The descriptors of one server are limited; Azure's smallest allows as many.
    Some((mib * MIB, 15_000))
}

/// The name by which clients find a cluster: `notes.westeurope.redis.azure.net`.
pub(super) fn host(resource: &Resource) -> String {
    format!(
        "{}.{}.redis.azure.net",
        resource.id.name().to_ascii_lowercase(),
        resource.text("/location").unwrap_or("westeurope")
    )
}

impl ResourceType for Clusters {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn api_versions(&self) -> &'static [&'static str] {
        VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[
            "highAvailability",
            "publicNetworkAccess",
            "encryption",
            "zones",
            "sku.capacity",
            "identity",
        ]
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        names::check(
            name,
            1..=60,
            |c| c.is_ascii_alphanumeric() || c == '-',
            |name| !name.starts_with('-') && !name.ends_with('-') && !name.contains("--"),
        )
        .map_err(|()| {
            names::invalid(KIND, name, "1 to 60 letters, digits and hyphens, neither beginning nor ending with a hyphen, and without two in a row")
        })
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        _: &mut Batch,
    ) -> Result<Value, ArmError> {
        let body = SCHEMA.apply(write)?;
        let sku = body["sku"]["name"].as_str().unwrap_or_default();
        let Some((memory, _)) = size(sku) else {
            return Err(ArmError::invalid_value(
                "sku.name",
                format!(
                    "The SKU '{sku}' is not offered in this region: Balanced_B0 to Balanced_B100, MemoryOptimized_M10 to _M100 and ComputeOptimized_X3 to _X100 are."
                ),
            ));
        };
        if let Some(before) = write.existing {
            let old = before.text("/sku/name").and_then(size).map_or(0, |(memory, _)| memory);
            if memory < old {
                return Err(ArmError::bad_request(
                    "BadRequest",
                    "Scaling to a SKU with less memory is not supported.",
                )
                .at("sku.name"));
            }
        } else if context.store.list(KIND, &ResourceId::root()).iter().any(|other| {
            other.id.name().eq_ignore_ascii_case(write.id.name())
                && other.text("/location") == body["location"].as_str()
        }) {
            return Err(ArmError::conflict(
                "NameNotAvailable",
                format!("The name '{}' is already used by another cache.", write.id.name()),
            ));
        }
        Ok(body)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::LongRunning(cache_redis::WRITES)
    }

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            // Another SKU is another size of the database that runs.
            let databases = context.store.list(cache_redis_enterprise_databases::KIND, id);
            for database in databases {
                cache_redis_enterprise_databases::apply(context, &database.id).await?;
            }
            Ok(())
        })
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        body["kind"] = json!("v2");
        let version = cache_redis_enterprise_databases::version(context, &resource.id);
        let properties = &mut body["properties"];
        properties["hostName"] = json!(host(resource));
        properties["resourceState"] = json!(match properties["provisioningState"].as_str() {
            Some("Creating") => "Creating",
            Some("Updating") => "Updating",
            Some("Deleting") => "Deleting",
            Some("Failed") => "CreateFailed",
            _ => "Running",
        });
        // A local region has one zone.
        properties["redundancyMode"] =
            json!(if properties["highAvailability"] == "Disabled" { "None" } else { "LR" });
        if let Some(version) = version {
            properties["redisVersion"] = json!(version);
        }
        body
    }

    fn delete_style(&self) -> Style {
        Style::LongRunning(LongRunning::LOCATION)
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_those_of_azures_table() {
        assert_eq!(size("Balanced_B0").map(|s| s.0), Some(1 << 29));
        assert_eq!(size("Balanced_B5").map(|s| s.0), Some(6 << 30));
        assert_eq!(size("MemoryOptimized_M10").map(|s| s.0), Some(12 << 30));
        assert_eq!(size("Premium_P1"), None);
    }
}
