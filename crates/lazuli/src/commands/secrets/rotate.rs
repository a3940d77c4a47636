//! `lazuli secrets rotate`.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use lazuli_release::lock::LockError;
use lazuli_release::rotation::entry::Outcome;
use lazuli_release::rotation::{
    Aged, Broken, Report, Rotation, RotationError, journals, open_rotations,
};
use lazuli_standard::data::secrets::ROTATION_DAYS;
use serde::Serialize;

use crate::cli::{Context, Target};
use crate::diagnostics::Failure;
use crate::diagnostics::release::lease;
use crate::exit::Exit;
use crate::printer::{BOLD, GOOD, NAME, paint};
use crate::project::Project;
use crate::reporter::for_printer;
use crate::target::Session;
use crate::waiting;

/// The confirmation period that the command waits out itself; a longer one is left to a process of
/// its own.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often that process looks whether its time has come, and tries again what failed.
const LOOK: Duration = Duration::from_secs(30);

/// Give a secret a new value, everywhere, without a failed request
///
/// A credential that works beside the old one is made (the database gets a second login, the cache's
/// keys take turns), written as a new version, and the staging slot, worker, scheduler and production
/// are restarted on it, one after the other, each looked at before the next. When the confirmation
/// period is over, the server forgets the old credential and the old version is disabled. A failure
/// before that puts the old value back.
///
/// `--due` is for a job that runs every night and is asked nothing: it finishes what is due, then
/// rotates whatever is older than the standard's 90 days.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli secrets rotate jwt-secret
  lazuli secrets rotate db-connection-string       its login, and with it the administrator's password
  lazuli secrets rotate redis-connection-string --confirm-after 5s
  lazuli secrets rotate --due                      every night: what is due, what is past 90 days
  lazuli secrets rotate --resume                   finish what was interrupted or is due
  lazuli secrets rotate --resume --now             the old version off, before its time")]
pub(crate) struct Args {
    /// The secret, with or without the app's name before it
    #[arg(
        value_name = "NAME",
        required_unless_present_any = ["resume", "due"],
        conflicts_with_all = ["resume", "due"]
    )]
    name: Option<String>,
    /// Finish what is due, then rotate every secret that is older than the standard allows
    #[arg(long, conflicts_with = "resume")]
    due: bool,
    /// With `--due`: rotate what is at least so old [default: 90d]
    #[arg(long, value_name = "TIME", requires = "due", value_parser = age)]
    older_than: Option<Duration>,
    /// How long the old version goes on working: 30s, 10m, 24h, 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = period)]
    confirm_after: Duration,
    /// Finish every rotation that was interrupted, or whose confirmation period is over
    #[arg(long)]
    resume: bool,
    /// Wait until it is over, however long that takes
    #[arg(long)]
    wait: bool,
    /// Do not wait for the confirmation period: the old version is disabled now
    #[arg(long, requires = "resume", conflicts_with = "wait")]
    now: bool,
}

/// A confirmation period.
fn period(text: &str) -> Result<Duration, String> {
    time(text).and_then(|time| {
        if time <= Duration::from_secs(90 * 86_400) {
            Ok(time)
        } else {
            Err("at most 90d".to_owned())
        }
    })
}

/// A secret's age.
fn age(text: &str) -> Result<Duration, String> {
    time(text).and_then(|time| {
        if time <= Duration::from_secs(3650 * 86_400) {
            Ok(time)
        } else {
            Err("at most 3650d".to_owned())
        }
    })
}

/// A time as people write it.
fn time(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().map_err(|_| "a number and s, m, h or d".to_owned())?;
    let unit = match &text[split..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("write it as 30s, 10m, 24h or 7d".to_owned()),
    };
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned())
}

#[derive(Serialize)]
struct Shown<'a> {
    event: &'static str,
    #[serde(flatten)]
    report: &'a Report,
}

pub(crate) async fn run(args: Args, cx: &Context) -> Result<(), Failure> {
    let project = Project::open(cx)?;
    if args.due {
        return due(&args, &project, cx).await;
    }
    let reports = match &args.name {
        Some(name) => {
            waiting::remind(&project, cx);
            let report = begin(name, args.confirm_after, &project, cx).await?;
            finish(vec![report], &args, &project, cx).await?
        }
        None if args.wait => wait(&project, cx).await?,
        None => resume(&project, args.now, cx).await?,
    };
    show(&reports, cx);
    Ok(())
}

fn show(reports: &[Report], cx: &Context) {
    for report in reports {
        cx.printer.result(&Shown { event: "result", report }, |_| summary(report, cx));
    }
}

