//! Pid 1 of the region's namespaces: prepares them, runs core, reaps, and takes everything along
//! when core ends.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;

use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ifconfig::Ifconfig;
use crate::sys;

/// Descriptors of init, as edge numbers them.
pub(crate) const LINK: i32 = 3;
pub(crate) const READY: i32 = 4;
pub(crate) const PLAN: i32 = 5;
pub(crate) const LISTENERS: i32 = 6;

/// Where core finds how many listeners it has inherited.
pub(crate) const LISTENERS_VARIABLE: &str = "LAZULI_LISTENERS";

/// What edge tells init.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) core_args: Vec<OsString>,
    pub(crate) core_env: Vec<(OsString, OsString)>,
    pub(crate) listeners: usize,
}

/// What goes through the ready pipe, one JSON line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Readiness {
    Ready,
    Failed(String),
}

pub(crate) fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // Nothing else has been started; edge reads the reason from the pipe.
            sys::note(&format!("init: {error}"));
            if let Ok(ready) = sys::inherited(READY) {
                crate::core::tell(ready, &Readiness::Failed(error.to_string()));
            }
            ExitCode::from(70)
        }
    }
}

fn run() -> Result<ExitCode, Error> {
    sys::die_with_parent().map_err(|e| Error::io("tie init to edge", e))?;
    let link = sys::inherited(LINK).map_err(|e| Error::io("find the link to edge", e))?;
    if hung_up(&link) {
        // Edge died between making us and the line above: nobody would ever kill us.
        return Ok(ExitCode::from(70));
    }
    let plan = sys::inherited(PLAN).and_then(sys::from_fd::<Plan>);
    let plan = plan.map_err(|e| Error::io("read edge's plan", e))?;
    let signals = SigSet::all();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&signals), None)
        .map_err(|e| Error::io("block signals", e))?;
    prepare()?;

    // SAFETY: this process has one thread, so its memory is in a consistent state in the child.
    let core = match unsafe { fork() }.map_err(|e| Error::io("fork core", e))? {
        ForkResult::Child => exec_core(&plan),
        ForkResult::Parent { child } => child,
    };
    // Core alone holds the link, the ready pipe and the listeners, so that each closes with it.
    drop(link);
    for number in (READY..LISTENERS).chain((0..plan.listeners).filter_map(listener_number)) {
        drop(sys::inherited(number));
    }
    Ok(reap(core, &signals, |signal| {
        let _ = nix::sys::signal::kill(core, signal);
    }))
}

pub(crate) fn listener_number(index: usize) -> Option<i32> {
    i32::try_from(index).ok().map(|index| LISTENERS + index)
}

fn hung_up(link: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(link.as_fd(), PollFlags::POLLHUP)];
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

fn prepare() -> Result<(), Error> {
    let refused = |what: &str, errno: nix::Error| Error::Refused {
        what: what.to_owned(),
        source: errno.into(),
        remedy: sys::remedy(),
    };
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|e| refused("have mounts of its own", e))?;
    let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), hardened, none)
        .map_err(|e| refused("mount its own /proc", e))?;
    nix::unistd::sethostname("lazuli").map_err(|e| refused("set its own host name", e))?;
    Ifconfig::new()
        .and_then(|network| network.up(c"lo"))
        .map_err(|e| Error::io("set the region's loopback interface up", e))?;
    // Programs here are not root of this network namespace, and Azure's ports are below 1024.
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
        .map_err(|e| Error::io("open low ports", e))
}

fn exec_core(plan: &Plan) -> ! {
    let failed = |error: io::Error| -> ! {
        sys::note(&format!("init: cannot execute core: {error}"));
        std::process::exit(71)
    };
    let run = || -> io::Result<std::convert::Infallible> {
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        let mut argv = vec![c"lazuli".to_owned()];
        for argument in &plan.core_args {
            argv.push(sys::cstring(argument)?);
        }
        let mut env = Vec::<CString>::new();
        for (name, value) in &plan.core_env {
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            env.push(sys::cstring(pair)?);
        }
        env.push(sys::cstring(format!("{LISTENERS_VARIABLE}={}", plan.listeners))?);
        for number in
            [LINK, READY].into_iter().chain((0..plan.listeners).filter_map(listener_number))
        {
            // SAFETY: clears CLOEXEC on descriptors that edge numbered for core; an unopened number
            // only fails.
            if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(nix::unistd::execve(sys::SELF, &argv, &env)?)
    };
    match run() {
        Ok(never) => match never {},
        Err(error) => failed(error),
    }
}

/// Waits for `main`'s end, reaping every orphan and passing every other signal to `forward`.
/// Answers with `main`'s own status.
pub(crate) fn reap(main: Pid, signals: &SigSet, forward: impl Fn(Signal)) -> ExitCode {
    match reap_status(main, signals, forward) {
        WaitStatus::Exited(_, code) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)),
        WaitStatus::Signaled(_, signal, _) => {
            ExitCode::from(128_u8.saturating_add(u8::try_from(signal as i32).unwrap_or(0)))
        }
        _ => ExitCode::FAILURE,
    }
}

pub(crate) fn reap_status(main: Pid, signals: &SigSet, forward: impl Fn(Signal)) -> WaitStatus {
    loop {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => break,
                Ok(status) if status.pid() == Some(main) => return status,
                Ok(_) | Err(_) => {}
            }
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            Ok(signal) => forward(signal),
        }
    }
}
