//! `Microsoft.Cache/redis`: Azure Cache for Redis
//! (<https://learn.microsoft.com/rest/api/redis/redis>). The cache itself is [`crate::redis`]'s.

use std::sync::Arc;

use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::BoxFuture;
use http::StatusCode;
use lazuli_azure::ResourceId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Call, LongRunning, Registry, Reply, ResourceType, Style, Write};
use crate::{
    control::{
        Context,
        error::ArmError,
        names,
        schema::{self, Schema},
    },
    names::Subnet,
    redis::{Cache, PLAIN_PORT, Password, Redis, RedisError, TLS_PORT},
    store::{Batch, Resource},
};

/// Caches.
pub(super) struct Caches;

const KIND: &str = "Microsoft.Cache/redis";
/// Sealed [`Keys`], by resource.
pub(super) const KEYS: &str = "redis.keys";

const POLICIES: &[&str] = &[
    "volatile-lru",
    "allkeys-lru",
    "volatile-random",
    "allkeys-random",
    "volatile-ttl",
    "noeviction",
    "volatile-lfu",
    "allkeys-lfu",
];

const SCHEMA: Schema = Schema(&[
    schema::choice("sku/name", &["Basic", "Standard", "Premium"]).required(),
    schema::choice("sku/family", &["C", "P"]).required(),
    schema::integer("sku/capacity", 0..=6).required(),
    schema::boolean("enableNonSslPort").or_bool(false),
    // 1.0 and 1.1 are retired (https://learn.microsoft.com/azure/azure-cache-for-redis/cache-remove-tls-10-11).
    schema::choice("minimumTlsVersion", &["1.2"]).or_text("1.2"),
    schema::choice("publicNetworkAccess", &["Enabled", "Disabled"]).or_text("Enabled"),
    schema::boolean("disableAccessKeyAuthentication").or_bool(false),
    schema::text("redisVersion"),
    schema::choice("redisConfiguration/maxmemory-policy", POLICIES).or_text("volatile-lru"),
    schema::text("redisConfiguration/notify-keyspace-events"),
    schema::any("redisConfiguration/maxclients").read_only(),
    schema::integer("shardCount", 0..=30),
    schema::any("hostName").read_only(),
    schema::any("port").read_only(),
    schema::any("sslPort").read_only(),
    schema::any("accessKeys").read_only(),
    schema::any("linkedServers").read_only(),
    schema::any("instances").read_only(),
    schema::any("privateEndpointConnections").read_only(),
]);

pub(super) const WRITES: LongRunning = LongRunning {
    created: StatusCode::CREATED,
    updated: StatusCode::OK,
    azure_async_operation: true,
    location: false,
    statuses: "asyncOperations",
    results: "operationResults",
};

/// The two access keys of a cache or database, sealed in the store.
#[derive(Serialize, Deserialize)]
pub(super) struct Keys {
    pub(super) primary: String,
    pub(super) secondary: String,
}

/// A new access key: 33 random bytes, 44 characters without padding, as Azure's are.
fn new_key() -> Result<String, ArmError> {
    let mut bytes = [0_u8; 33];
    rand::fill(&mut bytes).map_err(|_| ArmError::internal(&"no random numbers"))?;
    Ok(BASE64_STANDARD.encode(bytes))
}

impl Keys {
    pub(super) fn new() -> Result<Self, ArmError> {
        Ok(Self { primary: new_key()?, secondary: new_key()? })
    }

    pub(super) fn load(context: &Context, id: &ResourceId) -> Result<Self, ArmError> {
        let sealed = context
            .store
            .get_state(KEYS, id.key())
            .ok_or_else(|| ArmError::internal(&format!("the access keys of {id} are lost")))?;
        let open = context
            .sealer
            .open_sealed(id.key(), &sealed)
            .map_err(|error| ArmError::internal(&error))?;
        serde_json::from_slice(&open).map_err(|error| ArmError::internal(&error))
    }

