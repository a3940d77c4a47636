//! The deployment service of a site or slot (SCM, Kudu):
//! <https://learn.microsoft.com/azure/app-service/resources-kudu> and
//! <https://github.com/projectkudu/kudu/wiki/REST-API>.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::Error;
use crate::client::{Body, Client, MANAGEMENT_SCOPE, Request, encode};
use crate::retry::look_again;

/// The deployment service of one site or slot.
#[derive(Clone, Debug)]
pub struct Scm {
    client: Client,
    url: String,
}

/// A deployment.
#[derive(Clone, Debug, Deserialize)]
pub struct Deployment {
    /// Its ID.
    pub id: String,
    /// Where it stands.
    pub status: DeploymentState,
    /// What it is doing, in words.
    #[serde(default)]
    pub status_text: Option<String>,
    /// What it is doing now.
    #[serde(default)]
    pub progress: Option<String>,
    /// The message it was started with.
    #[serde(default)]
    pub message: Option<String>,
    /// Whether it has ended.
    #[serde(default)]
    pub complete: bool,
    /// Whether it is what the site runs.
    #[serde(default)]
    pub active: bool,
}

/// Where a deployment stands: Kudu's `DeployStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "i64")]
pub enum DeploymentState {
    /// Not begun.
    Pending,
    /// Building.
    Building,
    /// Copying.
    Deploying,
    /// Ended without success.
    Failed,
    /// Ended with success.
    Success,
    /// Something newer than this client.
    Other(i64),
}

impl From<i64> for DeploymentState {
    fn from(value: i64) -> Self {
        match value {
            0 => Self::Pending,
            1 => Self::Building,
            2 => Self::Deploying,
            3 => Self::Failed,
            4 => Self::Success,
            other => Self::Other(other),
        }
    }
}

/// A line of a deployment's log.
#[derive(Clone, Debug, Deserialize)]
pub struct LogEntry {
    /// When.
    #[serde(default)]
    pub log_time: String,
    /// Its ID.
    #[serde(default)]
    pub id: String,
    /// The line.
    #[serde(default)]
    pub message: String,
    /// Where its details are.
    #[serde(default)]
    pub details_url: Option<String>,
}

/// A run of a triggered WebJob.
#[derive(Clone, Debug, Deserialize)]
pub struct JobRun {
    /// Its ID.
    pub id: String,
    /// `Initializing`, `Running`, `Success`, `Failed`, `Aborted`, …
    pub status: String,
    /// When it began.
    #[serde(default)]
    pub start_time: Option<String>,
    /// When it ended.
    #[serde(default)]
    pub end_time: Option<String>,
    /// Where what it wrote is.
    #[serde(default)]
    pub output_url: Option<String>,
}

impl JobRun {
    /// Whether it has ended.
    pub fn ended(&self) -> bool {
        !matches!(self.status.as_str(), "Initializing" | "Running" | "Pending" | "Starting")
    }

    /// Whether it has ended well.
    pub fn succeeded(&self) -> bool {
        self.status == "Success"
    }
}

/// A log file as `/api/logs/docker` lists it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerLog {
    /// The instance that writes it.
    #[serde(default)]
    pub machine_name: String,
    /// When it was last written to.
    #[serde(default)]
    pub last_updated: String,
    /// Bytes.
    #[serde(default)]
    pub size: u64,
    /// Where to read it.
    pub href: String,
    /// Where it lies on the site's storage.
    #[serde(default)]
    pub path: String,
}

impl ContainerLog {
    /// Whether it is the app's own output, not the platform's.
    pub fn is_app(&self) -> bool {
        self.path.contains("default_docker") || self.href.contains("default_docker")
    }
}

/// The longest pause between two looks at a deployment or a job.
const LONGEST: Duration = Duration::from_secs(1);
/// Kudu takes a moment to list what it has just accepted.
const LISTED: Duration = Duration::from_secs(15);

impl Scm {
    pub(crate) fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    /// Sends a package and returns the deployment's ID; building goes on in the background.
    /// The file is streamed, never held in memory.
    pub async fn publish(&self, package: &Path) -> Result<String, Error> {
        self.upload("/api/publish?type=zip&async=true&clean=true&restart=true", package).await
    }

    /// As [`Self::publish`], by the older `zipdeploy`.
    pub async fn zip_deploy(&self, package: &Path) -> Result<String, Error> {
        self.upload("/api/zipdeploy?isAsync=true", package).await
    }

    async fn upload(&self, path: &str, package: &Path) -> Result<String, Error> {
        let mut request = self.request(Method::POST, path);
        request.body = Body::File(package.to_owned());
        request.limit = Some(Duration::from_secs(1800));
        let answer = self.client.send(&request).await?;
        // The ID is a header of its own since OneDeploy, and the last part of `Location` before.
        let id = answer
            .header("scm-deployment-id")
            .or_else(|| last_segment(answer.header("location")?))
            .unwrap_or("latest");
        Ok(id.to_owned())
    }

