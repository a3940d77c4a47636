//! What can go wrong between here and Azure.

use std::fmt;
use std::time::Duration;

use http::{Method, StatusCode};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection could not be set up as configured.
    #[error("the connection's configuration is not usable: {0}")]
    Configuration(String),
    /// No answer came: name resolution, proxy, TLS or a broken connection.
    #[error("{method} {url}: {}", root(source))]
    Transport {
        /// The request's method.
        method: Method,
        /// The request's address, without its query.
        url: String,
        /// What the transport says.
        #[source]
        source: reqwest::Error,
    },
    /// Azure answered with an error.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// An answer that is not what Azure documents.
    #[error("{url} answered something unexpected: {what}")]
    Unexpected {
        /// The request's address, without its query.
        url: String,
        /// What was wrong with the answer.
        what: String,
    },
    /// No token could be had.
    #[error("no token for {scope}: {reason}")]
    Credential {
        /// The scope asked for.
        scope: String,
        /// Why not.
        reason: String,
    },
    /// Something took longer than it may.
    #[error("{what} had not finished after {} s", limit.as_secs())]
    Timeout {
        /// What.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// A local file could not be read.
    #[error("{path}: {source}")]
    File {
        /// Its path.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// The innermost cause says what happened; reqwest's own message only that something did.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Azure's own error: <https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling>
/// and the error envelope of the ARM RPC.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The request's method.
    pub method: Method,
    /// The request's address, without its query.
    pub url: String,
    /// The status; 200 when a long-running operation ended in failure.
    pub status: StatusCode,
    /// Azure's code, e.g. `ResourceNotFound`; empty when the answer carried none.
    pub code: String,
    /// Azure's message.
    pub message: String,
    /// `error.details`, as `code: message`.
    pub details: Vec<String>,
    /// `x-ms-request-id`, what Azure's support asks for.
    pub request_id: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.method, self.url)?;
        if !self.status.is_success() {
            write!(f, "{} ", self.status.as_u16())?;
        }
        if self.code.is_empty() {
            write!(f, "{}", self.message)?;
        } else {
            write!(f, "{}: {}", self.code, self.message)?;
        }
        for detail in &self.details {
            write!(f, "; {detail}")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

impl Error {
    /// Azure's error, where it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Whether the thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        self.refusal().is_some_and(|r| r.status == StatusCode::NOT_FOUND)
    }

    /// Whether it clashes with what is there.
    pub fn is_conflict(&self) -> bool {
        self.refusal().is_some_and(|r| r.status == StatusCode::CONFLICT)
    }

    /// Whether the caller may not do this.
    pub fn is_forbidden(&self) -> bool {
        self.refusal().is_some_and(|r| r.status == StatusCode::FORBIDDEN)
    }

    /// Whether the condition of a write did not hold.
    pub fn is_precondition_failed(&self) -> bool {
        self.refusal().is_some_and(|r| r.status == StatusCode::PRECONDITION_FAILED)
    }

    /// Azure's code, where there is one.
    pub fn code(&self) -> Option<&str> {
        self.refusal().map(|r| r.code.as_str()).filter(|c| !c.is_empty())
    }

    /// Whether no answer came at all: a region that is not running, a network that is down.
    pub fn is_transport(&self) -> bool {
        matches!(self, Self::Transport { .. })
    }
}

/// How much of an answer that is not JSON is shown.
const TEXT_LIMIT: usize = 500;

impl Refusal {
    /// From an answer with an error status. Understands ARM's envelope (`{"error": {…}}`), the
    /// bare form (`{"Code", "Message"}`) of App Service, Entra's (`error`, `error_description`)
    /// and Kudu's (`Message`, `ExceptionMessage`).
    pub(crate) fn from_body(
        method: Method,
        url: String,
        status: StatusCode,
        request_id: Option<String>,
        body: &[u8],
    ) -> Self {
        let mut refusal = Self {
            method,
            url,
            status,
            code: String::new(),
            message: String::new(),
            details: Vec::new(),
            request_id,
        };
        if let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) {
            refusal.read(&value);
        }
        if refusal.message.is_empty() && refusal.code.is_empty() {
            let text = String::from_utf8_lossy(&body[..body.len().min(4 * TEXT_LIMIT)]);
            refusal.message = text.trim().chars().take(TEXT_LIMIT).collect();
            if refusal.message.is_empty() {
                status
                    .canonical_reason()
                    .unwrap_or("no reason given")
                    .clone_into(&mut refusal.message);
            }
        }
        refusal
    }

    pub(crate) fn read(&mut self, value: &serde_json::Value) {
        let error = value.get("error").filter(|e| e.is_object()).unwrap_or(value);
        let text = |names: &[&str]| {
            names.iter().find_map(|n| error.get(*n)?.as_str()).unwrap_or_default().to_owned()
        };
        self.code = text(&["code", "Code", "error"]);
        self.message =
            text(&["message", "Message", "error_description", "ExceptionMessage", "status_text"]);
        let details = error.get("details").and_then(serde_json::Value::as_array);
        self.details = details
            .into_iter()
            .flatten()
            .map(|d| {
                let part =
                    |n: &str| d.get(n).and_then(serde_json::Value::as_str).unwrap_or_default();
                format!("{}: {}", part("code"), part("message"))
            })
            .filter(|d| d.len() > 2)
            .collect();
    }
}
