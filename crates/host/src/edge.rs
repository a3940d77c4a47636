//! The process in the machine's own network: it owns the listeners, dials out for core, and keeps
//! core alive.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::MsgFlags;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};

use crate::init::{Plan, Readiness};
use crate::link::{self, Dial, Dialled};
use crate::sys::{self, Map};
use crate::{Error, Exit};

/// How long core may take to stop before its namespaces are killed. PostgreSQL's shutdown
/// checkpoint is the slowest part of it.
const STOP: Duration = Duration::from_secs(60);
/// The pauses before core is started again, and how long it must have lived to begin anew.
const BACKOFF: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
const SETTLED: Duration = Duration::from_secs(60);
/// How long one address of a name may take to answer before the next is tried as well.
const NEXT_ADDRESS: Duration = Duration::from_millis(300);
const DIAL: Duration = Duration::from_secs(30);

/// What edge serves and runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The region's directory: edge keeps its lock there.
    pub dir: PathBuf,
    /// The loopback listeners core accepts on, in this order.
    pub listeners: Vec<SocketAddr>,
    /// The arguments with which this same binary is run as core. Core's working directory is `dir`,
    /// its environment the starter's.
    pub core_args: Vec<OsString>,
    /// Where edge's and core's standard output and error go when started by [`start`].
    pub log: PathBuf,
}

/// A region that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Edge.
    pub edge: i32,
    /// The pid 1 of the region's namespaces, as the machine sees it: what [`crate::enter`] takes.
    pub init: i32,
    /// The listeners' real addresses (a port 0 in [`Config::listeners`] is resolved).
    pub listeners: Vec<SocketAddr>,
}

/// `edge.json`: what other commands need to find the region.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    #[serde(flatten)]
    running: Running,
    /// Tells this init from another process that got its pid later.
    init_started: Option<u64>,
}

/// What edge tells its starter through its standard output.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Up(Running),
    Taken { addr: SocketAddr, errno: i32 },
    Locked { pid: i32 },
    Failed(String),
}

/// Starts edge detached from the caller's session and waits until core says it is ready
/// ([`crate::core::ReadyPipe::ready`]).
pub fn start(config: &Config) -> Result<Running, Error> {
    make_dir(&config.dir)?;
    if let Some(parent) = config.log.parent() {
        make_dir(parent)?;
    }
    let log = File::options().create(true).append(true).open(&config.log);
    let log = log.map_err(|e| Error::io(format!("open {}", config.log.display()), e))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("lazuli").arg("__edge").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    // SAFETY: between fork and exec, setsid is a single async-signal-safe system call.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        });
    }
    let mut edge = command.spawn().map_err(|e| Error::io("start edge", e))?;
    let mut talk = || -> io::Result<Option<Report>> {
        let stdin = edge.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        serde_json::to_writer(stdin, config)?;
        let mut report = String::new();
        edge.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?.read_to_string(&mut report)?;
        Ok(serde_json::from_str(&report).ok())
    };
    match talk().map_err(|e| Error::io("talk to edge", e))? {
        Some(Report::Up(running)) => Ok(running),
        Some(Report::Taken { addr, errno }) => {
            Err(Error::Bind { addr, source: io::Error::from_raw_os_error(errno) })
        }
        Some(Report::Locked { pid }) => Err(Error::Running { dir: config.dir.clone(), pid }),
        Some(Report::Failed(reason)) => Err(Error::Core(reason)),
        None => Err(Error::Core(format!("edge ended early; see {}", config.log.display()))),
    }
}

