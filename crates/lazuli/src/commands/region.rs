//! `lazuli region`: start, stop and look after the local region.

use lazuli_release::event::Reporter;

use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::environment::Environment;
use crate::exit::Exit;

/// Start, stop and look after the local region
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Start the region; what it was doing when it stopped, it takes up again
    Start,
    /// Stop the region and every process in it
    Stop,
    /// Show whether it runs, since when, and where
    Status,
    /// Delete the region and everything in it
    Reset,
    /// Show the region's own log
    Logs,
}

pub(crate) async fn run(args: Args, _cx: &Context) -> Result<(), Failure> {
    match args.action {
        Action::Start | Action::Stop | Action::Status | Action::Reset | Action::Logs => {
            Err(Failure::new(Exit::Unexpected, "`lazuli region` is not built yet"))
        }
    }
}

/// The environment of the region, started if it was not running.
pub(crate) async fn ensure_started(
    cx: &Context,
    _reporter: &Reporter,
) -> Result<Environment, Failure> {
    Environment::load(&cx.global.region)
}
