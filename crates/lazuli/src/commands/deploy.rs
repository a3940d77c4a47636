//! `lazuli deploy`.

use std::fmt::Write as _;
use std::time::Instant;

use lazuli_release::journal::{Kind, Outcome};
use lazuli_release::release::{Options, Report};

use crate::cli::Context;
use crate::diagnostics::{Failure, release};
use crate::printer::{BOLD, DIM, GOOD, NAME, paint};
use crate::project::Project;
use crate::reporter::{duration, for_printer};
use crate::target::Session;

/// Release this directory: staging slot, migrations, checks, swap, verification
///
/// The package is deployed to the staging slot, its database migrated, its health, readiness and the
/// manifest's smoke checks verified; then production's database is migrated, the slots are swapped and
/// production is verified; worker and scheduler follow. A failure before the swap leaves production
/// untouched and the staging slot as it is, to be looked at; a failure after it puts production back.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli deploy                    release this directory to production
  lazuli deploy --env dev          to the development environment, which has no slots
  lazuli deploy --resume           after an interruption: go on to the end
  lazuli deploy --abort            after an interruption: all as it was before")]
pub(crate) struct Args {
    /// Go on with a release that was interrupted
    #[arg(long, conflicts_with_all = ["abort", "force", "require_clean"])]
    resume: bool,
    /// Give an interrupted release up; everything as it was before it
    #[arg(long, conflicts_with_all = ["force", "require_clean"])]
    abort: bool,
    /// Refuse a tree that differs from its commit
    #[arg(long)]
    require_clean: bool,
    /// Release although production runs this very package
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(args: Args, cx: &Context) -> Result<(), Failure> {
    let began = Instant::now();
    crate::target::refuse_azure(cx)?;
    let project = Project::open(cx)?;
    let session = Session::open(cx)?;
    let reporter = for_printer(&cx.printer);
    let process = session.release(&project, &reporter, began);
    let options = Options { require_clean: args.require_clean, force: args.force };
    let outcome = if args.resume {
        process.resume().await
    } else if args.abort {
        process.abort().await
    } else {
        process.deploy(options).await
    };
    let report = outcome.map_err(|error| release::failure(&error, cx))?;
    cx.printer.result(&Summary::of(&report), |_| summary(&report, &project, &session));
    Ok(())
}

/// The report as the last event of a JSON stream.
#[derive(serde::Serialize)]
pub(crate) struct Summary<'a> {
    event: &'static str,
    #[serde(flatten)]
    report: &'a Report,
}

impl<'a> Summary<'a> {
    pub(crate) fn of(report: &'a Report) -> Self {
        Self { event: "result", report }
    }
}

/// The end of a release in a few lines.
pub(crate) fn summary(report: &Report, project: &Project, session: &Session) -> String {
    let app = paint(BOLD, &project.manifest.app);
    let environment = project.environment.as_str();
    let took = duration(report.elapsed_ms);
    let (Some(number), Some(outcome)) = (report.number, report.outcome) else {
        return String::new();
    };
    let package = report.package.as_ref().map_or_else(
        || "the version before".to_owned(),
        |package| format!("package {}", package.short()),
    );
    let mut text = match (report.kind, outcome) {
        (Kind::Deploy, Outcome::Succeeded) => {
            format!(
                "{} release {number} of {app} is in {environment}: {package} ({took})",
                paint(GOOD, "Done:")
            )
        }
        (Kind::Rollback, Outcome::Succeeded) => {
            format!("{} {app} in {environment} is back at {package} ({took})", paint(GOOD, "Done:"))
        }
        (Kind::Swap, Outcome::Succeeded) => {
            format!("{} the slots of {app} are swapped ({took})", paint(GOOD, "Done:"))
        }
        (_, Outcome::RolledBack) => {
            format!(
                "{} release {number} is undone; {environment} serves {package} ({took})",
                paint(GOOD, "Done:")
            )
        }
        (_, outcome) => {
            format!(
                "{} release {number} is closed ({outcome}); production was not touched ({took})",
                paint(GOOD, "Done:")
            )
        }
    };
    if let Some(switched) = report.switched_ms.filter(|_| report.kind != Kind::Deploy) {
        let _ = write!(
            text,
            "\n  routing switched {} after the command began",
            paint(BOLD, duration(switched))
        );
    }
    let _ = write!(text, "\n{}", addresses(project, session));
    text
}

/// Where the app is, under Azure's name and for a browser.
pub(crate) fn addresses(project: &Project, session: &Session) -> String {
    let site = project.blueprint.backend();
    let mut text = String::new();
    let mut row = |name: &str, slot: Option<&str>| {
        let host = site.host(slot);
        let label = host.split('.').next().unwrap_or(&host);
        let browser = format!("http://{label}.localhost:{}", session.port());
        let _ = writeln!(
            text,
            "  {name:<11} {}  {} {}",
            paint(NAME, format_args!("https://{host}")),
            paint(DIM, "in a browser:"),
            paint(NAME, browser)
        );
    };
    row(project.environment.app_env(), None);
    if let Some(slot) = site.staging() {
        row("staging", Some(&slot.name));
    }
    text
}
