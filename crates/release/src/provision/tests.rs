#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use lazuli_azure::testing::{Received, Reply, Server};
use lazuli_standard::{Blueprint, Environment, Manifest};
use serde_json::{Value, json};

use super::*;
use crate::event::Reporter;

const MANIFEST: &str = r#"
app: notes
location: westeurope
backend: { app: "modules.backend.main:app", websockets: true, settings: { LOG_LEVEL: info } }
worker: { run: "taskiq worker a:b" }
scheduler: { run: "taskiq scheduler a:c" }
database: { migrate: alembic upgrade head }
cache: premium
secrets: [jwt-secret]
"#;

fn blueprint(manifest: &str, environment: Environment) -> Blueprint {
    Blueprint::new(&Manifest::parse(manifest, "lazuli.yaml").unwrap(), environment)
}

fn planned(manifest: &str, environment: Environment) -> Plan {
    let tenancy = Tenancy {
        subscription: "sub".to_owned(),
        tenant: "tenant".to_owned(),
        month: "2026-11".to_owned(),
    };
    plan(&blueprint(manifest, environment), &tenancy).unwrap()
}

/// The plan as a person can read it.
fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for (at, step) in plan.steps.iter().enumerate() {
        let id = step.id.as_str().replace("/subscriptions/sub/resourceGroups/", "");
        let _ = writeln!(
            text,
            "{at} {id} {} after {:?}{}",
            step.api_version,
            step.after,
            if step.optional { " optional" } else { "" }
        );
        let body = match &step.action {
            Action::Put { body, initial } => {
                if !initial.is_empty() {
                    let _ = writeln!(text, "    initial {initial:?}");
                }
                body.clone()
            }
            Action::Merge(body)
            | Action::Site(body)
            | Action::Vault(body)
            | Action::Server(body) => body.clone(),
            other => {
                let _ = writeln!(text, "    {other:?}");
                continue;
            }
        };
        let _ = writeln!(text, "    {body}");
    }
    text
}

#[test]
fn production() {
    insta::assert_snapshot!(text(&planned(MANIFEST, Environment::Prod)));
}

#[test]
fn development_with_managed_redis() {
    let manifest = MANIFEST.replace("premium", "managed");
    insta::assert_snapshot!(text(&planned(&manifest, Environment::Dev)));
}

#[test]
fn every_step_comes_after_what_it_waits_for() {
    for environment in Environment::ALL {
        for manifest in [MANIFEST.to_owned(), MANIFEST.replace("premium", "managed")] {
            let plan = planned(&manifest, environment);
            let mut ids = std::collections::HashSet::new();
            for (at, step) in plan.steps.iter().enumerate() {
                assert!(step.after.iter().all(|before| *before < at), "{}", step.title);
                assert!(ids.insert(&step.id), "{} twice", step.id);
            }
        }
    }
}

/// As much of Resource Manager as the executor meets: what is put is there, and comes back with
/// what a service adds.
#[derive(Default)]
struct Azure {
    resources: BTreeMap<String, Value>,
    /// Refuse the writing of whatever has this in its path.
    broken: Option<String>,
    /// Types that are not offered.
    missing: Vec<&'static str>,
    identities: usize,
    writes: Vec<String>,
}

type Shared = Arc<Mutex<Azure>>;

async fn azure() -> (Server, Shared) {
    let azure = Shared::default();
    let shared = Arc::clone(&azure);
    let server = Server::start(move |r| shared.lock().unwrap().answer(r)).await.unwrap();
    (server, azure)
}

fn error(status: u16, code: &str) -> Reply {
    Reply::json(&json!({"error": {"code": code, "message": "x"}})).with_status(status)
}

