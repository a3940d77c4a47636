use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::socket::MsgFlags;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, oneshot, watch};

use crate::bridge::Bridge;
use crate::link::{self, Dial, Dialled};
use crate::sandbox::{Message, Plan};
use crate::sys::{self, Map};
use crate::{Error, Exit, Network, Process, Spec, edge};

type Dials = Arc<Mutex<HashMap<u64, oneshot::Sender<io::Result<OwnedFd>>>>>;

/// The machine as core may use it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    commands: mpsc::UnboundedSender<Command>,
    link: OwnedFd,
    dials: Dials,
    next_dial: AtomicU64,
}

type Answer<T> = oneshot::Sender<Result<T, Error>>;

enum Command {
    AddAddress(Ipv4Addr, Answer<()>),
    RemoveAddress(Ipv4Addr, Answer<()>),
    Spawn(Box<Spec>, Answer<Process>),
}

impl Host {
    /// Starts the two threads behind a host. One makes every sandbox and lives as long as core,
    /// because a sandbox is tied to the thread that made it; it also owns the netlink socket. The
    /// other waits for edge's answers.
    pub(crate) fn start(link: OwnedFd) -> Result<Self, Error> {
        let (commands, mut received) = mpsc::unbounded_channel();
        let (up, is_up) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("sandboxes".to_owned())
            .spawn(move || {
                let runtime =
                    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                        Ok(runtime) => runtime,
                        Err(e) => {
                            let _ = up.send(Err(Error::io("start the sandboxes' runtime", e)));
                            return;
                        }
                    };
                runtime.block_on(async move {
                    let bridge = match Bridge::create().await {
                        Ok(bridge) => Arc::new(bridge),
                        Err(error) => {
                            let _ = up.send(Err(error));
                            return;
                        }
                    };
                    let _ = up.send(Ok(()));
                    while let Some(command) = received.recv().await {
                        tokio::spawn(obey(Arc::clone(&bridge), command));
                    }
                });
            })
            .map_err(|e| Error::io("start the sandboxes' thread", e))?;
        is_up.recv().map_err(|_| Error::Stopping)??;

