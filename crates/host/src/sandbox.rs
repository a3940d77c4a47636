//! Pid 1 of a sandbox: builds the sandbox's view of the machine, runs the program one user
//! namespace further down, forwards signals, reaps, and reports the program's own status.
//!
//! The program gets a user namespace of its own because the sandbox's mounts belong to init's: from
//! below, a read-only mount cannot be made writable again, nor a masked file be uncovered. This
//! matters most when the region runs as real root, whose uid the program shares.

mod root;

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::wait::WaitStatus;
use nix::unistd::{ForkResult, fork};
use serde::{Deserialize, Serialize};

use crate::ifconfig::Ifconfig;
use crate::sys::{self, Map};
use crate::{Error, Network, Spec, User, init};

/// Descriptors of the sandbox's init, as the host numbers them after the standard streams.
const PLAN: i32 = 3;
const STATUS: i32 = 4;

/// A spec whose sources have been looked up where core stands.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    spec: Spec,
}

impl Plan {
    /// Resolves symbolic links in sources now: inside they would be looked up in the wrong root.
    pub(crate) fn resolve(mut spec: Spec) -> Result<Self, Error> {
        let name = spec.name.clone();
        let resolve = |path: &Path| {
            path.canonicalize().map_err(|e| Error::Start {
                name: name.clone(),
                reason: format!("cannot show it {}: {e}", path.display()),
            })
        };
        for mount in &mut spec.mounts {
            mount.source = resolve(&mount.source)?;
            if !mount.target.is_absolute() {
                let reason = format!("the mount target {} is relative", mount.target.display());
                return Err(Error::Start { name, reason });
            }
        }
        if let Some(bundle) = &mut spec.ca_bundle {
            *bundle = resolve(bundle)?;
        }
        Ok(Self { spec })
    }
}

/// What init tells the host, one JSON line each.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// The program has been executed.
    Started,
    /// It has not, and why.
    Failed(String),
    /// It exited.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

struct Status(std::fs::File);

impl Status {
    fn tell(&mut self, message: &Message) {
        if let Ok(mut line) = serde_json::to_vec(message) {
            line.push(b'\n');
            // If the host is gone the kernel is about to kill us.
            let _ = self.0.write_all(&line);
        }
    }
}

/// An error with what was being done.
type Step = String;

fn step<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Step {
    let what = what.into();
    move |error| {
        let error: io::Error = error.into();
        format!("cannot {what}: {error}")
    }
}

pub(crate) fn main() -> ExitCode {
    let Ok(status) = sys::inherited(STATUS) else { return ExitCode::from(70) };
    let mut status = Status(status.into());
    match run(&mut status) {
        Ok(code) => code,
        Err(reason) => {
            status.tell(&Message::Failed(reason));
            ExitCode::from(70)
        }
    }
}

fn run(status: &mut Status) -> Result<ExitCode, Step> {
    sys::die_with_parent().map_err(step("tie the sandbox to core"))?;
    let plan: Plan =
        sys::inherited(PLAN).and_then(sys::from_fd).map_err(step("read the sandbox's plan"))?;
    let spec = plan.spec;
    let signals = SigSet::all();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&signals), None).map_err(step("block signals"))?;

    nix::unistd::sethostname(host_name(&spec.name)).map_err(step("set the host name"))?;
    connect(spec.network)?;
    root::enter(&spec)?;
    limit_files(spec.nofile)?;
    nix::sys::prctl::set_no_new_privs().map_err(step("give up privileges"))?;
    let program = Program::prepare(&spec)?;

    let pipe = || sys::pipe().map_err(step("make a pipe"));
    let ((unshared_read, unshared), (mapped_read, mapped), (executed_read, executed)) =
        (pipe()?, pipe()?, pipe()?);
    // SAFETY: this process has one thread, so its memory is in a consistent state in the child.
    let child = match unsafe { fork() }.map_err(step("fork"))? {
        ForkResult::Child => {
            drop((unshared_read, mapped, executed_read));
            let Err(reason) = program.exec(&unshared, &mapped_read);
            let _ = nix::unistd::write(&executed, reason.as_bytes());
            std::process::exit(70)
        }
        ForkResult::Parent { child } => child,
    };
    drop((unshared, mapped_read, executed));
    if nix::unistd::read(&unshared_read, &mut [0]) == Ok(1) {
        let inside = match spec.user {
            User::Root => 0,
            User::Unprivileged => root::NOBODY,
        };
        sys::write_maps(child.as_raw(), &Map::Single { inside, uid: 0, gid: 0 })
            .map_err(step("map the program's user"))?;
        // The program may have our uid; it must not look into this process, whose executable and
        // open files are not the sandbox's.
        nix::sys::prctl::set_dumpable(false).map_err(step("hide the sandbox's init"))?;
        nix::unistd::write(&mapped, b"x").map_err(step("release the program"))?;
    }
    // Ends when the program is executed (the other end is close-on-exec) or says why it is not.
    let mut reason = Vec::new();
    io::Read::read_to_end(&mut std::fs::File::from(executed_read), &mut reason)
        .map_err(step("wait for the program"))?;
    if !reason.is_empty() {
        return Err(String::from_utf8_lossy(&reason).into_owned());
    }
    // The output pipes are the program's: they end when its processes do.
    let null = sys::null().map_err(step("open /dev/null"))?;
    nix::unistd::dup2_stdout(&null)
        .and_then(|()| nix::unistd::dup2_stderr(&null))
        .map_err(step("let go of the program's output"))?;
    status.tell(&Message::Started);

    let ended = init::reap_status(child, &signals, |signal| {
        let _ = nix::sys::signal::kill(child, signal);
    });
    match ended {
        WaitStatus::Exited(_, code) => {
            status.tell(&Message::Code(code));
            Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)))
        }
        WaitStatus::Signaled(_, signal, _) => {
            status.tell(&Message::Signal(signal as i32));
            Ok(ExitCode::from(128))
        }
        _ => Ok(ExitCode::FAILURE),
    }
}

