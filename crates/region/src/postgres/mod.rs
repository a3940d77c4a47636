//! PostgreSQL flexible servers and their PgBouncer: real servers, one sandbox each, driven towards a
//! plain description of what they should be.
//!
//! [`Postgres::set`] says what a server should be; a keeper of its own makes it so, again and again,
//! whatever dies in between. What happens to a server *once* (a database made or dropped) is asked of
//! [`Postgres::create_database`] and [`Postgres::drop_database`], which may be repeated.
//!
//! Layout of a server's directory below `postgres/`: `data` (the cluster), `conf` (what we write,
//! read-only to the servers), `run` (the Unix socket, reachable by core and PgBouncer alone).

mod admin;
mod cluster;
mod keeper;
mod pooler;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lazuli_gateway::Authority;
use lazuli_host::Host;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use admin::{DatabaseInfo, Setting};
pub use pooler::{PARAMETERS as POOLER_PARAMETERS, Parameter as PoolerParameter};

use crate::names::Names;

/// PostgreSQL's port.
pub const PORT: u16 = 5432;
/// PgBouncer's port, on the same address
/// (<https://learn.microsoft.com/azure/postgresql/flexible-server/concepts-pgbouncer>).
pub const POOLER_PORT: u16 = 6432;
/// How long a server may take to be as described before whoever waits is told that it is not.
const SETTLE: Duration = Duration::from_secs(120);
/// Consecutive failures after which whoever waits is told; the keeper itself goes on trying.
const PATIENCE: u32 = 3;

/// A password. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Wraps a password.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    /// The password itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

/// What a server should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name, which is also its directory's.
    pub name: String,
    /// The major version wanted when its data is first made. Without it installed, the newest that
    /// is; data that exists keeps its version.
    pub major: u32,
    /// Its address in the database subnet.
    pub address: Ipv4Addr,
    /// The administrator's role.
    pub administrator: String,
    /// The administrator's password.
    pub password: Password,
    /// From the SKU, unless a parameter says otherwise. A change restarts the server.
    pub max_connections: u32,
    /// Whether the SKU has PgBouncer at all (Burstable has not). `pgbouncer.enabled` then decides.
    pub pooler_offered: bool,
    /// Server parameters that differ from their defaults, PgBouncer's (`pgbouncer.*`) included.
    pub parameters: BTreeMap<String, String>,
    /// Whether it should run.
    pub started: bool,
    /// A change of this number restarts the server: how static parameters take effect.
    pub restarts: u64,
}

impl Server {
    /// Its public name, private here.
    pub fn host_name(&self) -> String {
        format!("{}.postgres.database.azure.com", self.name)
    }

    fn pooled(&self) -> bool {
        self.pooler_offered && self.parameters.get("pgbouncer.enabled").is_some_and(|v| truthy(v))
    }
}

/// The ways PostgreSQL and Azure write "on".
pub(crate) fn truthy(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "1" | "yes")
}

/// What a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// The version that runs (`15.18`).
    pub version: Option<String>,
    /// Its parameters as it runs with them.
    pub settings: Arc<Vec<Setting>>,
    /// Whether PgBouncer serves.
    pub pooled: bool,
    /// Consecutive failures.
    failures: u32,
    /// The description this status is about.
    about: Option<Arc<Server>>,
}

/// A server's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// On its way to what it should be.
    Updating,
    /// As described, and serving.
    Ready,
    /// Stopped, as described.
    Stopped,
    /// Not as described, for this reason; being tried again.
    Failed(String),
}

/// Why something could not be done with a server.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PostgresError {
    /// There is no such server.
    #[error("there is no PostgreSQL server {0}")]
    Unknown(String),
    /// It did not become what it should be.
    #[error("PostgreSQL server {name}: {reason}")]
    Failed {
        /// The server.
        name: String,
        /// What went wrong, with the server's own last words.
        reason: String,
    },
    /// It is not running.
    #[error("PostgreSQL server {0} is stopped")]
    Stopped(String),
    /// PostgreSQL refused a statement.
    #[error("PostgreSQL server {name} refused to {what}: {reason}")]
    Refused {
        /// The server.
        name: String,
        /// What was asked.
        what: String,
        /// PostgreSQL's own words.
        reason: String,
    },
}

/// What every server of the region shares.
#[derive(Debug)]
pub struct Config {
    /// The machine.
    pub host: Host,
    /// Signs the servers' certificates.
    pub authority: Arc<Authority>,
    /// Where the servers' names are published.
    pub names: Names,
    /// The directory of all servers.
    pub root: PathBuf,
    /// The region's log files.
    pub logs: PathBuf,
}

/// Every PostgreSQL server of the region.
#[derive(Debug)]
pub struct Postgres {
    config: Arc<Config>,
    servers: Mutex<HashMap<String, Kept>>,
}

#[derive(Debug)]
struct Kept {
    desired: watch::Sender<Goal>,
    status: watch::Receiver<Status>,
    keeper: Option<JoinHandle<()>>,
}

/// What a keeper works towards.
#[derive(Debug, Clone, PartialEq)]
enum Goal {
    Be(Arc<Server>),
    /// Stop cleanly and end: the region is stopping.
    Rest,
    /// Stop, and forget the data.
    Gone,
}

impl Postgres {
    /// No servers yet.
    pub fn new(config: Config) -> Self {
        Self { config: Arc::new(config), servers: Mutex::default() }
    }

