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

/// A process with its own site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// The startup command.
    pub run: String,
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
    /// Path and query, beginning with `/`.
    pub path: String,
    /// The status that must come back.
    pub status: u16,
    /// Members that the JSON answer must hold.
    pub json: Option<serde_json::Map<String, serde_json::Value>>,
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
