//! Who we are to Azure.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde::Deserialize;

use crate::{Error, Secret};

/// An access token and how long it is good for.
#[derive(Clone, Debug)]
pub struct Token {
    /// What goes after `Bearer`.
    pub value: Secret,
    /// When it must not be used any more.
    pub expires: Instant,
}

/// Something that can get tokens. The one seam through which other kinds of credential come in.
pub trait TokenSource: Send + Sync + fmt::Debug {
    /// A fresh token for a scope such as `https://management.azure.com/.default`.
    /// `login` is the authority's address, `https://login.microsoftonline.com`.
    fn token<'a>(
        &'a self,
        http: &'a reqwest::Client,
        login: &'a str,
        scope: &'a str,
    ) -> BoxFuture<'a, Result<Token, Error>>;
}

/// Who we are to Azure.
#[derive(Clone, Debug)]
pub struct Credential(pub(crate) Arc<dyn TokenSource>);

impl Credential {
    /// A service principal with a secret.
    pub fn client_secret(
        tenant: impl Into<String>,
        client: impl Into<String>,
        secret: Secret,
    ) -> Self {
        Self(Arc::new(ClientSecret { tenant: tenant.into(), client: client.into(), secret }))
    }

    /// Any other source of tokens.
    pub fn new(source: impl TokenSource + 'static) -> Self {
        Self(Arc::new(source))
    }
}

/// OAuth 2.0 client credentials grant:
/// <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.
#[derive(Debug)]
struct ClientSecret {
    tenant: String,
    client: String,
    secret: Secret,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: u64,
}

#[derive(Deserialize)]
struct TokenRefusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl TokenSource for ClientSecret {
    fn token<'a>(
        &'a self,
        http: &'a reqwest::Client,
        login: &'a str,
        scope: &'a str,
    ) -> BoxFuture<'a, Result<Token, Error>> {
        Box::pin(async move {
            let url = format!("{login}/{}/oauth2/v2.0/token", self.tenant);
            let form = form(&[
                ("grant_type", "client_credentials"),
                ("client_id", &self.client),
                ("client_secret", self.secret.expose()),
                ("scope", scope),
            ]);
            let transport =
                |source| Error::Transport { method: http::Method::POST, url: url.clone(), source };
            let answer = http
                .post(&url)
                .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .timeout(Duration::from_secs(30))
                .body(form)
                .send()
                .await
                .map_err(transport)?;
            let status = answer.status();
            let body = answer.bytes().await.map_err(transport)?;
            let refused = |reason: String| Error::Credential { scope: scope.to_owned(), reason };
            if !status.is_success() {
                let reason = serde_json::from_slice::<TokenRefusal>(&body).map_or_else(
                    |_| format!("{url} answered {status}"),
                    |r| format!("{}: {}", r.error, r.error_description),
                );
                return Err(refused(reason));
            }
            let token: TokenAnswer = serde_json::from_slice(&body)
                .map_err(|e| refused(format!("{url} answered no token: {e}")))?;
            // A minute less than it is good for: it must still be good when it arrives.
            let good = Duration::from_secs(token.expires_in.saturating_sub(60).min(86_400));
            Ok(Token { value: Secret::new(token.access_token), expires: Instant::now() + good })
        })
    }
}

/// `application/x-www-form-urlencoded`.
fn form(pairs: &[(&str, &str)]) -> String {
    pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", crate::client::encode(value)))
        .collect::<Vec<_>>()
        .join("&")
}
