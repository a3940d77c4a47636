//! Carrying a plan out.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lazuli_azure::{Client, Error, ResourceId, Secret};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::difference::{covers, first_difference};
use super::plan::{Action, Plan, Planned, PlannedSecret, Principal, SettingValue};
use super::secrets::{NoRandomness, fill, generated, in_url, password};
use crate::event::{Reporter, millis};

/// Requests under way at once. Resource Manager throttles by subscription; this is far below.
const PARALLEL: usize = 8;
/// How long a new identity may stay unknown to the authorization service.
const REPLICATION: Duration = Duration::from_secs(120);

/// How to provision.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Give the database server a new password where the vault lacks what hangs on it. Sites read
    /// the new one when they next refresh their references.
    pub reset_database_password: bool,
}

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Resources that were not there.
    pub created: Vec<String>,
    /// Resources that were there and differed.
    pub changed: Vec<String>,
    /// Resources that were as they should be.
    pub unchanged: usize,
    /// What the target does not offer.
    pub skipped: Vec<String>,
    /// How long it took.
    pub elapsed_ms: u64,
}

impl Summary {
    /// Whether nothing was written.
    pub fn is_unchanged(&self) -> bool {
        self.created.is_empty() && self.changed.is_empty()
    }
}

/// Why provisioning stopped. What was done until then stays; running it again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// A resource could not be had.
    #[error("{title}: {source}")]
    Resource {
        /// Which.
        title: String,
        /// Its ID.
        id: ResourceId,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// The database server is there, but the vault does not hold all that hangs on its password.
    #[error(
        "the database server is there, but the vault lacks {missing}, and the password cannot be read back from here"
    )]
    PasswordLost {
        /// Which secret.
        missing: String,
    },
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// An answer lacks what the next step needs.
    #[error("{title}: Azure's answer has no {what}")]
    Incomplete {
        /// Which.
        title: String,
        /// What is missing.
        what: &'static str,
    },
}

/// How one step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Created,
    Changed,
    Unchanged,
    Skipped,
}

