//! Resource Manager's errors: a status, and the envelope `{"error":{"code","message",…}}`
//! (<https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors>).

use std::borrow::Cow;

use http::StatusCode;
use lazuli_azure::{IdError, ResourceId};
use serde_json::{Value, json};

use crate::store::StoreError;

/// A refusal in Azure's words.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ArmError {
    /// The HTTP status.
    pub status: StatusCode,
    /// Azure's code, `ResourceNotFound`.
    pub code: Cow<'static, str>,
    /// What a person reads. Never holds a secret.
    pub message: String,
    /// The property or resource at fault.
    pub target: Option<Box<str>>,
    /// `WWW-Authenticate` of a 401.
    pub challenge: Option<Box<str>>,
}

impl ArmError {
    /// Any error.
    pub fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, code: code.into(), message: message.into(), target: None, challenge: None }
    }

    /// 400 with `code`.
    pub fn bad_request(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 409 with `code`.
    pub fn conflict(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 400: the body is not what the type takes.
    pub fn invalid_content(message: impl Into<String>) -> Self {
        Self::bad_request(
            "InvalidRequestContent",
            format!(
                "The request content was invalid and could not be deserialized: '{}'.",
                message.into()
            ),
        )
    }

    /// 400: a property has a value that the type does not take.
    pub fn invalid_value(property: &str, message: impl Into<String>) -> Self {
        Self::bad_request("InvalidParameterValue", message).at(property)
    }

    /// Names the property or resource at fault.
    #[must_use]
    pub fn at(mut self, target: &str) -> Self {
        self.target = Some(target.into());
        self
    }

    /// 404 for a resource, or for the group it would lie in.
    pub fn not_found(id: &ResourceId) -> Self {
        if id.is("Microsoft.Resources/resourceGroups") {
            return Self::new(
                StatusCode::NOT_FOUND,
                "ResourceGroupNotFound",
                format!("Resource group '{}' could not be found.", id.name()),
            );
        }
        if id.is("Microsoft.Resources/subscriptions") {
            return Self::subscription_not_found(id.name());
        }
        Self::new(
            StatusCode::NOT_FOUND,
            "ResourceNotFound",
            format!(
                "The Resource '{}/{}' under resource group '{}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
                id.kind(),
                id.full_name(),
                id.resource_group().unwrap_or("<null>")
            ),
        )
    }

    /// 404 for a subscription.
    pub fn subscription_not_found(subscription: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "SubscriptionNotFound",
            format!("The subscription '{subscription}' could not be found."),
        )
    }

    /// 404 for the resource that a child would hang on.
    pub fn parent_not_found(child: &ResourceId) -> Self {
        let parent = child.parent().unwrap_or_else(ResourceId::root);
        Self::new(
            StatusCode::NOT_FOUND,
            "ParentResourceNotFound",
            format!(
                "Failed to perform 'write' on resource(s) of type '{}', because the parent resource '{parent}' could not be found.",
                child.kind()
            ),
        )
    }

    /// 404: no such type.
    pub fn invalid_type(kind: &str) -> Self {
        let (namespace, rest) = kind.split_once('/').unwrap_or((kind, ""));
        Self::new(
            StatusCode::NOT_FOUND,
            "InvalidResourceType",
            format!(
                "The resource type '{rest}' could not be found in the namespace '{namespace}' of this region."
            ),
        )
    }

    /// 405.
    pub fn method_not_allowed(method: &http::Method) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "HttpMethodNotAllowed",
            format!("The HTTP method '{method}' is not supported at this path."),
        )
    }

    /// 401 with the challenge that tells clients where to get a token.
    pub fn unauthorized(
        code: &'static str,
        message: impl Into<String>,
        challenge: impl Into<Box<str>>,
    ) -> Self {
        let mut error = Self::new(StatusCode::UNAUTHORIZED, code, message);
        error.challenge = Some(challenge.into());
        error
    }

    /// 501 in Azure's envelope, for what a local region cannot do.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
    }

    /// 500. What went wrong is logged here; the client only learns that it was not its fault.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "an ARM request failed inside the region");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            "The local region failed while it handled this request; its log says why (lazuli region logs).",
        )
    }

    /// The envelope.
    pub fn body(&self) -> Value {
        json!({ "error": self.inner() })
    }

    /// What stands in the envelope, and in a failed operation's record.
    pub fn inner(&self) -> Value {
        let mut inner = json!({ "code": self.code, "message": self.message });
        if let Some(target) = &self.target {
            inner["target"] = json!(target);
        }
        inner
    }
}

impl From<IdError> for ArmError {
    fn from(error: IdError) -> Self {
        Self::bad_request("InvalidResourceName", error.to_string())
    }
}

impl From<StoreError> for ArmError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(id) => Self::conflict(
                "AnotherOperationInProgress",
                format!("The resource '{id}' was changed by another request. Please retry."),
            ),
            error => Self::internal(&error),
        }
    }
}
