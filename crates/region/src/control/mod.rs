//! Resource Manager: `management.azure.com`.
//!
//! [`Control`] is the HTTP service. [`router`] takes a request apart, authorises it and lives the plain
//! life of a resource (create, read, change, list, delete); what is special to a type stands in one file
//! below [`types`], which also says how to add one. Long work is an [`operation`] with a durable record.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::Arc,
};

use lazuli_azure::ResourceId;
use lazuli_gateway::{Gateway, Target};
use lazuli_host::Host;
use tokio::sync::watch;

use crate::{
    identity::Identity,
    names::{Addresses, Names},
    seal::Sealer,
    store::{Batch, Expect, Store, StoreError},
    tenancy::Tenancy,
    vault::{Vaults, rest::DataPlane},
};

pub mod activity;
pub mod authorization;
pub mod error;
pub mod filter;
pub mod names;
pub mod operation;
pub mod roles;
pub mod router;
pub mod schema;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod types;

pub use error::ArmError;
pub use types::{
    Call, Caller, LongRunning, Method, Placement, Query, Registry, Reply, ResourceType, Style,
    Write,
};

/// The host name of Resource Manager.
pub const HOST: &str = "management.azure.com";

/// What types and controllers work with.
pub struct Context {
    /// Resources and private records.
    pub store: Store,
    /// The region's tenant and subscription.
    pub tenancy: Tenancy,
    /// Seals secrets for private state.
    pub sealer: Arc<Sealer>,
    /// Principals and tokens.
    pub identity: Arc<Identity>,
    /// Key Vault's secrets.
    pub vaults: Arc<Vaults>,
    /// Private names.
    pub names: Names,
    /// Private addresses.
    pub addresses: Addresses,
    /// The machine; None in tests that run without the region's namespaces.
    pub host: Option<Host>,
    /// The front; None in tests.
    pub gateway: Option<Arc<Gateway>>,
    /// The resource types.
    pub registry: Registry,
    /// Who changed what.
    pub activity: activity::Activity,
    data_plane: Arc<DataPlane>,
    handles: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    locks: Locks,
    writes: Locks,
    operations: watch::Sender<u64>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("tenancy", &self.tenancy).finish_non_exhaustive()
    }
}

/// What [`Context::new`] is made of.
pub struct Parts {
    /// See [`Context::store`].
    pub store: Store,
    /// See [`Context::tenancy`].
    pub tenancy: Tenancy,
    /// See [`Context::sealer`].
    pub sealer: Arc<Sealer>,
    /// See [`Context::identity`].
    pub identity: Arc<Identity>,
    /// See [`Context::vaults`].
    pub vaults: Arc<Vaults>,
    /// See [`Context::names`].
    pub names: Names,
    /// See [`Context::addresses`].
    pub addresses: Addresses,
    /// See [`Context::host`].
    pub host: Option<Host>,
    /// See [`Context::gateway`].
    pub gateway: Option<Arc<Gateway>>,
}

impl Context {
    /// A context with every registered type and no handles.
    pub fn new(parts: Parts) -> Self {
        Self {
            tenancy: parts.tenancy,
            store: parts.store,
            sealer: parts.sealer,
            data_plane: DataPlane::new(parts.vaults.clone(), parts.identity.clone()),
            identity: parts.identity,
            vaults: parts.vaults,
            names: parts.names,
            addresses: parts.addresses,
            host: parts.host,
            gateway: parts.gateway,
            registry: Registry::new(),
            activity: activity::Activity::default(),
            handles: HashMap::new(),
            locks: Locks::default(),
            writes: Locks::default(),
            operations: watch::Sender::new(0),
        }
    }

    /// Adds a handle that a type needs (an `Arc<AppService>`), found by its Rust type.
    #[must_use]
    pub fn with<T: Any + Send + Sync>(mut self, handle: T) -> Self {
        self.handles.insert(TypeId::of::<T>(), Box::new(handle));
        self
    }

    /// Keeps the activity log in a file.
    #[must_use]
    pub fn logging(mut self, activity: activity::Activity) -> Self {
        self.activity = activity;
        self
    }

    /// The handle of that type, if one was put in.
    pub fn handle<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.handles.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// The region's subscription.
    pub fn subscription(&self) -> ResourceId {
        ResourceId::of_subscription(&self.tenancy.subscription_id)
            .unwrap_or_else(|_| ResourceId::root())
    }

    /// Puts a vault's data plane on the front.
    pub(crate) fn publish_vault(&self, name: &str) {
        if let Some(gateway) = &self.gateway {
            let host = format!("{name}.vault.azure.net");
            gateway.update(|table| {
                table.insert(&host, Target::Service(self.data_plane.clone()));
            });
        }
    }