    pub(super) fn store(
        &self,
        context: &Context,
        id: &ResourceId,
        batch: &mut Batch,
    ) -> Result<(), ArmError> {
        let bytes = serde_json::to_vec(self).map_err(|error| ArmError::internal(&error))?;
        batch.put_state(KEYS, id.key(), context.sealer.seal(id.key(), &bytes));
        Ok(())
    }

    /// Makes the key that `keyType` names anew.
    pub(super) fn regenerate(&mut self, body: &Value) -> Result<(), ArmError> {
        match body["keyType"].as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("primary") => self.primary = new_key()?,
            Some("secondary") => self.secondary = new_key()?,
            _ => {
                return Err(ArmError::invalid_content(
                    "The value of 'keyType' must be Primary or Secondary",
                ));
            }
        }
        Ok(())
    }

    pub(super) fn reply(&self) -> Reply {
        Reply::ok(json!({ "primaryKey": self.primary, "secondaryKey": self.secondary }))
    }
}

/// Memory in bytes, databases and connections of an SKU
/// (<https://learn.microsoft.com/azure/azure-cache-for-redis/cache-configure#default-redis-server-configuration>).
fn size(sku: &Value) -> Option<(u64, u32, u32)> {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    let capacity = usize::try_from(sku["capacity"].as_u64()?).ok()?;
    match (sku["name"].as_str()?, sku["family"].as_str()?) {
        ("Basic" | "Standard", "C") => {
            let memory = [250 * MIB, GIB, 2560 * MIB, 6 * GIB, 13 * GIB, 26 * GIB, 53 * GIB];
            let clients = [256, 1000, 2000, 5000, 10_000, 15_000, 20_000];
            let databases = [16, 16, 16, 16, 32, 48, 64];
            Some((*memory.get(capacity)?, databases[capacity], clients[capacity]))
        }
        ("Premium", "P") => {
            let memory = [6 * GIB, 13 * GIB, 26 * GIB, 53 * GIB, 120 * GIB];
            let clients = [7500, 15_000, 30_000, 40_000, 40_000];
            let databases = [16, 32, 48, 64, 64];
            let index = capacity.checked_sub(1)?;
            Some((*memory.get(index)?, databases[index], clients[index]))
        }
        _ => None,
    }
}

pub(super) fn caches(context: &Context) -> Option<&Arc<Redis>> {
    context.handle::<Arc<Redis>>()
}

pub(super) fn failed(error: &RedisError) -> ArmError {
    ArmError::new(StatusCode::INTERNAL_SERVER_ERROR, "CacheProvisioningFailed", error.to_string())
}

