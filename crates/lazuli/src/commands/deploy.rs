//! `lazuli deploy`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use lazuli_release::gates::Verdict;
use lazuli_release::journal::{Kind, Outcome};
use lazuli_release::release::{Options, Rehearsal, Report};

use crate::cli::Context;
use crate::diagnostics::{Failure, release};
use crate::exit::Exit;
use crate::printer::{BAD, BOLD, CAUTION, DIM, GOOD, NAME, paint};
use crate::project::Project;
use crate::reporter::{duration, for_printer};
use crate::target::Session;
use crate::waiting;

/// Release this directory: gates, staging slot, migrations, checks, swap, watch
///
/// The checklist's gates are asked first, and nothing moves while one fails. The package is deployed to the staging slot, its database migrated, its health, readiness and the
/// manifest's smoke checks verified; then production's database is migrated, the slots are swapped and
/// production is verified; worker and scheduler follow. From the swap on production is watched, and
/// swapped back by itself when it fails, slows down or loses its dependencies. A failure before the swap
/// leaves production untouched and the staging slot as it is, to be looked at; a failure after it puts
/// production back. While it only watches, `lazuli rollback` from another terminal takes over.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli deploy                    release this directory to production, watch it for 15 minutes
  lazuli deploy --dry-run          what it would do, and what the gates say
  lazuli deploy --watch 2m         watch for two minutes
  lazuli deploy --canary 1,10,50   a growing share of the traffic before the swap
  lazuli deploy --env dev          to the development environment, which has no slots
  lazuli deploy --resume           after an interruption: go on to the end
  lazuli deploy --abort            after an interruption: all as it was before")]
pub(crate) struct Args {
    /// Go on with a release that was interrupted
    #[arg(long, conflicts_with_all = ["abort", "force", "allow_dirty", "dry_run", "accept", "canary"])]
    resume: bool,
    /// Give an interrupted release up; everything as it was before it
    #[arg(long, conflicts_with_all = ["force", "allow_dirty", "dry_run", "accept", "canary"])]
    abort: bool,
    /// Release a tree that differs from its commit
    #[arg(long)]
    allow_dirty: bool,
    /// How long to watch production after the swap; 0 for not at all
    #[arg(
        long,
        value_name = "DURATION",
        env = "LAZULI_WATCH",
        default_value = "15m",
        value_parser = duration_of
    )]
    watch: Duration,
    /// Shares of the traffic, in percent, that the new version gets before the swap
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=99))]
    canary: Vec<u8>,
    /// Release although this gate fails; who did is recorded
    #[arg(long, value_name = "GATE", value_delimiter = ',', value_parser = ACCEPTABLE)]
    accept: Vec<String>,
    /// Say what would be done and what the gates say; do nothing
    #[arg(long)]
    dry_run: bool,
    /// Also when somebody elsewhere began a release and is gone
    #[arg(long)]
    take_over: bool,
    /// Release although production runs this very package
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(args: Args, cx: &Context) -> Result<(), Failure> {
    let began = Instant::now();
    let project = Project::open(cx)?;
    let session = Session::open(cx)?;
    waiting::remind(&project, cx);
    let reporter = for_printer(&cx.printer);
    let mut process = session.release(&project, &reporter, began);
    process.take_over = args.take_over;
    let options = Options {
        allow_dirty: args.allow_dirty,
        force: args.force,
        watch: args.watch,
        accepted: args.accept,
        canary: args.canary,
    };
    if args.dry_run {
        let rehearsal = process.rehearse(&options).await;
        let rehearsal = rehearsal.map_err(|error| release::failure(&error, cx))?;
        cx.printer.result(&rehearsal, rehearsed);
        let failing = rehearsal.gates.iter().any(|gate| gate.verdict == Verdict::Failed);
        return if failing {
            let failure =
                Failure::new(Exit::ReleaseFailed, "a gate fails: the release would stop there");
            Err(failure.advise("correct what it names, or accept it: --accept GATE"))
        } else {
            Ok(())
        };
    }
    let outcome = if args.resume {
        process.resume().await
    } else if args.abort {
        process.abort().await
    } else {
        process.deploy(&options).await
    };
    let report = outcome.map_err(|error| release::failure(&error, cx))?;
    cx.printer.result(&Summary::of(&report), |_| summary(&report, &project, &session));
    Ok(())
}

/// The gates that may be accepted though they fail.
const ACCEPTABLE: [&str; 8] =
    ["tests", "review", "migrations", "settings", "secrets", "drift", "rollback", "trial"];

/// `15m`, `90s`, `1h 30m`, `0`.
fn duration_of(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    let wrong = || "write it as 15m, 90s or 1h30m".to_owned();
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    let parsed = Duration::try_from(parsed).map_err(|_| wrong())?;
    if parsed > Duration::from_secs(24 * 3600) {
        return Err("a day is the most".to_owned());
    }
    Ok(parsed)
}

/// What a release would do.
fn rehearsed(rehearsal: &Rehearsal) -> String {
    let mut text = format!("{}\n", paint(BOLD, "A release would, in this order:"));
    for (step, title) in &rehearsal.steps {
        let _ = writeln!(text, "  {} {}", paint(DIM, format_args!("{:<18}", step.name())), title);
    }
    let _ = writeln!(text, "{}", paint(BOLD, "The gates say:"));
    for gate in &rehearsal.gates {
        let (style, mark) = match gate.verdict {
            Verdict::Passed => (GOOD, "✓"),
            Verdict::Warned | Verdict::Accepted => (CAUTION, "!"),
            Verdict::Failed => (BAD, "✗"),
            Verdict::NotChecked => (DIM, "-"),
        };
        let _ = writeln!(text, "  {} {:<11} {}", paint(style, mark), gate.gate, gate.what);
    }
    if let Some(number) = rehearsal.unchanged_since {
        let _ = writeln!(
            text,
            "Production runs this very package since release {number}: without --force nothing is released."
        );
    }
    let _ = write!(text, "{}", paint(DIM, "Nothing was done."));
    text
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
        let address = paint(NAME, format_args!("https://{host}"));
        let browser = session.browser(label).map_or_else(String::new, |browser| {
            format!("  {} {}", paint(DIM, "in a browser:"), paint(NAME, browser))
        });
        let _ = writeln!(text, "  {name:<11} {address}{browser}");
    };
    row(project.environment.app_env(), None);
    if let Some(slot) = site.staging() {
        row("staging", Some(&slot.name));
    }
    text
}
