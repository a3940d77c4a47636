//! Workload identity federation: a token of a trusted issuer instead of a secret
//! (<https://learn.microsoft.com/entra/workload-id/workload-identity-federation>).
//!
//! What a user-assigned identity trusts are its `federatedIdentityCredentials`, what an application trusts
//! those that Microsoft Graph gave it. The region has the keys of its own tenant; those of any other issuer
//! are fetched from where its discovery document says ([`super::issuers`]).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lazuli_azure::ResourceId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::token::{self, Audience};
use super::{AuthError, Identity};

/// The type of what an identity trusts.
pub const KIND: &str =
    "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials";

/// Why an assertion is not taken, by Entra's code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FederationError {
    /// 50027.
    #[error("Invalid JWT token. The assertion is not one.")]
    Malformed,
    /// 700024.
    #[error("Client assertion is not within its valid time range.")]
    Expired,
    /// 700211.
    #[error(
        "No matching federated identity record found for presented assertion issuer '{0}'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion."
    )]
    Issuer(String),
    /// 700212.
    #[error(
        "No matching federated identity record found for presented assertion audience '{0}'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion."
    )]
    Audience(String),
    /// 700213.
    #[error(
        "No matching federated identity record found for presented assertion subject '{0}'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion."
    )]
    Subject(String),
    /// 700027: the issuer's keys did not sign it.
    #[error(
        "Client assertion failed signature validation. It is not signed by a key of the issuer '{0}'."
    )]
    Signature(String),
    /// 50166: the issuer's keys cannot be had.
    #[error("Request to External OIDC endpoint failed: {1} (the issuer '{0}').")]
    Unreachable(String, String),
}

impl FederationError {
    /// The number behind `AADSTS`.
    pub fn code(&self) -> u32 {
        match self {
            Self::Malformed => 50_027,
            Self::Expired => 700_024,
            Self::Issuer(_) => 700_211,
            Self::Audience(_) => 700_212,
            Self::Subject(_) => 700_213,
            Self::Signature(_) => 700_027,
            Self::Unreachable(..) => 50_166,
        }
    }
}

/// What an identity or application trusts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trust {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `aud`: one of them.
    pub audiences: Vec<String>,
}

/// The claims of a token whose signature nobody has looked at yet.
fn peek(assertion: &str) -> Option<Value> {
    let mut parts = assertion.split('.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    if claims.len() > 16 * 1024 {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

impl Identity {
    /// What the identity of `resource` trusts.
    pub(super) fn trusted_by(&self, resource: &ResourceId) -> Vec<Trust> {
        let all = self.store.list(KIND, resource);
        all.iter().filter_map(|one| serde_json::from_value(one.properties().clone()).ok()).collect()
    }

    /// Whether `assertion` speaks for who trusts what is `trusted`: its issuer, audience and subject are
    /// those of one of them, and its signature holds. May ask the issuer for its keys: not on a thread
    /// that serves others.
    pub(super) fn federated(
        &self,
        mut trusted: Vec<Trust>,
        assertion: &str,
    ) -> Result<(), FederationError> {
        let claims = peek(assertion).ok_or(FederationError::Malformed)?;
        let claim = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
        let (issuer, audience, subject) = (claim("iss"), claim("aud"), claim("sub"));
        trusted.retain(|one| one.issuer == issuer);
        if trusted.is_empty() {
            return Err(FederationError::Issuer(issuer));
        }
        trusted.retain(|one| one.subject == subject);
        if trusted.is_empty() {
            return Err(FederationError::Subject(subject));
        }
        trusted.retain(|one| one.audiences.contains(&audience));
        if trusted.is_empty() {
            return Err(FederationError::Audience(audience));
        }
        let verified = if issuer == token::issuer(self.tenant_id()) {
            self.verify(assertion, Audience::TokenExchange).map(|_| ())
        } else {
            self.issuers
                .verify(&issuer, &audience, assertion)
                .map_err(|why| FederationError::Unreachable(issuer.clone(), why))?
        };
        verified.map_err(|error| match error {
            AuthError::Expired => FederationError::Expired,
            AuthError::Audience => FederationError::Audience(audience),
            _ => FederationError::Signature(issuer),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Batch;

    #[tokio::test]
    async fn a_trusted_token_stands_for_the_identity_and_no_other_does() {
        let identity = crate::identity::tests::identity().await;
        let group = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities";
        let pipeline = ResourceId::parse(&format!("{group}/pipeline")).expect("an ID");
        let runner = ResourceId::parse(&format!("{group}/runner")).expect("an ID");
        identity.create_identity(&pipeline).await.expect("created");
        let runner = identity.create_identity(&runner).await.expect("created").principal_id;
        let issuer = token::issuer(identity.tenant_id());
        let trust = |issuer: &str, subject: &str| {
            let id = pipeline.child("federatedIdentityCredentials", "runner").expect("an ID");
            let mut batch = Batch::new();
            batch.put(&id, json!({ "properties": {
                "issuer": issuer, "subject": subject, "audiences": ["api://AzureADTokenExchange"],
            }}));
            identity.store.commit(batch)
        };
        let good = identity.token_for_tests(&runner, "api://AzureADTokenExchange");
        let code = |assertion: &str| {
            let trusted = identity.trusted_by(&pipeline);
            identity.federated(trusted, assertion).map_err(|error| error.code())
        };
        assert_eq!(code(&good), Err(700_211), "nothing is trusted yet");
        trust(&issuer, "somebody-else").await.expect("stored");
        assert_eq!(code(&good), Err(700_213));
        trust(&issuer, &runner).await.expect("stored");
        assert_eq!(code(&good), Ok(()));
        assert_eq!(identity.federated(Vec::new(), &good).map_err(|e| e.code()), Err(700_211));
        let vault = identity.token_for_tests(&runner, "https://vault.azure.net");
        assert_eq!(code(&vault), Err(700_212), "a token for something else");
        let (head, _) = good.rsplit_once('.').expect("a signature");
        assert_eq!(code(&format!("{head}.AAAA")), Err(700_027), "a forged one");
        assert_eq!(code("nonsense"), Err(50_027));
        trust("https://vstoken.dev.azure.com/org", &runner).await.expect("stored");
        assert_eq!(code(&good), Err(700_211));
    }
}