/// What the stored resource says that a cache should be.
fn described(context: &Context, resource: &Resource) -> Result<Cache, ArmError> {
    let keys = Keys::load(context, &resource.id)?;
    let properties = &resource.body["properties"];
    let (memory, databases, clients) = size(&properties["sku"])
        .ok_or_else(|| ArmError::internal(&format!("{} has an unknown SKU", resource.id)))?;
    let configuration = &properties["redisConfiguration"];
    Ok(Cache {
        name: resource.id.name().to_ascii_lowercase(),
        host: host(resource),
        address: context
            .addresses
            .of(resource.id.key(), Subnet::PrivateEndpoints)
            .map_err(|error| ArmError::internal(&error))?,
        keys: [Password::new(keys.primary), Password::new(keys.secondary)],
        memory,
        databases,
        clients,
        eviction: configuration["maxmemory-policy"].as_str().unwrap_or("volatile-lru").to_owned(),
        keyspace_events: configuration["notify-keyspace-events"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        tls12: true,
        keys_accepted: true,
        tls_port: TLS_PORT,
        plain_port: if properties["enableNonSslPort"] == true { PLAIN_PORT } else { 0 },
        cluster: false,
    })
}

fn host(resource: &Resource) -> String {
    format!("{}.redis.cache.windows.net", resource.id.name().to_ascii_lowercase())
}

async fn apply(context: &Context, id: &ResourceId) -> Result<(), ArmError> {
    let Some(resource) = context.store.get(id) else { return Ok(()) };
    let Some(redis) = caches(context) else { return Ok(()) };
    let cache = described(context, &resource)?;
    let name = cache.name.clone();
    redis.set(cache);
    redis.settled(&name).await.map(drop).map_err(|error| failed(&error))
}

/// Sets every stored cache going without waiting for any: how a region starts.
pub(crate) fn resume(context: &Context) {
    let Some(redis) = caches(context) else { return };
    for resource in context.store.list(KIND, &ResourceId::root()) {
        match described(context, &resource) {
            Ok(cache) => redis.set(cache),
            Err(error) => tracing::error!(id = %resource.id, %error, "a cache stays down"),
        }
    }
}

impl ResourceType for Caches {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn api_versions(&self) -> &'static [&'static str] {
        &["2024-11-01", "2024-03-01", "2023-08-01", "2023-04-01", "2022-06-01"]
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[
            "publicNetworkAccess",
            "redisVersion (the installed Redis runs)",
            "redisConfiguration.maxmemory-reserved",
            "redisConfiguration.maxfragmentationmemory-reserved",
            "replicasPerMaster",
            "zones",
            "subnetId",
            "staticIP",
        ]
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        names::check(
            name,
            1..=63,
            |c| c.is_ascii_alphanumeric() || c == '-',
            |name| !name.starts_with('-') && !name.ends_with('-') && !name.contains("--"),
        )
        .map_err(|()| {
            let rule = "1 to 63 letters, digits and hyphens, neither beginning nor ending with a hyphen, and without two in a row";
            names::invalid(KIND, name, rule)
        })
    }

    fn unique_name(&self, id: &ResourceId) -> Option<String> {
        Some(format!("{}.redis.cache.windows.net", id.name()))
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        batch: &mut Batch,
    ) -> Result<Value, ArmError> {
        let body = SCHEMA.apply(write)?;
        let properties = &body["properties"];
        if size(&properties["sku"]).is_none() {
            return Err(ArmError::invalid_value(
                "properties.sku",
                "The SKU is not offered: Basic and Standard are of family C with a capacity of 0 to 6, Premium of family P with 1 to 5.",
            ));
        }
        if properties["shardCount"].as_i64().is_some_and(|count| count > 0) {
            return Err(ArmError::not_implemented(
                "Caches of this region are not clustered: leave shardCount out.",
            ));
        }
        if properties["disableAccessKeyAuthentication"] == true {
            return Err(ArmError::not_implemented(
                "Caches of this region know no Microsoft Entra authentication yet: access keys cannot be disabled.",
            ));
        }
        let events =
            properties["redisConfiguration"]["notify-keyspace-events"].as_str().unwrap_or_default();
        if !events.chars().all(|c| "KEg$lshzxetdmnA".contains(c)) {
            return Err(ArmError::invalid_value(
                "properties.redisConfiguration.notify-keyspace-events",
                format!("The value '{events}' holds a letter that is no class of events."),
            ));
        }
        if let Some(before) = write.existing {
            let rank = |sku: &Value| match sku["name"].as_str() {
                Some("Basic") => 0,
                Some("Standard") => 1,
                _ => 2,
            };
            if rank(&properties["sku"]) < rank(&before.body["properties"]["sku"]) {
                return Err(ArmError::bad_request(
                    "BadRequest",
                    "A cache cannot be scaled down to a lower tier.",
                )
                .at("properties.sku.name"));
            }
        } else {
            let taken = context.store.list(KIND, &ResourceId::root());
            if taken.iter().any(|other| other.id.name().eq_ignore_ascii_case(write.id.name())) {
                return Err(ArmError::conflict(
                    "NameNotAvailable",
                    format!("The name '{}' is already used by another cache.", write.id.name()),
                ));
            }
            Keys::new()?.store(context, write.id, batch)?;
        }
        Ok(body)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::LongRunning(WRITES)
    }

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(apply(context, id))
    }

    fn view(&self, _: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        let properties = &mut body["properties"];
        properties["hostName"] = json!(host(resource));
        properties["port"] = json!(PLAIN_PORT);
        properties["sslPort"] = json!(TLS_PORT);
        properties["accessKeys"] = Value::Null;
        properties["linkedServers"] = json!([]);
        // As Azure words it. A client that asked for 6 and reads 7 would want to put it right for ever;
        // what really runs is in the region's log.
        let major = properties["redisVersion"].as_str().unwrap_or("6").split('.').next();
        properties["redisVersion"] = json!(format!("{}.0", major.unwrap_or("6")));
        if let Some((_, _, clients)) = size(&properties["sku"]) {
            properties["redisConfiguration"]["maxclients"] = json!(clients.to_string());
        }
        body
    }

    fn deletable(
        &self,
        _: &Context,
        resource: &Resource,
        batch: &mut Batch,
    ) -> Result<(), ArmError> {
        batch.delete_state(KEYS, resource.id.key());
        Ok(())
    }

    fn delete_style(&self) -> Style {
        Style::LongRunning(LongRunning::LOCATION)
    }

    fn deprovision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        resource: &'a Resource,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            if let Some(redis) = caches(context) {
                redis.remove(&resource.id.name().to_ascii_lowercase()).await;
            }
            context
                .addresses
                .release(resource.id.key(), Subnet::PrivateEndpoints)
                .map_err(|error| ArmError::internal(&error))
        })
    }

    fn act<'a>(
        &'a self,
        context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Reply, ArmError>> {
        Box::pin(async move {
            let id = &call.id;
            let name = id.name().to_ascii_lowercase();
            match call.action.as_str() {
                "listkeys" => Keys::load(context, id).map(|keys| keys.reply()),
                "regeneratekey" => {
                    let mut keys = Keys::load(context, id)?;
                    keys.regenerate(&call.body)?;
                    let mut batch = Batch::new();
                    keys.store(context, id, &mut batch)?;
                    context.store.commit(batch).await?;
                    apply(context, id).await?;
                    Ok(keys.reply())
                }
                "forcereboot" => {
                    if let Some(redis) = caches(context) {
                        redis.reboot(&name).await.map_err(|error| failed(&error))?;
                    }
                    Ok(Reply::ok(json!({ "message": "The cache has been rebooted." })))
                }
                "flush" => {
                    if let Some(redis) = caches(context) {
                        redis.flush(&name).await.map_err(|error| failed(&error))?;
                    }
                    Ok(Reply::ok(json!({ "status": "Succeeded" })))
                }
                _ => Err(ArmError::method_not_allowed(&call.method)),
            }
        })
    }
}

