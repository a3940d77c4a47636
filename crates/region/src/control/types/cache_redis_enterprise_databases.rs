//! `Microsoft.Cache/redisEnterprise/databases`: the database of a managed cache
//! (<https://learn.microsoft.com/rest/api/redis/redisenterprisecache/databases>), a Redis server of
//! [`crate::redis`] on port 10000.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{
    Call, LongRunning, Placement, Reply, ResourceType, Style, Write,
    cache_redis::{self, KEYS, Keys, caches, failed},
    cache_redis_enterprise::{self as cluster, VERSIONS},
};
use crate::{
    control::{
        Context,
        error::ArmError,
        schema::{self, Schema},
    },
    names::Subnet,
    redis::{Cache, MANAGED_PORT, Password},
    store::{Batch, Resource},
};

/// Databases of managed caches.
pub(super) struct Databases;

pub(super) const KIND: &str = "Microsoft.Cache/redisEnterprise/databases";

const POLICIES: &[&str] = &[
    "VolatileLRU",
    "AllKeysLRU",
    "VolatileRandom",
    "AllKeysRandom",
    "VolatileTTL",
    "NoEviction",
    "VolatileLFU",
    "AllKeysLFU",
];

const SCHEMA: Schema = Schema(&[
    schema::choice("clientProtocol", &["Encrypted", "Plaintext"]).or_text("Encrypted"),
    schema::integer("port", 10_000..=10_000).or_int(10_000).immutable(),
    schema::choice("clusteringPolicy", &["OSSCluster", "EnterpriseCluster", "NoCluster"])
        .or_text("OSSCluster")
        .immutable(),
    schema::choice("evictionPolicy", POLICIES).or_text("VolatileLRU"),
    schema::choice("accessKeysAuthentication", &["Enabled", "Disabled"]).or_text("Disabled"),
    schema::array("modules").or_empty().immutable(),
    schema::boolean("persistence/aofEnabled").or_bool(false),
    schema::boolean("persistence/rdbEnabled").or_bool(false),
    schema::choice("deferUpgrade", &["NotDeferred", "Deferred"]).or_text("NotDeferred"),
    schema::any("redisVersion").read_only(),
    schema::any("resourceState").read_only(),
]);

/// The server's name. No name of a cache holds a dot, so it is no other cache's.
fn server(cluster: &ResourceId) -> String {
    format!("{}.managed", cluster.name().to_ascii_lowercase())
}

/// `AllKeysLRU` as Redis calls it.
fn policy(name: &str) -> String {
    match name {
        "NoEviction" => "noeviction".into(),
        name => {
            let (keys, order) = match name.strip_prefix("AllKeys") {
                Some(order) => ("allkeys", order),
                None => ("volatile", name.strip_prefix("Volatile").unwrap_or("LRU")),
            };
            format!("{keys}-{}", order.to_ascii_lowercase())
        }
    }
}

fn described(context: &Context, database: &Resource) -> Result<Option<Cache>, ArmError> {
    let Some(cluster) = database.id.parent().and_then(|id| context.store.get(&id)) else {
        return Ok(None);
    };
    let keys = Keys::load(context, &database.id)?;
    let (memory, clients) = cluster
        .text("/sku/name")
        .and_then(cluster::size)
        .ok_or_else(|| ArmError::internal(&format!("{} has an unknown SKU", cluster.id)))?;
    let properties = database.properties();
    let encrypted = properties["clientProtocol"] != "Plaintext";
    Ok(Some(Cache {
        name: server(&cluster.id),
        host: cluster::host(&cluster),
        address: context
            .addresses
            .of(cluster.id.key(), Subnet::PrivateEndpoints)
            .map_err(|error| ArmError::internal(&error))?,
        keys: [Password::new(keys.primary), Password::new(keys.secondary)],
        keys_accepted: properties["accessKeysAuthentication"] == "Enabled",
        memory,
        databases: 1,
        clients,
        eviction: policy(properties["evictionPolicy"].as_str().unwrap_or_default()),
        keyspace_events: String::new(),
        tls12: true,
        tls_port: if encrypted { MANAGED_PORT } else { 0 },
        plain_port: if encrypted { 0 } else { MANAGED_PORT },
        cluster: properties["clusteringPolicy"] == "OSSCluster",
    }))
}

