//! `lazuli provision`.

use std::path::PathBuf;

use lazuli_release::event::Reporter;
use lazuli_release::provision::{Options, ProvisionError, Summary, Tenancy, plan};

use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::exit::Exit;
use crate::project::Project;
use crate::reporter::{duration, for_printer};
use crate::target::Session;

/// Create or update the Azure resources the manifest asks for
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli provision examples/notes  production's resources
  lazuli provision --env dev       the development environment's resources")]
pub(crate) struct Args {
    /// The project (default: here, or the nearest directory above)
    path: Option<PathBuf>,
    /// Give the database server a new password and write every secret that hangs on it
    #[arg(long)]
    reset_database_password: bool,
}

pub(crate) async fn run(args: Args, cx: &Context) -> Result<(), Failure> {
    let project = match &args.path {
        Some(path) => Project::at(path, cx)?,
        None => Project::open(cx)?,
    };
    let session = Session::open(cx)?;
    crate::waiting::remind(&project, cx);
    let reporter = for_printer(&cx.printer);
    let options = Options { reset_database_password: args.reset_database_password };
    let summary = carry_out(&project, &session, &reporter, options).await?;
    cx.printer.result(&summary, text);
    Ok(())
}

/// Makes the environment's resources what the blueprint says.
pub(crate) async fn provision(
    project: &Project,
    session: &Session,
    reporter: &Reporter,
    _cx: &Context,
) -> Result<(), Failure> {
    carry_out(project, session, reporter, Options::default()).await.map(|_| ())
}

async fn carry_out(
    project: &Project,
    session: &Session,
    reporter: &Reporter,
    options: Options,
) -> Result<Summary, Failure> {
    let tenancy = Tenancy {
        subscription: session.subscription.clone(),
        tenant: session.tenant.clone(),
        month: jiff::Timestamp::now().strftime("%Y-%m").to_string(),
    };
    let plan = plan(&project.blueprint, &tenancy).map_err(|error| {
        Failure::new(Exit::Provision, "the resources cannot be named").because(&error)
    })?;
    lazuli_release::provision::provision(&session.client, &plan, options, reporter)
        .await
        .map_err(|error| failure(&error))
}

fn failure(error: &ProvisionError) -> Failure {
    let failure = Failure::new(Exit::Provision, "provisioning stopped").cause(error.to_string());
    match error {
        ProvisionError::PasswordLost { .. } => failure
            .advise("give the server a new password: lazuli provision --reset-database-password"),
        ProvisionError::Resource { source, .. } if source.is_transport() => {
            failure.advise("see whether the region runs: lazuli region status")
        }
        ProvisionError::Resource { source, .. }
            if source.code() == Some("MissingSubscriptionRegistration") =>
        {
            failure.advise("register the provider it names: az provider register --namespace NAME")
        }
        _ => failure,
    }
    .advise("what was done stays; run it again after the remedy: it goes on from there")
}

fn text(summary: &Summary) -> String {
    let took = duration(summary.elapsed_ms);
    let mut text = if summary.is_unchanged() {
        format!(
            "{} resources are as they should be; nothing was changed ({took})",
            summary.unchanged
        )
    } else {
        format!(
            "{} created, {} changed, {} as they should be ({took})",
            summary.created.len(),
            summary.changed.len(),
            summary.unchanged
        )
    };
    for skipped in &summary.skipped {
        text.push_str("\nnot offered here: ");
        text.push_str(skipped);
    }
    text
}
