//! Which secrets hang on one credential, and so are rotated together.

use lazuli_standard::Blueprint;
use lazuli_standard::blueprint::{SecretOrigin, Setting};

use crate::cloud::Place;

/// A connection string of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The secret's name.
    pub secret: String,
    /// The database.
    pub database: String,
    /// 6432 through the pool, 5432 directly.
    pub port: u16,
}

/// What is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Randomness that only the app knows.
    Generated {
        /// How much, bytes.
        bytes: usize,
    },
    /// The database: a new login for each of the app's connections, then the administrator's password.
    Database {
        /// What the app connects with.
        app: Vec<Connection>,
        /// What migrations connect with, as the administrator.
        migrations: Vec<Connection>,
        /// The secret that holds the administrator's password alone.
        password: String,
    },
    /// The cache's other key.
    Cache,
}

/// Secrets that hang on one credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    asked: String,
    /// What it is.
    pub kind: Kind,
}

impl Family {
    /// The family of a secret, named with or without the app's prefix; otherwise the names there are.
    pub fn of(blueprint: &Blueprint, name: &str) -> Result<Self, Vec<String>> {
        let full = format!("{}-{name}", blueprint.app);
        let secret = blueprint
            .secrets
            .iter()
            .find(|secret| secret.name.eq_ignore_ascii_case(name))
            .or_else(|| blueprint.secrets.iter().find(|s| s.name.eq_ignore_ascii_case(&full)))
            .ok_or_else(|| blueprint.secrets.iter().map(|s| s.name.clone()).collect::<Vec<_>>())?;
        let kind = match &secret.origin {
            SecretOrigin::Generated { bytes } => Kind::Generated { bytes: *bytes },
            SecretOrigin::RedisUrl => Kind::Cache,
            SecretOrigin::DatabaseUrl { .. } | SecretOrigin::DatabasePassword => {
                database(blueprint)
            }
        };
        Ok(Self { asked: secret.name.clone(), kind })
    }

    /// The secret that was asked for.
    pub fn asked(&self) -> &str {
        &self.asked
    }

    /// Every secret of the family.
    pub fn secrets(&self) -> Vec<String> {
        match &self.kind {
            Kind::Generated { .. } | Kind::Cache => vec![self.asked.clone()],
            Kind::Database { app, migrations, password } => app
                .iter()
                .chain(migrations)
                .map(|connection| connection.secret.clone())
                .chain([password.clone()])
                .collect(),
        }
    }

    /// The secrets that the app itself reads, which get their new version first.
    pub fn read_by_app(&self) -> Vec<String> {
        match &self.kind {
            Kind::Generated { .. } | Kind::Cache => vec![self.asked.clone()],
            Kind::Database { app, .. } => app.iter().map(|c| c.secret.clone()).collect(),
        }
    }

    /// The secrets that hold the administrator's password, which changes when the old one is retired.
    pub fn of_administrator(&self) -> Vec<String> {
        match &self.kind {
            Kind::Database { migrations, password, .. } => migrations
                .iter()
                .map(|connection| connection.secret.clone())
                .chain([password.clone()])
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// Migrations connect directly, the app through the pool where there is one: a setting tells them
/// apart, not the port.
fn database(blueprint: &Blueprint) -> Kind {
    let (mut app, mut migrations, mut password) = (Vec::new(), Vec::new(), String::new());
    let reads: Vec<&str> = blueprint
        .sites
        .iter()
        .flat_map(|site| {
            std::iter::once(&site.settings).chain(site.slots.iter().map(|slot| &slot.settings))
        })
        .filter_map(|settings| match settings.get("DATABASE_URL") {
            Some(Setting::Secret(name)) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    for secret in &blueprint.secrets {
        match &secret.origin {
            SecretOrigin::DatabasePassword => password.clone_from(&secret.name),
            SecretOrigin::DatabaseUrl { database, port } => {
                let connection = Connection {
                    secret: secret.name.clone(),
                    database: database.clone(),
                    port: *port,
                };
                if reads.contains(&secret.name.as_str()) {
                    app.push(connection);
                } else {
                    migrations.push(connection);
                }
            }
            _ => {}
        }
    }
    Kind::Database { app, migrations, password }
}

/// Whether the sites of a place read one of these secrets.
pub fn reads(blueprint: &Blueprint, place: Place, secrets: &[String]) -> bool {
    let settings = match place {
        Place::Production => Some(&blueprint.backend().settings),
        Place::Staging => blueprint.backend().staging().map(|slot| &slot.settings),
        Place::Worker => blueprint.worker().map(|site| &site.settings),
        Place::Scheduler => blueprint.scheduler().map(|site| &site.settings),
    };
    settings.is_some_and(|settings| {
        settings
            .values()
            .any(|value| matches!(value, Setting::Secret(name) if secrets.contains(name)))
    })
}
