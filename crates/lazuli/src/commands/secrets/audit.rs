//! `lazuli secrets audit`.

use std::fmt::Write as _;

use lazuli_azure::ResourceId;
use lazuli_release::rotation::entry::{Entry, began};
use lazuli_release::rotation::journals;
use serde_json::{Map, Value, json};

use crate::cli::Context;
use crate::diagnostics::{Failure, release};
use crate::exit::Exit;
use crate::printer::{BAD, BOLD, DIM, paint};
use crate::project::Project;
use crate::target::Session;
use crate::waiting;

const SETTINGS_API: &str = "2021-05-01-preview";
/// The most events that are asked for at once; the query API itself gives half a million.
const MOST: usize = 50_000;

/// Show every read and write of the vault's secrets, and every rotation
///
/// Who, what, when, from where, and how it ended; the oldest first. The vault's own `AuditEvent` records
/// are read from the Log Analytics workspace that its diagnostic setting sends them to (on Azure they
/// take some minutes to get there), the rotations from their journals.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli secrets audit                       everything
  lazuli secrets audit --last 20
  lazuli secrets audit --name jwt-secret     of one secret
  lazuli secrets audit --failed              what was refused")]
pub(crate) struct Args {
    /// Only the last so many
    #[arg(long, value_name = "NUMBER")]
    last: Option<usize>,
    /// Only of secrets with this in their name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only what was refused
    #[arg(long)]
    failed: bool,
}

pub(crate) async fn run(args: &Args, cx: &Context) -> Result<(), Failure> {
    let project = Project::open(cx)?;
    let session = Session::open(cx)?;
    let flags = cx.flags();
    let failed = |error: lazuli_azure::Error| release::platform(&error, &flags);
    let mut events = Vec::new();
    match workspace(&project, &session).await.map_err(failed)? {
        Some((workspace, table)) => {
            let query = query(table, &vault_id(&project, &session), args);
            let rows = session.client.query_logs(&workspace, &query).await.map_err(failed)?;
            if rows.len() == MOST {
                cx.printer.aside(format!("only the last {MOST} reads and writes are shown"));
            }
            events.extend(rows.iter().map(event));
        }
        None => cx.printer.aside(format!(
            "reads and writes are recorded nowhere: no diagnostic setting of {} sends AuditEvent to a \
             workspace; lazuli provision{flags} makes one",
            project.blueprint.vault.name
        )),
    }
    rotations(&project, &mut events, waiting::target(cx))?;
    waiting::remind(&project, cx);
    let time = |event: &Value| {
        event["time"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok())
    };
    events.sort_by_key(time);
    events.retain(|event| {
        let id = event["properties"]["id"].as_str().unwrap_or_default();
        args.name.as_ref().is_none_or(|name| id.contains(name.as_str()))
            && (!args.failed || event["resultType"] == "Failure")
    });
    let from = events.len().saturating_sub(args.last.unwrap_or(usize::MAX));
    let shown = &events[from..];
    cx.printer.result(&shown, |events| table(events));
    Ok(())
}

fn vault_id(project: &Project, session: &Session) -> String {
    format!(
        "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.KeyVault/vaults/{}",
        session.subscription, project.blueprint.resource_group, project.blueprint.vault.name
    )
}

/// Where the vault's diagnostic settings send what it records: the workspace and the table.
async fn workspace(
    project: &Project,
    session: &Session,
) -> Result<Option<(ResourceId, &'static str)>, lazuli_azure::Error> {
    let vault = vault_id(project, session);
    let path = format!("{vault}/providers/Microsoft.Insights/diagnosticSettings");
    for setting in session.client.list(path, SETTINGS_API).await? {
        let properties = &setting["properties"];
        let sends = properties["logs"].as_array().into_iter().flatten().any(|log| {
            let is = |name: &str, value: &str| {
                log[name].as_str().is_some_and(|text| text.eq_ignore_ascii_case(value))
            };
            log["enabled"] == true
                && (is("category", "AuditEvent")
                    || is("categoryGroup", "audit")
                    || is("categoryGroup", "allLogs"))
        });
        let workspace = properties["workspaceId"].as_str().map(ResourceId::parse);
        if let Some(Ok(workspace)) = workspace.filter(|_| sends) {
            let dedicated = properties["logAnalyticsDestinationType"] == "Dedicated";
            return Ok(Some((
                workspace,
                if dedicated { "AZKVAuditLogs" } else { "AzureDiagnostics" },
            )));
        }
    }
    Ok(None)
}

