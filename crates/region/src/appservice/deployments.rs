//! Deployments: from a package received to a slot that runs it, and what is told of it meanwhile.
//!
//! A deployment replaces a slot's content as a whole: the content is unpacked and its environment
//! built beside what runs, then the slot's record is changed in one commit.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;

use super::{
    AppService,
    build::BuildError,
    content::PackageError,
    logs,
    records::{RecordError, put_json},
    settings::{enabled, python_version},
    site::{ActiveDeployment, SlotKey},
};
use crate::store::Batch;

const DEPLOYMENTS: &str = "web.deployments";
/// Deployments of a slot that are remembered; their packages' contents stay on the disk for as long.
const KEPT: usize = 10;
/// How long a virtual environment stays that no remembered deployment uses: longer than a build takes.
const ENVIRONMENT_KEPT: Duration = Duration::from_secs(3600);
/// How long instances are watched after a deployment for its runtime status.
const WATCHED: Duration = Duration::from_secs(1800);

/// Where a deployment stands: Kudu's `DeployStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Received.
    Pending = 0,
    /// Unpacking and building.
    Building = 1,
    /// Being put in place.
    Deploying = 2,
    /// Over, without effect.
    Failed = 3,
    /// Over.
    Success = 4,
}

/// How the instances take it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuntimeStatus {
    /// Not begun.
    #[default]
    None,
    /// Coming up.
    Starting,
    /// Up.
    Successful(usize),
    /// Not coming up: why, and the last lines of the application's own log.
    Failed(String),
}

/// A deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its ID.
    pub id: String,
    /// The volume it was made on: the history of deployments is kept there, in
    /// `/home/site/deployments`, and travels with it in a swap, as in Azure.
    pub volume: String,
    /// Where it stands.
    pub status: Status,
    /// What went wrong, when something did.
    pub status_text: String,
    /// What it is doing.
    pub progress: String,
    /// Who deploys.
    pub author: String,
    /// With what.
    pub deployer: String,
    /// The message it came with.
    pub message: String,
    /// RFC 3339.
    pub received: String,
    /// RFC 3339.
    pub ended: Option<String>,
    /// The package's SHA-256.
    pub content: String,
    /// The virtual environment built.
    pub environment: Option<String>,
    /// How the instances take it.
    pub runtime: RuntimeStatus,
}

impl Deployment {
    /// Whether it is over.
    pub fn complete(&self) -> bool {
        matches!(self.status, Status::Failed | Status::Success)
    }

    /// As Kudu tells it: <https://github.com/projectkudu/kudu/wiki/REST-API#deployment>.
    pub fn to_kudu(&self, key: &SlotKey, active: bool) -> Value {
        let url = format!("https://{}/api/deployments/{}", key.scm_host_name(), self.id);
        json!({
            "id": self.id,
            "status": self.status as u8,
            "status_text": self.status_text,
            "author_email": "N/A",
            "author": self.author,
            "deployer": self.deployer,
            "message": self.message,
            "progress": self.progress,
            "received_time": self.received,
            "start_time": self.received,
            "end_time": self.ended,
            "last_success_end_time": self.ended.as_ref().filter(|_| self.status == Status::Success),
            "complete": self.complete(),
            "active": active,
            "is_temp": false,
            "is_readonly": true,
            "url": url,
            "log_url": format!("{url}/log"),
            "site_name": key.label(),
            "build_summary": { "errors": [], "warnings": [] },
            "provisioningState": match self.status {
                Status::Failed => "Failed",
                Status::Success => "Succeeded",
                _ => "InProgress",
            },
        })
    }

