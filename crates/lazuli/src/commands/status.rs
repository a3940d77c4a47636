//! `lazuli status`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use lazuli_release::cloud::{Cloud, Place, WEB_API};
use lazuli_release::journal::{Deployed, Journals};
use lazuli_release::release::{made_by, running};
use serde::Serialize;
use serde_json::Value;

use crate::cli::Context;
use crate::diagnostics::{Failure, release};
use crate::printer::{BAD, BOLD, CAUTION, DIM, GOOD, NAME, paint};
use crate::project::Project;
use crate::target::Session;
use crate::waiting::{self, Waiting};

/// The version of Microsoft.Resources spoken here.
const RESOURCES_API: &str = "2021-04-01";
/// How long a health check may take before it counts as no answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Show sites, slots, instances, health and what is deployed
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli status
  lazuli status --resources        with every Azure resource of the environment
  lazuli status --output json | jq '.sites[].health'")]
pub(crate) struct Args {
    /// List every resource of the environment
    #[arg(long)]
    resources: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    app: String,
    environment: String,
    resource_group: String,
    sites: Vec<SiteStatus>,
    /// The release production runs.
    release: Option<u32>,
    /// Whether the last release was interrupted.
    interrupted: Option<u32>,
    /// Rotations of secrets that have not ended.
    rotations: Vec<Waiting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Vec<Item>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SiteStatus {
    name: String,
    host: String,
    /// Azure's word: `Running`, `Stopped`; `None` when there is no such site.
    state: Option<String>,
    instances: Vec<Instance>,
    deployment: Option<String>,
    /// The release that made the deployment, and its package.
    release: Option<u32>,
    package: Option<String>,
    /// Of the path the manifest names; `None` where it is not asked (worker, scheduler).
    health: Option<Health>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Instance {
    name: String,
    state: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    path: String,
    status: Option<u16>,
    elapsed_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    location: String,
}

pub(crate) async fn run(args: Args, cx: &Context) -> Result<(), Failure> {
    let project = Project::open(cx)?;
    let session = Session::open(cx)?;
    let cloud = session.cloud(&project);
    let flags = cx.flags();
    let failed = |error: lazuli_azure::Error| release::platform(&error, &flags);

    let group = format!(
        "/subscriptions/{}/resourceGroups/{}",
        session.subscription, project.blueprint.resource_group
    );
    let exists = session.client.find(&group, RESOURCES_API).await.map_err(failed)?.is_some();
    if !exists {
        return Err(Failure::new(
            crate::exit::Exit::Target,
            format!("the resource group {} does not exist", project.blueprint.resource_group),
        )
        .advise(format!("create everything: lazuli up{flags}")));
    }
    let places = [Place::Production, Place::Staging, Place::Worker, Place::Scheduler];
    let places = places.into_iter().filter(|place| cloud.has(*place));
    let sites = join_all(places.map(|place| site(&cloud, place, &project))).await;
    let mut sites = sites.into_iter().collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let journals = Journals::of(&project.root.join(".lazuli"), project.environment.as_str());
    for site in &mut sites {
        if let Some((number, package)) =
            site.deployment.as_deref().and_then(|id| made_by(&journals, id).ok().flatten())
        {
            site.release = Some(number);
            site.package = Some(package.short().to_owned());
        }
    }
    let production = Deployed {
        production: sites.first().and_then(|site| site.deployment.clone()),
        ..Deployed::default()
    };
    let resources = if args.resources {
        let items = session.client.list(format!("{group}/resources"), RESOURCES_API).await;
        Some(items.map_err(failed)?.iter().map(item).collect())
    } else {
        None
    };
    let status = Status {
        app: project.manifest.app.clone(),
        environment: project.environment.as_str().to_owned(),
        resource_group: project.blueprint.resource_group.clone(),
        sites,
        release: running(&journals, &production).ok().flatten().map(|(number, _)| number),
        interrupted: journals
            .last()
            .ok()
            .flatten()
            .filter(|(_, story)| story.outcome().is_none())
            .map(|(number, _)| number),
        rotations: waiting::rotations(&project, cx),
        resources,
    };
    cx.printer.result(&status, |status| text(status, cx));
    Ok(())
}

async fn site(
    cloud: &Cloud,
    place: Place,
    project: &Project,
) -> Result<SiteStatus, lazuli_azure::Error> {
    let host = cloud.host(place);
    let name = host.split('.').next().unwrap_or_default().to_owned();
    let resource = cloud.client().find(cloud.id(place), WEB_API).await?;
    let Some(resource) = resource else {
        return Ok(SiteStatus {
            name,
            host,
            state: None,
            instances: Vec::new(),
            deployment: None,
            release: None,
            package: None,
            health: None,
        });
    };
    let asked = matches!(place, Place::Production | Place::Staging);
    let (instances, deployment, health) = tokio::join!(
        cloud.client().list(format!("{}/instances", cloud.id(place)), WEB_API),
        cloud.active(place),
        health(cloud, place, &project.manifest.backend.health),
    );
    let text = |value: &Value, pointer: &str| {
        value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let instances = instances.unwrap_or_default();
    Ok(SiteStatus {
        name,
        state: Some(text(&resource, "/properties/state")),
        instances: instances
            .iter()
            .map(|instance| Instance {
                name: text(instance, "/name"),
                state: text(instance, "/properties/state"),
            })
            .collect(),
        deployment: deployment?,
        release: None,
        package: None,
        health: asked.then_some(health),
        host,
    })
}

async fn health(cloud: &Cloud, place: Place, path: &str) -> Health {
    let began = Instant::now();
    let url = format!("https://{}{path}", cloud.host(place));
    let answer = cloud.client().http().get(url).timeout(PATIENCE).send().await;
    let elapsed_ms = lazuli_release::event::millis(began.elapsed());
    Health {
        path: path.to_owned(),
        status: answer.as_ref().ok().map(|answer| answer.status().as_u16()),
        elapsed_ms: answer.is_ok().then_some(elapsed_ms),
    }
}

fn item(value: &Value) -> Item {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Item { name: text("name"), kind: text("type"), location: text("location") }
}

fn text(status: &Status, cx: &Context) -> String {
    let release =
        status.release.map_or_else(String::new, |n| format!(", release {n} in production"));
    let mut text = format!(
        "{} {} ({}{release})\n\n",
        paint(BOLD, &status.app),
        status.environment,
        status.resource_group
    );
    let width = status.sites.iter().map(|site| site.name.chars().count()).max().unwrap_or(0).max(8);
    let _ = writeln!(
        text,
        "{}",
        paint(
            BOLD,
            format_args!(
                "  {:<width$} {:<9} {:<12} {:<26} {}",
                "SITE", "STATE", "INSTANCES", "DEPLOYED", "HEALTH"
            )
        )
    );
    for site in &status.sites {
        let state = site.state.as_deref().unwrap_or("missing");
        let state = paint(if state == "Running" { GOOD } else { BAD }, format_args!("{state:<9}"));
        let ready = site.instances.iter().filter(|instance| instance.state == "READY").count();
        let instances = format!("{ready}/{}", site.instances.len());
        let instances = paint(
            if ready == site.instances.len() && ready > 0 { GOOD } else { CAUTION },
            format_args!("{:<12}", format!("{instances} ready")),
        );
        let deployed = match (&site.deployment, site.release) {
            (Some(_), Some(number)) => {
                format!("release {number} ({})", site.package.as_deref().unwrap_or("?"))
            }
            (Some(id), None) => id.chars().take(12).collect(),
            (None, _) => "nothing".to_owned(),
        };
        let health = match &site.health {
            None => paint(DIM, "-"),
            Some(Health { status: Some(status), elapsed_ms, .. }) => paint(
                if status / 100 == 2 { GOOD } else { BAD },
                format_args!("{status} in {} ms", elapsed_ms.unwrap_or_default()),
            ),
            Some(_) => paint(BAD, "no answer"),
        };
        let _ =
            writeln!(text, "  {:<width$} {state} {instances} {deployed:<26} {health}", site.name);
    }
    let flags = cx.flags();
    if let Some(number) = status.interrupted {
        let _ = writeln!(
            text,
            "\n{} release {number} is not at its end: running, or interrupted (then: {} or {})",
            paint(CAUTION, "note:"),
            paint(NAME, format_args!("lazuli deploy --resume{flags}")),
            paint(NAME, format_args!("lazuli rollback{flags}"))
        );
    }
    for waiting in &status.rotations {
        let _ = writeln!(text, "\n{}", waiting.text(&flags));
    }
    if let Some(resources) = &status.resources {
        let _ = writeln!(text, "\n  {}", paint(BOLD, "RESOURCES"));
        for Item { name, kind, .. } in resources {
            let _ = writeln!(text, "  {name:<34} {}", paint(DIM, kind));
        }
    }
    text
}
