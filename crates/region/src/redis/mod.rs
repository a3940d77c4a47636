//! Azure Cache for Redis and Azure Managed Redis: real servers, one sandbox each, driven towards a
//! plain description of what they should be.
//!
//! Layout of a cache's directory below `redis/`: `data` (the append-only file), `conf` (what we
//! write, read-only to the server), `run` (the Unix socket that only core reaches).

mod client;
mod keeper;
mod server;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lazuli_gateway::Authority;
use lazuli_host::Host;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use crate::postgres::Password;

use crate::names::Names;

/// The TLS port of Azure Cache for Redis.
pub const TLS_PORT: u16 = 6380;
/// Its port without TLS, off unless asked for.
pub const PLAIN_PORT: u16 = 6379;
/// The one port of Azure Managed Redis.
pub const MANAGED_PORT: u16 = 10_000;
const SETTLE: Duration = Duration::from_secs(60);
const PATIENCE: u32 = 3;

/// What a cache should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Its name, which is also its directory's.
    pub name: String,
    /// Its public name, private here: `notes.redis.cache.windows.net`.
    pub host: String,
    /// Its address in the private-endpoint subnet.
    pub address: Ipv4Addr,
    /// The primary and the secondary key: both are accepted at any time.
    pub keys: [Password; 2],
    /// Whether keys are accepted at all (`accessKeysAuthentication`).
    pub keys_accepted: bool,
    /// `maxmemory` in bytes.
    pub memory: u64,
    /// The number of logical databases. A change restarts the server.
    pub databases: u32,
    /// `maxclients`, from the SKU.
    pub clients: u32,
    /// `maxmemory-policy`.
    pub eviction: String,
    /// `notify-keyspace-events`.
    pub keyspace_events: String,
    /// Whether TLS 1.2 is accepted besides 1.3.
    pub tls12: bool,
    /// The port with TLS; 0 is none.
    pub tls_port: u16,
    /// The port without TLS; 0 is none.
    pub plain_port: u16,
    /// Whether clients speak the cluster protocol (one node owns every slot). A change restarts the
    /// server, which then has lost its keys: Azure does not allow it either.
    pub cluster: bool,
}

/// What a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// The version that runs (`7.0.15`).
    pub version: Option<String>,
    failures: u32,
    about: Option<Arc<Cache>>,
}

/// A cache's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// On its way to what it should be.
    Updating,
    /// As described, and serving.
    Ready,
    /// Not as described, for this reason; being tried again.
    Failed(String),
}

/// Why something could not be done with a cache.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RedisError {
    /// There is no such cache.
    #[error("there is no cache {0}")]
    Unknown(String),
    /// It did not become what it should be.
    #[error("cache {name}: {reason}")]
    Failed {
        /// The cache.
        name: String,
        /// What went wrong, with the server's own last words.
        reason: String,
    },
}

/// What every cache of the region shares.
#[derive(Debug)]
pub struct Config {
    /// The machine.
    pub host: Host,
    /// Signs the caches' certificates.
    pub authority: Arc<Authority>,
    /// Where the caches' names are published.
    pub names: Names,
    /// The directory of all caches.
    pub root: PathBuf,
    /// The region's log files.
    pub logs: PathBuf,
}

/// Every cache of the region.
#[derive(Debug)]
pub struct Redis {
    config: Arc<Config>,
    caches: Mutex<HashMap<String, Kept>>,
}

#[derive(Debug)]
struct Kept {
    desired: watch::Sender<Goal>,
    status: watch::Receiver<Status>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Goal {
    Be(Arc<Cache>),
    /// Stop cleanly and end: the region is stopping.
    Rest,
    /// Stop, and forget the data.
    Gone,
}

impl Redis {
    /// No caches yet.
    pub fn new(config: Config) -> Self {
        Self { config: Arc::new(config), caches: Mutex::default() }
    }

