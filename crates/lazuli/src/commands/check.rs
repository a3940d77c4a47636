//! `lazuli check`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::ValueEnum;
use lazuli_check::output::{annotations, human, json, junit, reference, sarif};
use lazuli_check::{Config, Options, Report, Severity, walk};
use lazuli_standard::Environment;

use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::exit::Exit;

/// The file with a team's decisions, looked for where the check begins.
const CONFIG: &str = "lazuli-check.yaml";

/// Judge Terraform, pipelines, settings and Python projects by the standard
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli check                              this directory
  lazuli check infrastructure --assume prod judge it as production
  lazuli check --format sarif > out.sarif   for code scanning
  lazuli check --write-baseline             accept what is there, find what is new
  lazuli check --fix                        show the mechanical changes, and ask
  lazuli check --explain LZ-APP-001         why, and what to write instead

A finding is accepted where it stands by a comment with its reason:
  # lazuli:ignore LZ-APP-004 the vendor's client needs sticky sessions until 2027

Exit codes: 0 nothing as bad as --fail-on, 10 findings, 2 a wrong command line, 3 a wrong
configuration.")]
pub(crate) struct Args {
    /// Files and directories (default: this directory)
    paths: Vec<PathBuf>,
    /// How to show what was found
    #[arg(long, value_enum, default_value_t = Shape::Human)]
    format: Shape,
    /// The environment of Terraform that does not say which it is
    #[arg(long, value_name = "ENV", value_enum)]
    assume: Option<crate::cli::EnvironmentName>,
    /// From which severity on the exit code is 10
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = FailOn::Warning)]
    fail_on: FailOn,
    /// Findings that are accepted until somebody mends them
    #[arg(long, value_name = "FILE", default_value = "lazuli-check-baseline.json")]
    baseline: PathBuf,
    /// Write the baseline from what is found now
    #[arg(long)]
    write_baseline: bool,
    /// Show the changes that mend what is mechanical, and make them when answered with `y`
    #[arg(long)]
    fix: bool,
    /// With --fix: make the changes without asking
    #[arg(long, requires = "fix")]
    yes: bool,
    /// Explain a rule
    #[arg(long, value_name = "ID", conflicts_with_all = ["paths", "fix", "watch"])]
    explain: Option<String>,
    /// Print the reference of all rules (Markdown)
    #[arg(long, conflicts_with_all = ["paths", "fix", "watch"])]
    rules: bool,
    /// Check again whenever a file changes
    #[arg(long, conflicts_with = "fix")]
    watch: bool,
}

/// How a report is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// The source underlined, the reason, the fix, a summary
    Human,
    /// JSON
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// JUnit XML
    Junit,
    /// Annotations for GitHub Actions
    Github,
    /// Annotations for Azure DevOps
    AzureDevops,
}

