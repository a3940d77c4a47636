//! The few system calls that the standard library and `nix` do not cover, each with the reason why
//! its `unsafe` is sound.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::unix::AsyncFd;

/// This very program, whatever its path is by now.
pub(crate) const SELF: &CStr = c"/proc/self/exe";

/// Every namespace a region and a sandbox have; sandboxes add `CLONE_NEWNET` as they need.
pub(crate) const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC;

/// A process made by [`spawn_self`], waiting for [`Child::release`].
pub(crate) struct Child {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    gate: OwnedFd,
}

impl Child {
    /// Lets the child execute; called once its user namespace has its maps.
    pub(crate) fn release(self) -> io::Result<(i32, OwnedFd)> {
        nix::unistd::write(&self.gate, b"x")?;
        Ok((self.pid, self.pidfd))
    }
}

/// Creates a process in the namespaces of `flags` that executes this program again with `args`, an
/// empty environment and exactly `fds` open, numbered from 0. It waits before the execution, because
/// a program executed before its user namespace has an identity starts without capabilities.
///
/// Must be called on a thread that lives as long as the child may: `PR_SET_PDEATHSIG` fires when the
/// *thread* that made a process ends.
pub(crate) fn spawn_self(
    flags: libc::c_int,
    args: &[&CStr],
    env: &[CString],
    fds: &[BorrowedFd<'_>],
) -> io::Result<Child> {
    let (gate_read, gate) = pipe()?;
    // Copies with high numbers, so that renumbering from 0 cannot overwrite one not yet moved.
    let high = |fd: BorrowedFd<'_>| -> io::Result<OwnedFd> {
        let raw = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(200))?;
        // SAFETY: F_DUPFD_CLOEXEC just created this descriptor and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(raw) })
    };
    let sources = fds.iter().map(|fd| high(*fd)).collect::<io::Result<Vec<_>>>()?;
    let gate_read = high(gate_read.as_fd())?;
    let raw: Vec<RawFd> = sources.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
    let gates = (gate_read.as_raw_fd(), gate.as_raw_fd());
    let mut words: Vec<*const libc::c_char> = args.iter().map(|a| a.as_ptr()).collect();
    words.push(std::ptr::null());
    let mut environment: Vec<*const libc::c_char> = env.iter().map(|e| e.as_ptr()).collect();
    environment.push(std::ptr::null());

    let mut pidfd: libc::c_int = -1;
    let flags = flags | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: without CLONE_VM this is fork() with namespaces: the child has its own copy of memory.
    // Other threads do not exist in the child and may have held locks, so `child` below makes only
    // raw system calls: no allocation, no formatting, no unwinding. The pidfd pointer is valid for
    // the call.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, &raw mut pidfd, 0_usize, 0_usize) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: see `child`; all pointers were made before the clone and live in the child's copy.
        0 => unsafe { child(gates, &raw, &words, &environment) },
        pid => Ok(Child {
            pid: i32::try_from(pid).map_err(io::Error::other)?,
            // SAFETY: CLONE_PIDFD stored a new descriptor that only we own.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
            gate,
        }),
    }
}

/// What the new process does before it executes.
///
/// # Safety
/// Runs after clone() in a copy of a multi-threaded process: async-signal-safe calls only.
unsafe fn child(
    (gate, gate_of_parent): (RawFd, RawFd),
    fds: &[RawFd],
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
) -> ! {
    // SAFETY: plain system calls on descriptors and pointers that the caller prepared.
    unsafe {
        // Our copy of the gate's writing end must go, or the gate would never close when the parent
        // dies before releasing us.
        libc::close(gate_of_parent);
        let mut byte = 0_u8;
        if libc::read(gate, (&raw mut byte).cast(), 1) != 1 {
            libc::_exit(125);
        }
        let mut target: RawFd = 0;
        for fd in fds {
            if libc::dup2(*fd, target) == -1 {
                libc::_exit(125);
            }
            target += 1;
        }
        libc::syscall(libc::SYS_close_range, target, u32::MAX, 0_u32);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::execve(SELF.as_ptr(), argv.as_ptr(), envp.as_ptr());
        libc::_exit(126)
    }
}

/// The user and group maps of a new user namespace.
pub(crate) enum Map {
    /// One identity: this id inside is the parent's effective one outside.
    Single { inside: u32, uid: u32, gid: u32 },
    /// Every id of the parent's namespace, unchanged.
    Identity,
}

/// Writes the maps of the user namespace of `pid`.
pub(crate) fn write_maps(pid: i32, map: &Map) -> io::Result<()> {
    let file = |name: &str| format!("/proc/{pid}/{name}");
    // One write each: the kernel takes a map in a single write only.
    let put = |name: &str, text: &str| -> io::Result<()> {
        fs::OpenOptions::new().write(true).open(file(name))?.write_all(text.as_bytes())
    };
    match map {
        Map::Single { inside, uid, gid } => {
            // Required before an unprivileged gid map, and harmless otherwise.
            put("setgroups", "deny")?;
            put("uid_map", &format!("{inside} {uid} 1\n"))?;
            put("gid_map", &format!("{inside} {gid} 1\n"))
        }
        Map::Identity => {
            put("uid_map", &identity("/proc/self/uid_map")?)?;
            put("gid_map", &identity("/proc/self/gid_map")?)
        }
    }
}

