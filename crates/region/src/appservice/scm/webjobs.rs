//! The WebJobs API: <https://github.com/projectkudu/kudu/wiki/WebJobs-API>.

use http::{HeaderValue, Response, StatusCode, header};
use lazuli_gateway::Body;
use serde_json::{Value, json};

use super::{Answer, Call, Refused, json_ok, status_only, text};
use crate::appservice::webjobs::{Job, JobError, JobKind, Run};

fn url<B>(call: &Call<B>, kind: JobKind, rest: &str) -> String {
    format!("https://{}/api/{}webjobs/{rest}", call.slot.scm_host_name(), kind.as_str())
}

fn show<B>(call: &Call<B>, job: &Job, kind: JobKind) -> Value {
    let mut shown = json!({
        "name": job.name,
        "type": kind.as_str(),
        "run_command": job.script,
        "url": url(call, kind, &job.name),
        "extra_info_url": null,
        "error": null,
        "using_sdk": false,
        "settings": job.settings,
    });
    match kind {
        JobKind::Continuous => {
            shown["status"] = json!(call.app.continuous_status(&call.slot, &job.name));
            shown["detailed_status"] = shown["status"].clone();
        }
        JobKind::Triggered => {
            let latest = call.app.runs(&call.slot, &job.name).into_iter().next();
            shown["latest_run"] = latest.map_or(Value::Null, |run| show_run(call, &run));
            shown["history_url"] = json!(url(call, kind, &format!("{}/history", job.name)));
        }
    }
    shown
}

fn show_run<B>(call: &Call<B>, run: &Run) -> Value {
    let place = format!("{}/history/{}", run.job, run.id);
    let duration = run.end.as_ref().and_then(|end| {
        let (start, end) =
            (run.start.parse::<jiff::Timestamp>().ok()?, end.parse::<jiff::Timestamp>().ok()?);
        let seconds = (end - start).total(jiff::Unit::Second).ok()?;
        let whole = seconds.max(0.0);
        Some(format!(
            "{:02}:{:02}:{:06.3}",
            (whole / 3600.0).floor(),
            (whole % 3600.0 / 60.0).floor(),
            whole % 60.0
        ))
    });
    json!({
        "id": run.id,
        "name": run.id,
        "job_name": run.job,
        "status": run.status,
        "start_time": run.start,
        "end_time": run.end,
        "duration": duration,
        "trigger": run.trigger,
        "output_url": url(call, JobKind::Triggered, &format!("{place}/output")),
        "error_url": null,
        "url": url(call, JobKind::Triggered, &place),
        "status_text": run.ended,
    })
}

fn list<B>(call: &Call<B>, kind: JobKind) -> Vec<Value> {
    call.app.jobs(&call.slot, kind).iter().map(|job| show(call, job, kind)).collect()
}

fn one<B>(call: &Call<B>, name: &str, kind: JobKind) -> Answer {
    let jobs = call.app.jobs(&call.slot, kind);
    let job = jobs.iter().find(|job| job.name == name).ok_or_else(|| not_found(name))?;
    Ok(json_ok(&show(call, job, kind)))
}

fn not_found(name: &str) -> Refused {
    Refused::not_found(&format!("WebJob '{name}'"))
}

pub(super) fn all<B>(call: &Call<B>) -> Response<Body> {
    let mut jobs = list(call, JobKind::Continuous);
    jobs.extend(list(call, JobKind::Triggered));
    json_ok(&json!(jobs))
}

pub(super) fn triggered<B>(call: &Call<B>) -> Response<Body> {
    json_ok(&json!(list(call, JobKind::Triggered)))
}

pub(super) fn continuous<B>(call: &Call<B>) -> Response<Body> {
    json_ok(&json!(list(call, JobKind::Continuous)))
}

pub(super) fn one_triggered<B>(call: &Call<B>, name: &str) -> Answer {
    one(call, name, JobKind::Triggered)
}

pub(super) fn one_continuous<B>(call: &Call<B>, name: &str) -> Answer {
    one(call, name, JobKind::Continuous)
}

pub(super) async fn run<B>(call: &Call<B>, name: &str) -> Answer {
    let arguments = call.query("arguments").unwrap_or_default();
    let trigger = format!("External - {}", call.who);
    let id = call
        .app
        .trigger(&call.slot, name, arguments, &trigger)
        .await
        .map_err(|error| refused(&error))?;
    let mut response = status_only(StatusCode::ACCEPTED);
    let location = url(call, JobKind::Triggered, &format!("{name}/history/{id}"));
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(super) fn history<B>(call: &Call<B>, name: &str) -> Answer {
    let runs: Vec<Value> =
        call.app.runs(&call.slot, name).iter().map(|run| show_run(call, run)).collect();
    if runs.is_empty()
        && !call.app.jobs(&call.slot, JobKind::Triggered).iter().any(|job| job.name == name)
    {
        return Err(not_found(name));
    }
    Ok(json_ok(&json!({ "runs": runs })))
}

pub(super) fn one_run<B>(call: &Call<B>, name: &str, id: &str) -> Answer {
    let run =
        call.app.job_run(&call.slot, name, id).ok_or_else(|| Refused::not_found("The run"))?;
    Ok(json_ok(&show_run(call, &run)))
}

pub(super) fn output<B>(call: &Call<B>, name: &str, id: &str) -> Answer {
    let output = call
        .app
        .job_output(&call.slot, name, id)
        .ok_or_else(|| Refused::not_found("The run's output"))?;
    Ok(text(StatusCode::OK, output))
}

pub(super) async fn set<B>(call: &Call<B>, name: &str, run: bool) -> Answer {
    call.app.set_continuous(&call.slot, name, run).await.map_err(|error| refused(&error))?;
    Ok(status_only(StatusCode::OK))
}

fn refused(error: &JobError) -> Refused {
    let status = match error {
        JobError::NotFound(_) => StatusCode::NOT_FOUND,
        JobError::Running | JobError::Stopped => StatusCode::CONFLICT,
        JobError::Arguments => StatusCode::BAD_REQUEST,
        JobError::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refused::new(status, error.to_string())
}
