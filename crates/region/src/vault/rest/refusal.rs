//! What a vault answers when it does not do what was asked
//! (<https://learn.microsoft.com/azure/key-vault/general/rest-error-codes>).

use http::StatusCode;
use serde_json::{Value, json};

use crate::vault::{Kind, VaultError};

/// An answer that is not a success.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) inner: Option<&'static str>,
    pub(super) message: String,
    pub(super) challenge: bool,
    /// Seconds until it makes sense to ask again.
    pub(super) retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            inner: None,
            message: message.into(),
            challenge: false,
            retry_after: None,
        }
    }

    pub(super) fn forbidden(inner: &'static str, message: impl Into<String>) -> Self {
        Self { inner: Some(inner), ..Self::new(StatusCode::FORBIDDEN, "Forbidden", message) }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadParameter", message)
    }

    pub(super) fn unauthorized(message: &str) -> Self {
        Self { challenge: true, ..Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message) }
    }

    pub(super) fn body(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(inner) = self.inner {
            error["innererror"] = json!({ "code": inner });
        }
        json!({ "error": error })
    }
}

impl From<VaultError> for Refusal {
    fn from(error: VaultError) -> Self {
        let message = error.to_string();
        match error {
            VaultError::NotFound(kind, _) | VaultError::DeletedNotFound(kind, _) => {
                let code = match kind {
                    Kind::Secret => "SecretNotFound",
                    Kind::Key => "KeyNotFound",
                    Kind::Certificate => "CertificateNotFound",
                };
                Self::new(StatusCode::NOT_FOUND, code, message)
            }
            VaultError::DeletedButRecoverable(..) => Self {
                inner: Some("ObjectIsDeletedButRecoverable"),
                ..Self::new(StatusCode::CONFLICT, "Conflict", message)
            },
            VaultError::Exists(..) | VaultError::NameTaken(..) => {
                Self::new(StatusCode::CONFLICT, "Conflict", message)
            }
            VaultError::Disabled(kind, _) => Self::forbidden(
                match kind {
                    Kind::Secret => "SecretDisabled",
                    Kind::Key => "KeyDisabled",
                    Kind::Certificate => "CertificateDisabled",
                },
                message,
            ),
            VaultError::NotYetValid(kind) => Self::forbidden(
                if kind == Kind::Secret { "SecretNotYetValid" } else { "KeyNotYetValid" },
                message,
            ),
            VaultError::Managed(kind, _) => Self::forbidden(
                if kind == Kind::Key { "KeyManagedByKeyVault" } else { "SecretManagedByKeyVault" },
                message,
            ),
            VaultError::NotPermitted(_) => Self::forbidden("KeyOperationNotPermitted", message),
            VaultError::NotSupported(_) => {
                Self::new(StatusCode::BAD_REQUEST, "NotSupported", message)
            }
            VaultError::PurgeProtected => Self::forbidden("ForbiddenByPolicy", message),
            VaultError::BadParameter(_) => Self::bad(message),
            VaultError::Store(_) | VaultError::Seal(_) | VaultError::Damaged(_) => {
                tracing::error!(error = message, "a vault failed");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "InternalServerError",
                    "The vault could not be read or written; see the region's log.",
                )
            }
        }
    }
}