        let dials = Dials::default();
        let incoming = link.try_clone().map_err(|e| Error::io("share the link to edge", e))?;
        let waiting = Arc::clone(&dials);
        std::thread::Builder::new()
            .name("edge-link".to_owned())
            .spawn(move || receive_dialled(&incoming, &waiting))
            .map_err(|e| Error::io("start the link's thread", e))?;
        Ok(Self(Arc::new(Inner { commands, link, dials, next_dial: AtomicU64::new(0) })))
    }

    /// Connects from the machine's own network: edge resolves the name and connects, and passes the
    /// socket in, so that no byte is copied on the way.
    pub async fn dial_out(&self, host: &str, port: u16) -> io::Result<tokio::net::TcpStream> {
        let id = self.0.next_dial.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.dials().insert(id, answer);
        let dial = Dial { id, host: host.to_owned(), port };
        // A small packet on a local socket that edge reads at once: this does not block in practice.
        if let Err(error) = link::send(self.0.link.as_raw_fd(), &dial, None) {
            self.dials().remove(&id);
            return Err(error);
        }
        let socket = answered.await.map_err(|_| io::Error::other("the region is stopping"))??;
        let stream = std::net::TcpStream::from(socket);
        stream.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(stream)
    }

    /// Gives the region's bridge another address. Idempotent.
    pub async fn add_address(&self, address: Ipv4Addr) -> Result<(), Error> {
        self.command(|answer| Command::AddAddress(address, answer)).await
    }

    /// Takes an address off the region's bridge. Idempotent.
    pub async fn remove_address(&self, address: Ipv4Addr) -> Result<(), Error> {
        self.command(|answer| Command::RemoveAddress(address, answer)).await
    }

    /// Starts a program in a sandbox; returns once the program itself has been executed.
    pub async fn spawn(&self, spec: Spec) -> Result<Process, Error> {
        self.command(|answer| Command::Spawn(Box::new(spec), answer)).await
    }

    async fn command<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.0.commands.send(command(answer)).map_err(|_| Error::Stopping)?;
        answered.await.map_err(|_| Error::Stopping)?
    }

    fn dials(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<io::Result<OwnedFd>>>> {
        self.0.dials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn receive_dialled(link: &OwnedFd, dials: &Dials) {
    loop {
        match link::receive::<Dialled>(link.as_raw_fd(), MsgFlags::empty()) {
            Ok(Some((dialled, socket))) => {
                let waiting =
                    dials.lock().unwrap_or_else(PoisonError::into_inner).remove(&dialled.id);
                let outcome = match (dialled.error, socket) {
                    (Some(error), _) => Err(error.into()),
                    (None, Some(socket)) => Ok(socket),
                    (None, None) => Err(io::Error::other("edge passed no socket")),
                };
                // A caller that gave up has dropped its receiver; the socket closes here.
                if let Some(waiting) = waiting {
                    let _ = waiting.send(outcome);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Edge is gone and the kernel is about to kill us.
            Ok(None) | Err(_) => {
                dials.lock().unwrap_or_else(PoisonError::into_inner).clear();
                return;
            }
        }
    }
}

async fn obey(bridge: Arc<Bridge>, command: Command) {
    // A caller that no longer waits loses nothing but the answer; a process is killed with it.
    match command {
        Command::AddAddress(address, answer) => {
            let _ = answer.send(bridge.add_address(address).await);
        }
        Command::RemoveAddress(address, answer) => {
            let _ = answer.send(bridge.remove_address(address).await);
        }
        Command::Spawn(spec, answer) => {
            let _ = answer.send(spawn(&bridge, *spec).await);
        }
    }
}

async fn spawn(bridge: &Arc<Bridge>, spec: Spec) -> Result<Process, Error> {
    let name = spec.name.clone();
    let failed = |what: &'static str| {
        let name = name.clone();
        move |e: io::Error| Error::Start { name, reason: format!("cannot {what}: {e}") }
    };
    let network = spec.network;
    let plan = Plan::resolve(spec)?;
    let plan = sys::to_memfd(&plan).map_err(failed("write its plan"))?;
    let null = sys::null().map_err(failed("open /dev/null"))?;
    let (stdout, stdout_inside) = sys::pipe().map_err(failed("make its pipes"))?;
    let (stderr, stderr_inside) = sys::pipe().map_err(failed("make its pipes"))?;
    let (status, status_inside) = sys::pipe().map_err(failed("make its pipes"))?;
    let net = if network == Network::Region { 0 } else { libc::CLONE_NEWNET };
    let child = sys::spawn_self(
        sys::NAMESPACES | net,
        &[c"lazuli-sandbox", c"__sandbox"],
        &[],
        &[
            null.as_fd(),
            stdout_inside.as_fd(),
            stderr_inside.as_fd(),
            plan.as_fd(),
            status_inside.as_fd(),
        ],
    )
    .map_err(failed("have namespaces of its own"))?;
    drop((stdout_inside, stderr_inside, status_inside));
    // From here on a failure closes the gate, and the waiting child exits; it is reaped below only
    // if it was released, so it is waited for here.
    let prepared = async {
        sys::write_maps(child.pid, &Map::Single { inside: 0, uid: 0, gid: 0 })
            .map_err(failed("map its users"))?;
        if let Network::Own(address) = network {
            bridge.plug(child.pid, address).await?;
        }
        Ok(())
    };
    let (pid, pidfd) = match prepared.await {
        Ok(()) => child.release().map_err(failed("release it"))?,
        Err(error) => {
            if let Network::Own(address) = network {
                bridge.unplug(child.pid, address).await;
            }
            let _ = sys::signal(child.pidfd.as_fd(), libc::SIGKILL);
            if let Ok(pidfd) = sys::watch(child.pidfd) {
                edge::exit_of(&pidfd).await;
            }
            return Err(error);
        }
    };

    let pidfd = Arc::new(pidfd);
    let watched = pidfd.try_clone().and_then(sys::watch).map_err(failed("watch it"))?;
    let mut status = tokio::net::unix::pipe::Receiver::from_owned_fd(status)
        .map_err(failed("watch its status"))?;
    let (ended, exit) = watch::channel(None);
    let process = Process { pid, pidfd, exit, stdout: Some(stdout), stderr: Some(stderr) };
    let (started, has_started) = oneshot::channel();
    let bridge = Arc::clone(bridge);
    tokio::spawn(async move {
        let mut started = Some(started);
        let mut reported = None;
        let mut buffer = Vec::new();
        // Messages end when init does, at the latest.
        while let Ok(read) = status.read_buf(&mut buffer).await {
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(Message::Started) => {
                        if let Some(started) = started.take() {
                            let _ = started.send(Ok(()));
                        }
                    }
                    Ok(Message::Failed(reason)) => {
                        if let Some(started) = started.take() {
                            let _ = started.send(Err(reason));
                        }
                    }
                    Ok(Message::Code(code)) => reported = Some(Exit::Code(code)),
                    Ok(Message::Signal(signal)) => reported = Some(Exit::Signal(signal)),
                    Err(_) => {}
                }
            }
            if read == 0 {
                break;
            }
        }
        let of_init = edge::exit_of(&watched).await;
        if let Network::Own(address) = network {
            bridge.unplug(pid, address).await;
        }
        let _ = ended.send(Some(reported.unwrap_or(of_init)));
    });
    match has_started.await {
        Ok(Ok(())) => Ok(process),
        Ok(Err(reason)) => {
            process.wait().await;
            Err(Error::Start { name, reason })
        }
        Err(_) => {
            let exit = process.wait().await;
            Err(Error::Start { name, reason: format!("its sandbox ended early with {exit}") })
        }
    }
}
