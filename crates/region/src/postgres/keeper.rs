//! Makes one server what it should be, and keeps it so.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lazuli_host::Signal;
use tokio::sync::watch;

use super::admin::Client;
use super::cluster::Cluster;
use super::{Config, Goal, Server, Setting, State, Status, pooler};
use crate::service::{Backoff, Service};

/// A fast shutdown writes a checkpoint; on a slow disk that takes its time.
const STOP: Duration = Duration::from_secs(40);
/// Crash recovery replays the log since the last checkpoint.
const START: Duration = Duration::from_secs(90);

pub(super) struct Keeper {
    config: Arc<Config>,
    name: String,
    cluster: Cluster,
    goal: watch::Receiver<Goal>,
    status: watch::Sender<Status>,
    running: Option<Running>,
    pooler: Option<Service>,
}

struct Running {
    service: Service,
    /// What it was started with and takes no other way.
    started: Frozen,
    /// What it and PgBouncer were last told, once all of it was done.
    applied: Option<Arc<Server>>,
}

/// What only a restart changes.
#[derive(PartialEq)]
struct Frozen {
    restarts: u64,
    max_connections: u32,
    address: std::net::Ipv4Addr,
}

impl Frozen {
    fn of(server: &Server) -> Self {
        Self {
            restarts: server.restarts,
            max_connections: server.max_connections,
            address: server.address,
        }
    }
}

