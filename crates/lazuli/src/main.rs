//! The `lazuli` command: commands, progress, output and exit codes; the work is done by the crates
//! below it. Nothing but `printer` and `reporter` writes to the terminal.

use std::process::ExitCode;

use clap::Parser as _;

mod cli;
mod commands;
mod diagnostics;
mod environment;
mod exit;
mod printer;
mod project;
mod reporter;
mod target;
mod waiting;

/// The gateway allocates a few small things a request: about 7 % of its samples in a profile were in
/// glibc's allocator. What this one saves was not measured by itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The region's own processes are this binary run again; they come first, while there is one
    // thread only.
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(code) = lazuli_host::internal_main(arguments.iter().cloned()) {
        return code;
    }
    if arguments.first().is_some_and(|first| first == "__core") {
        return lazuli_region::core::main(&arguments[1..]);
    }
    let cli = cli::Cli::parse();
    let cx = cli::Context::new(cli.global);
    let outcome = commands::dispatch(cli.command, &cx);
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            cx.printer.failure(&failure);
            failure.exit.into()
        }
    }
}
