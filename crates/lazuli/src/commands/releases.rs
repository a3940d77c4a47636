//! `lazuli releases`.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lazuli_release::gates::{Gate, Verdict};
use lazuli_release::journal::{
    self, Entry, JournalError, Journals, Kind, Outcome, Record, Step, Story,
};
use lazuli_release::lock::Lock;
use lazuli_release::story;
use serde::Serialize;

use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::exit::Exit;
use crate::printer::{BAD, BOLD, CAUTION, DIM, GOOD, paint};
use crate::project::Project;
use crate::reporter::duration;

/// List the releases, or tell the story of one
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli releases                  all releases of this environment, the newest first
  lazuli releases show             the story of the last one, step by step
  lazuli releases show 7           of number 7
  lazuli releases export 7 > ticket.md                  for a change ticket
  lazuli releases export 7 --as svg > timeline.svg      a picture of it")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Tell the story of a release
    Show {
        /// Its number (default: the last)
        number: Option<u32>,
    },
    /// Write a release out for others: a change ticket, a program, a picture
    Export {
        /// Its number (default: the last)
        number: Option<u32>,
        /// As what
        #[arg(long = "as", value_name = "FORM", value_enum, default_value_t = Form::Markdown)]
        form: Form,
    },
}

/// As what a release is written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Markdown, for a change ticket
    Markdown,
    /// The journal, as one JSON array
    Json,
    /// Its timeline, as SVG
    Svg,
}

/// A release in a line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    number: u32,
    kind: Option<Kind>,
    began: Option<Timestamp>,
    by: Option<String>,
    package: Option<String>,
    commit: Option<String>,
    /// `None`: interrupted, or running now.
    outcome: Option<Outcome>,
    running: bool,
    elapsed_ms: Option<u64>,
    /// What is wrong with the journal, if it cannot be trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

#[expect(clippy::unused_async, reason = "commands are dispatched alike")]
pub(crate) async fn run(args: Args, cx: &Context) -> Result<(), Failure> {
    let project = Project::open(cx)?;
    let journals = Journals::of(&project.root.join(".lazuli"), project.environment.as_str());
    match args.action {
        None => list(&journals, &project, cx),
        Some(Action::Show { number }) => show(&journals, number, &project, cx),
        Some(Action::Export { number, form }) => export(&journals, number, form, &project, cx),
    }
}

fn unreadable(error: &JournalError) -> Failure {
    let exit = match error {
        JournalError::NoSuchRelease(_) => Exit::Usage,
        _ => Exit::Unexpected,
    };
    Failure::new(exit, error.to_string())
}

fn list(journals: &Journals, project: &Project, cx: &Context) -> Result<(), Failure> {
    let numbers = journals.numbers().map_err(|error| unreadable(&error))?;
    let held = Lock::holder(journals.dir()).is_some();
    let mut lines = Vec::new();
    for number in numbers.iter().rev() {
        let line = match journals.read(*number) {
            Ok(story) => line(*number, &story, held && lines.is_empty()),
            Err(error) => Line {
                number: *number,
                kind: None,
                began: None,
                by: None,
                package: None,
                commit: None,
                outcome: None,
                running: false,
                elapsed_ms: None,
                broken: Some(error.to_string()),
            },
        };
        lines.push(line);
    }
    cx.printer.result(&lines, |lines| table(lines, project));
    Ok(())
}

fn line(number: u32, story: &Story, running: bool) -> Line {
    let began = story.began();
    let package = journal::package(&story.records);
    let outcome = story.outcome();
    Line {
        number,
        kind: began.map(|began| began.kind),
        began: story.records.first().map(|record| record.at),
        by: began.map(|began| format!("{}@{}", began.by, began.host)),
        package: package.map(|package| package.short().to_owned()),
        commit: package.and_then(|package| package.origin.commit.clone()),
        outcome,
        running: running && outcome.is_none(),
        elapsed_ms: story.records.iter().rev().find_map(|record| match record.entry {
            Entry::Ended { elapsed_ms, .. } => Some(elapsed_ms),
            _ => None,
        }),
        broken: None,
    }
}

fn table(lines: &[Line], project: &Project) -> String {
    if lines.is_empty() {
        return format!(
            "No release of {} to {} from here yet.",
            project.manifest.app,
            project.environment.as_str()
        );
    }
    let mut text = paint(
        BOLD,
        format_args!(
            "{:>4}  {:<8}  {:<16}  {:<12}  {:>9}  {}\n",
            "", "KIND", "WHEN", "PACKAGE", "TOOK", "OUTCOME"
        ),
    );
    for line in lines {
        let when = line.began.map_or_else(String::new, |began| {
            began.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
        });
        let outcome = match (&line.broken, line.outcome, line.running) {
            (Some(broken), ..) => paint(BAD, broken),
            (None, Some(outcome), _) => paint(style(outcome), outcome),
            (None, None, true) => paint(CAUTION, "running"),
            (None, None, false) => paint(CAUTION, "interrupted"),
        };
        let by = line.by.as_deref().map_or_else(String::new, |by| format!(" by {by}"));
        let kind = line.kind.map_or_else(String::new, |kind| kind.to_string());
        let _ = writeln!(
            text,
            "{:>4}  {kind:<8}  {when:<16}  {:<12}  {:>9}  {outcome}{}",
            line.number,
            line.package.as_deref().unwrap_or("-"),
            line.elapsed_ms.map_or_else(String::new, duration),
            paint(DIM, by)
        );
    }
    text
}

