//! `lazuli up`.

use std::path::PathBuf;
use std::time::Instant;

use lazuli_release::event::millis;
use lazuli_release::release::{Options, Report};
use serde::Serialize;

use crate::cli::Context;
use crate::commands::{deploy, provision, region};
use crate::diagnostics::{Failure, release};
use crate::printer::{BOLD, DIM, GOOD, NAME, paint};
use crate::project::Project;
use crate::reporter::{duration, for_printer};
use crate::target::{Session, refuse_azure};

/// Start the region, provision and make the first release: the one command to begin with
///
/// Does what is not done yet: starts the local region, creates the Azure resources the manifest asks
/// for, releases the app through its staging slot and verifies production. Run again it changes what
/// changed and releases what is new.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli up examples/notes         the example app, from nothing to production
  lazuli up                        the project in this directory
  lazuli up --region ci-7          in a region of its own")]
pub(crate) struct Args {
    /// The project: where `lazuli.yaml` is
    #[arg(value_name = "PATH", conflicts_with = "directory")]
    path: Option<PathBuf>,
}

/// What `up` did.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    event: &'static str,
    app: &'a str,
    environment: &'a str,
    addresses: Addresses,
    region_ms: u64,
    provision_ms: u64,
    release_ms: u64,
    elapsed_ms: u64,
    release: &'a Report,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Addresses {
    production: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    staging: Option<String>,
    browser: String,
    proxy: String,
}

pub(crate) async fn run(args: Args, cx: &Context) -> Result<(), Failure> {
    let began = Instant::now();
    refuse_azure(cx)?;
    // The manifest first: a typo must not leave a started region behind.
    let (cx, project) = if let Some(path) = args.path {
        let cx = Context {
            global: crate::cli::Global { directory: Some(path.clone()), ..cx.global.clone() },
            printer: cx.printer.clone(),
        };
        let project = Project::at(&path, &cx)?;
        (cx, project)
    } else {
        let project = Project::open(cx)?;
        (Context { global: cx.global.clone(), printer: cx.printer.clone() }, project)
    };
    let cx = &cx;
    let reporter = for_printer(&cx.printer);

    let session = Session::with(region::ensure_started(cx, &reporter).await?)?;
    crate::waiting::remind(&project, cx);
    let region_ms = millis(began.elapsed());

    provision::provision(&project, &session, &reporter, cx).await?;
    let provision_ms = millis(began.elapsed()) - region_ms;

    let process = session.release(&project, &reporter, began);
    // A rehearsal on a developer's machine: what is there is released, and nobody waits for a watch.
    let options = Options { allow_dirty: true, ..Options::default() };
    let report = process.deploy(&options).await;
    let report = report.map_err(|error| release::failure(&error, cx))?;
    let elapsed_ms = millis(began.elapsed());

    let site = project.blueprint.backend();
    let summary = Summary {
        event: "result",
        app: &project.manifest.app,
        environment: project.environment.as_str(),
        addresses: Addresses {
            production: format!("https://{}", site.host(None)),
            staging: site.staging().map(|slot| format!("https://{}", site.host(Some(&slot.name)))),
            browser: format!("http://{}.localhost:{}", site.name, session.port()),
            proxy: session.region.as_ref().map(|r| r.proxy.clone()).unwrap_or_default(),
        },
        region_ms,
        provision_ms,
        release_ms: elapsed_ms - provision_ms - region_ms,
        elapsed_ms,
        release: &report,
    };
    cx.printer.result(&summary, |summary| text(summary, &project, &session, cx));
    Ok(())
}

fn text(summary: &Summary<'_>, project: &Project, session: &Session, cx: &Context) -> String {
    let release = match summary.release.number {
        Some(number) => format!("release {number}"),
        None => "unchanged".to_owned(),
    };
    let flags = cx.flags();
    let tries = [
        (
            format!(
                "lazuli run{} -- curl -fsS {}/health/ready",
                crate::environment::flag(&cx.global.region),
                summary.addresses.production
            ),
            "any client, under Azure's own names",
        ),
        (format!("lazuli status{flags}"), "sites, slots, instances, health"),
        (format!("lazuli logs --follow{flags}"), "what the app writes"),
        (format!("lazuli deploy{flags}"), "after a change: the next release"),
        (
            format!("lazuli rollback{flags}"),
            // Without a staging slot the package before is deployed again.
            if summary.addresses.staging.is_some() {
                "the version before, in under a second"
            } else {
                "the version before"
            },
        ),
    ];
    let width = tries.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    let tries: Vec<String> = tries
        .iter()
        .map(|(command, what)| {
            let space = " ".repeat(width - command.len());
            format!("  {}{space}  {}", paint(NAME, command), paint(DIM, what))
        })
        .collect();
    format!(
        "\n{} {} is up in {} after {} ({release}) {}\n\n{}\n{}\n{}\n",
        paint(GOOD, "✓"),
        paint(BOLD, summary.app),
        summary.environment,
        duration(summary.elapsed_ms),
        paint(
            DIM,
            format_args!(
                "region {}, provision {}, release {}",
                duration(summary.region_ms),
                duration(summary.provision_ms),
                duration(summary.release_ms)
            )
        ),
        deploy::addresses(project, session),
        paint(BOLD, "Try next:"),
        tries.join("\n"),
    )
}