/// Sees to what was begun and waits for its confirmation period: here, if that is short or if we are
/// to wait; otherwise in a process of its own.
async fn finish(
    reports: Vec<Report>,
    args: &Args,
    project: &Project,
    cx: &Context,
) -> Result<Vec<Report>, Failure> {
    if reports.iter().all(|report| report.outcome.is_some()) {
        return Ok(reports);
    }
    let numbers: Vec<u32> = reports.iter().map(|report| report.number).collect();
    let ours =
        |all: Vec<Report>| all.into_iter().filter(|one| numbers.contains(&one.number)).collect();
    if args.wait {
        wait(project, cx).await.map(ours)
    } else if args.confirm_after <= PATIENCE {
        for report in &reports {
            pause(report).await;
        }
        resume(project, false, cx).await.map(ours)
    } else {
        leave_to_itself(project, cx);
        Ok(reports)
    }
}

/// What a nightly job does: first what is due or was interrupted, then what is too old. One that fails
/// keeps no other one from being rotated; the command then ends as the first failure did.
async fn due(args: &Args, project: &Project, cx: &Context) -> Result<(), Failure> {
    let mut failed: Option<Failure> = None;
    let now = Timestamp::now();
    let ripe = |open: &waiting::Waiting| open.open.due.is_none_or(|due| due <= now);
    if waiting::rotations(project, cx).iter().any(ripe) {
        match resume(project, false, cx).await {
            Ok(reports) => {
                let ended: Vec<Report> =
                    reports.into_iter().filter(|report| report.outcome.is_some()).collect();
                show(&ended, cx);
            }
            // What somebody else does now, or what cannot be reached, is no better in a moment.
            Err(failure) if failure.exit != Exit::RotationFailed => return Err(failure),
            Err(failure) => failed = Some(failure),
        }
    }
    let older_than =
        args.older_than.unwrap_or_else(|| Duration::from_secs(u64::from(*ROTATION_DAYS) * 86_400));
    let session = Session::open(cx)?;
    let platform = |error| crate::diagnostics::release::platform(&error, &cx.flags());
    let aged = with(&session, project, cx).aged(older_than).await.map_err(platform)?;
    let mut begun = Vec::new();
    for one in aged.iter().filter(|one| one.due) {
        match begin(&one.secret, args.confirm_after, project, cx).await {
            Ok(report) => begun.push(report),
            Err(failure) if failure.exit != Exit::RotationFailed => return Err(failure),
            Err(failure) => {
                if let Some(before) = failed.replace(failure) {
                    cx.printer.failure(&before);
                }
            }
        }
    }
    let none = begun.is_empty();
    if !none {
        show(&finish(begun, args, project, cx).await?, cx);
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    if none && let Some(oldest) = aged.iter().max_by_key(|one| one.age_days) {
        cx.printer.result(&Nothing { event: "nothingDue", oldest }, |_| {
            let (secret, days) = (paint(BOLD, &oldest.secret), oldest.age_days);
            format!("Nothing is too old: the oldest is {secret}, {days} days")
        });
    }
    Ok(())
}

/// `--due` had nothing to rotate.
#[derive(Serialize)]
struct Nothing<'a> {
    event: &'static str,
    oldest: &'a Aged,
}

async fn pause(report: &Report) {
    if let Some(due) = report.due {
        let left = due.duration_since(Timestamp::now());
        tokio::time::sleep(left.try_into().unwrap_or_default()).await;
    }
}

fn with<'a>(session: &Session, project: &'a Project, cx: &Context) -> Rotation<'a> {
    let backend = &project.manifest.backend;
    Rotation {
        project: &project.root,
        blueprint: &project.blueprint,
        environment: project.environment.as_str(),
        target: waiting::target(cx),
        subscription: session.subscription.clone(),
        cloud: session.cloud(project),
        health: vec![backend.health.clone(), backend.readiness.clone()],
        reporter: for_printer(&cx.printer),
    }
}

async fn begin(
    name: &str,
    confirm: Duration,
    project: &Project,
    cx: &Context,
) -> Result<Report, Failure> {
    let session = Session::open(cx)?;
    with(&session, project, cx).begin(name, confirm).await.map_err(|error| failure(&error, cx))
}

async fn resume(project: &Project, now: bool, cx: &Context) -> Result<Vec<Report>, Failure> {
    let session = Session::open(cx)?;
    with(&session, project, cx).resume(now).await.map_err(|error| failure(&error, cx))
}

