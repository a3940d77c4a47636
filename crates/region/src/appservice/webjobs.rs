//! WebJobs: programs that come with the content and run beside the application, in sandboxes of their
//! own with its environment and network.
//!
//! `App_Data/jobs/continuous/<name>` runs for as long as the slot does, `App_Data/jobs/triggered/<name>`
//! when asked to. <https://learn.microsoft.com/azure/app-service/webjobs-create>,
//! <https://github.com/projectkudu/kudu/wiki/WebJobs-API>.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    AppService,
    instance::{self, Kind, Program, Running, Runtime},
    logs::{self, SlotLog},
    records::put_json,
    settings::{Fingerprint, Launch, enabled},
    site::SlotKey,
};
use crate::store::Batch;

const STOPPED: &str = "web.jobs.stopped";
/// Runs of a triggered job that are remembered.
const HISTORY: usize = 50;
/// Bytes of a run's output that are kept.
const OUTPUT_BYTES: u64 = 16 << 20;

/// What kind of job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// Always running.
    Continuous,
    /// Run when asked to.
    Triggered,
}

impl JobKind {
    /// As in paths and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continuous => "continuous",
            Self::Triggered => "triggered",
        }
    }
}

/// A job that the content brings along.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its directory's name.
    pub name: String,
    /// Its directory inside the content.
    pub dir: PathBuf,
    /// The file that is run.
    pub script: String,
    /// `settings.job`.
    pub settings: JobSettings,
}

/// `settings.job`: <https://github.com/projectkudu/kudu/wiki/WebJobs#settingsjob-reference>.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobSettings {
    /// One process for the slot rather than one per instance.
    pub is_singleton: bool,
    /// Seconds between SIGTERM and SIGKILL.
    pub stopping_wait_time: Option<u64>,
}

