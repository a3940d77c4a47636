//! `lazuli rollback`.

use std::time::Instant;

use crate::cli::Context;
use crate::commands::deploy::{Summary, summary};
use crate::diagnostics::{Failure, release};
use crate::project::Project;
use crate::reporter::for_printer;
use crate::target::Session;
use crate::waiting;

/// Put the previous version back into production
///
/// A swap back, as long as the staging slot still holds the version before; otherwise its package,
/// which was kept, is deployed there first. Worker and scheduler get their previous package again.
/// Migrations are not undone: they must suit both versions. An interrupted release, and one that is
/// still watched, is brought to the state before it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli rollback                  in under a second: says how long the switch took
  lazuli rollback --to 7           to the version of release 7, while its package is kept")]
pub(crate) struct Args {
    /// The release whose version is wanted (default: the one before the last)
    #[arg(long, value_name = "NUMBER")]
    to: Option<u32>,
    /// Also when somebody elsewhere began a release and is gone
    #[arg(long)]
    take_over: bool,
}

pub(crate) async fn run(args: Args, cx: &Context) -> Result<(), Failure> {
    let began = Instant::now();
    let project = Project::open(cx)?;
    let session = Session::open(cx)?;
    waiting::remind(&project, cx);
    let reporter = for_printer(&cx.printer);
    let mut process = session.release(&project, &reporter, began);
    process.take_over = args.take_over;
    let outcome = process.rollback(args.to).await;
    let report = outcome.map_err(|error| release::failure(&error, cx))?;
    cx.printer.result(&Summary::of(&report), |_| summary(&report, &project, &session));
    Ok(())
}
