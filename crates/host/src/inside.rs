use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::{ForkResult, fork};

use crate::{Error, init, sys};

/// A command to run inside a region (`lazuli run --inside`: the standard's Bastion).
#[derive(Debug, Clone)]
pub struct Inside {
    /// [`crate::edge::Running::init`].
    pub init: i32,
    /// The working directory; `/` if it cannot be entered.
    pub cwd: PathBuf,
    /// Program and arguments.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// A hosts file to show at `/etc/hosts`.
    pub hosts: Option<PathBuf>,
    /// A CA bundle to show at `/etc/ssl/certs/ca-certificates.crt`.
    pub ca_bundle: Option<PathBuf>,
}

/// Runs a command in the region's namespaces, with the caller's own standard streams, and answers
/// with its exit code (127 if there is no such program). Must be called while the process has one
/// thread: the kernel moves no other into a user namespace.
pub fn enter(command: &Inside) -> Result<ExitCode, Error> {
    let system = |what: &str| {
        let what = what.to_owned();
        move |e: nix::Error| Error::io(what, e)
    };
    let region = sys::pidfd_open(command.init).map_err(|e| Error::io("find the region", e))?;
    let all = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    setns(region.as_fd(), all).map_err(system("enter the region"))?;
    // A view of our own, in which two files are ours to replace.
    unshare(CloneFlags::CLONE_NEWNS).map_err(system("have mounts of its own"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(system("have mounts of its own"))?;
    for (source, target) in
        [(&command.hosts, "/etc/hosts"), (&command.ca_bundle, "/etc/ssl/certs/ca-certificates.crt")]
    {
        if let Some(source) = source
            && Path::new(target).exists()
        {
            mount(Some(source), target, none, MsFlags::MS_BIND, none)
                .map_err(system(&format!("show {} at {target}", source.display())))?;
        }
    }
    if std::env::set_current_dir(&command.cwd).is_err() {
        let _ = std::env::set_current_dir("/");
    }
    let (candidates, argv, env) =
        prepare(command).map_err(|e| Error::io("pass the command on", e))?;
    let signals = SigSet::all();
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&signals), Some(&mut before))
        .map_err(system("block signals"))?;
    // A pid namespace takes effect for children only, hence the fork.
    // SAFETY: this process has one thread (the kernel has just insisted on it).
    match unsafe { fork() }.map_err(system("fork"))? {
        ForkResult::Child => {
            let _ = sys::die_with_parent();
            // SAFETY: restores the default disposition that the standard library took away.
            let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
            let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
            let mut last = nix::Error::ENOENT;
            for candidate in &candidates {
                let Err(error) = nix::unistd::execve(candidate, &argv, &env);
                if error != nix::Error::ENOENT && error != nix::Error::ENOTDIR {
                    last = error;
                }
            }
            sys::say(&format!("{}: {}", argv[0].to_string_lossy(), last.desc()));
            std::process::exit(if last == nix::Error::ENOENT { 127 } else { 126 })
        }
        ForkResult::Parent { child } => Ok(init::reap(child, &signals, |signal| {
            // The terminal sends these to both of us.
            if !matches!(signal, Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTSTP) {
                let _ = nix::sys::signal::kill(child, signal);
            }
        })),
    }
}

type Prepared = (Vec<CString>, Vec<CString>, Vec<CString>);

fn prepare(command: &Inside) -> io::Result<Prepared> {
    let program = command.argv.first().ok_or(io::ErrorKind::InvalidInput)?;
    let argv = command.argv.iter().map(sys::cstring).collect::<io::Result<_>>()?;
    let mut env = Vec::with_capacity(command.env.len());
    for (name, value) in &command.env {
        let mut pair = name.clone();
        pair.push("=");
        pair.push(value);
        env.push(sys::cstring(pair)?);
    }
    let candidates = if program.to_string_lossy().contains('/') {
        vec![sys::cstring(program)?]
    } else {
        let path =
            command.env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone());
        let path = path.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        std::env::split_paths(&path)
            .map(|dir| sys::cstring(dir.join(program)))
            .collect::<io::Result<_>>()?
    };
    Ok((candidates, argv, env))
}