enum Event {
    Changed,
    Died(&'static str),
    Again,
}

impl Keeper {
    pub(super) fn new(
        config: Arc<Config>,
        name: String,
        goal: watch::Receiver<Goal>,
        status: watch::Sender<Status>,
    ) -> Self {
        let cluster = Cluster::new(config.root.join(&name));
        Self { config, name, cluster, goal, status, running: None, pooler: None }
    }

    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            let goal = self.goal.borrow_and_update().clone();
            let server = match goal {
                Goal::Be(server) => server,
                Goal::Rest => return self.stop().await,
                Goal::Gone => return self.destroy().await,
            };
            let outcome = self.reconcile(&server).await;
            let pause = self.report(&server, outcome).map(|()| backoff.next());
            match self.next(pause).await {
                Event::Changed | Event::Again => {}
                Event::Died(what) => {
                    let pause = backoff.next();
                    tracing::warn!(
                        server = self.name,
                        "{what} ended; starting it again in {pause:?}"
                    );
                    self.status.send_modify(|status| status.state = State::Updating);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Publishes the outcome; `Some` when it has to be tried again.
    fn report(
        &mut self,
        server: &Arc<Server>,
        outcome: Result<Option<(String, Vec<Setting>)>, String>,
    ) -> Option<()> {
        let failed = outcome.is_err();
        self.status.send_modify(|status| {
            status.about = Some(Arc::clone(server));
            status.pooled = self.pooler.is_some();
            match outcome {
                Ok(Some((version, settings))) => {
                    status.failures = 0;
                    status.state = State::Ready;
                    status.version = Some(version);
                    status.settings = Arc::new(settings);
                }
                Ok(None) => {
                    status.failures = 0;
                    status.state = State::Stopped;
                }
                Err(reason) => {
                    tracing::warn!(server = self.name, reason, "not as it should be");
                    status.failures += 1;
                    status.state = State::Failed(reason);
                }
            }
        });
        failed.then_some(())
    }

    /// Waits for a reason to look again.
    async fn next(&mut self, pause: Option<Duration>) -> Event {
        let server_ends = async {
            match &self.running {
                Some(running) => drop(running.service.wait().await),
                None => std::future::pending().await,
            }
        };
        let pooler_ends = async {
            match &self.pooler {
                Some(pooler) => drop(pooler.wait().await),
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
                Ok(()) => Event::Changed,
                // Nobody can want anything any more; rest until core itself ends.
                Err(_) => std::future::pending().await,
            },
            () = server_ends => Event::Died("PostgreSQL"),
            () = pooler_ends => Event::Died("PgBouncer"),
            () = again => Event::Again,
        }
    }

    /// One step: everything that differs from the description is put right. The version and the
    /// parameters, if it runs.
    async fn reconcile(
        &mut self,
        server: &Arc<Server>,
    ) -> Result<Option<(String, Vec<Setting>)>, String> {
        if !server.started {
            self.stop().await;
            return Ok(None);
        }
        if self
            .running
            .as_ref()
            .is_some_and(|r| r.service.exit().is_some() || r.started != Frozen::of(server))
        {
            self.status.send_modify(|status| status.state = State::Updating);
            self.stop().await;
        }
        let host = &self.config.host;
        host.add_address(server.address).await.map_err(|e| e.to_string())?;
        if self.running.is_none() {
            let installation = self.cluster.prepare(host, server.major).await?;
            let pem = self
                .config
                .authority
                .issue_pem(&[server.host_name().as_str()])
                .map_err(|e| e.to_string())?;
            self.cluster
                .write_certificate(&pem)
                .and_then(|()| self.cluster.write_configuration(server))
                .map_err(|e| format!("cannot write its configuration: {e}"))?;
            self.cluster.clear_pid();
            let spec = self.cluster.server(&installation);
            let service = Service::start(host, spec, &self.log("postgresql")).await?;
            self.running = Some(Running { service, started: Frozen::of(server), applied: None });
        } else if self.is_news(server) {
            self.cluster
                .write_configuration(server)
                .map_err(|e| format!("cannot write its configuration: {e}"))?;
            if let Some(running) = &self.running {
                running.service.signal(Signal::SIGHUP);
                // The postmaster rereads its files and tells the others when it gets to it.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        let client = self.connect().await?;
        client.ensure_administrator(&server.administrator, server.password.expose()).await?;
        let version = client.version().await?;
        self.pool(server, &client).await?;
        if let Some(running) = &mut self.running {
            running.applied = Some(Arc::clone(server));
        }
        let settings = client.settings().await?;
        Ok(Some((version, settings)))
    }

    /// Whether the servers have not (wholly) been told this yet. A repeated reload does no harm, a
    /// forgotten one does.
    fn is_news(&self, server: &Arc<Server>) -> bool {
        self.running.as_ref().is_none_or(|running| running.applied.as_ref() != Some(server))
    }

    /// Waits until the server answers.
    async fn connect(&mut self) -> Result<Client, String> {
        let until = Instant::now() + START;
        loop {
            let error = match Client::connect(&self.cluster.run()).await {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            if let Some(running) = &self.running
                && let Some(exit) = running.service.exit()
            {
                let reason = format!("PostgreSQL ended with {exit}\n{}", running.service.tail());
                self.running = None;
                return Err(reason);
            }
            if Instant::now() > until {
                return Err(format!("PostgreSQL does not answer: {error}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn pool(&mut self, server: &Arc<Server>, client: &Client) -> Result<(), String> {
        if self.pooler.as_ref().is_some_and(|pooler| pooler.exit().is_some()) {
            self.pooler = None;
        }
        if !server.pooled() {
            self.stop_pooler().await;
            return Ok(());
        }
        let program = pooler::program()?;
        let verifiers = client.verifiers(&pooler::stats_users(server)).await?;
        pooler::write_configuration(&self.cluster, server, &verifiers)
            .map_err(|e| format!("cannot write PgBouncer's configuration: {e}"))?;
        if let Some(pooler) = &self.pooler {
            if self.is_news(server) {
                pooler.signal(Signal::SIGHUP);
            }
        } else {
            let spec = pooler::spec(&self.cluster, server, program);
            let service = Service::start(&self.config.host, spec, &self.log("pgbouncer")).await?;
            self.pooler = Some(service);
        }
        self.pooler_answers(server).await
    }

    async fn pooler_answers(&mut self, server: &Server) -> Result<(), String> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let address = (server.address, super::POOLER_PORT);
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return Ok(());
            }
            if let Some(pooler) = &self.pooler
                && let Some(exit) = pooler.exit()
            {
                let reason = format!("PgBouncer ended with {exit}\n{}", pooler.tail());
                self.pooler = None;
                return Err(reason);
            }
            if Instant::now() > until {
                return Err("PgBouncer does not answer".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop_pooler(&mut self) {
        if let Some(pooler) = self.pooler.take() {
            // SIGTERM is PgBouncer's immediate shutdown: its clients connect again.
            pooler.stop(Signal::SIGTERM, Duration::from_secs(5)).await;
        }
    }

    async fn stop(&mut self) {
        self.stop_pooler().await;
        if let Some(running) = self.running.take() {
            // SIGINT is PostgreSQL's fast shutdown: roll back, disconnect, checkpoint.
            running.service.stop(Signal::SIGINT, STOP).await;
        }
    }

    async fn destroy(&mut self) {
        self.stop().await;
        let about = self.status.borrow().about.clone();
        if let Some(server) = about {
            let _ = self.config.host.remove_address(server.address).await;
        }
        if let Err(error) = std::fs::remove_dir_all(self.cluster.dir())
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, server = self.name, "its files are left behind");
        }
    }

    fn log(&self, program: &str) -> PathBuf {
        self.config.logs.join(format!("{}-{program}.log", self.name))
    }
}