/// `__edge`: edge as [`start`] runs it.
pub(crate) fn main() -> ExitCode {
    let config = serde_json::from_reader::<_, Config>(io::stdin());
    let outcome = match config {
        Ok(config) => serve(&config, Reporter { detached: true, open: true }),
        Err(error) => Err(Error::Core(format!("edge got no configuration: {error}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            sys::note(&format!("edge: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs edge in this process until it is told to stop (SIGTERM, SIGINT) or core ends by itself with
/// code 0. Core's output is this process's.
pub fn run(config: &Config) -> Result<(), Error> {
    serve(config, Reporter { detached: false, open: true })
}

/// The region running in `dir`, if any.
pub fn running(dir: &Path) -> Option<Running> {
    let lock = File::open(dir.join("edge.lock")).ok()?;
    // Nobody holds the lock: whatever edge.json says is history.
    if Flock::lock(lock, FlockArg::LockSharedNonblock).is_ok() {
        return None;
    }
    Some(read_state(dir)?.running)
}

/// Stops the region in `dir` and waits for its end; after `patience` it is killed.
pub fn stop(dir: &Path, patience: Duration) -> Result<(), Error> {
    let lock = dir.join("edge.lock");
    let pid: i32 =
        match File::open(&lock).map(|file| Flock::lock(file, FlockArg::LockSharedNonblock)) {
            Ok(Err(_)) => fs::read_to_string(&lock).ok().and_then(|text| text.trim().parse().ok()),
            _ => None,
        }
        .ok_or_else(|| Error::NotRunning { dir: dir.to_owned() })?;
    let Ok(edge) = sys::pidfd_open(pid) else { return Ok(()) };
    let init = read_state(dir).and_then(|state| sys::pidfd_open(state.running.init).ok());
    let tell = |number| sys::signal(edge.as_fd(), number).map_err(|e| Error::io("stop edge", e));
    tell(libc::SIGTERM)?;
    if !ended(edge.as_fd(), patience) {
        tell(libc::SIGKILL)?;
        ended(edge.as_fd(), Duration::from_secs(10));
    }
    // Init dies with edge; it has ended when everything below it has.
    if let Some(init) = init {
        ended(init.as_fd(), Duration::from_secs(10));
    }
    Ok(())
}

/// Waits until the process behind a pidfd has ended.
fn ended(pidfd: BorrowedFd<'_>, patience: Duration) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) if until <= Instant::now() => return false,
            Ok(0) | Err(nix::Error::EINTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}

fn read_state(dir: &Path) -> Option<State> {
    serde_json::from_slice(&fs::read(dir.join("edge.json")).ok()?).ok()
}

fn make_dir(dir: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| Error::io(format!("make {}", dir.display()), e))
}

/// Says once how the start went.
struct Reporter {
    detached: bool,
    open: bool,
}

impl Reporter {
    fn tell(&mut self, report: &Report) {
        if !std::mem::take(&mut self.open) || !self.detached {
            return;
        }
        if let Ok(bytes) = serde_json::to_vec(report) {
            let _ = io::stdout().write_all(&bytes).and_then(|()| io::stdout().flush());
        }
        // The starter reads to the end of the pipe, so it must close; from here on standard output
        // is the log, as standard error is.
        let _ = nix::unistd::dup2_stdout(io::stderr());
    }
}

fn serve(config: &Config, mut reporter: Reporter) -> Result<(), Error> {
    let outcome = prepare(config).and_then(|(lock, listeners)| {
        let served = supervise(config, &listeners, &mut reporter);
        let _ = fs::remove_file(config.dir.join("edge.json"));
        drop(lock);
        served
    });
    if let Err(error) = &outcome {
        let report = match error {
            Error::Bind { addr, source } => {
                Report::Taken { addr: *addr, errno: source.raw_os_error().unwrap_or(0) }
            }
            Error::Running { pid, .. } => Report::Locked { pid: *pid },
            Error::Core(reason) => Report::Failed(reason.clone()),
            other => Report::Failed(other.to_string()),
        };
        reporter.tell(&report);
    }
    outcome
}

/// Takes the directory's lock, waits for the remains of a predecessor, and opens the listeners.
fn prepare(config: &Config) -> Result<(Flock<File>, Vec<TcpListener>), Error> {
    make_dir(&config.dir)?;
    // It may have been there already, with whatever mode; it will hold keys.
    fs::set_permissions(&config.dir, fs::Permissions::from_mode(0o700))
        .map_err(|e| Error::io(format!("close {} to others", config.dir.display()), e))?;
    let path = config.dir.join("edge.lock");
    let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let file = file.map_err(|e| Error::io(format!("open {}", path.display()), e))?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        Error::Running { dir: config.dir.clone(), pid: pid.unwrap_or(0) }
    })?;
    lock.set_len(0)
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(|e| Error::io(format!("write {}", path.display()), e))?;

    // A predecessor that was killed took its namespaces along, but the kernel may still be at it:
    // two servers must never have the same data directory.
    if let Some(State { running, init_started: Some(started) }) = read_state(&config.dir) {
        let until = Instant::now() + Duration::from_secs(30);
        while sys::start_time(running.init) == Some(started) {
            if Instant::now() > until {
                return Err(Error::Core(format!(
                    "processes of the region's previous run are still dying (pid {})",
                    running.init
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    let listeners = config
        .listeners
        .iter()
        .map(|addr| TcpListener::bind(addr).map_err(|source| Error::Bind { addr: *addr, source }))
        .collect::<Result<_, _>>()?;
    Ok((lock, listeners))
}

fn supervise(
    config: &Config,
    listeners: &[TcpListener],
    reporter: &mut Reporter,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::io("start edge's runtime", e))?;
    // Init must be made by this very thread, which lives as long as edge does: see `spawn_self`.
    runtime.block_on(async {
        let stop = |kind| signal(kind).map_err(|e| Error::io("listen for signals", e));
        let mut terminate = stop(SignalKind::terminate())?;
        let mut interrupt = stop(SignalKind::interrupt())?;
        let mut pauses = VecDeque::from(BACKOFF);
        loop {
            let started = Instant::now();
            let mut region = Region::start(config, listeners)?;
            let exit = tokio::select! {
                exit = region.live(config, listeners, reporter) => exit?,
                _ = terminate.recv() => return region.stop().await,
                _ = interrupt.recv() => return region.stop().await,
            };
            if exit.success() {
                return Ok(());
            }
            if started.elapsed() > SETTLED {
                pauses = VecDeque::from(BACKOFF);
            }
            let pause = if pauses.len() > 1 { pauses.pop_front() } else { pauses.front().copied() };
            let pause = pause.unwrap_or(SETTLED);
            sys::note(&format!("edge: core ended with {exit}; starting it again in {pause:?}"));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
            }
        }
    })
}

/// One life of init and core.
struct Region {
    init: i32,
    pidfd: AsyncFd<OwnedFd>,
    link: Rc<AsyncFd<OwnedFd>>,
    ready: Option<tokio::net::unix::pipe::Receiver>,
}

impl Region {
    fn start(config: &Config, listeners: &[TcpListener]) -> Result<Self, Error> {
        let system = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| Error::Io { what, source: e }
        };
        let plan = Plan {
            core_args: config.core_args.clone(),
            core_env: std::env::vars_os().collect(),
            listeners: listeners.len(),
        };
        let (link, link_of_core) = link::pair().map_err(system("make the link to core"))?;
        let (ready, ready_of_core) = sys::pipe().map_err(system("make the ready pipe"))?;
        let null = sys::null().map_err(system("open /dev/null"))?;
        let plan = sys::to_memfd(&plan).map_err(system("write core's plan"))?;
        let stderr = io::stderr();
        let mut fds = vec![
            null.as_fd(),
            stderr.as_fd(),
            stderr.as_fd(),
            link_of_core.as_fd(),
            ready_of_core.as_fd(),
            plan.as_fd(),
        ];
        fds.extend(listeners.iter().map(std::os::fd::AsFd::as_fd));

        let refused = |source| Error::Refused {
            what: "have namespaces of its own".to_owned(),
            source,
            remedy: sys::remedy(),
        };
        let dir = config.dir.as_path();
        std::env::set_current_dir(dir).map_err(system(&format!("enter {}", dir.display())))?;
        let child = sys::spawn_self(
            sys::NAMESPACES | libc::CLONE_NEWNET,
            &[c"lazuli", c"__init"],
            &[],
            &fds,
        )
        .map_err(refused)?;
        map_users(child.pid).map_err(refused)?;
        let state = State {
            running: Running {
                edge: i32::try_from(std::process::id()).unwrap_or(0),
                init: child.pid,
                listeners: addresses(listeners),
            },
            init_started: sys::start_time(child.pid),
        };
        // Before init lives: whoever comes after us must know whom to wait for.
        serde_json::to_vec(&state)
            .map_err(io::Error::from)
            .and_then(|bytes| sys::write_atomically(&dir.join("edge.json"), &bytes))
            .map_err(system("write edge.json"))?;
        let (init, pidfd) = child.release().map_err(system("release init"))?;
        Ok(Self {
            init,
            pidfd: sys::watch(pidfd).map_err(system("watch init"))?,
            link: Rc::new(nonblocking(link).map_err(system("watch the link to core"))?),
            ready: Some(
                tokio::net::unix::pipe::Receiver::from_owned_fd(ready)
                    .map_err(system("watch the ready pipe"))?,
            ),
        })
    }

    /// Serves core until init ends.
    async fn live(
        &mut self,
        config: &Config,
        listeners: &[TcpListener],
        reporter: &mut Reporter,
    ) -> Result<Exit, Error> {
        let tasks = tokio::task::LocalSet::new();
        let link = Rc::clone(&self.link);
        tasks.spawn_local(serve_dials(link));
        let mut ready = self.ready.take();
        tasks
            .run_until(async {
                loop {
                    tokio::select! {
                        readiness = readiness(&mut ready) => match readiness {
                            Some(Readiness::Ready) => reporter.tell(&Report::Up(Running {
                                edge: i32::try_from(std::process::id()).unwrap_or(0),
                                init: self.init,
                                listeners: addresses(listeners),
                            })),
                            Some(Readiness::Failed(reason)) => {
                                let _ = sys::signal(self.pidfd.get_ref().as_fd(), libc::SIGKILL);
                                return Err(Error::Core(reason));
                            }
                            None => {}
                        },
                        exit = exit_of(&self.pidfd) => {
                            // A core that never served has nothing to go back to.
                            if reporter.open && !exit.success() {
                                return Err(Error::Core(format!(
                                    "core ended with {exit}; see {}", config.log.display()
                                )));
                            }
                            return Ok(exit);
                        }
                    }
                }
            })
            .await
    }

    /// Core first, then what is left.
    async fn stop(self) -> Result<(), Error> {
        let until = tokio::time::Instant::now() + STOP;
        let tasks = tokio::task::LocalSet::new();
        // Core may need to dial out for its last words.
        tasks.spawn_local(serve_dials(Rc::clone(&self.link)));
        tasks
            .run_until(async {
                loop {
                    // Again and again: a signal that reached init before it was listening is lost.
                    sys::signal(self.pidfd.get_ref().as_fd(), libc::SIGTERM)
                        .map_err(|e| Error::io("stop core", e))?;
                    let again = tokio::time::Instant::now() + Duration::from_secs(1);
                    if let Ok(exit) =
                        tokio::time::timeout_at(again.min(until), exit_of(&self.pidfd)).await
                    {
                        sys::note(&format!("edge: core stopped with {exit}"));
                        return Ok(());
                    }
                    if tokio::time::Instant::now() >= until {
                        sys::note("edge: core did not stop in time and is killed");
                        let _ = sys::signal(self.pidfd.get_ref().as_fd(), libc::SIGKILL);
                        exit_of(&self.pidfd).await;
                        return Ok(());
                    }
                }
            })
            .await
    }
}

/// Root keeps every id; an ordinary user has one to give, and it becomes the region's root. Root of
/// a container without the capability to map more is treated as an ordinary user.
fn map_users(pid: i32) -> io::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if uid.is_root() && sys::write_maps(pid, &Map::Identity).is_ok() {
        return Ok(());
    }
    sys::write_maps(pid, &Map::Single { inside: 0, uid: uid.as_raw(), gid: gid.as_raw() })
}

fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

fn nonblocking(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    sys::watch(fd)
}

/// Core's word, once; pending for ever after it, or when core died without one.
async fn readiness(pipe: &mut Option<tokio::net::unix::pipe::Receiver>) -> Option<Readiness> {
    use tokio::io::AsyncReadExt as _;
    let Some(reader) = pipe else { return std::future::pending().await };
    let mut bytes = Vec::new();
    let read = reader.take(64 * 1024).read_to_end(&mut bytes).await;
    *pipe = None;
    read.ok().and_then(|_| serde_json::from_slice(&bytes).ok())
}

/// Waits for a child by its pidfd and reaps it.
pub(crate) async fn exit_of(pidfd: &AsyncFd<OwnedFd>) -> Exit {
    loop {
        let ready = pidfd.readable().await;
        let status =
            waitid(Id::PIDFd(pidfd.get_ref().as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
        match status {
            Ok(WaitStatus::Exited(_, code)) => return Exit::Code(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Exit::Signal(signal as i32),
            Ok(_) => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
            }
            // Reaped by someone else, which nobody here does; there is nothing left to wait for.
            Err(_) => return Exit::Signal(libc::SIGKILL),
        }
    }
}

async fn serve_dials(link: Rc<AsyncFd<OwnedFd>>) {
    loop {
        let request = receive(&link).await;
        let Ok(Some(dial)) = request else { return };
        let link = Rc::clone(&link);
        tokio::task::spawn_local(async move {
            let dialled = tokio::time::timeout(DIAL, connect(&dial.host, dial.port)).await;
            let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let (error, socket) = match dialled.and_then(TcpStream::into_std) {
                Ok(stream) => (None, Some(OwnedFd::from(stream))),
                Err(error) => (Some(error.into()), None),
            };
            let answer = Dialled { id: dial.id, error };
            loop {
                let Ok(mut writable) = link.writable().await else { return };
                let sent =
                    writable.try_io(|link| link::send(link.as_raw_fd(), &answer, socket.as_ref()));
                if sent.is_ok() {
                    return;
                }
            }
        });
    }
}

async fn receive(link: &AsyncFd<OwnedFd>) -> io::Result<Option<Dial>> {
    loop {
        let mut readable = link.readable().await?;
        if let Ok(received) =
            readable.try_io(|link| link::receive(link.as_raw_fd(), MsgFlags::empty()))
        {
            return Ok(received?.map(|(dial, _)| dial));
        }
    }
}

/// Connects to the first address that answers, giving each a head start over the next.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut addresses = tokio::net::lookup_host((host, port)).await?.collect::<VecDeque<_>>();
    let mut attempts = tokio::task::JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    loop {
        if let Some(address) = addresses.pop_front() {
            attempts.spawn(TcpStream::connect(address));
        } else if attempts.is_empty() {
            return Err(last);
        }
        let patience = if addresses.is_empty() { DIAL } else { NEXT_ADDRESS };
        match tokio::time::timeout(patience, attempts.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(error)))) => last = error,
            Ok(Some(Err(error))) => last = io::Error::other(error),
            Ok(None) | Err(_) => {}
        }
    }
}