fn style(outcome: Outcome) -> clap::builder::styling::Style {
    match outcome {
        Outcome::Succeeded => GOOD,
        Outcome::Failed => BAD,
        Outcome::RolledBack | Outcome::Aborted => CAUTION,
    }
}

fn export(
    journals: &Journals,
    number: Option<u32>,
    form: Form,
    project: &Project,
    cx: &Context,
) -> Result<(), Failure> {
    let (_, story) = chosen(journals, number, project)?;
    match form {
        Form::Markdown => cx.printer.line(story::markdown(&story.records).trim_end()),
        Form::Svg => cx.printer.line(story::picture(&story.records).trim_end()),
        Form::Json => cx.printer.json(&story.records),
    }
    Ok(())
}

/// A release by its number, or the last.
fn chosen(
    journals: &Journals,
    number: Option<u32>,
    project: &Project,
) -> Result<(u32, Story), Failure> {
    let number = match number {
        Some(number) => number,
        None => match journals.last().map_err(|error| unreadable(&error))? {
            Some((number, _)) => number,
            None => {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("no release of {} was made from here yet", project.manifest.app),
                ));
            }
        },
    };
    let story = journals.read(number).map_err(|error| unreadable(&error))?;
    Ok((number, story))
}

fn show(
    journals: &Journals,
    number: Option<u32>,
    project: &Project,
    cx: &Context,
) -> Result<(), Failure> {
    let (number, story) = chosen(journals, number, project)?;
    cx.printer.result(&story.records, |records| tell(number, records));
    Ok(())
}

/// Evidence in a line: a gate's verdict, figures, or how much there is of it.
fn shown(step: Step, name: &str, value: &serde_json::Value) -> String {
    if let (Step::Gates, Ok(gate)) = (step, serde_json::from_value::<Gate>(value.clone())) {
        let verdict = match gate.verdict {
            Verdict::Passed => paint(GOOD, "passed"),
            Verdict::Warned => paint(CAUTION, "warned"),
            Verdict::Failed => paint(BAD, "failed"),
            Verdict::Accepted => paint(CAUTION, "failed, accepted"),
            Verdict::NotChecked => paint(DIM, "not checked"),
        };
        return format!("gate {} {verdict}: {}", gate.gate, gate.what);
    }
    let text = match value["components"].as_array() {
        Some(components) => format!("{} components", components.len()),
        None => value.to_string(),
    };
    let short: String = text.chars().take(160).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    paint(DIM, format_args!("{step}: {name} {short}{more}"))
}

fn tell(number: u32, records: &[Record]) -> String {
    let mut text = String::new();
    for record in records {
        let at = record.at.to_zoned(TimeZone::system()).strftime("%H:%M:%S%.3f").to_string();
        let line = match &record.entry {
            Entry::Began(began) => {
                let date = record.at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z");
                let _ = writeln!(
                    text,
                    "{} {} of {} to {} ({}), by {} on {}, {date}, lazuli {}",
                    paint(BOLD, format_args!("Release {number}:")),
                    began.kind,
                    began.app,
                    began.environment,
                    began.target,
                    began.by,
                    began.host,
                    began.lazuli
                );
                if let Some(back_to) = began.back_to {
                    let _ = writeln!(text, "  back to the version of release {back_to}");
                }
                continue;
            }
            Entry::Packaged { package } => {
                let origin = &package.origin;
                let _ = writeln!(
                    text,
                    "  package  {} ({} bytes, {} files)",
                    package.digest, package.size, package.files
                );
                if let Some(commit) = &origin.commit {
                    let dirty = if origin.dirty { ", with uncommitted changes" } else { "" };
                    let author = origin.author.as_deref().unwrap_or("unknown");
                    let _ = writeln!(text, "  commit   {commit} by {author}{dirty}");
                }
                continue;
            }
            Entry::Found { state } => {
                let or = |id: &Option<String>| id.clone().unwrap_or_else(|| "nothing".to_owned());
                let _ = writeln!(
                    text,
                    "  before   production {}, staging {}",
                    or(&state.production),
                    or(&state.staging)
                );
                continue;
            }
            Entry::Started { step } => paint(DIM, format_args!("{step} begins")),
            Entry::Noted { step, name, value } => {
                paint(DIM, format_args!("{step}: {name} {value}"))
            }
            Entry::Evidence { step, name, value } => shown(*step, name, value),
            Entry::Done { step, detail, elapsed_ms } => {
                let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
                format!("{} {step}{detail} ({})", paint(GOOD, "✓"), duration(*elapsed_ms))
            }
            Entry::Failed { step, error, log, elapsed_ms } => {
                let mut line =
                    format!("{} {step}: {error} ({})", paint(BAD, "✗"), duration(*elapsed_ms));
                for entry in log {
                    let _ = write!(line, "\n                │ {entry}");
                }
                line
            }
            Entry::Resumed { by, host, to } => {
                format!("{} by {by} on {host}, to {to}", paint(CAUTION, "taken up again"))
            }
            Entry::Ended { outcome, elapsed_ms } => {
                format!("{} after {}", paint(style(*outcome), outcome), duration(*elapsed_ms))
            }
        };
        let _ = writeln!(text, "  {} {line}", paint(DIM, at));
    }
    if journal::outcome(records).is_none() {
        let _ = writeln!(text, "  {}", paint(CAUTION, "not at its end: running, or interrupted"));
    }
    text
}
