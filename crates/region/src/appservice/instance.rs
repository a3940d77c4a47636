//! One instance: from its start to its end. What starts processes is behind [`Runtime`], so that
//! everything above it is tested without any.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::io::AsyncRead;

use super::{
    health::{self, PingError},
    logs::{SlotLog, Tail, pump},
    settings::Launch,
};

/// Starts programs of a slot.
pub trait Runtime: Send + Sync + 'static {
    /// Starts `program`; returns once it has been executed.
    fn start(&self, program: Program) -> BoxFuture<'_, Result<Box<dyn Running>, StartError>>;
}

/// What is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// The slot's launch.
    pub launch: Arc<Launch>,
    /// `WEBSITE_INSTANCE_ID`.
    pub id: String,
    /// The application itself, or one of its jobs.
    pub kind: Kind,
}

/// What of a slot is started.
#[derive(Clone, Debug)]
pub enum Kind {
    /// The web application.
    Web,
    /// A WebJob.
    Job {
        /// `migrate`.
        name: String,
        /// Its directory inside the content, `App_Data/jobs/triggered/migrate`.
        dir: PathBuf,
        /// The script in it, `run.sh`.
        script: String,
        /// Arguments of one run.
        arguments: Vec<String>,
        /// Variables of one run.
        env: Vec<(String, String)>,
    },
    /// One command beside the application.
    Command {
        /// What `bash -c` runs.
        command: String,
        /// Where, `/home/site/wwwroot`.
        dir: PathBuf,
    },
}

/// A running program. Dropped, it is killed.
pub trait Running: Send + Sync {
    /// Where its port is, from inside the region.
    fn address(&self) -> SocketAddr;
    /// Standard output and error, once.
    fn output(&mut self) -> Vec<Box<dyn AsyncRead + Send + Sync + Unpin>>;
    /// SIGTERM.
    fn terminate(&self);
    /// SIGKILL.
    fn kill(&self);
    /// The process at the top of its tree, if it is one.
    fn pid(&self) -> Option<i32> {
        None
    }
    /// Resolves when it has ended: `exit code 3`, `SIGKILL`, …
    fn ended(&self) -> BoxFuture<'_, Ended>;
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// In words.
    pub words: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// Why a program could not be started at all.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing was deployed.
    #[error("nothing has been deployed to this slot yet")]
    NoContent,
    /// No interpreter.
    #[error("{0}")]
    NoPython(String),
    /// No startup command, and nothing that suggests one.
    #[error(
        "there is no startup command (siteConfig.appCommandLine) and none can be guessed: the content has neither \
         a wsgi.py below a directory (Django) nor an app.py or application.py (Flask)"
    )]
    NoCommand,
    /// The machine refused.
    #[error("{0}")]
    Machine(String),
}

/// Why an instance does not serve.
#[derive(Clone, Debug)]
pub struct Failure {
    /// In a sentence.
    pub reason: String,
    /// The last lines it wrote.
    pub last_lines: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if !self.last_lines.is_empty() {
            write!(f, " Its last lines:\n{}", self.last_lines.join("\n"))?;
        }
        Ok(())
    }
}

/// An instance whose port answers.
pub struct Started {
    /// The process.
    pub running: Box<dyn Running>,
    /// What it wrote last.
    pub tail: Tail,
    /// How long it took.
    pub took: Duration,
}

/// How long one attempt to reach a starting instance waits for an answer: applications that boot
/// behind an open port (gunicorn) answer as soon as they are there.
const PROBE_PAUSE: Duration = Duration::from_millis(25);

/// Starts one instance and waits until its port answers.
pub async fn start(
    runtime: &dyn Runtime,
    program: Program,
    log: &Arc<SlotLog>,
) -> Result<Started, Failure> {
    let begun = tokio::time::Instant::now();
    let launch = program.launch.clone();
    let id = program.id.clone();
    let mut running = runtime.start(program).await.map_err(|error| {
        log.platform(&format!("Container for site {} could not be started: {error}", launch.slot));
        Failure { reason: error.to_string(), last_lines: Vec::new() }
    })?;
    let tail = Tail::default();
    let pumps: Vec<_> = running
        .output()
        .into_iter()
        .map(|output| tokio::spawn(pump(output, log.clone(), id.clone(), tail.clone())))
        .collect();
    let limit = launch.start_limit();
    let host = launch.slot.host_name();
    let answers = async {
        loop {
            match health::ping(running.address(), &host, health::START_PATH, "AlwaysOn", limit)
                .await
            {
                Ok(_) => return,
                Err(
                    PingError::Connect(_)
                    | PingError::Http(_)
                    | PingError::Timeout(_)
                    | PingError::Path(_),
                ) => {
                    tokio::time::sleep(PROBE_PAUSE).await;
                }
            }
        }
    };
    let reason = tokio::select! {
        biased;
        ended = running.ended() => format!(
            "The application's process ended ({ended}) before its port {} answered.",
            launch.port()
        ),
        () = answers => {
            let took = begun.elapsed();
            log.platform(&format!(
                "Container {} for site {} initialized successfully and is ready to serve requests; started in {:.1} s.",
                super::logs::short(&id), launch.slot, took.as_secs_f64()
            ));
            return Ok(Started { running, tail, took });
        }
        () = tokio::time::sleep(limit) => format!(
            "Container didn't respond to HTTP pings on port {} within {} s (WEBSITES_CONTAINER_START_TIME_LIMIT).",
            launch.port(),
            limit.as_secs()
        ),
    };
    running.kill();
    // What it wrote last often comes together with its end.
    for pump in pumps {
        let _ = tokio::time::timeout(Duration::from_millis(500), pump).await;
    }
    let failure = Failure { reason, last_lines: tail.last(20) };
    log.platform(&format!(
        "Container {} for site {} has failed to start: {}",
        super::logs::short(&id),
        launch.slot,
        failure.reason
    ));
    Err(failure)
}

/// Ends an instance: SIGTERM, the grace time, SIGKILL.
pub async fn stop(running: Box<dyn Running>, grace: Duration) -> Ended {
    running.terminate();
    if let Ok(ended) = tokio::time::timeout(grace, running.ended()).await {
        return ended;
    }
    running.kill();
    running.ended().await
}

/// A new instance's ID: 64 hexadecimal digits, as on App Service.
pub fn new_id() -> String {
    let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    format!("{}{}", a.simple(), b.simple())
}