    /// Says what a server should be; returns at once.
    pub fn set(&self, server: Server) {
        let name = server.name.clone();
        self.config.names.set(&server.host_name(), server.address);
        let server = Arc::new(server);
        let mut servers = self.servers();
        if let Some(kept) = servers.get(&name) {
            kept.desired.send_if_modified(|goal| {
                let new = Goal::Be(Arc::clone(&server));
                let changed = *goal != new;
                *goal = new;
                changed
            });
            return;
        }
        let (desired, goal) = watch::channel(Goal::Be(server));
        let (report, status) = watch::channel(Status {
            state: State::Updating,
            version: None,
            settings: Arc::default(),
            pooled: false,
            failures: 0,
            about: None,
        });
        let keeper = keeper::Keeper::new(Arc::clone(&self.config), name.clone(), goal, report);
        let keeper = Some(tokio::spawn(keeper.run()));
        servers.insert(name, Kept { desired, status, keeper });
    }

    /// Waits until a server is what it was last said to be.
    pub async fn settled(&self, name: &str) -> Result<Status, PostgresError> {
        let unknown = || PostgresError::Unknown(name.to_owned());
        let (desired, mut status) = {
            let servers = self.servers();
            let kept = servers.get(name).ok_or_else(unknown)?;
            let Goal::Be(desired) = kept.desired.borrow().clone() else { return Err(unknown()) };
            (desired, kept.status.clone())
        };
        let failed = |reason: String| PostgresError::Failed { name: name.to_owned(), reason };
        let waiting = status.wait_for(|status| {
            status.about.as_ref() == Some(&desired)
                && match status.state {
                    State::Ready | State::Stopped => true,
                    State::Failed(_) => status.failures >= PATIENCE,
                    State::Updating => false,
                }
        });
        let settled = match tokio::time::timeout(SETTLE, waiting).await {
            Ok(Ok(status)) => status.clone(),
            Ok(Err(_)) => return Err(unknown()),
            Err(_) => self.status(name).ok_or_else(unknown)?,
        };
        match settled.state {
            State::Ready | State::Stopped => Ok(settled),
            State::Failed(reason) => Err(failed(reason)),
            State::Updating => Err(failed(format!("not ready within {SETTLE:?}"))),
        }
    }

    /// What a server is now.
    pub fn status(&self, name: &str) -> Option<Status> {
        self.servers().get(name).map(|kept| kept.status.borrow().clone())
    }

    /// Stops a server and deletes its data. Repeatable.
    pub async fn remove(&self, name: &str) {
        self.config.names.remove(&format!("{name}.postgres.database.azure.com"));
        let keeper = self.end(name, Goal::Gone);
        if let Some(keeper) = keeper {
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
        self.servers().remove(name);
    }

    /// Stops every server cleanly: the region is stopping.
    pub async fn shutdown(&self) {
        let names: Vec<String> = self.servers().keys().cloned().collect();
        let keepers: Vec<_> = names.iter().filter_map(|name| self.end(name, Goal::Rest)).collect();
        for keeper in keepers {
            let _ = keeper.await;
        }
    }

    fn end(&self, name: &str, goal: Goal) -> Option<JoinHandle<()>> {
        let mut servers = self.servers();
        let kept = servers.get_mut(name)?;
        kept.desired.send_replace(goal);
        kept.keeper.take()
    }

    /// Creates a database owned by the administrator. One that exists is left alone.
    pub async fn create_database(
        &self,
        server: &str,
        database: &str,
        charset: &str,
        collation: &str,
    ) -> Result<(), PostgresError> {
        let (client, administrator) = self.client(server).await?;
        client
            .create_database(database, &administrator, charset, collation)
            .await
            .map_err(|reason| refused(server, &format!("create database {database}"), reason))
    }

    /// Drops a database, disconnecting its users. One that does not exist is no error.
    pub async fn drop_database(&self, server: &str, database: &str) -> Result<(), PostgresError> {
        let (client, _) = self.client(server).await?;
        client
            .drop_database(database)
            .await
            .map_err(|reason| refused(server, &format!("drop database {database}"), reason))
    }

    /// The databases that are there, however they were made.
    pub async fn databases(&self, server: &str) -> Result<Vec<DatabaseInfo>, PostgresError> {
        let (client, _) = self.client(server).await?;
        client.databases().await.map_err(|reason| refused(server, "list its databases", reason))
    }

    /// The server's parameters as it runs with them.
    pub async fn settings(&self, server: &str) -> Result<Vec<Setting>, PostgresError> {
        let (client, _) = self.client(server).await?;
        client.settings().await.map_err(|reason| refused(server, "list its parameters", reason))
    }

    async fn client(&self, name: &str) -> Result<(admin::Client, String), PostgresError> {
        self.settled(name).await?;
        let desired = self.servers().get(name).map(|kept| kept.desired.borrow().clone());
        let Some(Goal::Be(desired)) = desired else {
            return Err(PostgresError::Unknown(name.to_owned()));
        };
        if !desired.started {
            return Err(PostgresError::Stopped(name.to_owned()));
        }
        let client = admin::Client::connect(&self.config.root.join(name).join("run"))
            .await
            .map_err(|reason| PostgresError::Failed { name: name.to_owned(), reason })?;
        Ok((client, desired.administrator.clone()))
    }

    fn servers(&self) -> std::sync::MutexGuard<'_, HashMap<String, Kept>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(name: &str, what: &str, reason: String) -> PostgresError {
    PostgresError::Refused { name: name.to_owned(), what: what.to_owned(), reason }
}