    /// As ARM's `deploymentStatus` tells it:
    /// <https://learn.microsoft.com/rest/api/appservice/web-apps/get-production-site-deployment-status>.
    pub fn to_arm_status(&self, count: usize) -> Value {
        let (status, progress, successful, failed) = match (&self.status, &self.runtime) {
            (Status::Pending, _) => ("BuildRequestReceived", 0, 0, 0),
            (Status::Building, _) => ("BuildInProgress", 0, 0, 0),
            (Status::Failed, _) => ("BuildFailed", 0, 0, 0),
            (Status::Deploying, _) | (Status::Success, RuntimeStatus::None) => {
                ("BuildSuccessful", 0, 0, 0)
            }
            (Status::Success, RuntimeStatus::Starting) => ("RuntimeStarting", count, 0, 0),
            (Status::Success, RuntimeStatus::Successful(up)) => ("RuntimeSuccessful", 0, *up, 0),
            (Status::Success, RuntimeStatus::Failed(_)) => ("RuntimeFailed", 0, 0, count),
        };
        let errors = match (&self.status, &self.runtime) {
            (Status::Failed, _) => {
                json!([{ "extendedCode": "BuildFailed", "message": self.status_text }])
            }
            (_, RuntimeStatus::Failed(why)) => {
                json!([{ "extendedCode": "RuntimeFailed", "message": why }])
            }
            _ => Value::Null,
        };
        json!({
            "deploymentId": self.id,
            "status": status,
            "numberOfInstancesInProgress": progress,
            "numberOfInstancesSuccessful": successful,
            "numberOfInstancesFailed": failed,
            "failedInstancesLogs": null,
            "errors": errors,
        })
    }
}

/// A package received.
#[derive(Debug)]
pub struct Package {
    /// The file; it is removed in the end.
    pub path: PathBuf,
    /// Its SHA-256.
    pub digest: String,
    /// Who sends it.
    pub author: String,
    /// With what.
    pub deployer: String,
    /// With which message.
    pub message: String,
}

/// Why a deployment was not taken, or failed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Another one is under way.
    #[error("There is a deployment currently in progress. Please try again when it completes.")]
    Busy,
    /// The package.
    #[error("{0}")]
    Package(#[from] PackageError),
    /// The build.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// The store.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// The machine.
    #[error("{0}")]
    Machine(String),
}

impl AppService {
    /// Takes a package and deploys it in the background; answers the deployment's ID.
    pub async fn deploy(
        self: &Arc<Self>,
        key: &SlotKey,
        package: Package,
    ) -> Result<String, DeployError> {
        let deploying = self.with_slot(key, |slot| slot.deploying.clone());
        let deploying = deploying.ok_or_else(|| RecordError::NotFound(key.display()))?;
        let Ok(guard) = deploying.try_lock_owned() else {
            let _ = fs::remove_file(&package.path);
            return Err(DeployError::Busy);
        };
        let deployment = Deployment {
            id: uuid::Uuid::new_v4().simple().to_string(),
            volume: self.volume(key),
            status: Status::Pending,
            status_text: String::new(),
            progress: "Received the package.".to_owned(),
            author: package.author.clone(),
            deployer: package.deployer.clone(),
            message: package.message.clone(),
            received: jiff::Timestamp::now().to_string(),
            ended: None,
            content: package.digest.clone(),
            environment: None,
            runtime: RuntimeStatus::None,
        };
        self.record(key, &deployment).await?;
        let id = deployment.id.clone();
        let (app, key) = (self.clone(), key.clone());
        self.retirements
            .spawn(async move { app.run_deployment(&key, deployment, package, guard).await });
        Ok(id)
    }

    /// The volume of a slot now; empty for one that is gone.
    fn volume(&self, key: &SlotKey) -> String {
        self.records.slot(key).map(|record| record.volume).unwrap_or_default()
    }

    async fn record(&self, key: &SlotKey, deployment: &Deployment) -> Result<(), RecordError> {
        let mut batch = Batch::new();
        put_json(
            &mut batch,
            DEPLOYMENTS,
            &format!("{}/{}", deployment.volume, deployment.id),
            deployment,
        );
        self.records.store().commit(batch).await?;
        self.with_slot(key, |slot| slot.changes.send_modify(|changes| *changes += 1));
        Ok(())
    }

    /// Records how far a deployment has come; a store that fails now will fail the deployment later.
    async fn advance(
        &self,
        key: &SlotKey,
        deployment: &mut Deployment,
        status: Status,
        progress: &str,
    ) {
        deployment.status = status;
        progress.clone_into(&mut deployment.progress);
        if let Err(error) = self.record(key, deployment).await {
            tracing::error!(slot = %key, %error, "a deployment's progress could not be recorded");
        }
    }

