//! `lazuli secrets audit`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader};

use lazuli_release::rotation::entry::{Entry, began};
use lazuli_release::rotation::journals;
use serde_json::{Value, json};

use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::environment::Environment;
use crate::exit::Exit;
use crate::printer::{BAD, BOLD, DIM, paint};
use crate::project::Project;

/// The longest line that the audit log has.
const LINE: usize = 64 * 1024;

/// Show every read and write of the vault's secrets, and every rotation
///
/// Who, what, when, from where, and how it ended; the oldest first. A region's vaults write the fields
/// of Azure's own `AuditEvent` log; on Azure the same ones are in the Log Analytics workspace.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli secrets audit                       everything
  lazuli secrets audit --last 20
  lazuli secrets audit --name jwt-secret     of one secret
  lazuli secrets audit --failed              what was refused")]
pub(crate) struct Args {
    /// Only the last so many
    #[arg(long, value_name = "NUMBER")]
    last: Option<usize>,
    /// Only of secrets with this in their name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only what was refused
    #[arg(long)]
    failed: bool,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<(), Failure> {
    crate::target::refuse_azure(cx)?;
    let project = Project::open(cx)?;
    let environment = Environment::load(&cx.global.region)?;
    let path = environment.dir.join("logs/vault-audit.jsonl");
    let mut events = Vec::new();
    match File::open(&path) {
        Ok(file) => {
            let host = format!("//{}/", project.blueprint.vault.host());
            for line in BufReader::new(file).lines().map_while(Result::ok) {
                if line.len() > LINE {
                    continue;
                }
                let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
                let id = event["properties"]["id"].as_str().unwrap_or_default();
                if id.to_ascii_lowercase().contains(&host) {
                    events.push(event);
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            let what = format!("cannot read {}", path.display());
            return Err(Failure::new(Exit::Target, what).because(&error));
        }
    }
    rotations(&project, &mut events)?;
    let time = |event: &Value| {
        event["time"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok())
    };
    events.sort_by_key(time);
    events.retain(|event| {
        let id = event["properties"]["id"].as_str().unwrap_or_default();
        args.name.as_ref().is_none_or(|name| id.contains(name.as_str()))
            && (!args.failed || event["resultType"] == "Failure")
    });
    let from = events.len().saturating_sub(args.last.unwrap_or(usize::MAX));
    let shown = &events[from..];
    cx.printer.result(&shown, |events| table(events));
    Ok(())
}

/// The journals' lines, in the same shape: step 6 of the standard's rotation.
fn rotations(project: &Project, events: &mut Vec<Value>) -> Result<(), Failure> {
    let journals = journals(&project.root, project.environment.as_str());
    let unreadable = |error| {
        Failure::new(Exit::Unexpected, "a rotation's journal cannot be trusted").because(&error)
    };
    for number in journals.numbers().map_err(unreadable)? {
        let story = journals.read(number).map_err(unreadable)?;
        let Some(began) = began(&story.records) else { continue };
        for record in &story.records {
            let (operation, result) = match &record.entry {
                Entry::Began(_) => ("RotationBegan".to_owned(), "Success"),
                Entry::Done { step, .. } => (format!("Rotation {step}"), "Success"),
                Entry::Failed { step, .. } => (format!("Rotation {step}"), "Failure"),
                Entry::Resumed { .. } => ("RotationResumed".to_owned(), "Success"),
                Entry::Ended { outcome } => (format!("Rotation {outcome:?}"), "Success"),
                Entry::Started { .. } | Entry::Noted { .. } | Entry::Due { .. } => continue,
            };
            events.push(json!({
                "time": record.at.to_string(),
                "category": "Rotation",
                "operationName": operation,
                "resultType": result,
                "identity": { "claim": { "oid": format!("{}@{}", began.by, began.host) } },
                "properties": {
                    "id": format!("https://{}/secrets/{}", project.blueprint.vault.host(), began.secret),
                    "rotation": number,
                },
            }));
        }
    }
    Ok(())
}

fn table(events: &[Value]) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = format!(
        "{:<25} {:<22} {:<10} {:<34} {:<16} {}\n",
        paint(BOLD, "when                     "),
        paint(BOLD, "what                  "),
        paint(BOLD, "outcome   "),
        paint(BOLD, "secret                            "),
        paint(BOLD, "from            "),
        paint(BOLD, "who")
    );
    for event in events {
        let id = text(&event["properties"]["id"]);
        let path = id.splitn(4, '/').nth(3).unwrap_or_default();
        let secret = path.split('/').nth(1).unwrap_or(path);
        let status = &event["properties"]["httpStatusCode"];
        let outcome = if event["resultType"] == "Success" {
            "ok".to_owned()
        } else {
            format!("failed {status}")
        };
        let outcome = if outcome == "ok" {
            paint(DIM, format_args!("{outcome:<10}"))
        } else {
            paint(BAD, format_args!("{:<10}", outcome.replace(" null", "")))
        };
        let from = match &event["callerIpAddress"] {
            Value::String(ip) => ip.clone(),
            _ if event["category"] == "Rotation" => "lazuli".to_owned(),
            _ => "the platform".to_owned(),
        };
        let time = text(&event["time"]).parse::<jiff::Timestamp>();
        let time = time.map_or_else(|_| text(&event["time"]), |time| format!("{time:.3}"));
        let _ = writeln!(
            out,
            "{time:<25} {:<22} {outcome} {secret:<34} {from:<16} {}",
            text(&event["operationName"]),
            text(&event["identity"]["claim"]["oid"]),
        );
    }
    out
}
