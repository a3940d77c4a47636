//! `lazuli swap`.

use std::time::Instant;

use crate::cli::Context;
use crate::commands::deploy::{Summary, summary};
use crate::diagnostics::{Failure, release};
use crate::project::Project;
use crate::reporter::for_printer;
use crate::target::Session;
use crate::waiting;

/// Exchange the staging slot and production, without a new deployment
///
/// The staging slot's instances get production's settings and are warmed up, then routing switches.
/// Worker and scheduler keep what they run. Production is verified afterwards, and swapped back if it
/// fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  lazuli swap                      what is in staging goes to production, and the other way round")]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, cx: &Context) -> Result<(), Failure> {
    let began = Instant::now();
    let project = Project::open(cx)?;
    let session = Session::open(cx)?;
    waiting::remind(&project, cx);
    let reporter = for_printer(&cx.printer);
    let outcome = session.release(&project, &reporter, began).swap().await;
    let report = outcome.map_err(|error| release::failure(&error, cx))?;
    cx.printer.result(&Summary::of(&report), |_| summary(&report, &project, &session));
    Ok(())
}
