//! Azure Monitor's logs: diagnostic settings send records to Log Analytics workspaces, and the query
//! API reads them. [`kql`] is the part of the query language that is understood, [`tables`] what the
//! records look like as rows, [`query`] the HTTP service.
//!
//! Sent is what a vault records (`AuditEvent`); a setting on anything else sends nothing.
//!
//! <https://learn.microsoft.com/azure/azure-monitor/essentials/diagnostic-settings>

mod kql;
pub mod query;
mod tables;

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use crate::store::{Resource, Store};
use tables::Table;

const SETTINGS: &str = "Microsoft.Insights/diagnosticSettings";
const WORKSPACES: &str = "Microsoft.OperationalInsights/workspaces";
/// The longest line that is read: a record has some 600 bytes.
const LINE: u64 = 64 * 1024;

/// What was sent to workspaces: a file for each, one record a line.
pub struct Logs {
    root: PathBuf,
    store: Store,
    files: Mutex<HashMap<String, File>>,
}

impl Logs {
    /// Below `root`, which only its owner can read; settings and workspaces are those in `store`.
    pub fn open(root: PathBuf, store: &Store) -> io::Result<Arc<Self>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        Ok(Arc::new(Self { root, store: store.clone(), files: Mutex::default() }))
    }

    /// Sends a record of a resource to wherever its diagnostic settings say. Each is with the kernel
    /// when this returns.
    pub fn send(&self, resource: &str, category: &str, record: &Value) {
        let Ok(resource) = ResourceId::parse(resource) else { return };
        for setting in self.store.list(SETTINGS, &resource) {
            if let Some((workspace, table)) = self.destination(&setting, &resource, category) {
                let line = format!("{}\n", json!({ "table": table.name(), "record": record }));
                if let Err(error) = self.append(&workspace, line.as_bytes()) {
                    tracing::error!(%error, workspace, "a record could not be sent to its workspace");
                }
            }
        }
    }

    /// The workspace (its `customerId`) and the table a setting sends a category to.
    fn destination(
        &self,
        setting: &Resource,
        resource: &ResourceId,
        category: &str,
    ) -> Option<(String, Table)> {
        // Those of the secrets below a vault are not the vault's.
        let of_resource = format!("{}/providers/microsoft.insights/", resource.key());
        if !setting.id.key().starts_with(&of_resource) || !sends(setting.properties(), category) {
            return None;
        }
        let workspace = ResourceId::parse(setting.text("/properties/workspaceId")?).ok()?;
        let workspace = self.store.get(&workspace)?;
        let customer = workspace.text("/properties/customerId")?.to_owned();
        let dedicated =
            setting.text("/properties/logAnalyticsDestinationType") == Some("Dedicated");
        Some((customer, if dedicated { Table::VaultAudit } else { Table::Diagnostics }))
    }

    fn append(&self, workspace: &str, line: &[u8]) -> io::Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if !files.contains_key(workspace) {
            let path = self.path(workspace);
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
            files.insert(workspace.to_owned(), file);
        }
        files.get_mut(workspace).map_or(Ok(()), |file| file.write_all(line))
    }

    fn path(&self, workspace: &str) -> PathBuf {
        self.root.join(format!("{workspace}.jsonl"))
    }

    /// The workspace with this `customerId`.
    fn workspace(&self, customer: &str) -> Option<Arc<Resource>> {
        let all = self.store.list(WORKSPACES, &ResourceId::root());
        all.into_iter().find(|one| {
            one.text("/properties/customerId").is_some_and(|id| id.eq_ignore_ascii_case(customer))
        })
    }

    /// Every record of a table that the workspace still keeps, the oldest first.
    fn records(&self, workspace: &Resource, table: Table) -> io::Result<Vec<Value>> {
        let customer = workspace.text("/properties/customerId").unwrap_or_default();
        let days = workspace.properties()["retentionInDays"].as_i64().unwrap_or(30);
        let since = Timestamp::now() - SignedDuration::from_hours(24 * days);
        read(&self.path(customer), table, since)
    }
}

