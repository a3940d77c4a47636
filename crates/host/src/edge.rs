//! The process in the machine's own network.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;

/// What edge serves and runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The region's directory: edge keeps its lock there.
    pub dir: PathBuf,
    /// The loopback listeners core accepts on, in this order.
    pub listeners: Vec<SocketAddr>,
    /// The arguments with which this same binary is run as core.
    pub core_args: Vec<OsString>,
    /// Where edge's and core's standard output and error go when started by [`start`].
    pub log: PathBuf,
}

/// A region that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Edge.
    pub edge: i32,
    /// The pid 1 of the region's namespaces, as the machine sees it: what [`crate::enter`] takes.
    pub init: i32,
    /// The listeners' real addresses (a port 0 in [`Config::listeners`] is resolved).
    pub listeners: Vec<SocketAddr>,
}

/// Starts edge detached from the caller's session and waits until core says it is ready
/// ([`crate::core::ReadyPipe::ready`]).
pub fn start(_config: &Config) -> Result<Running, Error> {
    todo!()
}

/// Runs edge in this process until it is told to stop (SIGTERM, SIGINT).
pub fn run(_config: Config) -> Result<(), Error> {
    todo!()
}

/// The region running in `dir`, if any.
pub fn running(_dir: &Path) -> Option<Running> {
    todo!()
}

/// Stops the region in `dir` and waits for its end; after `patience` it is killed.
pub fn stop(_dir: &Path, _patience: Duration) -> Result<(), Error> {
    todo!()
}