/// Routes that are no resources.
pub(super) fn register(types: &mut Registry) {
    types.route(
        http::Method::POST,
        "/subscriptions/{}/providers/microsoft.cache/checknameavailability",
        None,
        |context, call| {
            Box::pin(async move {
                let name = call.body["name"].as_str().unwrap_or_default();
                Caches.check_name(name)?;
                let taken = context.store.list(KIND, &ResourceId::root());
                if taken.iter().any(|other| other.id.name().eq_ignore_ascii_case(name)) {
                    return Err(ArmError::conflict(
                        "NameNotAvailable",
                        format!("The name '{name}' is already used by another cache."),
                    ));
                }
                // 200 without a body: the name is free.
                Ok(Reply::new(StatusCode::OK, None))
            })
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_azures_table() {
        let sku = |name, family, capacity| {
            size(&json!({ "name": name, "family": family, "capacity": capacity }))
        };
        assert_eq!(sku("Basic", "C", 1), Some((1 << 30, 16, 1000)));
        assert_eq!(sku("Premium", "P", 1), Some((6 << 30, 16, 7500)));
        assert_eq!(sku("Premium", "P", 0), None);
        assert_eq!(sku("Premium", "C", 1), None);
        assert_eq!(sku("Standard", "C", 7), None);
    }

    #[test]
    fn keys_look_like_azures() {
        let key = new_key().expect("a key");
        assert_eq!(key.len(), 44);
        assert_ne!(key, new_key().expect("another"));
    }
}
