use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What went wrong on the machine, to what, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A loopback listener could not be opened.
    #[error("cannot listen on {addr}: {source}{}", taken_hint(source))]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Another region already runs in this directory.
    #[error("a region already runs in {} (pid {pid})", dir.display())]
    Running {
        /// The region's directory.
        dir: PathBuf,
        /// Its edge process.
        pid: i32,
    },
    /// No region runs in this directory.
    #[error("no region runs in {}", dir.display())]
    NotRunning {
        /// The region's directory.
        dir: PathBuf,
    },
    /// The kernel or its policy refuses what the region's network needs.
    #[error("this machine does not let the region {what}: {source}\n{remedy}")]
    Refused {
        /// What was refused.
        what: String,
        /// The kernel's reason.
        source: io::Error,
        /// What the machine's owner can do about it.
        remedy: String,
    },
    /// A program could not be started in its sandbox.
    #[error("cannot start {name}: {reason}")]
    Start {
        /// [`crate::Spec::name`].
        name: String,
        /// What failed, as the sandbox reported it.
        reason: String,
    },
    /// The region did not come up.
    #[error("the region did not start: {0}")]
    Core(String),
    /// This process was not started by edge.
    #[error("this process was not started as a region's core")]
    NotCore,
    /// The kernel's answer about an interface, an address or a route.
    #[error("cannot {what}: {source}")]
    Network {
        /// What was to be done.
        what: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Anything else the system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was to be done.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The thread that owns the sandboxes has gone: the region is stopping.
    #[error("the region is stopping")]
    Stopping,
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }
}

fn taken_hint(source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::AddrInUse {
        " (another program, or another region, has this port)"
    } else {
        ""
    }
}
