//! `lazuli secrets`: one file for each of its commands.

mod audit;
mod list;
mod rotate;

use crate::cli::Context;
use crate::diagnostics::Failure;

/// List, audit and rotate the app's secrets
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli secrets list                        age, expiry, who may read it, what refers to it
  lazuli secrets rotate jwt-secret           a new version, everywhere; the old one off in 24 hours
  lazuli secrets rotate db-password --confirm-after 5s
  lazuli secrets rotate --resume             finish what was interrupted or is due
  lazuli secrets rotate --due                every night: what is due, what is past 90 days
  lazuli secrets audit --last 20             who read or wrote what, when, from where")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show each secret's age, expiry, readers and references
    List(list::Args),
    /// Show every read and write, and every rotation
    Audit(audit::Args),
    /// Give a secret a new value, everywhere, without a failed request
    Rotate(rotate::Args),
}

pub(crate) async fn run(args: Args, cx: &Context) -> Result<(), Failure> {
    match args.action {
        Action::List(args) => list::run(args, cx).await,
        Action::Audit(args) => audit::run(&args, cx).await,
        Action::Rotate(args) => rotate::run(args, cx).await,
    }
}