/// Until nothing is open. A region that is stopped meanwhile is waited for, and an error tried again:
/// this is the scheduled step.
async fn wait(project: &Project, cx: &Context) -> Result<Vec<Report>, Failure> {
    let _said = waiting::wait(project, cx);
    let journals = journals(&project.root, project.environment.as_str());
    let mut ended: Vec<Report> = Vec::new();
    loop {
        let open = open_rotations(&journals, waiting::target(cx)).map_err(|error| {
            Failure::new(Exit::Unexpected, "the rotation's journal cannot be used").because(&error)
        })?;
        if open.is_empty() {
            return Ok(ended);
        }
        let now = Timestamp::now();
        let next = open.iter().map(|open| open.due.unwrap_or(now)).min().unwrap_or(now);
        if next > now {
            let left: Duration = next.duration_since(now).try_into().unwrap_or_default();
            // In short steps: clocks are set, and machines sleep.
            tokio::time::sleep(left.min(LOOK)).await;
            continue;
        }
        match resume(project, false, cx).await {
            Ok(reports) => ended.extend(reports.into_iter().filter(|r| r.outcome.is_some())),
            Err(error) => {
                cx.printer.aside(format!("{error}\n  tried again in {} s", LOOK.as_secs()));
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Starts the process that waits. It is found again by the journal, not by its id: should it end with
/// the machine, `--resume` and `--due` do what is due, and every other command on the project says so.
fn leave_to_itself(project: &Project, cx: &Context) {
    let log = project.root.join(".lazuli/rotations/waiting.log");
    let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
    let started = std::env::current_exe().and_then(|program| {
        let (out, err) = (open()?, open()?);
        let mut command = Command::new(program);
        command.args(["secrets", "rotate", "--resume", "--wait", "--color", "never"]);
        if cx.global.target == Target::Azure {
            command.args(["--target", "azure"]);
        }
        command
            .args(["--region", &cx.global.region, "--env", project.environment.as_str()])
            .arg("--directory")
            .arg(&project.root)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
    });
    if let Err(error) = started {
        cx.printer.aside(format!(
            "the process that waits could not be started ({error}); run lazuli secrets rotate \
             --resume when the time has come"
        ));
    }
}

fn summary(report: &Report, cx: &Context) -> String {
    let secrets = report.secrets.join(", ");
    match (report.outcome, report.due) {
        (Some(Outcome::Rotated), _) => format!(
            "{} rotation {} of {} is complete; the old version is disabled",
            paint(GOOD, "Done:"),
            report.number,
            paint(BOLD, secrets)
        ),
        (Some(Outcome::Undone), _) => format!(
            "{} rotation {} of {} is undone; the app works with the old value",
            paint(GOOD, "Done:"),
            report.number,
            paint(BOLD, secrets)
        ),
        (None, due) => format!(
            "{} {} has a new version, and everything uses it (rotation {})\n  the old one works until \
             {} and is then disabled; at once: {}",
            paint(GOOD, "Done:"),
            paint(BOLD, secrets),
            report.number,
            due.map_or_else(String::new, |due| format!("{due:.0}")),
            paint(NAME, format_args!("lazuli secrets rotate --resume --now{}", cx.flags()))
        ),
    }
}

fn failure(error: &RotationError, cx: &Context) -> Failure {
    let flags = cx.flags();
    let resume = format!("lazuli secrets rotate --resume{flags}");
    match error {
        RotationError::Step(broken) => step(broken, &resume),
        RotationError::Unknown(..) => Failure::new(Exit::Usage, error.to_string())
            .advise(format!("what there is: lazuli secrets list{flags}")),
        RotationError::Open { .. } => Failure::new(Exit::Locked, error.to_string())
            .advise(format!("finish it first: {resume}")),
        RotationError::NothingOpen => Failure::new(Exit::Usage, error.to_string())
            .advise(format!("to begin one: lazuli secrets rotate NAME{flags}")),
        RotationError::Lock(source) => {
            let failure = Failure::new(Exit::Locked, source.to_string());
            match source {
                LockError::Held(_) => failure.advise("wait for it, or talk to them"),
                LockError::Elsewhere(_, path) => failure.advise(format!(
                    "if you are certain that it is over, delete {}",
                    path.display()
                )),
                LockError::Io(..) => failure.because(source),
            }
        }
        RotationError::Lease(source) => lease(source),
        RotationError::Journal(source) => {
            Failure::new(Exit::Unexpected, "the rotation's journal cannot be used").because(source)
        }
    }
}

fn step(broken: &Broken, resume: &str) -> Failure {
    let Broken { number, step, what, log, works_with, open } = broken;
    let mut failure =
        Failure::new(Exit::RotationFailed, format!("rotation {number} failed at step `{step}`"))
            .cause(what.clone());
    failure.log.clone_from(log);
    failure.state.push(format!("The app works with {works_with}."));
    if *open {
        failure.advise(format!("when the cause is gone, go on: {resume}"))
    } else {
        failure.advise("nothing is left to be cleaned up; begin again when the cause is gone")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_written_as_people_do() {
        assert_eq!(period("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(period("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(period("0s"), Ok(Duration::ZERO));
        assert_eq!(age("91d"), Ok(Duration::from_secs(91 * 86_400)));
        for wrong in ["", "5", "h", "-5s", "5w", "91d", "99999999999999999999s", "1e3s"] {
            assert!(period(wrong).is_err(), "{wrong}");
        }
    }
}