    /// A deployment; `latest` is an ID too.
    pub async fn deployment(&self, id: &str) -> Result<Deployment, Error> {
        let request = self.request(Method::GET, &format!("/api/deployments/{}", encode(id)));
        self.client.send(&request).await?.parse()
    }

    /// All deployments, the newest first.
    pub async fn deployments(&self) -> Result<Vec<Deployment>, Error> {
        self.client.send(&self.request(Method::GET, "/api/deployments")).await?.parse()
    }

    /// Waits until a deployment has ended, well or not. `seen` hears of every change.
    pub async fn wait_deployment(
        &self,
        id: &str,
        limit: Duration,
        mut seen: impl FnMut(&Deployment),
    ) -> Result<Deployment, Error> {
        let began = Instant::now();
        let mut told = None;
        loop {
            match self.deployment(id).await {
                Ok(deployment) => {
                    let now = (deployment.status, deployment.progress.clone());
                    if told.as_ref() != Some(&now) {
                        seen(&deployment);
                        told = Some(now);
                    }
                    let ended = matches!(
                        deployment.status,
                        DeploymentState::Failed | DeploymentState::Success
                    );
                    if ended || deployment.complete {
                        return Ok(deployment);
                    }
                }
                Err(error) if error.is_not_found() && began.elapsed() < LISTED => {}
                Err(error) => return Err(error),
            }
            if began.elapsed() > limit {
                let what = format!("the deployment {id} on {}", self.url);
                return Err(Error::Timeout { what, limit });
            }
            tokio::time::sleep(look_again(began.elapsed(), LONGEST)).await;
        }
    }

    /// A deployment's log.
    pub async fn deployment_log(&self, id: &str) -> Result<Vec<LogEntry>, Error> {
        let path = format!("/api/deployments/{}/log", encode(id));
        self.client.send(&self.request(Method::GET, &path)).await?.parse()
    }

    /// The details of a line of a deployment's log: what the build wrote.
    pub async fn log_details(&self, entry: &LogEntry) -> Result<Vec<LogEntry>, Error> {
        match &entry.details_url {
            Some(url) => self.client.send(&self.own(url)?).await?.parse(),
            None => Ok(Vec::new()),
        }
    }

    /// A deployment's whole log as text, details under their line.
    pub async fn deployment_text(&self, id: &str) -> Result<String, Error> {
        let mut text = String::new();
        for entry in self.deployment_log(id).await? {
            text.push_str(entry.message.trim_end());
            text.push('\n');
            for line in self.log_details(&entry).await.unwrap_or_default() {
                text.push_str(line.message.trim_end());
                text.push('\n');
            }
        }
        Ok(text)
    }

    /// Starts a triggered WebJob and returns the ID of the run.
    pub async fn run_job(&self, name: &str, arguments: &str) -> Result<String, Error> {
        let mut path = format!("/api/triggeredwebjobs/{}/run", encode(name));
        if !arguments.is_empty() {
            path = format!("{path}?arguments={}", encode(arguments));
        }
        let answer = self.client.send(&self.request(Method::POST, &path)).await?;
        answer.header("location").and_then(last_segment).map(str::to_owned).ok_or_else(|| {
            Error::Unexpected { url: answer.url.clone(), what: "no Location of the run".to_owned() }
        })
    }

    /// A run of a triggered WebJob.
    pub async fn job_run(&self, name: &str, run: &str) -> Result<JobRun, Error> {
        let path = format!("/api/triggeredwebjobs/{}/history/{}", encode(name), encode(run));
        self.client.send(&self.request(Method::GET, &path)).await?.parse()
    }

    /// The runs of a triggered WebJob, the newest first.
    pub async fn job_history(&self, name: &str) -> Result<Vec<JobRun>, Error> {
        #[derive(Deserialize)]
        struct History {
            runs: Vec<JobRun>,
        }
        let path = format!("/api/triggeredwebjobs/{}/history", encode(name));
        let history: History =
            self.client.send(&self.request(Method::GET, &path)).await?.parse()?;
        Ok(history.runs)
    }

    /// Waits until a run has ended, well or not.
    pub async fn wait_job(&self, name: &str, run: &str, limit: Duration) -> Result<JobRun, Error> {
        let began = Instant::now();
        loop {
            match self.job_run(name, run).await {
                Ok(run) if run.ended() => return Ok(run),
                Ok(_) => {}
                Err(error) if error.is_not_found() && began.elapsed() < LISTED => {}
                Err(error) => return Err(error),
            }
            if began.elapsed() > limit {
                let what = format!("the job {name} (run {run}) on {}", self.url);
                return Err(Error::Timeout { what, limit });
            }
            tokio::time::sleep(look_again(began.elapsed(), LONGEST)).await;
        }
    }