/// A host name has at most 64 characters and no odd ones.
fn host_name(name: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '-' };
    name.chars().map(clean).take(63).collect()
}

fn connect(network: Network) -> Result<(), Step> {
    if network == Network::Region {
        return Ok(());
    }
    let configure = || -> io::Result<()> {
        let interfaces = Ifconfig::new()?;
        interfaces.up(c"lo")?;
        if let Network::Own(address) = network {
            let [a, b, c, _] = address.octets();
            interfaces.address(c"eth0", address)?;
            interfaces.up(c"eth0")?;
            interfaces.default_route(Ipv4Addr::new(a, b, c, 1))?;
        }
        Ok(())
    };
    configure().map_err(step("configure the network"))
}

fn limit_files(wanted: u64) -> Result<(), Step> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(step("read the file limit"))?;
    let limit = wanted.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).map_err(step("set the file limit"))
}

/// What is to be executed; made before the fork.
struct Program {
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: PathBuf,
    uid: u32,
}

impl Program {
    fn prepare(spec: &Spec) -> Result<Self, Step> {
        let text = |value: &OsStr| {
            sys::cstring(value).map_err(step(format!("pass {} on", value.to_string_lossy())))
        };
        let mut argv = vec![text(&spec.program)?];
        for argument in &spec.args {
            argv.push(text(argument)?);
        }
        let mut env = Vec::with_capacity(spec.env.len());
        for (name, value) in &spec.env {
            let mut pair = OsString::from(name);
            pair.push("=");
            pair.push(value);
            // The value may be a secret: only the name is told.
            env.push(
                sys::cstring(pair)
                    .map_err(step(format!("pass the variable {} on", name.to_string_lossy())))?,
            );
        }
        let mut candidates = Vec::new();
        if spec.program.to_string_lossy().contains('/') {
            candidates.push(text(&spec.program)?);
        } else {
            let path = spec.env.iter().find(|(name, _)| name == "PATH");
            let path = path.map_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"), |(_, value)| value);
            for dir in std::env::split_paths(path) {
                candidates.push(text(dir.join(&spec.program).as_os_str())?);
            }
        }
        let uid = match spec.user {
            User::Root => 0,
            User::Unprivileged => root::NOBODY,
        };
        Ok(Self { candidates, argv, env, cwd: spec.cwd.clone(), uid })
    }

    /// Runs in the forked child; returns only on failure.
    fn exec(&self, unshared: &OwnedFd, mapped: &OwnedFd) -> Result<std::convert::Infallible, Step> {
        unshare(CloneFlags::CLONE_NEWUSER).map_err(step("enter a user namespace"))?;
        nix::unistd::write(unshared, b"x").map_err(step("report to init"))?;
        if nix::unistd::read(mapped, &mut [0]) != Ok(1) {
            return Err("the sandbox's init failed".to_owned());
        }
        let ids = (nix::unistd::Uid::from_raw(self.uid), nix::unistd::Gid::from_raw(self.uid));
        nix::unistd::setresgid(ids.1, ids.1, ids.1).map_err(step("become the program's group"))?;
        nix::unistd::setresuid(ids.0, ids.0, ids.0).map_err(step("become the program's user"))?;
        nix::unistd::setsid().map_err(step("start a session"))?;
        std::env::set_current_dir(&self.cwd)
            .map_err(step(format!("enter {}", self.cwd.display())))?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        // SAFETY: restores a default disposition; no handler of ours is involved. The standard
        // library ignores SIGPIPE, and an ignored signal would be inherited.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map_err(step("reset signals"))?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
            .map_err(step("unblock signals"))?;
        let mut last = nix::Error::ENOENT;
        for candidate in &self.candidates {
            let Err(error) = nix::unistd::execve(candidate, &self.argv, &self.env);
            // As a shell: what is found but may not be executed is the better explanation.
            if error != nix::Error::ENOENT && error != nix::Error::ENOTDIR {
                last = error;
            }
        }
        Err(step(format!("execute {}", self.argv[0].to_string_lossy()))(last))
    }
}