    async fn run_deployment(
        self: &Arc<Self>,
        key: &SlotKey,
        mut deployment: Deployment,
        package: Package,
        guard: OwnedMutexGuard<()>,
    ) {
        let log = DeploymentLog::new(&self.layout.deployment_log(&deployment.id));
        let outcome = self.place(key, &mut deployment, &package, &log).await;
        let _ = fs::remove_file(&package.path);
        deployment.ended = Some(jiff::Timestamp::now().to_string());
        if outcome.is_ok() {
            self.tidy(key).await;
        }
        // Whoever reads that it is over may send the next one at once.
        drop(guard);
        match outcome {
            Ok(()) => {
                log.step("Deployment successful.");
                deployment.runtime = RuntimeStatus::Starting;
                self.advance(key, &mut deployment, Status::Success, "").await;
                self.wake(key);
                let (app, key) = (self.clone(), key.clone());
                self.retirements.spawn(async move { app.watch_runtime(&key, deployment).await });
            }
            Err(error) => {
                log.step(&format!("Deployment failed: {error}"));
                deployment.status_text = error.to_string();
                self.with_slot(key, |slot| {
                    slot.log.platform(&format!("Deployment {} failed: {error}", deployment.id));
                });
                self.advance(key, &mut deployment, Status::Failed, "").await;
            }
        }
    }

    async fn place(
        self: &Arc<Self>,
        key: &SlotKey,
        deployment: &mut Deployment,
        package: &Package,
        log: &DeploymentLog,
    ) -> Result<(), DeployError> {
        log.step(&format!("Received a package with SHA-256 {}.", package.digest));
        self.advance(key, deployment, Status::Building, "Unpacking the package.").await;
        let (layout, limits) = (self.layout.clone(), self.limits);
        let (path, digest) = (package.path.clone(), package.digest.clone());
        let content = tokio::task::spawn_blocking(move || layout.unpack(&path, &digest, &limits))
            .await
            .map_err(|error| DeployError::Machine(error.to_string()))??;
        log.step("Unpacked the package.");
        let record = self.records.slot(key).ok_or_else(|| RecordError::NotFound(key.display()))?;
        if enabled(&record.app_settings, "SCM_DO_BUILD_DURING_DEPLOYMENT") {
            self.advance(key, deployment, Status::Building, "Running the build.").await;
            log.step("Running the build (SCM_DO_BUILD_DURING_DEPLOYMENT).");
            let say = |line: &str| log.detail(line);
            deployment.environment =
                self.builder.build(&content, &python_version(&record), &say).await?;
            log.step("Build completed.");
        }
        self.advance(key, deployment, Status::Deploying, "Putting the content in place.").await;
        let turn = self.with_slot(key, |slot| slot.turn.clone());
        let turn = turn.ok_or_else(|| RecordError::NotFound(key.display()))?;
        let _turn = turn.lock().await;
        let active = ActiveDeployment {
            id: deployment.id.clone(),
            content: deployment.content.clone(),
            environment: deployment.environment.clone(),
        };
        self.records
            .update(key, |record| {
                record.deployment = Some(active.clone());
                Ok(())
            })
            .await?;
        self.prune_standby(&key.site);
        Ok(())
    }

    /// Follows the instances until they run the deployment or cannot, and records which.
    async fn watch_runtime(self: &Arc<Self>, key: &SlotKey, mut deployment: Deployment) {
        let Some(mut changes) = self.with_slot(key, |slot| slot.changes.subscribe()) else {
            return;
        };
        let watched = async {
            loop {
                changes.mark_unchanged();
                if let Some(status) = self.runtime_of(key, &deployment.id) {
                    return Some(status);
                }
                changes.changed().await.ok()?;
            }
        };
        let Ok(Some(status)) = tokio::time::timeout(WATCHED, watched).await else { return };
        let up = matches!(status, RuntimeStatus::Successful(_));
        deployment.runtime = status;
        if let Err(error) = self.record(key, &deployment).await {
            tracing::error!(slot = %key, %error, "a deployment's runtime status could not be recorded");
        }
        if up {
            self.auto_swap(key).await;
        }
    }

