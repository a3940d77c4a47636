//! `lazuli provision`.

use lazuli_release::event::Reporter;

use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::exit::Exit;
use crate::project::Project;
use crate::reporter::for_printer;
use crate::target::{Session, refuse_azure};

/// Create or update the Azure resources the manifest asks for
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  lazuli provision --env dev       the development environment's resources")]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, cx: &Context) -> Result<(), Failure> {
    refuse_azure(cx)?;
    let project = Project::open(cx)?;
    let session = Session::open(cx)?;
    let reporter = for_printer(&cx.printer);
    provision(&project, &session, &reporter, cx).await
}

/// Makes the environment's resources what the blueprint says.
#[expect(clippy::unused_async, reason = "it will wait for the platform")]
pub(crate) async fn provision(
    _project: &Project,
    _session: &Session,
    _reporter: &Reporter,
    _cx: &Context,
) -> Result<(), Failure> {
    Err(Failure::new(Exit::Unexpected, "`lazuli provision` is not built yet"))
}