/// Only columns that every workspace has: what a service adds to `AzureDiagnostics` is not there
/// before its first record, and naming it would be an error.
fn query(table: &str, vault: &str, args: &Args) -> String {
    let mut query = table.to_owned();
    if table == "AzureDiagnostics" {
        query.push_str(
            r#" | where ResourceProvider == "MICROSOFT.KEYVAULT" and Category == "AuditEvent""#,
        );
    }
    let _ = write!(query, r#" | where _ResourceId =~ "{vault}""#);
    let most = match args.last {
        // Names and failures are looked for here, so that all have to come: what was refused is a
        // `Success` to Azure at times, with the status that says otherwise.
        Some(last) if args.name.is_none() && !args.failed => last.min(MOST),
        _ => MOST,
    };
    let _ = write!(query, " | top {most} by TimeGenerated desc");
    query
}

/// A row of either table, in the shape of Key Vault's own `AuditEvent` record.
/// <https://learn.microsoft.com/azure/key-vault/general/logging#interpret-your-key-vault-logs>
fn event(row: &Map<String, Value>) -> Value {
    let first = |names: &[&str]| {
        names.iter().find_map(|name| row.get(*name).filter(|value| **value != "")).cloned()
    };
    // The dedicated table has the claims as one dynamic value, which the API writes as a text.
    let identity = first(&["Identity"]).map_or(Value::Null, |value| match &value {
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        _ => value,
    });
    let oid = first(&["identity_claim_oid_g", "identity_claim_oid_s"])
        .or_else(|| Some(identity["claim"]["oid"].clone()).filter(Value::is_string));
    let status = first(&["httpStatusCode_d", "HttpStatusCode"]).and_then(|value| value.as_f64());
    #[expect(clippy::cast_possible_truncation, reason = "a status has three digits")]
    let status = status.map(|status| status as i64);
    // Where Azure calls it a success or not, the status says it more finely.
    let failed = status.map_or_else(
        || first(&["ResultType"]).is_none_or(|result| result != "Success"),
        |status| status >= 300,
    );
    json!({
        "time": first(&["TimeGenerated"]),
        "category": "AuditEvent",
        "operationName": first(&["OperationName"]),
        "resultType": if failed { "Failure" } else { "Success" },
        "callerIpAddress": first(&["CallerIPAddress", "CallerIpAddress"]),
        "identity": { "claim": { "oid": oid } },
        "properties": {
            "id": first(&["id_s", "Id", "requestUri_s", "RequestUri"]),
            "httpStatusCode": status,
        },
    })
}

/// The journals' lines, in the same shape: step 6 of the standard's rotation.
fn rotations(project: &Project, events: &mut Vec<Value>, target: &str) -> Result<(), Failure> {
    let journals = journals(&project.root, project.environment.as_str());
    let unreadable = |error| {
        Failure::new(Exit::Unexpected, "a rotation's journal cannot be trusted").because(&error)
    };
    for number in journals.numbers().map_err(unreadable)? {
        let story = journals.read(number).map_err(unreadable)?;
        let began = began(&story.records).filter(|began| began.target == target);
        let Some(began) = began else { continue };
        for record in &story.records {
            let (operation, result) = match &record.entry {
                Entry::Began(_) => ("RotationBegan".to_owned(), "Success"),
                Entry::Done { step, .. } => (format!("Rotation {step}"), "Success"),
                Entry::Failed { step, .. } => (format!("Rotation {step}"), "Failure"),
                Entry::Resumed { .. } => ("RotationResumed".to_owned(), "Success"),
                Entry::Ended { outcome } => (format!("Rotation {outcome:?}"), "Success"),
                Entry::Started { .. } | Entry::Noted { .. } | Entry::Due { .. } => continue,
            };
            events.push(json!({
                "time": record.at.to_string(),
                "category": "Rotation",
                "operationName": operation,
                "resultType": result,
                "identity": { "claim": { "oid": format!("{}@{}", began.by, began.host) } },
                "properties": {
                    "id": format!("https://{}/secrets/{}", project.blueprint.vault.host(), began.secret),
                    "rotation": number,
                },
            }));
        }
    }
    Ok(())
}

fn table(events: &[Value]) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = format!(
        "{:<25} {:<22} {:<10} {:<34} {:<16} {}\n",
        paint(BOLD, "when                     "),
        paint(BOLD, "what                  "),
        paint(BOLD, "outcome   "),
        paint(BOLD, "secret                            "),
        paint(BOLD, "from            "),
        paint(BOLD, "who")
    );
    for event in events {
        let id = text(&event["properties"]["id"]);
        let path = id.splitn(4, '/').nth(3).unwrap_or_default();
        let secret = path.split('/').nth(1).unwrap_or(path);
        let status = &event["properties"]["httpStatusCode"];
        let outcome = if event["resultType"] == "Success" {
            "ok".to_owned()
        } else {
            format!("failed {status}")
        };
        let outcome = if outcome == "ok" {
            paint(DIM, format_args!("{outcome:<10}"))
        } else {
            paint(BAD, format_args!("{:<10}", outcome.replace(" null", "")))
        };
        let from = match &event["callerIpAddress"] {
            Value::String(ip) => ip.clone(),
            _ if event["category"] == "Rotation" => "lazuli".to_owned(),
            _ => "the platform".to_owned(),
        };
        let time = text(&event["time"]).parse::<jiff::Timestamp>();
        let time = time.map_or_else(|_| text(&event["time"]), |time| format!("{time:.3}"));
        let _ = writeln!(
            out,
            "{time:<25} {:<22} {outcome} {secret:<34} {from:<16} {}",
            text(&event["operationName"]),
            text(&event["identity"]["claim"]["oid"]),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(row) => row,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn rows_of_either_table_become_the_same_event() {
        let shared = row(json!({
            "TimeGenerated": "2026-11-27T10:00:00.1Z", "OperationName": "SecretGet", "ResultType": "Success",
            "CallerIPAddress": "10.0.0.4", "httpStatusCode_d": 403.0, "identity_claim_oid_g": "oid",
            "id_s": "https://notes-kv.vault.azure.net/secrets/a/1",
        }));
        let dedicated = row(json!({
            "TimeGenerated": "2026-11-27T10:00:00.1Z", "OperationName": "SecretGet", "ResultType": "Success",
            "CallerIpAddress": "10.0.0.4", "HttpStatusCode": 403, "Identity": "{\"claim\":{\"oid\":\"oid\"}}",
            "Id": "https://notes-kv.vault.azure.net/secrets/a/1",
        }));
        assert_eq!(event(&shared), event(&dedicated));
        assert_eq!(event(&shared)["resultType"], "Failure");
        assert_eq!(event(&shared)["properties"]["httpStatusCode"], 403);
        // The platform's own reading has no address.
        assert_eq!(event(&row(json!({"CallerIPAddress": ""})))["callerIpAddress"], Value::Null);
    }
}
