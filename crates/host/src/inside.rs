use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::Error;

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
/// with its exit code. Must be called while the process has one thread.
pub fn enter(_command: &Inside) -> Result<ExitCode, Error> {
    todo!()
}
