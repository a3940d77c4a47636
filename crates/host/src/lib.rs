//! The only part that touches the machine: the edge and core processes, namespaces, sandboxes,
//! addresses, passed sockets. It knows nothing of Azure. `unsafe` lives here alone, each use with
//! its reason.
//!
//! # The process tree
//!
//! ```text
//! edge      the machine's network; owns the loopback listeners; dials out on request
//! └─ init   pid 1 of a new user+mount+net+pid+uts+ipc namespace; reaps; forwards signals to core
//!    └─ core       the region itself; creates the bridge `vnet0` and its addresses
//!       └─ sandbox init   pid 1 of a sandbox: own user+mount+pid+uts+ipc (+net) namespaces
//!          └─ the program   one user namespace further down, so that it can undo nothing above it
//! ```
//!
//! Nothing outlives its parent. Init asks the kernel for SIGKILL when edge dies (PDEATHSIG) and exits
//! when core exits; a dead pid 1 takes its pid namespace and every one below with it. A sandbox's
//! init dies with its [`Process`] handle, and takes its sandbox along in the same way.
//!
//! # Secrets
//!
//! A [`Spec`] reaches the sandbox through a `memfd`, never through an argument list or the
//! environment of the intermediate processes.
#![allow(unsafe_code)]

mod bridge;
pub mod core;
pub mod edge;
mod error;
mod host;
mod ifconfig;
mod init;
mod inside;
mod link;
mod process;
mod sandbox;
mod spec;
mod sys;
mod usage;

pub use error::Error;
pub use host::Host;
pub use inside::{Inside, enter};
pub use process::{Exit, Output, Process};
pub use spec::{Mount, Network, Spec, User};

/// Signals that [`Process::signal`] takes.
pub use nix::sys::signal::Signal;
pub use usage::{Processes, Usage};

use std::ffi::OsString;
use std::process::ExitCode;

/// The binary calls this before anything else, with its arguments (without the program's own name)
/// and while it still has one thread. It answers `Some` when the arguments are one of this crate's
/// own re-executions (`__edge`, `__init`, `__sandbox`): the caller then exits with that code.
///
/// Core is the caller's: whatever [`edge::Config::core_args`] says is run as core, and finds its
/// inheritance with [`core::inherit`].
pub fn internal_main(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    match args.into_iter().next()?.to_str()? {
        "__edge" => Some(edge::main()),
        "__init" => Some(init::main()),
        "__sandbox" => Some(sandbox::main()),
        _ => None,
    }
}
