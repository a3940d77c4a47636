//! `lazuli logs`.

use clap::ValueEnum;
use futures_util::StreamExt as _;
use lazuli_release::cloud::Place;
use serde_json::json;

use crate::cli::Context;
use crate::diagnostics::{Failure, release};
use crate::exit::Exit;
use crate::project::Project;
use crate::target::Session;

/// How much of a log file is read for the last lines.
const LIMIT: usize = 4 << 20;

/// Show the logs of an app
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli logs                      the last lines of production
  lazuli logs --follow             and what comes
  lazuli logs --slot staging       of the staging slot
  lazuli logs --app worker -n 500  of the worker
  lazuli logs --platform           what App Service did around the app")]
pub(crate) struct Args {
    /// Go on showing what comes
    #[arg(long, short)]
    follow: bool,
    /// Which slot of the web app
    #[arg(long, value_enum, default_value_t = Slot::Production)]
    slot: Slot,
    /// Which of the app's sites
    #[arg(long, value_enum, default_value_t = App::Backend)]
    app: App,
    /// The platform's log instead of the app's
    #[arg(long, conflicts_with = "follow")]
    platform: bool,
    /// How many lines from the end
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = 100)]
    lines: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Slot {
    Production,
    Staging,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum App {
    Backend,
    Worker,
    Scheduler,
}

pub(crate) async fn run(args: Args, cx: &Context) -> Result<(), Failure> {
    let project = Project::open(cx)?;
    let session = Session::open(cx)?;
    let cloud = session.cloud(&project);
    let place = match (args.app, args.slot) {
        (App::Backend, Slot::Production) => Place::Production,
        (App::Backend, Slot::Staging) => Place::Staging,
        (App::Worker, Slot::Production) => Place::Worker,
        (App::Scheduler, Slot::Production) => Place::Scheduler,
        (App::Worker | App::Scheduler, Slot::Staging) => {
            return Err(Failure::new(Exit::Usage, "worker and scheduler have no staging slot")
                .advise("drop --slot"));
        }
    };
    if !cloud.has(place) {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "{} has no such site in {}",
                project.manifest.app,
                project.environment.as_str()
            ),
        )
        .advise(format!("what there is: lazuli status{}", cx.flags())));
    }
    let flags = cx.flags();
    let failed = |error: lazuli_azure::Error| release::platform(&error, &flags);
    let scm = cloud.scm(place);

    let logs = scm.container_logs().await.map_err(failed)?;
    let mut lines = Vec::new();
    // Oldest first; several instances have a file each.
    for log in logs.iter().rev().filter(|log| log.is_app() != args.platform) {
        let text = scm.container_log(log, LIMIT).await.map_err(failed)?;
        lines.extend(text.lines().map(str::to_owned));
    }
    if lines.is_empty() && !args.follow {
        cx.printer.aside(format!("{} has written nothing yet", cloud.host(place)));
    }
    for line in &lines[lines.len().saturating_sub(args.lines)..] {
        show(cx, line);
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        let mut stream = scm.log_stream().await.map_err(failed)?;
        let mut rest = Vec::new();
        while let Some(chunk) = stream.next().await {
            // A stream that breaks is taken up again; what was said meanwhile is in the file.
            let Ok(chunk) = chunk else { break };
            rest.extend_from_slice(&chunk);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                show(cx, String::from_utf8_lossy(&line).trim_end());
            }
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

fn show(cx: &Context, line: &str) {
    if cx.printer.is_json() {
        cx.printer.json(&json!({ "line": line }));
    } else {
        cx.printer.line(line);
    }
}