/// The jobs in a content. The script is `run.*`, or else the first file of a kind that can be run.
pub fn find(content: &Path, kind: JobKind) -> Vec<Job> {
    let base = Path::new("App_Data/jobs").join(kind.as_str());
    let mut jobs = Vec::new();
    for entry in fs::read_dir(content.join(&base)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut scripts: Vec<String> = fs::read_dir(entry.path())
            .into_iter()
            .flatten()
            .flatten()
            .map(|file| file.file_name().to_string_lossy().into_owned())
            .filter(|file| [".sh", ".py"].iter().any(|kind| file.ends_with(kind)))
            .collect();
        scripts.sort();
        let script = scripts.iter().find(|script| script.starts_with("run.")).or(scripts.first());
        let Some(script) = script.cloned() else { continue };
        let settings = fs::read(entry.path().join("settings.job"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        jobs.push(Job { dir: base.join(&name), name, script, settings });
    }
    jobs.sort_by(|a, b| a.name.cmp(&b.name));
    jobs
}

/// The continuous jobs of a slot as they run.
#[derive(Default)]
pub(super) struct Continuous(BTreeMap<(String, usize), Task>);

struct Task {
    fingerprint: Fingerprint,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    status: Arc<Mutex<&'static str>>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One run of a triggered job, as `history` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its ID: when it began, to the microsecond.
    pub id: String,
    /// The job.
    pub job: String,
    /// `Running`, `Success`, `Failed`, `Aborted`.
    pub status: String,
    /// RFC 3339.
    pub start: String,
    /// RFC 3339, once ended.
    pub end: Option<String>,
    /// `dashboard`, or who asked.
    pub trigger: String,
    /// How it ended, in words.
    pub ended: Option<String>,
}

/// Why a job was not started.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// No such job in the slot's content.
    #[error("No route registered for job '{0}': the slot's content has no such WebJob.")]
    NotFound(String),
    /// It runs already.
    #[error("Cannot start a new run since job is already running.")]
    Running,
    /// Arguments that are none.
    #[error("The arguments have an unclosed quote.")]
    Arguments,
    /// The slot is not to run, or has no content.
    #[error("The site is stopped.")]
    Stopped,
    /// The machine.
    #[error("the run could not be recorded: {0}")]
    Io(#[from] io::Error),
}

impl AppService {
    /// The jobs of a slot's content.
    pub fn jobs(&self, key: &SlotKey, kind: JobKind) -> Vec<Job> {
        let content = self.records.slot(key).and_then(|record| record.deployment);
        content
            .map(|deployment| find(&self.layout.content(&deployment.content), kind))
            .unwrap_or_default()
    }

    /// Makes the continuous jobs of a slot what they should be for this launch.
    pub(super) async fn reconcile_jobs(
        self: &Arc<Self>,
        key: &SlotKey,
        launch: Option<Arc<Launch>>,
    ) {
        let stopped: Vec<String> = self.records.json(STOPPED, &key.state_key()).unwrap_or_default();
        let mut wanted = BTreeMap::new();
        if let Some(launch) =
            launch.as_ref().filter(|launch| !enabled(&launch.app_settings, "WEBJOBS_STOPPED"))
        {
            let count = self.records.slot(key).map_or(1, |record| self.count(&record));
            for job in self.jobs(key, JobKind::Continuous) {
                if stopped.contains(&job.name) {
                    continue;
                }
                for index in 0..if job.settings.is_singleton { 1 } else { count } {
                    wanted.insert((job.name.clone(), index), (job.clone(), launch.clone()));
                }
            }
        }
        let mut ending = Vec::new();
        self.with_slot(key, |slot| {
            let gone: Vec<_> = slot
                .jobs
                .0
                .iter()
                .filter(|(place, task)| {
                    wanted
                        .get(place)
                        .is_none_or(|(_, launch)| launch.fingerprint() != task.fingerprint)
                })
                .map(|(place, _)| place.clone())
                .collect();
            ending.extend(gone.into_iter().filter_map(|place| slot.jobs.0.remove(&place)));
        });
        // A job never runs twice: the old one has ended before the new one begins.
        for task in &mut ending {
            task.stop.cancel();
            let _ = (&mut task.task).await;
        }
        self.with_slot(key, |slot| {
            for (place, (job, launch)) in wanted {
                if slot.jobs.0.contains_key(&place) {
                    continue;
                }
                let stop = CancellationToken::new();
                let status = Arc::new(Mutex::new("Starting"));
                let keep = keep(
                    self.runtime.clone(),
                    launch.clone(),
                    job,
                    slot.log.clone(),
                    stop.clone(),
                    status.clone(),
                );
                let task = tokio::spawn(keep);
                slot.jobs
                    .0
                    .insert(place, Task { fingerprint: launch.fingerprint(), stop, task, status });
            }
        });
    }

    /// Where a continuous job stands.
    pub fn continuous_status(&self, key: &SlotKey, name: &str) -> &'static str {
        self.with_slot(key, |slot| {
            slot.jobs
                .0
                .iter()
                .find(|((job, _), _)| job == name)
                .map(|(_, task)| *task.status.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .flatten()
        .unwrap_or("Stopped")
    }

    /// Starts or stops a continuous job; remembered over restarts.
    pub async fn set_continuous(
        self: &Arc<Self>,
        key: &SlotKey,
        name: &str,
        run: bool,
    ) -> Result<(), JobError> {
        if !self.jobs(key, JobKind::Continuous).iter().any(|job| job.name == name) {
            return Err(JobError::NotFound(name.to_owned()));
        }
        let mut stopped: Vec<String> =
            self.records.json(STOPPED, &key.state_key()).unwrap_or_default();
        stopped.retain(|other| other != name);
        if !run {
            stopped.push(name.to_owned());
        }
        let mut batch = Batch::new();
        put_json(&mut batch, STOPPED, &key.state_key(), &stopped);
        self.records.store().commit(batch).await.map_err(io::Error::other)?;
        self.wake(key);
        Ok(())
    }

    fn runs_dir(&self, key: &SlotKey, job: &str) -> PathBuf {
        self.layout.logs(key).join("jobs").join("triggered").join(job)
    }

    /// The runs of a triggered job, newest first.
    pub fn runs(&self, key: &SlotKey, job: &str) -> Vec<Run> {
        if !plain(job) {
            return Vec::new();
        }
        let mut runs: Vec<Run> = fs::read_dir(self.runs_dir(key, job))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                serde_json::from_slice(&fs::read(entry.path().join("status.json")).ok()?).ok()
            })
            .collect();
        runs.sort_by(|a, b| b.id.cmp(&a.id));
        runs
    }

    /// One run.
    pub fn job_run(&self, key: &SlotKey, job: &str, id: &str) -> Option<Run> {
        if !plain(job) || !plain(id) {
            return None;
        }
        serde_json::from_slice(
            &fs::read(self.runs_dir(key, job).join(id).join("status.json")).ok()?,
        )
        .ok()
    }

    /// What a run wrote.
    pub fn job_output(&self, key: &SlotKey, job: &str, id: &str) -> Option<String> {
        if !plain(job) || !plain(id) {
            return None;
        }
        logs::read_end(&self.runs_dir(key, job).join(id).join("output_log.txt"), OUTPUT_BYTES).ok()
    }

    /// Runs a triggered job of a slot; answers the run's ID at once.
    pub async fn trigger(
        self: &Arc<Self>,
        key: &SlotKey,
        name: &str,
        arguments: &str,
        trigger: &str,
    ) -> Result<String, JobError> {
        let job = self
            .jobs(key, JobKind::Triggered)
            .into_iter()
            .find(|job| job.name == name)
            .ok_or_else(|| JobError::NotFound(name.to_owned()))?;
        let words = split_arguments(arguments).ok_or(JobError::Arguments)?;
        let launch = self.current_launch(key).await.ok_or(JobError::Stopped)?;
        let log = self.log(key).ok_or(JobError::Stopped)?;
        let place = (key.clone(), name.to_owned());
        {
            let mut running = self.triggered.lock().unwrap_or_else(PoisonError::into_inner);
            if !running.insert(place.clone()) {
                return Err(JobError::Running);
            }
        }
        let begun = jiff::Timestamp::now();
        let run = Run {
            id: begun.strftime("%Y%m%d%H%M%S%6f").to_string(),
            job: name.to_owned(),
            status: "Running".to_owned(),
            start: begun.to_string(),
            end: None,
            trigger: trigger.to_owned(),
            ended: None,
        };
        let dir = self.runs_dir(key, name).join(&run.id);
        let recorded = fs::create_dir_all(&dir).and_then(|()| write_run(&dir, &run));
        if let Err(error) = recorded {
            self.triggered.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
            return Err(error.into());
        }
        let id = run.id.clone();
        let program = Program {
            kind: Kind::Job {
                env: variables(&job, JobKind::Triggered, &run.id, arguments),
                name: job.name,
                dir: job.dir,
                script: job.script,
                arguments: words,
            },
            launch: Arc::new(launch),
            id: instance::new_id(),
        };
        log.platform(&format!("WebJob {name} run {id} was started with arguments '{arguments}'."));
        let app = self.clone();
        self.retirements.spawn(async move {
            app.run_triggered(run, program, &dir, &log).await;
            app.triggered.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
            app.forget_old_runs(&place.0, &place.1);
        });
        Ok(id)
    }

    async fn run_triggered(&self, mut run: Run, program: Program, dir: &Path, log: &Arc<SlotLog>) {
        let output =
            Mutex::new(fs::File::create(dir.join("output_log.txt")).ok().map(|file| (file, 0)));
        let keep = |line: &str| write_output(&output, line);
        keep(&format!("[{} > SYS INFO] Status changed to Running", stamp()));
        let (status, ended) = match self.runtime.start(program).await {
            Err(error) => {
                keep(&format!("[{} > SYS ERR ] {error}", stamp()));
                ("Failed", error.to_string())
            }
            Ok(mut running) => {
                let outputs = running.output().into_iter().map(|mut output| {
                    let keep = &keep;
                    async move {
                        logs::lines(&mut output, |line| {
                            keep(&format!("[{} > INFO] {line}", stamp()));
                        })
                        .await;
                    }
                });
                let outputs = futures_util::future::join_all(outputs);
                let (ended, _) = tokio::join!(running.ended(), outputs);
                (if ended.code == Some(0) { "Success" } else { "Failed" }, ended.words)
            }
        };
        keep(&format!("[{} > SYS INFO] Status changed to {status} ({ended})", stamp()));
        log.platform(&format!("WebJob {} run {}: {status} ({ended}).", run.job, run.id));
        run.status = status.to_owned();
        run.ended = Some(ended);
        run.end = Some(jiff::Timestamp::now().to_string());
        if let Err(error) = write_run(dir, &run) {
            tracing::error!(job = run.job, %error, "the end of a WebJob's run could not be recorded");
        }
    }

    fn forget_old_runs(&self, key: &SlotKey, job: &str) {
        for run in self.runs(key, job).into_iter().skip(HISTORY) {
            let _ = fs::remove_dir_all(self.runs_dir(key, job).join(run.id));
        }
    }

    /// Runs that a crash cut short are over.
    pub(super) fn abort_interrupted_runs(&self, key: &SlotKey) {
        let base = self.layout.logs(key).join("jobs/triggered");
        for job in fs::read_dir(base).into_iter().flatten().flatten() {
            let job = job.file_name().to_string_lossy().into_owned();
            for mut run in self.runs(key, &job).into_iter().filter(|run| run.status == "Running") {
                "Aborted".clone_into(&mut run.status);
                run.end = Some(jiff::Timestamp::now().to_string());
                run.ended = Some("the region was restarted".to_owned());
                let _ = write_run(&self.runs_dir(key, &job).join(&run.id), &run);
            }
        }
    }
}

fn write_output(output: &Mutex<Option<(fs::File, u64)>>, line: &str) {
    use io::Write;
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((file, written)) = &mut *output
        && *written < OUTPUT_BYTES
    {
        *written += line.len() as u64 + 1;
        let _ = writeln!(file, "{line}");
    }
}

fn write_run(dir: &Path, run: &Run) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer(&mut file, run)?;
    file.as_file().sync_all()?;
    file.persist(dir.join("status.json"))?;
    Ok(())
}

fn stamp() -> String {
    jiff::Timestamp::now().strftime("%m/%d/%Y %H:%M:%S").to_string()
}

/// Names that become parts of paths.
fn plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

fn variables(job: &Job, kind: JobKind, run: &str, arguments: &str) -> Vec<(String, String)> {
    let path = Path::new(super::settings::WWWROOT).join(&job.dir);
    [
        ("WEBJOBS_NAME", job.name.clone()),
        ("WEBJOBS_TYPE", kind.as_str().to_owned()),
        ("WEBJOBS_PATH", path.to_string_lossy().into_owned()),
        ("WEBJOBS_DATA_PATH", format!("/home/data/jobs/{}/{}", kind.as_str(), job.name)),
        ("WEBJOBS_RUN_ID", run.to_owned()),
        ("WEBJOBS_COMMAND_ARGUMENTS", arguments.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Arguments as a command line gives them: separated by spaces, kept together by double quotes.
fn split_arguments(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' | '\t' if !quoted => words.extend(word.take()),
            character => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

/// Keeps one process of a continuous job running until it is told to stop.
async fn keep(
    runtime: Arc<dyn Runtime>,
    launch: Arc<Launch>,
    job: Job,
    log: Arc<SlotLog>,
    stop: CancellationToken,
    status: Arc<Mutex<&'static str>>,
) {
    let set = |now: &'static str| *status.lock().unwrap_or_else(PoisonError::into_inner) = now;
    let restart = launch
        .setting("WEBJOBS_RESTART_TIME")
        .and_then(|time| time.trim().parse().ok())
        .unwrap_or(60);
    let grace = Duration::from_secs(job.settings.stopping_wait_time.unwrap_or(5).min(120));
    loop {
        let program = Program {
            launch: launch.clone(),
            id: instance::new_id(),
            kind: Kind::Job {
                name: job.name.clone(),
                dir: job.dir.clone(),
                script: job.script.clone(),
                arguments: Vec::new(),
                env: variables(&job, JobKind::Continuous, "", ""),
            },
        };
        match runtime.start(program).await {
            Err(error) => {
                log.platform(&format!("WebJob {} could not be started: {error}", job.name));
            }
            Ok(mut running) => {
                set("Running");
                let name = format!("job:{}", job.name);
                for output in running.output() {
                    tokio::spawn(logs::pump(
                        output,
                        log.clone(),
                        name.clone(),
                        logs::Tail::default(),
                    ));
                }
                let stopped = wait(&mut running, &stop).await;
                match stopped {
                    None => {
                        set("Stopping");
                        instance::stop(running, grace).await;
                        return;
                    }
                    Some(ended) => {
                        log.platform(&format!(
                            "WebJob {} ended ({ended}); again in {restart} s.",
                            job.name
                        ));
                    }
                }
            }
        }
        set("PendingRestart");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(restart)) => {}
        }
    }
}

async fn wait(running: &mut Box<dyn Running>, stop: &CancellationToken) -> Option<instance::Ended> {
    tokio::select! {
        () = stop.cancelled() => None,
        ended = running.ended() => Some(ended),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_found_with_their_script_and_settings() {
        let dir = tempfile::tempdir().expect("tempdir");
        for (path, text) in [
            ("App_Data/jobs/triggered/migrate/run.sh", ""),
            ("App_Data/jobs/triggered/migrate/a.sh", ""),
            ("App_Data/jobs/triggered/empty/readme.txt", ""),
            ("App_Data/jobs/continuous/scheduler/start.py", ""),
            (
                "App_Data/jobs/continuous/scheduler/settings.job",
                r#"{"is_singleton": true, "other": 1}"#,
            ),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("dirs");
            fs::write(path, text).expect("write");
        }
        let triggered = find(dir.path(), JobKind::Triggered);
        assert_eq!(triggered.len(), 1);
        assert_eq!((&*triggered[0].name, &*triggered[0].script), ("migrate", "run.sh"));
        let continuous = find(dir.path(), JobKind::Continuous);
        assert!(continuous[0].settings.is_singleton && continuous[0].script == "start.py");
    }

    #[test]
    fn arguments_are_split_as_a_command_line() {
        assert_eq!(split_arguments("staging  --now").expect("split"), ["staging", "--now"]);
        assert_eq!(split_arguments(r#"a "b c" """#).expect("split"), ["a", "b c", ""]);
        assert_eq!(split_arguments(r#"a "b"#), None);
        assert!(split_arguments("").expect("none").is_empty());
    }

    #[test]
    fn names_that_leave_their_directory_name_no_run() {
        for name in ["..", "a/b", "", ".hidden", "a\\b"] {
            assert!(!plain(name), "{name}");
        }
    }
}
