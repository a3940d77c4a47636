//! The manifest, `lazuli.yaml`: what an app says about itself. Everything else is the standard's.
//!
//! A parsed [`Manifest`] is valid: names obey Azure's rules, paths are paths, limits hold. Nothing
//! that reads it checks again.

mod fields;
mod read;
mod report;
mod rules;
mod schema;
mod tree;

use std::collections::BTreeMap;

use serde::Serialize;

pub use report::ManifestErrors;
pub use schema::schema;

/// What an app says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The app's name: the stem of every resource's name.
    pub app: String,
    /// The Azure region, e.g. `westeurope`.
    pub location: String,
    /// The Python version of the runtime stack, e.g. `3.14`.
    pub python: String,
    /// The web app.
    pub backend: Backend,
    /// The background worker, where there is one: a site of its own.
    pub worker: Option<Process>,
    /// The scheduler, where there is one: a site of its own, on exactly one instance.
    pub scheduler: Option<Process>,
    /// The database.
    pub database: Database,
    /// Which Redis.
    pub cache: Cache,
    /// Secrets that are generated once and kept in the vault.
    pub secrets: Vec<Secret>,
    /// What a release checks on the staging slot before the swap, and on production after it.
    pub smoke: Vec<SmokeCheck>,
    /// What goes into the package.
    pub package: Package,
    /// The domain users know production under, where there is one.
    pub domain: Option<String>,
    /// The browser's part of the app, where there is one.
    pub frontend: Option<Frontend>,
    /// Azure OpenAI, only when asked for.
    pub openai: Option<OpenAi>,
    /// Who is told by alerts and budgets.
    pub alerts: Alerts,
    /// What each environment may cost a month.
    pub budget: Budget,
    /// What the pipelines cannot know by themselves.
    pub pipelines: Pipelines,
    /// Who reads the vault besides the app.
    pub access: Access,
    /// What a release demands before anything moves.
    pub release: ReleaseRules,
}

/// The web app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// `module:attribute` of the ASGI application.
    pub app: String,
    /// gunicorn workers per instance.
    pub workers: u32,
    /// gunicorn's worker class (ERRATA 12).
    pub worker_class: String,
    /// The health check's path.
    pub health: String,
    /// The readiness check's path: checks the database and the cache.
    pub readiness: String,
    /// Whether WebSockets are enabled.
    pub websockets: bool,
    /// Plain settings besides the standard's, by name.
    pub settings: BTreeMap<String, String>,
}

/// A background process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// The startup command.
    pub run: String,
    /// Whether it is a continuous WebJob of the web app rather than a site of its own.
    pub webjob: bool,
}

/// The browser's part of the app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Frontend {
    /// Who serves it.
    pub hosting: Hosting,
    /// Its directory in the repository, where `package.json` is.
    pub directory: String,
    /// What its build writes, below `directory`.
    pub output: String,
    /// Origins the browser talks to besides the app's own, `https://tiles.example.com`.
    pub connect: Vec<String>,
}

/// Who serves the front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hosting {
    /// Azure Static Web Apps.
    StaticWebApp,
    /// The web app itself.
    AppService,
}

/// Azure OpenAI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenAi {
    /// The model, `gpt-4o`; the deployment has its name.
    pub model: String,
    /// The model's version, `2024-11-20`.
    pub version: String,
    /// Thousands of tokens a minute.
    pub capacity: u32,
}

/// Who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Alerts {
    /// Who is woken: severity 0, and 1 where users notice.
    pub oncall: Vec<Receiver>,
    /// Who is told in the daytime: severity 1 and 2, budgets.
    pub team: Vec<Receiver>,
}

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Receiver {
    /// An e-mail address.
    Email(String),
    /// A webhook by name, `pagerduty`. Its address is a secret and not in the manifest: Terraform
    /// takes it from the variable `alert_webhooks`.
    Webhook(String),
}

/// What each environment may cost a month, US dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// Development.
    pub dev: u32,
    /// Staging.
    pub staging: u32,
    /// Production.
    pub prod: u32,
}

/// What the pipelines cannot know by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pipelines {
    /// The service connection, by workload identity federation.
    pub service_connection: String,
    /// A pool of self-hosted agents inside the VNet: Microsoft's reach neither vault nor database.
    pub pool: String,
}

/// Who reads the vault besides the app (*Access Control*), by object ID in Entra ID. Developers are not
/// among them: they have no access in production.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Access {
    /// The CI/CD service principal.
    pub ci_cd: Option<String>,
    /// The security team's group.
    pub break_glass: Option<String>,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Database {
    /// The command that migrates the database `MIGRATION_DATABASE_URL` names; none: no migrations.
    pub migrate: Option<String>,
}

/// Which Redis the app gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// Azure Cache for Redis, Premium: for those who have one (ERRATA 7).
    Premium,
    /// Azure Managed Redis.
    Managed,
}

/// A secret that is generated once and kept in the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// Its name in the manifest, `jwt-secret`; in the vault it is `{app}-jwt-secret`.
    pub name: String,
    /// The setting the app reads it from, `JWT_SECRET`.
    pub setting: String,
}

/// A request and what must come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SmokeCheck {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// The status that must come back; 101 where it is a WebSocket.
    pub status: u16,
    /// How long the answer may take, in milliseconds.
    pub within_ms: Option<u32>,
    /// Whether a WebSocket is opened instead.
    pub websocket: bool,
    /// Members that the JSON answer must hold.
    pub json: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What a release demands before anything moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReleaseRules {
    /// The command that runs the app's own tests, in the project's directory.
    pub tests: Option<String>,
    /// A JUnit file that says how they ran, relative to the project's directory.
    pub junit: Option<String>,
}

/// What goes into the package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Patterns left out, as in a `.gitignore`.
    pub exclude: Vec<String>,
}

impl Manifest {
    /// Reads a manifest. `file_name` is only for messages.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn parse(source: &str, file_name: &str) -> Result<Self, ManifestErrors> {
        read::manifest(source).map_err(|problems| ManifestErrors::new(source, file_name, problems))
    }
}

#[cfg(test)]
mod tests;
