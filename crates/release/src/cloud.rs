//! What the release process asks of the platform, in its own words, each a request or two of Azure's
//! public API. Nothing here knows what a release is.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lazuli_azure::scm::{Deployment, DeploymentState};
use lazuli_azure::{Client, Error, Scm, look_again};
use lazuli_standard::Blueprint;
use lazuli_standard::blueprint::Site;
use lazuli_standard::manifest::SmokeCheck;
use serde_json::{Value, json};

use crate::event;
use crate::journal::Deployed;

/// The version of Microsoft.Web spoken here.
pub const WEB_API: &str = "2024-11-01";

/// How long a build may take: App Service gives up on it by itself before.
const BUILD_LIMIT: Duration = Duration::from_mins(30);
/// How long instances may take to come up: `WEBSITES_CONTAINER_START_TIME_LIMIT` is 230 s unless a
/// site says otherwise, and a second try is normal.
const START_LIMIT: Duration = Duration::from_secs(2 * 230 + 30);
/// The version of Microsoft.DBforPostgreSQL spoken here.
const POSTGRES_API: &str = "2025-08-01";
/// How long the database server may take to accept connections: a failover takes up to two minutes, a
/// restart with recovery several.
const DATABASE_LIMIT: Duration = Duration::from_mins(10);
/// How long a migration may take.
const MIGRATION_LIMIT: Duration = Duration::from_mins(60);
/// How long a swap may take: the warm-up of every instance is in it.
pub(crate) const SWAP_LIMIT: Duration = Duration::from_mins(15);
/// How long a check may wait for its answer: the front end gives up after 230 s, a person before.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long a slot that is up may go on answering wrongly before it counts as unhealthy. What
/// answers 5xx right after its start may still be connecting.
const HEALTH_PATIENCE: Duration = Duration::from_secs(20);
/// How much of an answer a check reads.
const ANSWER_SIZE: usize = 1 << 20;
/// How many lines of a log a person is shown.
const TAIL: usize = 20;
/// How long each of them may be, in characters.
const WIDTH: usize = 240;
/// How many lines of a traceback, which says what matters at its end.
const TRACEBACK: usize = 4;
/// How much of a log file is looked at for them.
const TAIL_BYTES: usize = 64 * 1024;

/// How often something is asked for again whose answer was 5xx.
const TRIES: u32 = 3;

/// Whether an answer says nothing about whether the work was done.
fn is_faltering(error: &Error) -> bool {
    error.refusal().is_some_and(|refusal| refusal.status.is_server_error())
}

/// Where something is deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The backend's production slot.
    Production,
    /// The backend's staging slot.
    Staging,
    /// The worker's site.
    Worker,
    /// The scheduler's site.
    Scheduler,
}

/// The app's sites in one environment, and the client that reaches them.
#[derive(Clone, Debug)]
pub struct Cloud {
    client: Client,
    group: String,
    database: String,
    zone: Option<String>,
    patience: Duration,
    backend: Site,
    worker: Option<Site>,
    scheduler: Option<Site>,
}

/// Something the platform says is wrong, with the lines that show it.
#[derive(Debug)]
pub struct Trouble {
    /// What, in a sentence.
    pub what: String,
    /// Whose log, and its last lines.
    pub log: Option<(String, Vec<String>)>,
    /// Whether the platform did not answer at all, so that nothing is known.
    pub unreachable: bool,
}

impl Trouble {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), log: None, unreachable: false }
    }

    fn with_log(mut self, of: impl Into<String>, lines: Vec<String>) -> Self {
        self.log = (!lines.is_empty()).then(|| (of.into(), lines));
        self
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self {
            unreachable: error.is_transport() || matches!(error, Error::Timeout { .. }),
            what: error.to_string(),
            log: None,
        }
    }
}

/// How a job ran.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The run's id.
    pub id: String,
    /// All that it wrote.
    pub output: String,
    /// What it did, in a line for people.
    pub summary: String,
}

