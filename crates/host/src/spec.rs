use std::ffi::OsString;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Who a program is inside its sandbox. Outside it is always the user who runs the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum User {
    /// Uid 0, as on App Service; without any capability outside its own sandbox.
    Root,
    /// Uid and gid 65534 (`nobody`), for servers that refuse to be root.
    Unprivileged,
}

/// Which network a program sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The region's own network namespace, with every address of [`crate::Host::add_address`].
    Region,
    /// A namespace of its own with this address on the bridge, and the bridge's first address in
    /// the same /24 as its default route.
    Own(Ipv4Addr),
    /// Loopback only.
    None,
}

/// A directory or file of the machine shown inside a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The path outside, as core sees it.
    pub source: PathBuf,
    /// The absolute path inside. Missing parents are made.
    pub target: PathBuf,
    /// Whether the program may not write to it.
    pub read_only: bool,
}

impl Mount {
    /// Shows `source` at `target`, not writable.
    pub fn read_only(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), read_only: true }
    }

    /// Shows `source` at `target`, writable.
    pub fn writable(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), read_only: false }
    }
}

/// One program in one sandbox. `Debug` leaves out the environment and the arguments' values: both
/// may carry secrets.
#[derive(Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The host name inside and the name in errors and logs.
    pub name: String,
    /// Absolute path inside the sandbox, or a name looked up in the spec's own `PATH`.
    pub program: OsString,
    /// Its arguments. They are visible to every process of the machine: no secrets here.
    pub args: Vec<OsString>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory inside.
    pub cwd: PathBuf,
    /// Who it is inside.
    pub user: User,
    /// Which network it sees.
    pub network: Network,
    /// What it sees of the machine beyond the minimal read-only system. Applied in order.
    pub mounts: Vec<Mount>,
    /// Entries of its `/etc/hosts` besides `localhost` and its own name.
    pub hosts: Vec<(Ipv4Addr, String)>,
    /// The CA bundle shown at `/etc/ssl/certs/ca-certificates.crt`; the machine's own if `None`.
    pub ca_bundle: Option<PathBuf>,
    /// `RLIMIT_NOFILE`, soft and hard; never above the hard limit the region itself has.
    pub nofile: u64,
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("name", &self.name)
            .field("program", &self.program)
            .field("cwd", &self.cwd)
            .field("user", &self.user)
            .field("network", &self.network)
            .field("mounts", &self.mounts)
            .finish_non_exhaustive()
    }
}