/// Carries a plan out. Safe to run again at any time, also after it was killed.
pub async fn provision(
    client: &Client,
    plan: &Plan,
    options: Options,
    reporter: &Reporter,
) -> Result<Summary, ProvisionError> {
    let began = Instant::now();
    let run = Run {
        client,
        plan,
        options,
        known: Mutex::default(),
        ended: Mutex::new(vec![None; plan.steps.len()]),
        password: tokio::sync::Mutex::new(None),
    };
    let mut started = vec![false; plan.steps.len()];
    let mut flying = FuturesUnordered::new();
    let mut failure = None;
    loop {
        if failure.is_none() {
            for (at, planned) in plan.steps.iter().enumerate() {
                let ready = !started[at] && {
                    let ended = run.ended();
                    planned.after.iter().all(|before| ended[*before].is_some())
                };
                if ready && flying.len() < PARALLEL {
                    started[at] = true;
                    let (run, reporter) = (&run, reporter);
                    flying.push(async move { (at, run.step(planned, reporter).await) });
                }
            }
        }
        match flying.next().await {
            None => break,
            Some((at, Ok(ended))) => run.ended()[at] = Some(ended),
            // What is under way goes on to its end: an abandoned request would leave a doubt.
            Some((_, Err(error))) => failure = failure.or(Some(error)),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let mut summary = Summary { elapsed_ms: millis(began.elapsed()), ..Summary::default() };
    for (planned, ended) in plan.steps.iter().zip(run.ended().iter()) {
        match ended {
            Some(Ended::Created) => summary.created.push(planned.title.clone()),
            Some(Ended::Changed) => summary.changed.push(planned.title.clone()),
            Some(Ended::Skipped) => summary.skipped.push(planned.title.clone()),
            _ => summary.unchanged += 1,
        }
    }
    Ok(summary)
}

struct Run<'a> {
    client: &'a Client,
    plan: &'a Plan,
    options: Options,
    /// Resources as they were last seen, for what later steps read from them.
    known: Mutex<HashMap<ResourceId, Value>>,
    ended: Mutex<Vec<Option<Ended>>>,
    /// The database's password, while this run knows it.
    password: tokio::sync::Mutex<Option<Secret>>,
}

/// A step's failure, before it is given its title.
enum Failure {
    Azure(Error),
    Other(ProvisionError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Azure(error)
    }
}

impl From<NoRandomness> for Failure {
    fn from(error: NoRandomness) -> Self {
        Self::Other(error.into())
    }
}

type Step = Result<Ended, Failure>;

impl Run<'_> {
    fn ended(&self) -> std::sync::MutexGuard<'_, Vec<Option<Ended>>> {
        self.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn remember(&self, id: &ResourceId, value: Value) {
        self.known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(id.clone(), value);
    }

    fn recall(&self, id: &ResourceId) -> Option<Value> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(id).cloned()
    }

    async fn step(&self, planned: &Planned, reporter: &Reporter) -> Result<Ended, ProvisionError> {
        let step = reporter.step(planned.id.as_str(), &planned.title);
        let error = match self.act(planned).await {
            Ok(ended) => {
                match ended {
                    Ended::Created => step.done("created"),
                    Ended::Changed => step.done("changed"),
                    Ended::Unchanged => step.unchanged(""),
                    Ended::Skipped => step.skipped(""),
                }
                return Ok(ended);
            }
            Err(Failure::Azure(error)) if planned.optional && not_offered(&error) => {
                step.skipped("not offered here");
                return Ok(Ended::Skipped);
            }
            Err(Failure::Azure(source)) => ProvisionError::Resource {
                title: planned.title.clone(),
                id: planned.id.clone(),
                source: Box::new(source),
            },
            Err(Failure::Other(error)) => error,
        };
        // The step's line names the resource already.
        match &error {
            ProvisionError::Resource { source, .. } => step.fail(source),
            other => step.fail(other),
        }
        Err(error)
    }

    async fn act(&self, planned: &Planned) -> Step {
        match &planned.action {
            Action::Put { body, initial } => self.put(planned, body, initial).await,
            Action::Merge(body) => self.merge(planned, body).await,
            Action::Site(body) => self.site(planned, body).await,
            Action::Vault(body) => self.vault(planned, body).await,
            Action::Server(body) => self.server(planned, body).await,
            Action::Parameter(value) => self.parameter(planned, value).await,
            Action::DatabaseSecrets(secrets) => self.database_secrets(planned, secrets).await,
            Action::GeneratedSecret { body, bytes } => {
                if self.find(planned).await?.is_some() {
                    return Ok(Ended::Unchanged);
                }
                self.write_secret(planned, &planned.id, body, &generated(*bytes)?).await?;
                Ok(Ended::Created)
            }
            Action::CacheSecret { body, keys_of, api_version, template, created_by } => {
                let there = self.find(planned).await?.is_some();
                let new_cache = self.ended()[*created_by] == Some(Ended::Created);
                if there && !new_cache {
                    return Ok(Ended::Unchanged);
                }
                let keys =
                    self.client.post(format!("{keys_of}/listKeys"), api_version, None).await?;
                let key = keys.get("primaryKey").and_then(Value::as_str);
                let key = key.ok_or_else(|| incomplete(planned, "primaryKey"))?;
                let url = template.replace("{key}", &in_url(key));
                self.write_secret(planned, &planned.id, body, &Secret::new(url)).await?;
                Ok(if there { Ended::Changed } else { Ended::Created })
            }
            Action::Settings(settings) => self.settings(planned, settings).await,
            Action::Role { principal, role_definition } => {
                self.role(planned, principal, role_definition).await
            }
        }
    }

    async fn find(&self, planned: &Planned) -> Result<Option<Value>, Error> {
        self.client.find(&planned.id, planned.api_version).await
    }

    async fn write(&self, planned: &Planned, body: &Value, there: bool) -> Step {
        let value = self.client.put(&planned.id, planned.api_version, body).await?;
        self.remember(&planned.id, value);
        Ok(if there { Ended::Changed } else { Ended::Created })
    }

    async fn put(&self, planned: &Planned, body: &Value, initial: &[&str]) -> Step {
        let Some(actual) = self.find(planned).await? else {
            return self.write(planned, body, false).await;
        };
        // What counts at creation only is as it is.
        let mut body = body.clone();
        for pointer in initial {
            if let (Some(wanted), Some(actual)) =
                (body.pointer_mut(pointer), actual.pointer(pointer))
            {
                *wanted = actual.clone();
            }
        }
        match first_difference("", &body, &actual) {
            None => {
                self.remember(&planned.id, actual);
                Ok(Ended::Unchanged)
            }
            Some(path) => {
                tracing::info!(id = %planned.id, path, "differs");
                self.write(planned, &body, true).await
            }
        }
    }

    async fn merge(&self, planned: &Planned, body: &Value) -> Step {
        let Some(actual) = self.find(planned).await? else {
            return self.write(planned, body, false).await;
        };
        let Some(path) = first_difference("", body, &actual) else {
            return Ok(Ended::Unchanged);
        };
        tracing::info!(id = %planned.id, path, "differs");
        let mut merged = json!({ "properties": actual["properties"] });
        put_into(&mut merged, body);
        self.write(planned, &merged, true).await
    }

    async fn site(&self, planned: &Planned, body: &Value) -> Step {
        let Some(mut actual) = self.find(planned).await? else {
            return self.write(planned, body, false).await;
        };
        // A site's own answer shows next to nothing of its configuration.
        let config =
            self.client.get(format!("{}/config/web", planned.id), planned.api_version).await?;
        actual["properties"]["siteConfig"] = config["properties"].clone();
        match first_difference("", body, &actual) {
            None => {
                self.remember(&planned.id, actual);
                Ok(Ended::Unchanged)
            }
            Some(path) => {
                tracing::info!(id = %planned.id, path, "differs");
                self.write(planned, body, true).await
            }
        }
    }

    async fn vault(&self, planned: &Planned, body: &Value) -> Step {
        if self.find(planned).await?.is_some() {
            return self.put(planned, body, &[]).await;
        }
        let mut body = body.clone();
        // A vault that was deleted keeps its name, and what it held, until it is purged.
        let subscription = planned.id.subscription().unwrap_or_default();
        let location = body["location"].as_str().unwrap_or_default();
        let deleted = format!(
            "/subscriptions/{subscription}/providers/Microsoft.KeyVault/locations/{location}/deletedVaults/{}",
            planned.id.name()
        );
        let deleted = self.client.find(deleted, planned.api_version).await.unwrap_or_default();
        if deleted.is_some() {
            body["properties"]["createMode"] = "recover".into();
            self.client.put(&planned.id, planned.api_version, &body).await?;
            body["properties"]["createMode"] = "default".into();
        }
        self.write(planned, &body, false).await
    }

    async fn write_secret(
        &self,
        planned: &Planned,
        id: &ResourceId,
        body: &Value,
        value: &Secret,
    ) -> Result<(), Error> {
        let mut body = body.clone();
        body["properties"]["value"] = value.expose().into();
        self.client.put(id, planned.api_version, &body).await?;
        Ok(())
    }

    /// Whether the database server is there and ready to be spoken to.
    async fn server_ready(&self) -> Result<bool, Error> {
        let server = self.plan.steps.iter().find(|s| matches!(s.action, Action::Server(_)));
        let Some(server) = server else { return Ok(false) };
        Ok(self.find(server).await?.is_some_and(|s| !failed(&s)))
    }

    /// A password exists from the moment that the vault holds all that hangs on it: the secrets are
    /// written before the server is made. A run that was killed between the two leaves secrets
    /// without a server, and the next one replaces them: nothing uses them yet.
    async fn database_secrets(&self, planned: &Planned, secrets: &[PlannedSecret]) -> Step {
        let mut missing = Vec::new();
        for secret in secrets {
            if self.client.find(&secret.id, planned.api_version).await?.is_none() {
                missing.push(secret);
            }
        }
        if self.server_ready().await? {
            if missing.is_empty() && !self.options.reset_database_password {
                return Ok(Ended::Unchanged);
            }
            if !self.options.reset_database_password {
                return self.complete_secrets(planned, secrets, &missing).await;
            }
        }
        let new = password()?;
        for secret in secrets {
            let value = fill(&secret.template, &new);
            self.write_secret(planned, &secret.id, &secret.body, &value).await?;
        }
        *self.password.lock().await = Some(new);
        Ok(if missing.is_empty() { Ended::Changed } else { Ended::Created })
    }

    /// Adds the secrets that are missing, if the vault lets us read the password: a new version of
    /// the standard, or a person, may have added or removed one.
    async fn complete_secrets(
        &self,
        planned: &Planned,
        secrets: &[PlannedSecret],
        missing: &[&PlannedSecret],
    ) -> Step {
        let lost = || {
            let missing = missing.first().map(|s| s.id.name().to_owned()).unwrap_or_default();
            Failure::Other(ProvisionError::PasswordLost { missing })
        };
        let holder = secrets.iter().find(|s| s.template == "{password}").ok_or_else(lost)?;
        let vault = holder.id.parent().ok_or_else(lost)?;
        let known = self.client.vault(vault.name()).get_secret(holder.id.name()).await;
        let Ok(known) = known else { return Err(lost()) };
        for secret in missing {
            let value = fill(&secret.template, &known.value);
            self.write_secret(planned, &secret.id, &secret.body, &value).await?;
        }
        Ok(Ended::Changed)
    }

    async fn server(&self, planned: &Planned, body: &Value) -> Step {
        let password = self.password.lock().await.clone();
        match self.find(planned).await?.filter(|s| !failed(s)) {
            None => {
                let mut body = body.clone();
                let password = password.ok_or_else(|| incomplete(planned, "password"))?;
                body["properties"]["administratorLoginPassword"] = password.expose().into();
                self.write(planned, &body, false).await
            }
            Some(actual) => {
                if let Some(password) = password {
                    let change = json!({"properties": {
                        "administratorLoginPassword": password.expose(),
                    }});
                    self.client.patch(&planned.id, planned.api_version, &change).await?;
                } else if covers(body, &actual) {
                    return Ok(Ended::Unchanged);
                }
                if !covers(body, &actual) {
                    // What can be changed of a server; the rest is refused by name.
                    let properties = &body["properties"];
                    let change = json!({
                        "sku": body["sku"],
                        "tags": body["tags"],
                        "properties": {
                            "storage": properties["storage"],
                            "backup": properties["backup"],
                            "highAvailability": properties["highAvailability"],
                        },
                    });
                    self.client.patch(&planned.id, planned.api_version, &change).await?;
                }
                Ok(Ended::Changed)
            }
        }
    }

    async fn parameter(&self, planned: &Planned, value: &str) -> Step {
        let actual = self.find(planned).await?.unwrap_or_default();
        let current = actual.pointer("/properties/value").and_then(Value::as_str);
        if current.is_some_and(|c| c.eq_ignore_ascii_case(value)) {
            return Ok(Ended::Unchanged);
        }
        let body = json!({"properties": {"value": value, "source": "user-override"}});
        self.client.patch(&planned.id, planned.api_version, &body).await?;
        Ok(Ended::Changed)
    }

    async fn settings(
        &self,
        planned: &Planned,
        settings: &std::collections::BTreeMap<String, SettingValue>,
    ) -> Step {
        let mut wanted = Map::new();
        for (name, value) in settings {
            let value = match value {
                SettingValue::Text(text) => text.clone(),
                SettingValue::InsightsOf(id) => self
                    .recall(id)
                    .as_ref()
                    .and_then(|c| c.pointer("/properties/ConnectionString")?.as_str())
                    .map(str::to_owned)
                    .ok_or_else(|| incomplete(planned, "ConnectionString"))?,
            };
            wanted.insert(name.clone(), value.into());
        }
        let actual =
            self.client.post(format!("{}/list", planned.id), planned.api_version, None).await?;
        let there = actual.get("properties").and_then(Value::as_object);
        let same = there.is_some_and(|there| {
            there.len() == wanted.len() && wanted.iter().all(|(n, v)| there.get(n) == Some(v))
        });
        if same {
            return Ok(Ended::Unchanged);
        }
        let new = there.is_none_or(Map::is_empty);
        let body = json!({"properties": wanted});
        self.client.put(&planned.id, planned.api_version, &body).await?;
        Ok(if new { Ended::Created } else { Ended::Changed })
    }

    async fn role(&self, planned: &Planned, principal: &Principal, definition: &str) -> Step {
        let (principal, kind) = match principal {
            Principal::Identity(site) => {
                let site = self.recall(site).unwrap_or_default();
                let id = site.pointer("/identity/principalId").and_then(Value::as_str);
                let id = id.ok_or_else(|| incomplete(planned, "identity.principalId"))?;
                (id.to_owned(), "ServicePrincipal")
            }
            Principal::Object { id, kind } => (id.clone(), *kind),
        };
        let principal = principal.as_str();
        let actual = self.find(planned).await?;
        if let Some(actual) = &actual {
            let holder = actual.pointer("/properties/principalId").and_then(Value::as_str);
            if holder.is_some_and(|h| h.eq_ignore_ascii_case(principal)) {
                return Ok(Ended::Unchanged);
            }
            // The site was made anew, and its identity with it; an assignment cannot be changed.
            self.client.delete(&planned.id, planned.api_version).await?;
        }
        let body = json!({"properties": {
            "principalId": principal,
            // Without it, an identity that has not reached every replica yet is refused.
            "principalType": kind,
            "roleDefinitionId": definition,
        }});
        let began = Instant::now();
        loop {
            match self.client.put(&planned.id, planned.api_version, &body).await {
                Ok(_) => break,
                // The same assignment under another name, made by hand or by Terraform.
                Err(error) if error.code() == Some("RoleAssignmentExists") => {
                    return Ok(Ended::Unchanged);
                }
                Err(error)
                    if error.code() == Some("PrincipalNotFound")
                        && began.elapsed() < REPLICATION =>
                {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(if actual.is_some() { Ended::Changed } else { Ended::Created })
    }
}

/// Whether a resource is there only as the remains of a creation that failed.
fn failed(resource: &Value) -> bool {
    resource
        .pointer("/properties/provisioningState")
        .and_then(Value::as_str)
        .is_some_and(|s| s.eq_ignore_ascii_case("failed"))
}

/// Whether the target has no such resource type.
fn not_offered(error: &Error) -> bool {
    matches!(
        error.code(),
        Some("InvalidResourceType" | "NoRegisteredProviderFound" | "InvalidResourceNamespace")
    )
}

fn incomplete(planned: &Planned, what: &'static str) -> Failure {
    Failure::Other(ProvisionError::Incomplete { title: planned.title.clone(), what })
}

/// Writes every value of `body` over what `whole` has in its place.
fn put_into(whole: &mut Value, body: &Value) {
    match (whole, body) {
        (Value::Object(whole), Value::Object(body)) => {
            for (name, value) in body {
                put_into(whole.entry(name.as_str()).or_insert(Value::Null), value);
            }
        }
        (whole, body) => *whole = body.clone(),
    }
}
