//! Why the blob service refuses, in its own words
//! (<https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes>).

use http::StatusCode;

use crate::store::StoreError;

/// A refusal: a status, a code, a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// `x-ms-error-code`.
    pub code: &'static str,
    /// What a person reads.
    pub message: String,
    /// More of it, of a refused signature.
    pub detail: Option<String>,
    /// Whether to say where tokens come from.
    pub challenge: bool,
}

impl Refusal {
    /// Any refusal.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), detail: None, challenge: false }
    }

    /// 400 for a header or parameter.
    pub fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 404.
    pub fn no_blob() -> Self {
        Self::new(StatusCode::NOT_FOUND, "BlobNotFound", "The specified blob does not exist.")
    }

    /// 404.
    pub fn no_container() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "ContainerNotFound",
            "The specified container does not exist.",
        )
    }

    /// 501, for what a local region cannot do.
    pub fn not_implemented(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            format!("This region's blob service does not have this operation: {what}."),
        )
    }

    /// 500. What went wrong is logged here.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "the blob service failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "The region failed while it handled this request; its log says why (lazuli region logs).",
        )
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(_) => Self::no_container(),
            error => Self::internal(&error),
        }
    }
}