    /// How a slot's instances take a deployment, once that is known.
    fn runtime_of(&self, key: &SlotKey, id: &str) -> Option<RuntimeStatus> {
        let record = self.records.slot(key)?;
        if !record.running || record.deployment.as_ref().is_none_or(|active| active.id != id) {
            // Nothing will start; or another deployment, or a swap, came after it.
            return Some(RuntimeStatus::None);
        }
        let sets = self.with_slot(key, |slot| [slot.serving.clone(), slot.next.clone()])?;
        let set = sets.into_iter().flatten().find(|set| {
            set.launch().deployment.as_ref().is_some_and(|deployment| deployment.id == id)
        })?;
        if let Some(failure) = set.failure() {
            return Some(RuntimeStatus::Failed(failure.to_string()));
        }
        set.is_complete().then(|| RuntimeStatus::Successful(set.pool().len()))
    }

    /// `autoSwapSlotName`: what was deployed here goes there once it runs.
    async fn auto_swap(self: &Arc<Self>, key: &SlotKey) {
        let Some(target) = self
            .records
            .slot(key)
            .and_then(|record| record.config_str("autoSwapSlotName").map(str::to_owned))
        else {
            return;
        };
        let token = uuid::Uuid::new_v4().to_string();
        let target = super::site::SlotName::new(&target);
        if let Err(error) = self.swap(&key.site, &key.slot, &target, &token).await {
            tracing::warn!(slot = %key, %error, "auto swap failed");
        }
    }

    /// A slot's deployments, newest first.
    pub fn deployments(&self, key: &SlotKey) -> Vec<Deployment> {
        let prefix = format!("{}/", self.volume(key));
        let mut deployments: Vec<Deployment> = self
            .records
            .store()
            .list_state(DEPLOYMENTS, &prefix)
            .into_iter()
            .filter_map(|(_, bytes)| serde_json::from_slice(&bytes).ok())
            .collect();
        deployments.sort_by(|a, b| b.received.cmp(&a.received));
        deployments
    }

    /// One of them; `latest` is the newest.
    pub fn deployment(&self, key: &SlotKey, id: &str) -> Option<Deployment> {
        if id == "latest" {
            return self.deployments(key).into_iter().next();
        }
        self.records.json(DEPLOYMENTS, &format!("{}/{id}", self.volume(key)))
    }

    /// Waits until a deployment is over.
    pub async fn deployed(&self, key: &SlotKey, id: &str) -> Option<Deployment> {
        let mut changes = self.with_slot(key, |slot| slot.changes.subscribe())?;
        loop {
            changes.mark_unchanged();
            let deployment = self.deployment(key, id)?;
            if deployment.complete() {
                return Some(deployment);
            }
            changes.changed().await.ok()?;
        }
    }