impl Cloud {
    /// The sites of a blueprint in a subscription.
    pub fn new(client: Client, subscription: &str, blueprint: &Blueprint) -> Self {
        let group =
            format!("/subscriptions/{subscription}/resourceGroups/{}", blueprint.resource_group);
        Self {
            client,
            database: format!(
                "{group}/providers/Microsoft.DBforPostgreSQL/flexibleServers/{}",
                blueprint.postgres.name
            ),
            group,
            zone: blueprint.dns_zones.first().map(|zone| zone.name.clone()),
            patience: HEALTH_PATIENCE,
            backend: blueprint.backend().clone(),
            worker: blueprint.worker().cloned(),
            scheduler: blueprint.scheduler().cloned(),
        }
    }

    /// With another patience for a slot that answers wrongly. Tests have less.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Whether the environment has a staging slot.
    pub fn has_staging(&self) -> bool {
        self.backend.staging().is_some()
    }

    /// Whether there is such a place.
    pub fn has(&self, place: Place) -> bool {
        self.site(place).is_some()
    }

    /// The ID of the environment's resource group.
    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// The ID of a private DNS zone of the environment, if it has one: where its lock is.
    pub fn zone(&self) -> Option<String> {
        let zone = self.zone.as_ref()?;
        Some(format!("{}/providers/Microsoft.Network/privateDnsZones/{zone}", self.group))
    }

    /// Sends a share of production's traffic to the staging slot; 0 ends that
    /// (<https://learn.microsoft.com/azure/app-service/deploy-staging-slots#route-production-traffic-automatically>).
    pub async fn route(&self, percent: u8) -> Result<(), Error> {
        let rules = if percent == 0 {
            json!([])
        } else {
            json!([{
                "name": "staging",
                "actionHostName": self.host(Place::Staging),
                "reroutePercentage": percent,
            }])
        };
        let body = json!({ "properties": { "experiments": { "rampUpRules": rules } } });
        let path = format!("{}/config/web", self.id(Place::Production));
        self.client.patch(path, WEB_API, &body).await?;
        Ok(())
    }

