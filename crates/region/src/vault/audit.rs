//! The record of who read or wrote what in a vault, when, from where, and how it ended. One JSON
//! object a line, in the shape of Key Vault's own `AuditEvent` logs; never a value.
//!
//! <https://learn.microsoft.com/azure/key-vault/general/logging#interpret-your-key-vault-logs>

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::json;

use crate::monitor::Logs;

/// One event.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The vault's resource ID.
    pub vault: &'a str,
    /// `SecretGet`, `SecretSet`, …
    pub operation: &'a str,
    /// The object's URL, without a value.
    pub object: &'a str,
    /// The principal's object ID; empty when nobody was recognised.
    pub object_id: &'a str,
    /// The application's ID.
    pub app_id: &'a str,
    /// Where the request came from; none for the region's own reading of references.
    pub caller: Option<IpAddr>,
    /// The HTTP status it ended with.
    pub status: u16,
}

/// The audit log.
pub struct Audit {
    file: Mutex<File>,
    logs: Option<Arc<Logs>>,
}

impl Audit {
    /// Appends to the log at `path`, which only its owner can read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { file: Mutex::new(file), logs: None })
    }

    /// Sends each event to where the vault's diagnostic settings say, too.
    #[must_use]
    pub fn sent_by(self, logs: Arc<Logs>) -> Self {
        Self { logs: Some(logs), ..self }
    }

    /// Records an event. It is with the kernel when this returns, so that `kill -9` does not lose it.
    pub fn record(&self, event: Event<'_>) {
        let vault = event.vault;
        let result = if (200..300).contains(&event.status) { "Success" } else { "Failure" };
        let event = json!({
            "time": Timestamp::now().to_string(),
            "category": "AuditEvent",
            "operationName": event.operation,
            "resultType": result,
            "resultSignature": event.status,
            "resourceId": event.vault,
            "callerIpAddress": event.caller.map(|ip| ip.to_string()),
            "identity": { "claim": { "oid": event.object_id, "appid": event.app_id } },
            "properties": { "id": event.object, "httpStatusCode": event.status },
        });
        if let Some(logs) = &self.logs {
            logs.send(vault, "AuditEvent", &event);
        }
        let line = format!("{event}\n");
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::error!(%error, "the vault's audit log cannot be written");
        }
    }
}
