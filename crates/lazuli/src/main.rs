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
mod reporter;

fn main() -> ExitCode {
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
