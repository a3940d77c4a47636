//! A machine without processes: applications are tasks that answer on loopback, so that everything
//! above [`Runtime`] can be tested, failures included.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    build::{BuildError, Builder, Say},
    instance::{Ended, Kind, Program, Running, Runtime, StartError},
    references::{Answer, Reference, Secret, Secrets, Status},
    settings::Launch,
    supervisor::Timing,
};

/// What a fake application does: decided by its launch's setting `BEHAVE`.
///
/// `exit` ends before it answers, `hang` never answers, `status=503` answers everything so;
/// anything else serves.
#[derive(Default)]
pub(super) struct FakeMachine {
    pub(super) events: Mutex<Vec<String>>,
    alive: Mutex<BTreeMap<String, Alive>>,
    /// Instances (by ID) whose health path answers 500.
    pub(super) sick: Arc<Mutex<BTreeSet<String>>>,
    /// How often programs of one content were started.
    pub(super) started: Mutex<BTreeMap<String, usize>>,
}

struct Alive {
    end: watch::Sender<Option<Ended>>,
    label: String,
}

struct FakeRunning {
    machine: Arc<FakeMachine>,
    id: String,
    label: String,
    address: SocketAddr,
    end: watch::Sender<Option<Ended>>,
    output: Option<tokio::io::DuplexStream>,
    server: tokio::task::JoinHandle<()>,
}

pub(super) fn label(launch: &Launch) -> String {
    let content = launch.deployment.as_ref().map_or("-", |deployment| &deployment.content);
    format!("{content}@{}", launch.slot.slot)
}

impl FakeMachine {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn event(&self, event: String) {
        self.events.lock().expect("events").push(event);
    }

    pub(super) fn events(&self) -> Vec<String> {
        self.events.lock().expect("events").clone()
    }

    /// `kill -9` of an instance.
    pub(super) fn kill(&self, id: &str) {
        if let Some(alive) = self.alive.lock().expect("alive").get(id) {
            alive.end.send_replace(Some(Ended { code: None, words: "SIGKILL".into() }));
        }
    }

    /// What is alive: `v1@production`, ….
    pub(super) fn alive(&self) -> Vec<String> {
        let mut alive: Vec<_> =
            self.alive.lock().expect("alive").values().map(|alive| alive.label.clone()).collect();
        alive.sort();
        alive
    }
}

pub(super) struct FakeRuntime(pub(super) Arc<FakeMachine>);

impl Runtime for FakeRuntime {
    fn start(&self, program: Program) -> BoxFuture<'_, Result<Box<dyn Running>, StartError>> {
        Box::pin(async move {
            let launch = &program.launch;
            if launch.deployment.is_none() {
                return Err(StartError::NoContent);
            }
            let label = label(launch);
            *self.0.started.lock().expect("started").entry(label.clone()).or_default() += 1;
            let behave = launch.setting("BEHAVE").unwrap_or("serve").to_owned();
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
            let address = listener.local_addr().expect("address");
            let (end, _) = watch::channel(None);
            let (mut write, read) = tokio::io::duplex(4096);
            let status = Arc::new(AtomicU16::new(200));
            if let Some(code) = behave.strip_prefix("status=") {
                status.store(code.parse().expect("a status"), Ordering::Relaxed);
            }
            let job = matches!(program.kind, Kind::Job { .. });
            self.0.event(format!("start {label}{}", if job { " job" } else { "" }));
            let server = {
                let (end, label, id) = (end.clone(), label.clone(), program.id.clone());
                let (status, sick) = (status.clone(), self.0.sick.clone());
                tokio::spawn(async move {
                    let _ = write.write_all(format!("hello from {label}\n").as_bytes()).await;
                    match behave.as_str() {
                        "exit" => {
                            let _ = write
                                .write_all(b"ModuleNotFoundError: No module named 'nothing'\n")
                                .await;
                            end.send_replace(Some(Ended {
                                code: Some(3),
                                words: "exit code 3".into(),
                            }));
                        }
                        "hang" => std::future::pending().await,
                        _ => {
                            while let Ok((stream, _)) = listener.accept().await {
                                let bad = sick.lock().expect("sick").contains(&id);
                                tokio::spawn(answer(
                                    stream,
                                    label.clone(),
                                    status.load(Ordering::Relaxed),
                                    bad,
                                ));
                            }
                        }
                    }
                    drop(write);
                })
            };
            self.0
                .alive
                .lock()
                .expect("alive")
                .insert(program.id.clone(), Alive { end: end.clone(), label: label.clone() });
            Ok(Box::new(FakeRunning {
                machine: self.0.clone(),
                id: program.id,
                label,
                address,
                end,
                output: Some(read),
                server,
            }) as Box<dyn Running>)
        })
    }
}