impl Azure {
    fn answer(&mut self, r: &Received) -> Reply {
        let key = r.path.to_ascii_lowercase();
        if self.missing.iter().any(|m| key.contains(&m.to_ascii_lowercase())) {
            return error(404, "InvalidResourceType");
        }
        if r.method == "GET" {
            if let Some(site) = key.strip_suffix("/config/web") {
                let site = self.resources.get(site).cloned().unwrap_or_default();
                return Reply::json(&json!({"properties": site["properties"]["siteConfig"]}));
            }
            return match self.resources.get(&key) {
                Some(value) => Reply::json(&Self::shown(value)),
                None => error(404, "ResourceNotFound"),
            };
        }
        if let Some(settings) = key.strip_suffix("/list") {
            return Reply::json(
                &self.resources.get(settings).cloned().unwrap_or(json!({"properties": {}})),
            );
        }
        if key.ends_with("/listkeys") {
            return Reply::json(&json!({"primaryKey": "k+y="}));
        }
        if self.broken.as_ref().is_some_and(|b| key.contains(&b.to_ascii_lowercase())) {
            return error(400, "Broken");
        }
        self.writes.push(format!("{} {}", r.method, r.path.rsplit('/').next().unwrap()));
        let mut value = r.json();
        if r.method == "PATCH" {
            let there = self.resources.entry(key).or_insert_with(|| json!({}));
            merge(there, &value);
            return Reply::json(&Self::shown(there));
        }
        if key.contains("/sites/") && value.get("identity").is_some() {
            let old = self.resources.get(&key).map(|s| s["identity"]["principalId"].clone());
            self.identities += 1;
            value["identity"]["principalId"] =
                old.unwrap_or_else(|| format!("principal-{}", self.identities).into());
        }
        if key.contains("/components/") && !key.contains("roleassignments") {
            value["properties"]["ConnectionString"] =
                format!("InstrumentationKey={}", r.path.rsplit('/').next().unwrap()).into();
        }
        if key.contains("/serverfarms/") {
            value["location"] = "West Europe".into();
        }
        self.resources.insert(key, value.clone());
        Reply::json(&Self::shown(&value))
    }

    /// What an answer shows: no password, no secret, no configuration of a site.
    fn shown(value: &Value) -> Value {
        let mut value = value.clone();
        if let Some(properties) = value["properties"].as_object_mut() {
            properties.remove("administratorLoginPassword");
            properties
                .remove("value")
                .filter(|v| v.as_str().is_some_and(|v| v.len() < 20))
                .map(|v| properties.insert("value".to_owned(), v));
            properties.remove("siteConfig");
        }
        value
    }

    fn secret(&self, name: &str) -> String {
        let key = self.resources.keys().find(|k| k.ends_with(&format!("/secrets/{name}")));
        let value = key.map(|k| self.resources[k]["properties"]["value"].clone());
        value.unwrap_or_default().as_str().unwrap_or_default().to_owned()
    }

    fn server_password(&self) -> String {
        let key = self.resources.keys().find(|k| k.ends_with("/flexibleservers/notes-pg")).unwrap();
        let password = &self.resources[key]["properties"]["administratorLoginPassword"];
        password.as_str().unwrap().to_owned()
    }
}

fn merge(there: &mut Value, change: &Value) {
    match (there, change) {
        (Value::Object(there), Value::Object(change)) => {
            for (name, change) in change {
                merge(there.entry(name.clone()).or_insert(Value::Null), change);
            }
        }
        (there, change) => *there = change.clone(),
    }
}

async fn run(server: &Server, options: Options) -> Result<Summary, ProvisionError> {
    let plan = planned(MANIFEST, Environment::Prod);
    provision(&server.client().unwrap(), &plan, options, &Reporter::silent()).await
}

#[tokio::test]
async fn the_second_run_writes_nothing() {
    let (server, azure) = azure().await;
    let first = run(&server, Options::default()).await.unwrap();
    assert_eq!((first.changed.len(), first.unchanged), (5, 0), "{:?}", first.changed);
    assert!(first.changed.iter().all(|c| c.starts_with("Parameter pgbouncer.")));
    {
        let mut azure = azure.lock().unwrap();
        azure.writes.clear();
        let password = azure.secret("notes-db-password");
        assert_eq!(azure.server_password(), password);
        assert_eq!(
            azure.secret("notes-db-connection-string"),
            format!(
                "postgresql+asyncpg://lazuliadmin:{password}@notes-pg.postgres.database.azure.com:6432/notes?ssl=require"
            ),
        );
        assert_eq!(
            azure.secret("notes-redis-connection-string"),
            "rediss://:k%2By%3D@notes-redis.redis.cache.windows.net:6380/0"
        );
        assert_eq!(azure.secret("notes-jwt-secret").len(), 64);
        for (key, secret) in azure.resources.iter().filter(|(key, _)| key.contains("/secrets/")) {
            assert_eq!(secret["properties"]["contentType"], "text/plain", "{key}");
            assert_eq!(secret["tags"]["managed-by"], "lazuli", "{key}");
        }
    }
    let second = run(&server, Options::default()).await.unwrap();
    assert!(second.is_unchanged(), "{second:?}");
    assert_eq!(second.unchanged, first.created.len() + first.changed.len());
    assert_eq!(azure.lock().unwrap().writes, Vec::<String>::new());
}

