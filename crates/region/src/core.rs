//! Core: the region itself, in the region's own network. Puts the parts together, and that is all.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs core; `arguments` are the region's directory alone. Never returns while the region runs.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let _ = arguments;
    ExitCode::FAILURE
}