    /// A deployment's log: its steps, or the details of one of them.
    pub fn deployment_log(
        &self,
        key: &SlotKey,
        id: &str,
        step: Option<usize>,
    ) -> Option<Vec<Value>> {
        let deployment = self.deployment(key, id)?;
        let text =
            fs::read_to_string(self.layout.deployment_log(&deployment.id)).unwrap_or_default();
        let mut entries = Vec::new();
        let mut steps = 0;
        for line in text.lines() {
            let mut parts = line.splitn(3, '\t');
            let (Some(kind), Some(time), Some(message)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let is_step = kind == "S";
            steps += usize::from(is_step);
            let number = steps.saturating_sub(1);
            let entry = json!({ "log_time": time, "id": number.to_string(), "message": message, "type": 0, "details_url": null });
            match step {
                None if is_step => entries.push(entry),
                None => {
                    if let Some(last) = entries.last_mut() {
                        last["details_url"] = json!(format!(
                            "https://{}/api/deployments/{}/log/{number}",
                            key.scm_host_name(),
                            deployment.id
                        ));
                    }
                }
                Some(step) if !is_step && step == number => entries.push(entry),
                Some(_) => {}
            }
        }
        Some(entries)
    }

    /// Deployments that a crash cut short are over: the slot runs what it ran.
    pub(super) async fn fail_interrupted_deployments(&self, key: &SlotKey) {
        let active = self
            .records
            .slot(key)
            .and_then(|record| record.deployment)
            .map(|deployment| deployment.id);
        for mut deployment in self.deployments(key) {
            if !deployment.complete() {
                deployment.ended = Some(jiff::Timestamp::now().to_string());
                deployment.progress.clear();
                if active.as_ref() == Some(&deployment.id) {
                    // Its one commit was made; only the record of its end was not.
                    deployment.status = Status::Success;
                    deployment.runtime = RuntimeStatus::Starting;
                } else {
                    deployment.status = Status::Failed;
                    "The deployment was interrupted by a restart of the region; the slot's content is unchanged."
                        .clone_into(&mut deployment.status_text);
                }
                let _ = self.record(key, &deployment).await;
            }
        }
    }

    /// Goes on watching what a crash kept from being watched to its end: a client may be waiting for
    /// the runtime status.
    pub(super) fn resume_watching(self: &Arc<Self>, key: &SlotKey) {
        for deployment in self.deployments(key) {
            if deployment.complete() && deployment.runtime == RuntimeStatus::Starting {
                let (app, key) = (self.clone(), key.clone());
                self.retirements.spawn(async move { app.watch_runtime(&key, deployment).await });
            }
        }
    }

    /// Forgets a slot's old deployments, and deletes what no deployment and no slot refers to.
    async fn tidy(&self, key: &SlotKey) {
        let in_use = |id: &str| {
            self.records.all().iter().any(|key| {
                self.records
                    .slot(key)
                    .and_then(|record| record.deployment)
                    .is_some_and(|active| active.id == id)
            })
        };
        let mut batch = Batch::new();
        for old in self.deployments(key).into_iter().skip(KEPT).filter(|old| !in_use(&old.id)) {
            batch.delete_state(DEPLOYMENTS, &format!("{}/{}", old.volume, old.id));
            let _ = fs::remove_file(self.layout.deployment_log(&old.id));
        }
        if batch.is_empty() || self.records.store().commit(batch).await.is_err() {
            return;
        }
        let known: Vec<Deployment> = self
            .records
            .store()
            .list_state(DEPLOYMENTS, "")
            .into_iter()
            .filter_map(|(_, bytes)| serde_json::from_slice(&bytes).ok())
            .collect();
        let others = |dir: PathBuf, is_known: &dyn Fn(&str) -> bool| -> Vec<PathBuf> {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            let unknown = entries.filter(|e| !is_known(&e.file_name().to_string_lossy()));
            unknown.map(|entry| entry.path()).collect()
        };
        // A deployment under way is known since its package was received.
        for content in others(self.layout.content(""), &|name| {
            known.iter().any(|deployment| deployment.content == name)
        }) {
            let _ = fs::remove_dir_all(content);
        }
        // Its environment is known only when the build has ended; what a build makes or takes into use
        // again is young until then.
        for environment in others(self.layout.environment(""), &|name| {
            known.iter().any(|deployment| deployment.environment.as_deref() == Some(name))
        }) {
            let modified = fs::metadata(&environment).and_then(|metadata| metadata.modified());
            if modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ENVIRONMENT_KEPT)) {
                let _ = fs::remove_dir_all(environment);
            }
        }
    }
}

/// The log of one deployment: steps, and details of the last step.
struct DeploymentLog(Mutex<Option<fs::File>>);

impl DeploymentLog {
    fn new(path: &Path) -> Self {
        Self(Mutex::new(fs::File::options().append(true).create(true).open(path).ok()))
    }

    fn step(&self, message: &str) {
        // A message of several lines is one step whose further lines are its details.
        let mut lines = message.lines();
        self.write('S', lines.next().unwrap_or_default());
        for line in lines {
            self.write('D', line);
        }
    }

    fn detail(&self, line: &str) {
        self.write('D', line);
    }

    fn write(&self, kind: char, line: &str) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &mut *file {
            let _ = writeln!(file, "{kind}\t{}\t{}", logs::now(), line.replace('\t', "    "));
        }
    }
}
