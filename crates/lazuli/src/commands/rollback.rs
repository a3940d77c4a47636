//! `lazuli rollback`.

use std::time::Instant;

use crate::cli::Context;
use crate::commands::deploy::{Summary, summary};
use crate::diagnostics::{Failure, release};
use crate::project::Project;
use crate::reporter::for_printer;
use crate::target::Session;

/// Put the previous version back into production
///
/// A swap back, as long as the staging slot still holds the version before; otherwise its package,
/// which was kept, is deployed there first. Worker and scheduler get their previous package again.
/// Migrations are not undone: they must suit both versions. An interrupted release is brought to the
/// state before it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  lazuli rollback                  in under a second: says how long the switch took")]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, cx: &Context) -> Result<(), Failure> {
    let began = Instant::now();
    crate::target::refuse_azure(cx)?;
    let project = Project::open(cx)?;
    let session = Session::open(cx)?;
    let reporter = for_printer(&cx.printer);
    let outcome = session.release(&project, &reporter, began).rollback().await;
    let report = outcome.map_err(|error| release::failure(&error, cx))?;
    cx.printer.result(&Summary::of(&report), |_| summary(&report, &project, &session));
    Ok(())
}