async fn answer(mut stream: TcpStream, label: String, status: u16, sick: bool) {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let health = request.starts_with(b"GET /health");
    let status = if sick && health { 500 } else { status };
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{label}",
        label.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}

impl Running for FakeRunning {
    fn address(&self) -> SocketAddr {
        self.address
    }
    fn output(&mut self) -> Vec<Box<dyn AsyncRead + Send + Sync + Unpin>> {
        self.output
            .take()
            .map(|output| Box::new(output) as Box<dyn AsyncRead + Send + Sync + Unpin>)
            .into_iter()
            .collect()
    }
    fn terminate(&self) {
        self.machine.event(format!("term {}", self.label));
        self.end.send_replace(Some(Ended { code: Some(0), words: "exit code 0".into() }));
    }
    fn kill(&self) {
        self.end.send_replace(Some(Ended { code: None, words: "SIGKILL".into() }));
    }
    fn ended(&self) -> BoxFuture<'_, Ended> {
        let mut end = self.end.subscribe();
        Box::pin(async move {
            let ended = end.wait_for(Option::is_some).await.expect("the sender is here").clone();
            self.server.abort();
            ended.expect("it ended")
        })
    }
}

impl Drop for FakeRunning {
    fn drop(&mut self) {
        self.server.abort();
        self.machine.alive.lock().expect("alive").remove(&self.id);
        self.machine.event(format!("gone {}", self.label));
    }
}

/// A vault whose secrets each name who may read them.
#[derive(Default)]
pub(super) struct FakeVault(pub(super) Mutex<BTreeMap<(String, String), String>>);

impl Secrets for FakeVault {
    fn read<'a>(
        &'a self,
        reference: &'a Reference,
        principal: Option<&'a str>,
    ) -> BoxFuture<'a, Answer> {
        let found = principal.and_then(|principal| {
            self.0
                .lock()
                .expect("vault")
                .get(&(reference.secret.clone(), principal.to_owned()))
                .cloned()
        });
        Box::pin(async move {
            found
                .map(Secret::new)
                .ok_or((Status::AccessToKeyVaultDenied, "Access denied.".to_owned()))
        })
    }
}

/// A builder that has everything already, unless the content says `unbuildable`.
pub(super) struct FakeBuilder;

impl Builder for FakeBuilder {
    fn build<'a>(
        &'a self,
        content: &'a Path,
        _python: &'a str,
        say: &'a Say<'a>,
    ) -> BoxFuture<'a, Result<Option<String>, BuildError>> {
        Box::pin(async move {
            say("Collecting nothing");
            if content.join("unbuildable").exists() {
                return Err(BuildError::Failed {
                    ended: "exit code 1".into(),
                    last_lines: vec!["No solution found when resolving dependencies".into()],
                });
            }
            Ok(content.join("requirements.txt").exists().then(|| "environment".to_owned()))
        })
    }
}

/// App Service's times, shortened.
pub(super) fn quick() -> Timing {
    Timing {
        ping_interval: Duration::from_millis(30),
        replace_after: Duration::from_secs(3600),
        drain: Duration::from_secs(2),
        drain_waiting: Duration::from_secs(1),
        backoff: Duration::from_millis(10),
        backoff_most: Duration::from_millis(100),
        proven: Duration::from_millis(50),
        standby: Duration::from_secs(60),
        refresh: Duration::from_secs(3600),
    }
}

/// Waits until `holds`, or fails the test with `what`.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 10 s: {what}");
}
