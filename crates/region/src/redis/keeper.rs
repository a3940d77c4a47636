//! Makes one cache what it should be, and keeps it so.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use lazuli_host::Signal;
use tokio::sync::watch;

use super::client::Client;
use super::{Cache, Config, Goal, State, Status, server};
use crate::service::{self, Backoff, Service};

const STOP: Duration = Duration::from_secs(20);
/// Reading the append-only file takes time in proportion to it.
const START: Duration = Duration::from_secs(60);

pub(super) struct Keeper {
    config: Arc<Config>,
    name: String,
    dir: PathBuf,
    goal: watch::Receiver<Goal>,
    status: watch::Sender<Status>,
    running: Option<Running>,
}

struct Running {
    service: Service,
    cache: Arc<Cache>,
}

impl Keeper {
    pub(super) fn new(
        config: Arc<Config>,
        name: String,
        goal: watch::Receiver<Goal>,
        status: watch::Sender<Status>,
    ) -> Self {
        let dir = config.root.join(&name);
        Self { config, name, dir, goal, status, running: None }
    }

    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            let goal = self.goal.borrow_and_update().clone();
            let cache = match goal {
                Goal::Be(cache) => cache,
                Goal::Rest => return self.stop().await,
                Goal::Gone => return self.destroy().await,
            };
            let outcome = self.reconcile(&cache).await;
            let failed = outcome.is_err();
            self.report(&cache, outcome);
            let pause = failed.then(|| backoff.next());
            if self.died_before_changed(pause).await {
                let pause = backoff.next();
                tracing::warn!(cache = self.name, "Redis ended; starting it again in {pause:?}");
                self.status.send_modify(|status| status.state = State::Updating);
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn report(&self, cache: &Arc<Cache>, outcome: Result<String, String>) {
        self.status.send_modify(|status| {
            status.about = Some(Arc::clone(cache));
            match outcome {
                Ok(version) => {
                    status.failures = 0;
                    status.state = State::Ready;
                    status.version = Some(version);
                }
                Err(reason) => {
                    tracing::warn!(cache = self.name, reason, "not as it should be");
                    status.failures += 1;
                    status.state = State::Failed(reason);
                }
            }
        });
    }

    /// Waits for a reason to look again: whether it was the server's end.
    async fn died_before_changed(&mut self, pause: Option<Duration>) -> bool {
        let ends = async {
            match &self.running {
                Some(running) => drop(running.service.wait().await),
                None => std::future::pending().await,
            }
        };
        let again = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.goal.changed() => match changed {
                Ok(()) => false,
                // Nobody can want anything any more; rest until core itself ends.
                Err(_) => std::future::pending().await,
            },
            () = ends => true,
            () = again => false,
        }
    }

    async fn reconcile(&mut self, cache: &Arc<Cache>) -> Result<String, String> {
        // What Redis cannot change while it runs.
        let stale = self.running.as_ref().is_some_and(|running| {
            running.service.exit().is_some()
                || running.cache.databases != cache.databases
                || running.cache.address != cache.address
                || running.cache.host != cache.host
                || running.cache.cluster != cache.cluster
        });
        if stale {
            self.status.send_modify(|status| status.state = State::Updating);
            self.stop().await;
        }
        let host = &self.config.host;
        host.add_address(cache.address).await.map_err(|e| e.to_string())?;
        let io = |e: std::io::Error| format!("cannot write its configuration: {e}");
        server::make_dirs(&self.dir).map_err(io)?;
        let password = self.password().map_err(io)?;
        server::write_configuration(&self.dir, cache, &password).map_err(io)?;
        if self.running.is_none() {
            let pem = self
                .config
                .authority
                .issue_pem(&[cache.host.as_str()])
                .map_err(|e| e.to_string())?;
            server::write_certificate(&self.dir, &pem, self.config.authority.ca_pem())
                .map_err(io)?;
            let spec = server::spec(&self.dir, cache)?;
            let log = self.config.logs.join(format!("{}-redis.log", self.name));
            let service = Service::start(host, spec, &log).await?;
            self.running = Some(Running { service, cache: Arc::clone(cache) });
            let mut client = self.connect().await?;
            if cache.cluster {
                own_every_slot(&mut client).await?;
            }
            return client.version().await;
        }
        let mut client = self.connect().await?;
        // Remembered only when all of it is done: a failure in between is made up for next time.
        if self.running.as_ref().is_none_or(|running| running.cache != *cache) {
            apply(&mut client, cache).await?;
        }
        if let Some(running) = &mut self.running {
            running.cache = Arc::clone(cache);
        }
        client.version().await
    }

    /// Our own password, made anew for every life of the server.
    fn password(&self) -> std::io::Result<String> {
        use std::fmt::Write as _;
        let path = self.dir.join("password");
        if self.running.is_some() {
            return std::fs::read_to_string(path);
        }
        let mut bytes = [0_u8; 32];
        rand::fill(&mut bytes).map_err(|_| std::io::Error::other("no random numbers"))?;
        let mut password = String::new();
        for byte in bytes {
            let _ = write!(password, "{byte:02x}");
        }
        service::write_if_changed(&path, password.as_bytes())?;
        Ok(password)
    }

    /// Waits until the server answers and has its data.
    async fn connect(&mut self) -> Result<Client, String> {
        let until = Instant::now() + START;
        loop {
            let error = match Client::connect(&self.dir).await {
                Ok(mut client) => {
                    if client.serves().await {
                        return Ok(client);
                    }
                    "it is still loading its data".to_owned()
                }
                Err(error) => error,
            };
            if let Some(running) = &self.running
                && let Some(exit) = running.service.exit()
            {
                let reason = format!("Redis ended with {exit}\n{}", running.service.tail());
                self.running = None;
                return Err(reason);
            }
            if Instant::now() > until {
                return Err(format!("Redis does not answer: {error}"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.service.stop(Signal::SIGTERM, STOP).await;
        }
    }

    async fn destroy(&mut self) {
        self.stop().await;
        let about = self.status.borrow().about.clone();
        if let Some(cache) = about {
            let _ = self.config.host.remove_address(cache.address).await;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, cache = self.name, "its files are left behind");
        }
    }
}

/// Changes a running server: no client loses its connection, unless it may not have one now.
async fn apply(client: &mut Client, cache: &Cache) -> Result<(), String> {
    let (plain_port, tls_port) = (cache.plain_port.to_string(), cache.tls_port.to_string());
    for (name, value) in [
        ("maxmemory", cache.memory.to_string().as_str()),
        ("maxclients", cache.clients.to_string().as_str()),
        ("maxmemory-policy", cache.eviction.as_str()),
        ("notify-keyspace-events", cache.keyspace_events.as_str()),
        ("tls-protocols", server::protocols(cache)),
        ("port", plain_port.as_str()),
        ("tls-port", tls_port.as_str()),
    ] {
        client.command(&["CONFIG", "SET", name, value]).await?;
    }
    client.command(&["ACL", "LOAD"]).await.map(drop)
}

/// Gives a cluster of one its slots. It remembers them: asked again, it says so, and nothing changes.
async fn own_every_slot(client: &mut Client) -> Result<(), String> {
    match client.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await {
        Err(error) if !error.contains("already busy") => Err(error),
        _ => Ok(()),
    }
}