    /// Gives the staging slot production's settings, as the first phase of a swap with preview, or
    /// takes them from it again
    /// (<https://learn.microsoft.com/azure/app-service/deploy-staging-slots#swap-with-preview>).
    pub async fn preview(&self, on: bool) -> Result<(), Error> {
        let id = self.id(Place::Staging);
        if on {
            let body = json!({ "targetSlot": "production", "preserveVnet": true });
            self.client.post(format!("{id}/applySlotConfig"), WEB_API, Some(&body)).await?;
        } else {
            self.client.post(format!("{id}/resetSlotConfig"), WEB_API, None).await?;
        }
        Ok(())
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn site(&self, place: Place) -> Option<(&Site, Option<&str>)> {
        match place {
            Place::Production => Some((&self.backend, None)),
            Place::Staging => {
                self.backend.staging().map(|slot| (&self.backend, Some(slot.name.as_str())))
            }
            Place::Worker => self.worker.as_ref().map(|site| (site, None)),
            Place::Scheduler => self.scheduler.as_ref().map(|site| (site, None)),
        }
    }

    /// The host of a place; for people where there is no such place.
    pub fn host(&self, place: Place) -> String {
        self.site(place).map_or_else(String::new, |(site, slot)| site.host(slot))
    }

    /// The resource ID of a place.
    pub fn id(&self, place: Place) -> String {
        let Some((site, slot)) = self.site(place) else { return String::new() };
        let site = format!("{}/providers/Microsoft.Web/sites/{}", self.group, site.name);
        slot.map_or_else(|| site.clone(), |slot| format!("{site}/slots/{slot}"))
    }

    /// The deployment service of a place.
    pub fn scm(&self, place: Place) -> Scm {
        let host = self.site(place).map_or_else(String::new, |(site, slot)| site.scm_host(slot));
        self.client.scm(&host)
    }

    /// The id of the active deployment.
    pub async fn active(&self, place: Place) -> Result<Option<String>, Error> {
        if !self.has(place) {
            return Ok(None);
        }
        match self.scm(place).deployments().await {
            Ok(deployments) => Ok(deployments.into_iter().find(|d| d.active).map(|d| d.id)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until a place is seen to hold a deployment: right after a swap, Azure's answers need not
    /// agree with it yet. What it holds in the end.
    pub async fn holds(&self, place: Place, id: &str) -> Result<Option<String>, Error> {
        let began = Instant::now();
        loop {
            let active = self.active(place).await?;
            if active.as_deref() == Some(id) || began.elapsed() > self.patience {
                return Ok(active);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What is deployed where, asked all at once.
    pub async fn deployed(&self) -> Result<Deployed, Error> {
        let (production, staging, worker, scheduler) = tokio::try_join!(
            self.active(Place::Production),
            self.active(Place::Staging),
            self.active(Place::Worker),
            self.active(Place::Scheduler),
        )?;
        Ok(Deployed { production, staging, worker, scheduler })
    }

    /// Whether the sites are there: the last of them that provisioning makes.
    pub async fn exists(&self) -> Result<bool, Error> {
        let place = [Place::Scheduler, Place::Worker, Place::Staging]
            .into_iter()
            .find(|place| self.has(*place))
            .unwrap_or(Place::Production);
        Ok(self.client.find(self.id(place), WEB_API).await?.is_some())
    }

    /// Sends a package; the build goes on in the background. The deployment's id.
    pub async fn publish(
        &self,
        place: Place,
        package: &Path,
        step: &event::Step,
    ) -> Result<String, Error> {
        let scm = self.scm(place);
        let began = Instant::now();
        let mut tries = 0;
        let id = loop {
            match scm.publish(package).await {
                Ok(id) => break id,
                // Done or not: the same package once more changes nothing.
                Err(error) if is_faltering(&error) && tries < TRIES => {
                    tries += 1;
                    step.message(format!("sending the package again: {error}"));
                    tokio::time::sleep(self.patience / 20).await;
                }
                // Another deployment is under way, perhaps one an interrupted release began.
                Err(error) if error.is_conflict() && began.elapsed() < BUILD_LIMIT => {
                    step.message("waiting for another deployment on the site");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error),
            }
        };
        // A name that means another deployment tomorrow is no id.
        if id == "latest" { Ok(scm.deployment(&id).await?.id) } else { Ok(id) }
    }

    /// Waits until a deployment is built and its instances serve.
    pub async fn settle(&self, place: Place, id: &str, step: &event::Step) -> Result<(), Trouble> {
        self.built(place, id, step).await?;
        step.message("starting");
        self.started(place, id).await
    }

    /// Waits until a deployment is built.
    pub async fn built(&self, place: Place, id: &str, step: &event::Step) -> Result<(), Trouble> {
        let scm = self.scm(place);
        let deployment = scm
            .wait_deployment(id, BUILD_LIMIT, |deployment| step.message(progress(deployment)))
            .await?;
        if deployment.status != DeploymentState::Success {
            let log = tail(&scm.deployment_text(id).await.unwrap_or_default());
            let why = deployment.status_text.filter(|text| !text.is_empty());
            let why = why.unwrap_or_else(|| "the platform gives no reason".to_owned());
            return Err(Trouble::new(format!("the build on {} failed: {why}", self.host(place)))
                .with_log("the deployment log", log));
        }
        Ok(())
    }

    /// Waits until the instances of a deployment serve, as Resource Manager tells it. A platform that
    /// does not tell leaves it to the health check.
    pub async fn started(&self, place: Place, id: &str) -> Result<(), Trouble> {
        let began = Instant::now();
        loop {
            match self.client.deployment_status(self.id(place), id, WEB_API).await {
                Ok(status) if status.succeeded() => return Ok(()),
                Ok(status) if status.ended() => {
                    let reasons: Vec<String> = status.errors.iter().flatten().map(reason).collect();
                    let why = if reasons.is_empty() { status.status } else { reasons.join("; ") };
                    let trouble =
                        Trouble::new(format!("{} did not start: {why}", self.host(place)));
                    return Err(self.with_app_log(trouble, place).await);
                }
                Ok(_) => {}
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if began.elapsed() > START_LIMIT {
                let trouble = Trouble::new(format!(
                    "{} had not started after {} s",
                    self.host(place),
                    START_LIMIT.as_secs()
                ));
                return Err(self.with_app_log(trouble, place).await);
            }
            tokio::time::sleep(look_again(began.elapsed(), Duration::from_secs(1))).await;
        }
    }

    /// The last lines of the app's own log, or of the platform's where the app wrote nothing.
    pub async fn app_log(&self, place: Place) -> Vec<String> {
        let scm = self.scm(place);
        let Ok(logs) = scm.container_logs().await else { return Vec::new() };
        let (app, platform): (Vec<_>, Vec<_>) = logs.iter().partition(|log| log.is_app());
        for log in app.into_iter().chain(platform) {
            if let Ok(text) = scm.container_log(log, TAIL_BYTES).await {
                let lines = tail(&text);
                if !lines.is_empty() {
                    return lines;
                }
            }
        }
        Vec::new()
    }

    async fn with_app_log(&self, trouble: Trouble, place: Place) -> Trouble {
        let log = self.app_log(place).await;
        trouble.with_log(format!("the app's log on {}", self.host(place)), log)
    }

    /// Waits until the database server accepts connections: after a failover, a restart or maintenance
    /// it does not for a while, and a migration begun then fails for no fault of its own
    /// (`properties.state`,
    /// <https://learn.microsoft.com/azure/postgresql/flexible-server/how-to-server-starting-stopping>).
    /// A server that is not there, or that we may not see, is the migration's own affair.
    pub async fn database_serves(&self, step: &event::Step) -> Result<(), Trouble> {
        let began = Instant::now();
        loop {
            let server = match self.client.find(&self.database, POSTGRES_API).await {
                Ok(Some(server)) => server,
                Ok(None) => return Ok(()),
                Err(error) if error.is_forbidden() => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let state = server["properties"]["state"].as_str().unwrap_or("Ready").to_owned();
            match state.as_str() {
                "Ready" => return Ok(()),
                "Stopped" | "Stopping" | "Disabled" | "Dropping" => {
                    return Err(Trouble::new(format!(
                        "the database server is {state}: start it, then go on"
                    )));
                }
                _ if began.elapsed() > DATABASE_LIMIT => {
                    return Err(Trouble::new(format!(
                        "the database server was still {state} after {} min",
                        DATABASE_LIMIT.as_secs() / 60
                    )));
                }
                _ => {
                    step.message(format!("waiting for the database server, which is {state}"));
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    /// Runs a triggered WebJob and waits for its end. `noted` hears the run's id as soon as there is
    /// one.
    pub async fn run_job(
        &self,
        place: Place,
        name: &str,
        arguments: &str,
        step: &event::Step,
        mut noted: impl FnMut(&str),
    ) -> Result<Ran, Trouble> {
        let scm = self.scm(place);
        let began = Instant::now();
        let mut tries = 0;
        let id = loop {
            match scm.run_job(name, arguments).await {
                Ok(id) => break id,
                // Begun or not: two never overlap, and the second finds nothing to do.
                Err(error) if is_faltering(&error) && tries < TRIES => {
                    tries += 1;
                    step.message(format!("asking for the job again: {error}"));
                    tokio::time::sleep(self.patience / 20).await;
                }
                // A run that an earlier, interrupted release began: two must not overlap.
                Err(error) if error.is_conflict() && began.elapsed() < MIGRATION_LIMIT => {
                    step.message("waiting for a run already under way");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                // The job came with the package a moment ago.
                Err(error) if error.is_not_found() && began.elapsed() < Duration::from_secs(20) => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        noted(&id);
        let run = scm.wait_job(name, &id, MIGRATION_LIMIT).await?;
        let output = scm.job_output(&run).await.unwrap_or_default();
        let lines = job_lines(&output);
        if !run.succeeded() {
            let what =
                format!("the job `{name} {arguments}` on {}: {}", self.host(place), run.status);
            return Err(Trouble::new(what).with_log(format!("the job's output (run {id})"), lines));
        }
        Ok(Ran { id, summary: summary(&output), output })
    }

    /// Begins to exchange the staging slot and production. The operation's address.
    pub async fn begin_swap(&self) -> Result<Option<String>, Error> {
        // Source is the slot and target is production, as `az webapp deployment slot swap` asks it:
        // the slot's instances get production's settings and are warmed up, production's are left
        // alone: https://learn.microsoft.com/azure/app-service/deploy-staging-slots
        let path = format!("{}/slotsswap", self.id(Place::Staging));
        let body = json!({ "targetSlot": "production", "preserveVnet": true });
        self.client.begin_post(path, WEB_API, Some(&body)).await
    }

    /// Waits until nothing is under way on the backend's site, for those who do not know whether
    /// what they asked for was begun. App Service names a pending operation in
    /// `inProgressOperationId`; `at_least` gives one time to show.
    pub async fn quiet(&self, at_least: Duration) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            let mut busy = false;
            for place in [Place::Production, Place::Staging] {
                let site = self.client.get(self.id(place), WEB_API).await?;
                busy |= site
                    .pointer("/properties/inProgressOperationId")
                    .and_then(Value::as_str)
                    .is_some_and(|id| !id.is_empty());
            }
            let waited = began.elapsed();
            if !busy && waited >= at_least {
                return Ok(());
            }
            if waited > SWAP_LIMIT {
                let what = format!("an operation on {}", self.host(Place::Production));
                return Err(Error::Timeout { what, limit: SWAP_LIMIT });
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Waits for an operation.
    pub async fn wait(&self, operation: &str) -> Result<(), Error> {
        self.client.wait_operation(operation).await
    }

    /// Waits until a path answers with a status from 200 to 299, for a while. How long the answer
    /// took.
    pub async fn healthy(&self, place: Place, path: &str) -> Result<Duration, Trouble> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            let wrong = match self.ask(place, path).await {
                Ok(answer) if answer.status / 100 == 2 => return Ok(answer.took),
                Ok(answer) => format!(
                    "GET https://{}{path} answered {}{}",
                    self.host(place),
                    answer.status,
                    answer.excerpt()
                ),
                Err(what) => what,
            };
            if began.elapsed() > self.patience {
                return Err(self.with_app_log(Trouble::new(wrong), place).await);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_secs(1));
        }
    }

    /// Makes one smoke check.
    pub async fn smoke(&self, place: Place, check: &SmokeCheck) -> Result<Duration, Trouble> {
        if check.websocket {
            return self.websocket(place, check).await;
        }
        let host = self.host(place);
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            match self.request(place, &check.method, &check.path, ANSWER_LIMIT).await {
                // The front end's own answers say nothing about the app.
                Ok(answer)
                    if matches!(answer.status, 502..=504)
                        && answer.status != check.status
                        && tries < 4 => {}
                // What was slow once may have been the first of its kind; slow again is slow.
                Ok(answer) if !in_time(answer.took, check) && tries < 2 => {}
                Ok(answer) => break answer,
                Err(_) if tries < 4 => {}
                Err(what) => return Err(self.with_app_log(Trouble::new(what), place).await),
            }
            tokio::time::sleep(self.patience / 20).await;
        };
        let wrong = if answer.status == check.status {
            check.json.as_ref().and_then(|expected| {
                let found: Option<Value> = serde_json::from_slice(&answer.body).ok();
                let Some(found) = found else {
                    return Some(format!("an answer that is not JSON{}", answer.excerpt()));
                };
                let wrong =
                    expected.iter().find(|(name, value)| found.get(name.as_str()) != Some(value));
                wrong.map(|(name, value)| {
                    let found =
                        found.get(name).map_or_else(|| "nothing".to_owned(), Value::to_string);
                    format!("`{name}`: expected {value}, found {found}")
                })
            })
        } else {
            Some(format!(
                "{} where {} was expected{}",
                answer.status,
                check.status,
                answer.excerpt()
            ))
        };
        let wrong = wrong.or_else(|| too_slow(answer.took, check));
        match wrong {
            None => Ok(answer.took),
            Some(wrong) => {
                let what =
                    format!("{} https://{host}{} answered {wrong}", check.method, check.path);
                Err(self.with_app_log(Trouble::new(what), place).await)
            }
        }
    }

    /// Opens a WebSocket as a browser does, and closes it again
    /// (<https://www.rfc-editor.org/rfc/rfc6455#section-4>).
    async fn websocket(&self, place: Place, check: &SmokeCheck) -> Result<Duration, Trouble> {
        // Any 16 bytes; the answer must be made of them, so that no cache can give it.
        let key = STANDARD.encode(uuid::Uuid::new_v4().as_bytes());
        let accept =
            aws_lc_rs::digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
        let accept = STANDARD.encode(accept.as_ref());
        let url = format!("https://{}{}", self.host(place), check.path);
        let began = Instant::now();
        let answer = async {
            // The handshake is of HTTP/1.1.
            let http = self.client.http1().map_err(|error| error.to_string())?;
            http.get(&url)
                .header("Connection", "Upgrade")
                .header("Upgrade", "websocket")
                .header("Sec-WebSocket-Version", "13")
                .header("Sec-WebSocket-Key", &key)
                .timeout(ANSWER_LIMIT)
                .send()
                .await
                .map_err(|error| root(&error))
        };
        let wrong = match answer.await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let accepted = answer.headers().get("sec-websocket-accept");
                let accepted = accepted.is_some_and(|value| value.as_bytes() == accept.as_bytes());
                if status != check.status {
                    Some(format!("{status} where {} was expected", check.status))
                } else if status == 101 && !accepted {
                    Some("101 without having understood the handshake".to_owned())
                } else {
                    too_slow(began.elapsed(), check)
                }
            }
            Err(what) => Some(what),
        };
        match wrong {
            None => Ok(began.elapsed()),
            Some(wrong) => {
                let what = format!("the WebSocket {url}: {wrong}");
                Err(self.with_app_log(Trouble::new(what), place).await)
            }
        }
    }

    /// Whether a path answers 2xx within a time; what it does instead.
    pub async fn answers(&self, place: Place, path: &str, within: Duration) -> Result<(), String> {
        let answer = self.request(place, "GET", path, within).await?;
        if answer.status / 100 == 2 {
            return Ok(());
        }
        let host = self.host(place);
        Err(format!("GET https://{host}{path} answered {}{}", answer.status, answer.excerpt()))
    }

    /// Waits until no deployment is under way on a place: one that a killed command began goes on
    /// without it.
    pub async fn settled(&self, place: Place) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            let deployments = match self.scm(place).deployments().await {
                Ok(deployments) => deployments,
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error),
            };
            let busy = deployments.iter().any(|deployment| {
                matches!(
                    deployment.status,
                    DeploymentState::Pending
                        | DeploymentState::Building
                        | DeploymentState::Deploying
                )
            });
            if !busy {
                return Ok(());
            }
            if began.elapsed() > BUILD_LIMIT {
                let what = format!("a deployment on {}", self.host(place));
                return Err(Error::Timeout { what, limit: BUILD_LIMIT });
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn ask(&self, place: Place, path: &str) -> Result<Answer, String> {
        self.request(place, "GET", path, ANSWER_LIMIT).await
    }

    async fn request(
        &self,
        place: Place,
        method: &str,
        path: &str,
        within: Duration,
    ) -> Result<Answer, String> {
        let url = format!("https://{}{path}", self.host(place));
        let began = Instant::now();
        let failed = |error: reqwest::Error| format!("{method} {url}: {}", root(&error));
        let verb = reqwest::Method::from_bytes(method.as_bytes()).unwrap_or_default();
        let request = self.client.http().request(verb, &url).timeout(within);
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_SIZE {
                body.truncate(ANSWER_SIZE);
                break;
            }
        }
        Ok(Answer { status, body, took: began.elapsed() })
    }
}

struct Answer {
    status: u16,
    body: Vec<u8>,
    took: Duration,
}

impl Answer {
    /// `: the first line of the body`, short; nothing when it is HTML or empty.
    fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        if line.is_empty() || line.starts_with('<') {
            return String::new();
        }
        let short: String = line.chars().take(160).collect();
        format!(": {short}{}", if short.len() < line.len() { "…" } else { "" })
    }
}

fn in_time(took: Duration, check: &SmokeCheck) -> bool {
    check.within_ms.is_none_or(|within| took <= Duration::from_millis(within.into()))
}

fn too_slow(took: Duration, check: &SmokeCheck) -> Option<String> {
    (!in_time(took, check)).then(|| {
        let within = check.within_ms.unwrap_or_default();
        format!("after {} ms where {within} ms were allowed", took.as_millis())
    })
}

/// What a server appends to the key of a handshake (RFC 6455, 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The innermost cause says what happened; reqwest's own message only that something did.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn reason(error: &Value) -> String {
    let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
    text("message").or_else(|| text("extendedCode")).unwrap_or_else(|| error.to_string())
}

fn progress(deployment: &Deployment) -> String {
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    text(&deployment.progress).or_else(|| text(&deployment.status_text)).unwrap_or_else(|| {
        match deployment.status {
            DeploymentState::Pending => "waiting",
            DeploymentState::Building => "building",
            DeploymentState::Deploying => "copying",
            DeploymentState::Failed => "failed",
            DeploymentState::Success => "built",
            DeploymentState::Other(_) => "deploying",
        }
        .to_owned()
    })
}

/// The last lines of a text that say something, as a person can read them.
pub(crate) fn tail(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()).rev() {
        // From the last line back, until there is enough.
        lines.splice(0..0, readable(line));
        if lines.len() >= TAIL {
            break;
        }
    }
    lines.drain(..lines.len().saturating_sub(TAIL));
    lines
}

/// A line of a log in short lines. One that ends in a JSON object (structlog, as the standard has it)
/// becomes its event and the end of its traceback; anything else is cut where it grows too long.
fn readable(line: &str) -> Vec<String> {
    let object = line.find('{').and_then(|at| {
        let object: serde_json::Map<String, Value> = serde_json::from_str(&line[at..]).ok()?;
        Some((&line[..at], object))
    });
    let Some((before, object)) = object else { return vec![short(line)] };
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let Some(event) = text("event").or_else(|| text("message")) else { return vec![short(line)] };
    let level = text("level").map_or_else(String::new, |level| format!("{level}: "));
    let mut lines = vec![short(&format!("{before}{level}{event}"))];
    if let Some(exception) = text("exception") {
        let traceback: Vec<&str> = exception.lines().filter(|l| !l.trim().is_empty()).collect();
        let from = traceback.len().saturating_sub(TRACEBACK);
        lines.extend(traceback[from..].iter().map(|line| short(&format!("    {line}"))));
    }
    lines
}

fn short(line: &str) -> String {
    let line = printable(line);
    match line.char_indices().nth(WIDTH) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// What a WebJob wrote. Kudu prefixes each line with `[time > run: level] `; `SYS` lines are its own
/// remarks about the run.
fn job_lines(output: &str) -> Vec<String> {
    let own = output.lines().filter_map(|line| {
        let prefixed = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
        let Some((head, text)) = prefixed else { return Some(line) };
        match head.rsplit(['>', ':']).next().map(str::trim) {
            Some("INFO" | "ERR") => Some(text),
            Some("SYS INFO" | "SYS ERR") => None,
            _ => Some(line),
        }
    });
    tail(&own.collect::<Vec<_>>().join("\n"))
}

/// What a migration did, of all it wrote: Alembic names each upgrade in a line of its own, and writes
/// others when there is none to make. Of what is not Alembic's, the last line.
fn summary(output: &str) -> String {
    let upgrades: Vec<String> = output
        .lines()
        .filter_map(|line| line.split_once("Running upgrade "))
        .flat_map(|(_, what)| tail(what.trim()))
        .collect();
    match &upgrades[..] {
        // What Alembic says of every database before it looks for upgrades.
        [] if output.contains("transactional DDL") => "nothing to migrate".to_owned(),
        [] => job_lines(output).pop().unwrap_or_default(),
        [one] => one.clone(),
        [.., last] => format!("{} upgrades, the last {last}", upgrades.len()),
    }
}

/// Without what would move the cursor or change colours: a log is somebody else's text.
fn printable(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // CSI: ESC [ … letter. Others: ESC and one character.
            if chars.next_if_eq(&'[').is_some() {
                while chars.next_if(|c| !c.is_ascii_alphabetic()).is_some() {}
            }
            chars.next();
        } else if c == '\t' {
            out.push_str("    ");
        } else if !c.is_control() {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_is_summed_up() {
        let none = "[1> INFO] Context impl PostgresqlImpl.\n\
                    [1> INFO] Will assume transactional DDL.\n";
        assert_eq!(summary(none), "nothing to migrate");
        let one = format!("{none}[1> INFO] Running upgrade  -> 0001, Notes\n");
        assert_eq!(summary(&one), "-> 0001, Notes");
        let two = format!("{one}[1> INFO] Running upgrade 0001 -> 0002, More\n");
        assert_eq!(summary(&two), "2 upgrades, the last 0001 -> 0002, More");
        assert_eq!(summary("[1> INFO] applied 3 files\n"), "applied 3 files");
    }

    #[test]
    fn a_log_cannot_drive_the_terminal() {
        assert_eq!(printable("\u{1b}[31mred\u{1b}[0m\u{7}\tx\u{1b}]0;title"), "red    x0;title");
    }

    #[test]
    fn a_structured_line_is_shown_as_its_event_and_the_end_of_its_traceback() {
        let line = r#"2026-11-22T23:03:35Z [9fdc] {"event": "Exception in worker process", "level": "error", "exception": "Traceback:\n  a\n  b\n  c\n  File \"main.py\", line 62\n    raise\nRuntimeError: broken"}"#;
        assert_eq!(
            tail(&format!("before\n{line}\n{{\"not\": \"ours\"}}\n")),
            [
                "before",
                "2026-11-22T23:03:35Z [9fdc] error: Exception in worker process",
                "      c",
                "      File \"main.py\", line 62",
                "        raise",
                "    RuntimeError: broken",
                "{\"not\": \"ours\"}",
            ]
        );
        assert_eq!(tail(&"é".repeat(1000))[0].chars().count(), WIDTH + 1);
    }

    #[test]
    fn of_a_jobs_output_the_jobs_own_lines_are_shown() {
        let output = "[11/22/2026 21:00:00 > 7e: SYS INFO] Status changed to Initializing\n\
                      [11/22/2026 21:00:01 > 7e: INFO] Running upgrade -> 1\n\
                      [11/22/2026 21:00:01 > 7e: ERR ] boom\nbare\n[odd] line\n\
                      [11/22/2026 21:00:01 > INFO] without the run\n";
        assert_eq!(
            job_lines(output),
            ["Running upgrade -> 1", "boom", "bare", "[odd] line", "without the run"]
        );
    }
}