#[tokio::test]
async fn each_site_and_slot_reads_the_vault_with_its_own_identity() {
    let (server, azure) = azure().await;
    run(&server, Options::default()).await.unwrap();
    let azure = azure.lock().unwrap();
    let mut holders: Vec<_> = azure
        .resources
        .iter()
        .filter(|(k, _)| k.contains("/vaults/notes-kv/") && k.contains("roleassignments"))
        .inspect(|(_, v)| assert_eq!(v["properties"]["principalType"], "ServicePrincipal"))
        .map(|(_, v)| v["properties"]["principalId"].as_str().unwrap().to_owned())
        .collect();
    holders.sort_unstable();
    holders.dedup();
    assert_eq!(holders.len(), 4, "production, staging, worker, scheduler: {holders:?}");
}

#[tokio::test]
async fn what_somebody_changed_is_put_right_and_nothing_else_is_touched() {
    let (server, azure) = azure().await;
    run(&server, Options::default()).await.unwrap();
    {
        let mut azure = azure.lock().unwrap();
        azure.writes.clear();
        let key = azure.resources.keys().find(|k| k.ends_with("/sites/notes")).unwrap().clone();
        azure.resources.get_mut(&key).unwrap()["properties"]["httpsOnly"] = false.into();
        let key = azure
            .resources
            .keys()
            .find(|k| k.ends_with("networksecuritygroups/db-nsg"))
            .unwrap()
            .clone();
        let rules = &mut azure.resources.get_mut(&key).unwrap()["properties"]["securityRules"];
        rules.as_array_mut().unwrap().push(json!({"name": "AllowEverybody"}));
        // Auto-scale moved this; it is not ours to move back.
        let key = azure
            .resources
            .keys()
            .find(|k| k.ends_with("/serverfarms/notes-plan"))
            .unwrap()
            .clone();
        azure.resources.get_mut(&key).unwrap()["sku"]["capacity"] = 5.into();
    }
    let summary = run(&server, Options::default()).await.unwrap();
    assert_eq!(summary.changed, ["Network security group db-nsg", "Site notes"]);
    let mut writes = azure.lock().unwrap().writes.clone();
    writes.sort();
    assert_eq!(writes, ["PUT db-nsg", "PUT notes"]);
}

#[tokio::test]
async fn a_run_that_stopped_half_way_is_finished_by_the_next() {
    let (server, azure) = azure().await;
    azure.lock().unwrap().broken = Some("flexibleServers/notes-pg".to_owned());
    let error = run(&server, Options::default()).await.unwrap_err();
    assert!(
        matches!(&error, ProvisionError::Resource { title, .. } if title == "PostgreSQL server notes-pg"),
        "{error}"
    );
    let jwt = azure.lock().unwrap().secret("notes-jwt-secret");
    azure.lock().unwrap().broken = None;
    run(&server, Options::default()).await.unwrap();
    let azure = azure.lock().unwrap();
    assert_eq!(azure.server_password(), azure.secret("notes-db-password"));
    assert!(azure.secret("notes-db-staging-connection-string").contains(&azure.server_password()));
    if !jwt.is_empty() {
        assert_eq!(azure.secret("notes-jwt-secret"), jwt, "a secret that was made stays");
    }
}

#[tokio::test]
async fn a_lost_password_is_said_and_reset_only_when_asked() {
    let (server, azure) = azure().await;
    run(&server, Options::default()).await.unwrap();
    let before = azure.lock().unwrap().server_password();
    azure
        .lock()
        .unwrap()
        .resources
        .retain(|k, _| !k.ends_with("/secrets/notes-db-connection-string"));
    let error = run(&server, Options::default()).await.unwrap_err();
    assert!(
        matches!(&error, ProvisionError::PasswordLost { missing } if missing == "notes-db-connection-string"),
        "{error}"
    );
    assert_eq!(azure.lock().unwrap().server_password(), before);
    run(&server, Options { reset_database_password: true }).await.unwrap();
    let azure = azure.lock().unwrap();
    assert_ne!(azure.server_password(), before);
    assert!(azure.secret("notes-db-connection-string").contains(&azure.server_password()));
}

#[tokio::test]
async fn what_a_target_does_not_offer_is_skipped_only_where_the_app_runs_without_it() {
    let (server, azure) = azure().await;
    azure.lock().unwrap().missing = vec!["autoscaleSettings", "metricAlerts"];
    let summary = run(&server, Options::default()).await.unwrap();
    assert_eq!(summary.skipped.len(), 7, "{:?}", summary.skipped);
    azure.lock().unwrap().missing = vec!["Microsoft.Web/sites"];
    run(&server, Options::default()).await.unwrap_err();
}