/// Whether a setting sends records of a category: by its name, or by a group it is in.
fn sends(properties: &Value, category: &str) -> bool {
    properties["logs"].as_array().into_iter().flatten().any(|entry| {
        let is = |name: &str, value: &str| {
            entry[name].as_str().is_some_and(|text| text.eq_ignore_ascii_case(value))
        };
        entry["enabled"] == true
            && (is("category", category)
                || is("categoryGroup", "allLogs")
                || (category == "AuditEvent" && is("categoryGroup", "audit")))
    })
}

/// A line that was cut off by a crash, or is too long to be ours, is left out.
fn read(path: &Path, table: Table, since: Timestamp) -> io::Result<Vec<Value>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let (mut found, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        let read = io::Read::take(&mut reader, LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(found);
        }
        let Ok(mut entry) = serde_json::from_slice::<Value>(&line) else { continue };
        let at = entry["record"]["time"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        if entry["table"] == table.name() && at.is_some_and(|at| at >= since) {
            found.push(entry["record"].take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Batch;

    const VAULT: &str =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/notes-kv";
    const WORKSPACE: &str =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.OperationalInsights/workspaces/law";

    async fn put(store: &Store, id: &str, properties: Value) {
        let mut batch = Batch::new();
        batch.put(&ResourceId::parse(id).expect("an ID"), json!({ "properties": properties }));
        store.commit(batch).await.expect("written");
    }

    fn record() -> Value {
        json!({ "time": Timestamp::now().to_string(), "operationName": "SecretGet" })
    }

    #[tokio::test]
    async fn a_record_goes_where_the_resources_own_settings_send_it_and_nowhere_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("store")).expect("a store");
        let logs = Logs::open(dir.path().join("logs"), &store).expect("logs");
        put(&store, WORKSPACE, json!({ "customerId": "c1", "retentionInDays": 30 })).await;
        let workspace = logs.workspace("C1").expect("found by any casing");
        let count = |table| logs.records(&workspace, table).expect("read").len();

        logs.send(VAULT, "AuditEvent", &record());
        assert_eq!(count(Table::Diagnostics), 0, "no setting");

        let setting = |name: &str| format!("{VAULT}/providers/{SETTINGS}/{name}");
        let by_name = json!([{ "category": "AuditEvent", "enabled": true }]);
        put(&store, &setting("a"), json!({ "workspaceId": WORKSPACE, "logs": by_name })).await;
        logs.send(VAULT, "AuditEvent", &record());
        logs.send(&VAULT.to_ascii_uppercase(), "AuditEvent", &record());
        logs.send(&format!("{VAULT}2"), "AuditEvent", &record());
        logs.send(VAULT, "AzurePolicyEvaluationDetails", &record());
        assert_eq!(count(Table::Diagnostics), 2);

        let by_group = json!([{ "categoryGroup": "audit", "enabled": true }]);
        let dedicated = json!({
            "workspaceId": WORKSPACE, "logs": by_group, "logAnalyticsDestinationType": "Dedicated",
        });
        put(&store, &setting("b"), dedicated).await;
        logs.send(VAULT, "AuditEvent", &record());
        assert_eq!((count(Table::Diagnostics), count(Table::VaultAudit)), (3, 1));

        let off = json!([{ "category": "AuditEvent", "enabled": false }]);
        put(&store, &setting("a"), json!({ "workspaceId": WORKSPACE, "logs": off })).await;
        logs.send(VAULT, "AuditEvent", &record());
        assert_eq!((count(Table::Diagnostics), count(Table::VaultAudit)), (3, 2));
    }

    #[test]
    fn what_is_older_than_the_workspace_keeps_or_was_cut_off_is_not_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("c1.jsonl");
        let old = json!({"table": "AzureDiagnostics", "record": {"time": "2020-01-01T00:00:00Z"}});
        let new = json!({"table": "AzureDiagnostics", "record": record()});
        std::fs::write(&path, format!("{old}\n{new}\n{{\"table\": \"Azu")).expect("written");
        let since = Timestamp::now() - SignedDuration::from_hours(24);
        assert_eq!(read(&path, Table::Diagnostics, since).expect("read").len(), 1);
        assert!(
            read(&dir.path().join("none"), Table::Diagnostics, since).expect("read").is_empty()
        );
    }
}