    /// What a run wrote.
    pub async fn job_output(&self, run: &JobRun) -> Result<String, Error> {
        let Some(url) = &run.output_url else { return Ok(String::new()) };
        let answer = self.client.send(&self.own(url)?).await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// The site's log as it is written, until the stream is dropped or the service ends it.
    pub async fn log_stream(
        &self,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + Unpin + use<>, Error> {
        let mut request = self.request(Method::GET, "/api/logstream");
        request.limit = None;
        let response = self.client.send_streaming(&request).await?;
        let url = request.place();
        Ok(response.bytes_stream().map(move |chunk| {
            chunk.map_err(|source| Error::Transport {
                method: Method::GET,
                url: url.clone(),
                source,
            })
        }))
    }

    /// The logs of the site's instances (`default_docker.log`) and of the platform around them
    /// (`docker.log`), the most recently written first.
    pub async fn container_logs(&self) -> Result<Vec<ContainerLog>, Error> {
        let request = self.request(Method::GET, "/api/logs/docker");
        let mut logs: Vec<ContainerLog> = self.client.send(&request).await?.parse()?;
        logs.sort_by(|a, b| b.last_updated.cmp(&a.last_updated));
        Ok(logs)
    }

    /// The last `limit` bytes of a log.
    pub async fn container_log(&self, log: &ContainerLog, limit: usize) -> Result<String, Error> {
        let answer = self.client.send(&self.own(&log.href)?).await?;
        let from = answer.body.len().saturating_sub(limit);
        Ok(String::from_utf8_lossy(&answer.body[from..]).into_owned())
    }

    /// Whether the service answers at all.
    pub async fn is_up(&self) -> Result<bool, Error> {
        match self.client.send(&self.request(Method::GET, "/api/settings")).await {
            Ok(answer) => Ok(answer.status == StatusCode::OK),
            Err(error) if error.refusal().is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn request(&self, method: Method, path: &str) -> Request {
        Request::new(method, format!("{}{path}", self.url), MANAGEMENT_SCOPE)
    }

    /// A request for an address that an answer named, if it is this service's: a token goes
    /// nowhere else.
    fn own(&self, address: &str) -> Result<Request, Error> {
        let rest = address.strip_prefix(&self.url).or_else(|| {
            (address.starts_with('/') && !address.starts_with("//")).then_some(address)
        });
        match rest {
            Some(path) if path.starts_with('/') => Ok(self.request(Method::GET, path)),
            _ => {
                let what = format!("it points to another host: {address}");
                Err(Error::Unexpected { url: self.url.clone(), what })
            }
        }
    }
}

fn last_segment(address: &str) -> Option<&str> {
    address.split('?').next()?.trim_end_matches('/').rsplit('/').next().filter(|s| !s.is_empty())
}

/// How a deployment goes on all instances, as Resource Manager tells it:
/// <https://learn.microsoft.com/rest/api/appservice/web-apps/get-production-site-deployment-status>.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentStatus {
    /// The deployment's ID.
    pub deployment_id: String,
    /// `BuildInProgress`, `RuntimeStarting`, `RuntimeSuccessful`, `BuildFailed`, `RuntimeFailed`, …
    pub status: String,
    /// Instances that are coming up.
    pub number_of_instances_in_progress: u32,
    /// Instances that are up.
    pub number_of_instances_successful: u32,
    /// Instances that did not come up.
    pub number_of_instances_failed: u32,
    /// Where the log of a failed instance is.
    pub failed_instances_logs: Option<Vec<String>>,
    /// What went wrong.
    pub errors: Option<Vec<Value>>,
}

impl DeploymentStatus {
    /// Whether it has ended.
    pub fn ended(&self) -> bool {
        matches!(
            self.status.as_str(),
            "RuntimeSuccessful" | "RuntimeFailed" | "BuildFailed" | "BuildAborted" | "TimedOut"
        )
    }

    /// Whether all instances are up.
    pub fn succeeded(&self) -> bool {
        self.status == "RuntimeSuccessful"
    }
}

impl Client {
    /// How a deployment goes on all instances of a site or slot (its resource ID).
    pub async fn deployment_status(
        &self,
        site: impl std::fmt::Display,
        deployment: &str,
        api_version: &str,
    ) -> Result<DeploymentStatus, Error> {
        let path = format!("{site}/deploymentStatus/{}", encode(deployment));
        let mut value = self.get(path, api_version).await?;
        let properties = value.get_mut("properties").map(Value::take).unwrap_or_default();
        serde_json::from_value(properties).map_err(|e| Error::Unexpected {
            url: format!("{site}/deploymentStatus"),
            what: e.to_string(),
        })
    }
}