    /// Takes a vault's data plane off the front.
    pub(crate) fn withdraw_vault(&self, name: &str) {
        if let Some(gateway) = &self.gateway {
            let host = format!("{name}.vault.azure.net");
            gateway.update(|table| {
                table.remove(&host);
            });
        }
    }

    /// Holds whoever provisions or deletes a resource apart.
    pub(crate) async fn lock(&self, id: &ResourceId) -> Guard {
        self.locks.lock(id).await
    }

    /// Lets the writers of a resource through one after another, however many come at once.
    pub(crate) async fn lock_writes(&self, id: &ResourceId) -> Guard {
        self.writes.lock(id).await
    }

    /// Holds creations with one and the same name of the region apart.
    pub(crate) async fn lock_name(&self, name: &str) -> Guard {
        // No resource has such an ID.
        let id = ResourceId::root().resource("Lazuli.Region/names", &name.to_ascii_lowercase());
        self.locks.lock(&id.unwrap_or_else(|_| ResourceId::root())).await
    }

    /// Tells those who wait for operations to look again.
    pub(crate) fn operation_changed(&self) {
        self.operations.send_modify(|n| *n += 1);
    }

    /// Changes whenever an operation ends.
    pub(crate) fn operations_watch(&self) -> watch::Receiver<u64> {
        self.operations.subscribe()
    }

    /// Changes a stored body with compare-and-swap until it sticks; nothing happens when the resource
    /// is gone. For what controllers report (`properties.state`).
    pub async fn update(
        &self,
        id: &ResourceId,
        change: impl Fn(&mut serde_json::Value),
    ) -> Result<(), StoreError> {
        loop {
            let Some(resource) = self.store.get(id) else { return Ok(()) };
            let mut body = resource.body.clone();
            change(&mut body);
            if body == resource.body {
                return Ok(());
            }
            let mut batch = Batch::new();
            batch.expect(id, Expect::Etag(resource.etag.clone())).put(id, body);
            match self.store.commit(batch).await {
                Err(StoreError::Conflict(_)) => {}
                result => return result,
            }
        }
    }
}

/// One lock a resource, made when needed and forgotten when free.
#[derive(Default)]
struct Locks(std::sync::Mutex<HashMap<ResourceId, Arc<tokio::sync::Mutex<()>>>>);

/// Held while a resource is written, provisioned or deleted.
pub(crate) struct Guard(
    #[expect(dead_code, reason = "held, not read")] tokio::sync::OwnedMutexGuard<()>,
);

impl Locks {
    async fn lock(&self, id: &ResourceId) -> Guard {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(id.clone()).or_default().clone()
        };
        Guard(lock.lock_owned().await)
    }
}

/// Resource Manager's HTTP service.
#[derive(Debug)]
pub struct Control {
    context: Arc<Context>,
}

impl Control {
    /// The service. Call [`Control::start`] once everything that types need is running.
    pub fn new(context: Arc<Context>) -> Arc<Self> {
        Arc::new(Self { context })
    }

    /// What types and controllers work with.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Brings reality up to what is stored and takes up the operations that a crash interrupted. The
    /// first start also makes the deployer Owner of the subscription. Returns when the region's own
    /// part is done; operations go on in the background.
    pub async fn start(&self) -> Result<(), StoreError> {
        let context = &self.context;
        types::role_assignments::ensure_owner(context).await?;
        tokio::spawn(keep_house(Arc::downgrade(context)));
        tokio::spawn(keep_certificates(Arc::downgrade(context)));
        for kind in context.registry.types() {
            if !kind.provision_at_start() {
                continue;
            }
            for resource in context.store.list(kind.kind(), &ResourceId::root()) {
                if let Err(error) = kind.provision(context, &resource.id).await {
                    tracing::error!(id = %resource.id, %error, "could not be brought up");
                }
            }
        }
        operation::resume(context).await
    }
}

/// At the start and once a day: App Service's certificates follow Key Vault.
async fn keep_certificates(context: std::sync::Weak<Context>) {
    loop {
        {
            let Some(context) = context.upgrade() else { return };
            types::web_certificates::sync(&context).await;
        }
        tokio::time::sleep(std::time::Duration::from_secs(86_400)).await;
    }
}

/// Once an hour: vaults that were deleted and whose retention is over go for good.
async fn keep_house(context: std::sync::Weak<Context>) {
    loop {
        {
            let Some(context) = context.upgrade() else { return };
            if let Err(error) = types::key_vault_deleted_vaults::purge_expired(&context).await {
                tracing::error!(%error, "deleted vaults could not be purged");
            }
        }
        tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
    }
}
