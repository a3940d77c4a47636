//! Workload identity federation: a token of a trusted issuer instead of a secret
//! (<https://learn.microsoft.com/entra/workload-id/workload-identity-federation>).
//!
//! What a user-assigned identity trusts are its `federatedIdentityCredentials`. The region has the keys
//! of one issuer, its own tenant: a managed identity's token for `api://AzureADTokenExchange` is taken.
//! It fetches nobody else's keys, and says so.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lazuli_azure::ResourceId;
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
    /// 700027, and the issuer whose keys are not here.
    #[error(
        "Client assertion failed signature validation. The keys of the issuer '{0}' are not known: this region verifies assertions of its own tenant alone."
    )]
    Signature(String),
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
        }
    }
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
    /// Whether `assertion` speaks for the identity of `resource`: its issuer, audience and subject are
    /// those of one of the identity's credentials, and its signature holds.
    pub fn federated(
        &self,
        resource: Option<&ResourceId>,
        assertion: &str,
    ) -> Result<(), FederationError> {
        let claims = peek(assertion).ok_or(FederationError::Malformed)?;
        let claim = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
        let (issuer, audience, subject) = (claim("iss"), claim("aud"), claim("sub"));
        let trusted = resource.map(|resource| self.store.list(KIND, resource)).unwrap_or_default();
        let mut left: Vec<_> = trusted.iter().map(|one| one.properties()).collect();
        left.retain(|one| one["issuer"].as_str() == Some(&issuer));
        if left.is_empty() {
            return Err(FederationError::Issuer(issuer));
        }
        left.retain(|one| one["subject"].as_str() == Some(&subject));
        if left.is_empty() {
            return Err(FederationError::Subject(subject));
        }
        left.retain(|one| {
            one["audiences"]
                .as_array()
                .is_some_and(|list| list.iter().any(|entry| entry.as_str() == Some(&audience)))
        });
        if left.is_empty() {
            return Err(FederationError::Audience(audience));
        }
        if issuer != token::issuer(self.tenant_id()) {
            return Err(FederationError::Signature(issuer));
        }
        match self.verify(assertion, Audience::TokenExchange) {
            Ok(_) => Ok(()),
            Err(AuthError::Expired) => Err(FederationError::Expired),
            Err(AuthError::Audience) => Err(FederationError::Audience(audience)),
            Err(_) => Err(FederationError::Signature(issuer)),
        }
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
            identity.federated(Some(&pipeline), assertion).map_err(|error| error.code())
        };
        assert_eq!(code(&good), Err(700_211), "nothing is trusted yet");
        trust(&issuer, "somebody-else").await.expect("stored");
        assert_eq!(code(&good), Err(700_213));
        trust(&issuer, &runner).await.expect("stored");
        assert_eq!(code(&good), Ok(()));
        assert_eq!(identity.federated(None, &good).map_err(|e| e.code()), Err(700_211));
        let vault = identity.token_for_tests(&runner, "https://vault.azure.net");
        assert_eq!(code(&vault), Err(700_212), "a token for something else");
        let (head, _) = good.rsplit_once('.').expect("a signature");
        assert_eq!(code(&format!("{head}.AAAA")), Err(700_027), "a forged one");
        assert_eq!(code("nonsense"), Err(50_027));
        trust("https://vstoken.dev.azure.com/org", &runner).await.expect("stored");
        assert_eq!(code(&good), Err(700_211));
    }
}