/// From which severity on findings fail the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    Note,
    Warning,
    Error,
    Never,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<ExitCode, Failure> {
    if let Some(id) = &args.explain {
        let rule = lazuli_check::explain(id).ok_or_else(|| {
            Failure::new(Exit::Usage, format!("`{id}` is no rule{}", lazuli_check::near(id)))
                .advise("`lazuli check --rules` lists them all")
        })?;
        cx.printer.line(human::explain(rule).trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    if args.rules {
        cx.printer.raw(reference::render().as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    let base = match &cx.global.directory {
        Some(d) => d.clone(),
        None => std::env::current_dir()
            .map_err(|e| Failure::new(Exit::Usage, "there is no current directory").because(&e))?,
    };
    if !args.watch {
        return once(args, cx, &base);
    }
    let mut last = None;
    loop {
        let now = state(args, &base);
        if last.as_ref() != Some(&now) {
            last = Some(now);
            cx.printer.aside("--- checking");
            if let Err(failure) = once(args, cx, &base) {
                cx.printer.failure(&failure);
            }
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// What tells that a file changed: every file of interest with its size and time.
fn state(args: &Args, base: &Path) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let inputs = walk::list(&paths(args), base).unwrap_or_default();
    let mut out: Vec<_> = inputs
        .into_iter()
        .chain([base.join(CONFIG), base.join(&args.baseline)])
        .filter_map(|p| {
            let m = std::fs::metadata(&p).ok()?;
            Some((p, m.len(), m.modified().ok()))
        })
        .collect();
    out.sort();
    out
}

fn paths(args: &Args) -> Vec<PathBuf> {
    if args.paths.is_empty() { vec![PathBuf::from(".")] } else { args.paths.clone() }
}

fn once(args: &Args, cx: &Context, base: &Path) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let config = match std::fs::read_to_string(base.join(CONFIG)) {
        Ok(text) => Config::parse(&text).map_err(|e| {
            Failure::new(Exit::Project, format!("{CONFIG} makes no sense")).because(&e)
        })?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Config::default(),
        Err(e) => {
            return Err(Failure::new(Exit::Project, format!("cannot read {CONFIG}")).because(&e));
        }
    };
    let baseline = match std::fs::read_to_string(base.join(&args.baseline)) {
        Ok(text) if !args.write_baseline => json::read_baseline(&text).ok_or_else(|| {
            Failure::new(Exit::Project, format!("{} is no baseline", args.baseline.display()))
                .advise("write it anew with `lazuli check --write-baseline`")
        })?,
        _ => HashSet::new(),
    };
    let inputs = walk::collect(&paths(args), base)
        .map_err(|e| Failure::new(Exit::Usage, "cannot read what is to be checked").because(&e))?;
    let files = inputs.len();
    let assume =
        args.assume.and_then(|e| e.as_str().parse::<Environment>().ok()).or(config.environment);
    let options = Options { assume, fragments: false };
    let report = lazuli_check::check(inputs, &options, &config, &baseline);

    if args.write_baseline {
        let value = json::baseline(&report);
        let text = serde_json::to_string_pretty(&value).unwrap_or_default();
        std::fs::write(base.join(&args.baseline), text + "\n").map_err(|e| {
            Failure::new(Exit::Project, format!("cannot write {}", args.baseline.display()))
                .because(&e)
        })?;
        cx.printer.aside(format!(
            "accepted {} findings in {}",
            value["findings"].as_array().map_or(0, Vec::len),
            args.baseline.display()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    if args.fix {
        return fix(args, cx, base, &report);
    }
    show(args, cx, &report, files, began.elapsed());
    let limit = match args.fail_on {
        FailOn::Note => Some(Severity::Note),
        FailOn::Warning => Some(Severity::Warning),
        FailOn::Error => Some(Severity::Error),
        FailOn::Never => None,
    };
    let failed = limit.is_some_and(|l| report.worst().is_some_and(|w| w >= l));
    Ok(if failed { Exit::Findings.into() } else { ExitCode::SUCCESS })
}

fn show(args: &Args, cx: &Context, report: &Report, files: usize, took: Duration) {
    let shape = if cx.printer.is_json() { Shape::Json } else { args.format };
    match shape {
        Shape::Human => {
            let text = human::findings(report, true, cx.printer.width());
            if !text.is_empty() {
                cx.printer.line(text.trim_end());
                cx.printer.line("");
            }
            if cx.global.verbose > 0 {
                cx.printer.aside(human::unknown(report).trim_end());
            }
            cx.printer.aside(human::summary(report).trim_end());
            let resources: usize =
                report.project.stacks.iter().map(|s| s.configuration.resources.len()).sum();
            cx.printer
                .aside(format!("{files} files, {resources} resources in {} ms", took.as_millis()));
        }
        Shape::Json => cx.printer.json(&json::render(report)),
        Shape::Sarif => cx.printer.json(&sarif::render(report)),
        Shape::Junit => cx.printer.raw(junit::render(report).as_bytes()),
        Shape::Github => cx.printer.raw(annotations::github(report).as_bytes()),
        Shape::AzureDevops => cx.printer.raw(annotations::azure(report).as_bytes()),
    }
}

fn fix(args: &Args, cx: &Context, base: &Path, report: &Report) -> Result<ExitCode, Failure> {
    let (files, diff) = human::fixes(report);
    if files.is_empty() {
        cx.printer.aside("nothing here can be mended mechanically");
        return Ok(ExitCode::SUCCESS);
    }
    cx.printer.raw(diff.as_bytes());
    if !args.yes {
        if !cx.printer.is_interactive() {
            cx.printer.aside("nothing was changed: answer in a terminal, or pass --yes");
            return Ok(ExitCode::SUCCESS);
        }
        cx.printer.error_line(format!("Change {} files? [y/N]", files.len()));
        let mut answer = String::new();
        let _ = std::io::stdin().read_line(&mut answer);
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            cx.printer.aside("nothing was changed");
            return Ok(ExitCode::SUCCESS);
        }
    }
    for (path, text) in &files {
        std::fs::write(base.join(path), text).map_err(|e| {
            Failure::new(Exit::Project, format!("cannot write {}", path.display())).because(&e)
        })?;
    }
    cx.printer.aside(format!("changed {} files", files.len()));
    Ok(ExitCode::SUCCESS)
}