    /// Says what a cache should be; returns at once.
    pub fn set(&self, cache: Cache) {
        let name = cache.name.clone();
        self.config.names.set(&cache.host, cache.address);
        let cache = Arc::new(cache);
        let mut caches = self.caches();
        if let Some(kept) = caches.get(&name) {
            kept.desired.send_if_modified(|goal| {
                let new = Goal::Be(Arc::clone(&cache));
                let changed = *goal != new;
                *goal = new;
                changed
            });
            return;
        }
        let (desired, goal) = watch::channel(Goal::Be(cache));
        let (report, status) = watch::channel(Status {
            state: State::Updating,
            version: None,
            failures: 0,
            about: None,
        });
        let keeper = keeper::Keeper::new(Arc::clone(&self.config), name.clone(), goal, report);
        let keeper = Some(tokio::spawn(keeper.run()));
        caches.insert(name, Kept { desired, status, keeper });
    }

    /// Waits until a cache is what it was last said to be.
    pub async fn settled(&self, name: &str) -> Result<Status, RedisError> {
        let unknown = || RedisError::Unknown(name.to_owned());
        let (desired, mut status) = {
            let caches = self.caches();
            let kept = caches.get(name).ok_or_else(unknown)?;
            let Goal::Be(desired) = kept.desired.borrow().clone() else { return Err(unknown()) };
            (desired, kept.status.clone())
        };
        let waiting = status.wait_for(|status| {
            status.about.as_ref() == Some(&desired)
                && match status.state {
                    State::Ready => true,
                    State::Failed(_) => status.failures >= PATIENCE,
                    State::Updating => false,
                }
        });
        let settled = match tokio::time::timeout(SETTLE, waiting).await {
            Ok(Ok(status)) => status.clone(),
            Ok(Err(_)) => return Err(unknown()),
            Err(_) => self.status(name).ok_or_else(unknown)?,
        };
        let reason = match settled.state {
            State::Ready => return Ok(settled),
            State::Failed(reason) => reason,
            State::Updating => format!("not ready within {SETTLE:?}"),
        };
        Err(RedisError::Failed { name: name.to_owned(), reason })
    }

    /// What a cache is now.
    pub fn status(&self, name: &str) -> Option<Status> {
        self.caches().get(name).map(|kept| kept.status.borrow().clone())
    }

    /// Restarts a cache's server (`forceReboot`), which keeps what its append-only file holds.
    pub async fn reboot(&self, name: &str) -> Result<(), RedisError> {
        self.settled(name).await?;
        let failed = |reason| RedisError::Failed { name: name.to_owned(), reason };
        client::Client::connect(&self.config.root.join(name))
            .await
            .map_err(failed)?
            .shutdown()
            .await;
        self.settled(name).await.map(drop)
    }

    /// Removes every key of every database (`flush`).
    pub async fn flush(&self, name: &str) -> Result<(), RedisError> {
        self.settled(name).await?;
        let failed = |reason| RedisError::Failed { name: name.to_owned(), reason };
        let mut client =
            client::Client::connect(&self.config.root.join(name)).await.map_err(failed)?;
        client.command(&["FLUSHALL"]).await.map(drop).map_err(failed)
    }

    /// Stops a cache and deletes its data. Repeatable.
    pub async fn remove(&self, name: &str) {
        let described = self.caches().get(name).and_then(|kept| match &*kept.desired.borrow() {
            Goal::Be(cache) => Some(cache.host.clone()),
            Goal::Rest | Goal::Gone => None,
        });
        if let Some(host) = described {
            self.config.names.remove(&host);
        }
        if let Some(keeper) = self.end(name, Goal::Gone) {
            // A keeper that panicked has stopped too.
            let _ = keeper.await;
        } else {
            // Nobody keeps it, but a crash may have left its files.
            let dir = self.config.root.join(name);
            if let Err(error) = std::fs::remove_dir_all(&dir)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, dir = %dir.display(), "left behind");
            }
        }
        self.caches().remove(name);
    }

    /// Stops every cache cleanly: the region is stopping.
    pub async fn shutdown(&self) {
        let names: Vec<String> = self.caches().keys().cloned().collect();
        let keepers: Vec<_> = names.iter().filter_map(|name| self.end(name, Goal::Rest)).collect();
        for keeper in keepers {
            let _ = keeper.await;
        }
    }

    fn end(&self, name: &str, goal: Goal) -> Option<JoinHandle<()>> {
        let mut caches = self.caches();
        let kept = caches.get_mut(name)?;
        kept.desired.send_replace(goal);
        kept.keeper.take()
    }

    fn caches(&self) -> std::sync::MutexGuard<'_, HashMap<String, Kept>> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