/// Makes the server what the database and its cluster say.
pub(super) async fn apply(context: &Context, id: &ResourceId) -> Result<(), ArmError> {
    let Some(resource) = context.store.get(id) else { return Ok(()) };
    let Some(redis) = caches(context) else { return Ok(()) };
    let Some(cache) = described(context, &resource)? else { return Ok(()) };
    let name = cache.name.clone();
    redis.set(cache);
    redis.settled(&name).await.map(drop).map_err(|error| failed(&error))
}

/// Sets every stored database going without waiting for any.
pub(crate) fn resume(context: &Context) {
    let Some(redis) = caches(context) else { return };
    for resource in context.store.list(KIND, &ResourceId::root()) {
        match described(context, &resource) {
            Ok(Some(cache)) => redis.set(cache),
            Ok(None) => {}
            Err(error) => tracing::error!(id = %resource.id, %error, "a cache stays down"),
        }
    }
}

/// The version of Redis that runs for a cluster.
pub(super) fn version(context: &Context, cluster: &ResourceId) -> Option<String> {
    caches(context)?.status(&server(cluster))?.version
}

impl ResourceType for Databases {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn api_versions(&self) -> &'static [&'static str] {
        VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[
            "persistence (always an append-only file)",
            "modules (refused unless empty)",
            "deferUpgrade",
            "accessKeysAuthentication Disabled (no Entra authentication: nobody gets in)",
        ]
    }

    fn placement(&self) -> Placement {
        Placement::None
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        if name == "default" {
            return Ok(());
        }
        Err(ArmError::bad_request(
            "InvalidDatabaseName",
            format!("The database of a cache is called 'default', not '{name}'."),
        ))
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        batch: &mut Batch,
    ) -> Result<Value, ArmError> {
        let body = SCHEMA.apply(write)?;
        let properties = &body["properties"];
        if properties["modules"].as_array().is_some_and(|modules| !modules.is_empty()) {
            return Err(ArmError::not_implemented(
                "Databases of this region load no modules: leave properties.modules empty.",
            ));
        }
        if !properties["geoReplication"].is_null() {
            return Err(ArmError::not_implemented(
                "Databases of this region are not replicated: leave properties.geoReplication out.",
            ));
        }
        if write.creates() {
            Keys::new()?.store(context, write.id, batch)?;
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
        Box::pin(apply(context, id))
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        let version = resource.id.parent().and_then(|cluster| version(context, &cluster));
        let properties = &mut body["properties"];
        properties["resourceState"] = json!(match properties["provisioningState"].as_str() {
            Some("Creating") => "Creating",
            Some("Updating") => "Updating",
            Some("Deleting") => "Deleting",
            Some("Failed") => "CreateFailed",
            _ => "Running",
        });
        if let Some(version) = version {
            properties["redisVersion"] = json!(version);
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
            let Some(cluster) = resource.id.parent() else { return Ok(()) };
            if let Some(redis) = caches(context) {
                redis.remove(&server(&cluster)).await;
            }
            context
                .addresses
                .release(cluster.key(), Subnet::PrivateEndpoints)
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
                "flush" => Ok(Reply::long_running(LongRunning::ACCEPTED, "flush", Value::Null)),
                _ => Err(ArmError::method_not_allowed(&call.method)),
            }
        })
    }

    fn perform<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
        _: &'a str,
        _: &'a Value,
    ) -> BoxFuture<'a, Result<Value, ArmError>> {
        Box::pin(async move {
            if let (Some(redis), Some(cluster)) = (caches(context), id.parent()) {
                redis.flush(&server(&cluster)).await.map_err(|error| failed(&error))?;
            }
            Ok(Value::Null)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::policy;

    #[test]
    fn policies_are_named_as_redis_names_them() {
        assert_eq!(policy("VolatileLRU"), "volatile-lru");
        assert_eq!(policy("AllKeysLFU"), "allkeys-lfu");
        assert_eq!(policy("NoEviction"), "noeviction");
    }
}