/// Our own namespace's ids, each mapped to itself (in a container that is less than everything).
fn identity(own: &str) -> io::Result<String> {
    use std::fmt::Write as _;
    let text = fs::read_to_string(own)?;
    let mut map = String::new();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        if let (Some(inside), Some(_), Some(count)) = (fields.next(), fields.next(), fields.next())
        {
            let _ = writeln!(map, "{inside} {inside} {count}");
        }
    }
    Ok(map)
}

/// A pipe, both ends closed on exec: (reading end, writing end).
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// `/dev/null`.
pub(crate) fn null() -> io::Result<OwnedFd> {
    Ok(fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

/// A value as JSON in an anonymous file: how configuration travels to a re-execution.
pub(crate) fn to_memfd(value: &impl Serialize) -> io::Result<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let mut file: fs::File = memfd_create(c"lazuli", MFdFlags::MFD_CLOEXEC)?.into();
    serde_json::to_writer(io::BufWriter::new(&mut file), value)?;
    file.rewind()?;
    Ok(file.into())
}

/// The value that [`to_memfd`] wrote.
pub(crate) fn from_fd<T: DeserializeOwned>(fd: OwnedFd) -> io::Result<T> {
    let mut bytes = Vec::new();
    fs::File::from(fd).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Takes descriptor `number`, which this process was executed with.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl on any number is harmless; it fails with EBADF when nothing is open there.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: open (just seen), and by this crate's protocol handed to us at exec and to nobody
    // else in this process.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Asks the kernel to kill this process when the thread that made it ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// Sends a signal to the process behind a pidfd. One that has ended is no error.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: a plain system call; the pidfd is open for its duration and the siginfo may be null.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    if sent == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        gone if gone.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        error => Err(error),
    }
}

/// A handle on a process of the machine.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call that returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0_u32) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just created, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).map_err(io::Error::other)?) })
}

/// Watches a descriptor with the current thread's tokio runtime.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, stays the same descriptor, and is closed only by its owner,
    // which the `AsyncFd` becomes.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// When a process started, in clock ticks since boot: with its pid this names it for good.
/// `None` when there is no such process or it is only waiting to be reaped.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command's name in brackets and may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

/// Sets attributes on a mount, recursively if asked to. Unlike a remount it leaves alone the flags
/// that a more privileged namespace has locked.
pub(crate) fn mount_setattr(target: &CStr, set: u64, recursive: bool) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string and the structure outlives the call; its size is passed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            target.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A C string, or the error a path with a NUL in it deserves.
pub(crate) fn cstring(text: impl AsRef<OsStr>) -> io::Result<CString> {
    CString::new(text.as_ref().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "contains a NUL byte"))
}

/// Writes a file whole or not at all.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

/// A line in the region's log. Edge and init have no subscriber of their own: they are small on
/// purpose, and their standard error is the log.
pub(crate) fn note(message: &str) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let _ = writeln!(io::stderr(), "{}.{:03} {message}", since.as_secs(), since.subsec_millis());
}

/// A line to the person at the terminal, from a process that is only there to be replaced.
pub(crate) fn say(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// What to do when the machine refuses namespaces.
pub(crate) fn remedy() -> String {
    let is = |name: &str, value: &str| {
        fs::read_to_string(format!("/proc/sys/{name}")).is_ok_and(|v| v.trim() == value)
    };
    if is("kernel/unprivileged_userns_clone", "0") {
        "User namespaces are switched off for ordinary users. Switch them on with\n  \
         sudo sysctl -w kernel.unprivileged_userns_clone=1"
            .to_owned()
    } else if is("user/max_user_namespaces", "0") {
        "The machine allows no user namespaces. Allow some with\n  \
         sudo sysctl -w user.max_user_namespaces=15000"
            .to_owned()
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        let program = std::env::current_exe()
            .map_or_else(|_| "/path/to/lazuli".to_owned(), |path| path.display().to_string());
        format!(
            "AppArmor restricts user namespaces (Ubuntu does since 23.10). Give this program a \
             profile that allows them:\n  \
             printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile lazuli {program} \
             flags=(unconfined) {{\\n  userns,\\n}}\\n' | sudo tee /etc/apparmor.d/lazuli\n  \
             sudo apparmor_parser -r /etc/apparmor.d/lazuli\n\
             or lift the restriction for everyone:\n  \
             sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )
    } else {
        "Inside a container, allow nested user namespaces (docker: --security-opt \
         seccomp=unconfined --security-opt systempaths=unconfined; or --privileged)."
            .to_owned()
    }
}
