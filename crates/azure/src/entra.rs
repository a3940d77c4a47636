//! Who we are to Azure itself, through Microsoft's own identity crate (`azure_identity`): a service
//! principal from the environment, a federated workload identity, a managed identity, or whoever is
//! signed in to the Azure CLI.
//!
//! Which of them is meant follows the order that Azure's SDKs share
//! (<https://learn.microsoft.com/dotnet/azure/sdk/authentication/credential-chains>); the first that is
//! configured is used, and a failure of it is reported rather than passed over: a release must not go on
//! as somebody else. `AZURE_TOKEN_CREDENTIALS` names one where the environment would lead elsewhere.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use azure_core::credentials::TokenCredential;
use azure_core::error::{Error as CoreError, ErrorKind};
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::{AsyncRawResponse, Body, ClientOptions, HttpClient, Request, Transport};
use azure_identity::{
    AzureCliCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use futures_util::future::BoxFuture;

use crate::{Connection, Credential, Error, Secret, Token, TokenSource};

/// How we prove who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET`.
    Environment,
    /// `AZURE_FEDERATED_TOKEN_FILE` with `AZURE_TENANT_ID` and `AZURE_CLIENT_ID`.
    WorkloadIdentity,
    /// The identity of the machine or site we run on.
    ManagedIdentity,
    /// `az login`.
    AzureCli,
}

impl Way {
    /// The way that the environment asks for. `get` looks a variable up.
    pub fn of(get: &impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        // https://learn.microsoft.com/python/api/overview/azure/identity-readme: the SDKs' own names.
        if let Some(named) = get("AZURE_TOKEN_CREDENTIALS") {
            return match named.to_ascii_lowercase().as_str() {
                "environmentcredential" => Ok(Self::Environment),
                "workloadidentitycredential" => Ok(Self::WorkloadIdentity),
                "managedidentitycredential" => Ok(Self::ManagedIdentity),
                "azureclicredential" | "dev" => Ok(Self::AzureCli),
                _ => Err(Error::Configuration(format!(
                    "AZURE_TOKEN_CREDENTIALS is `{named}`: expected EnvironmentCredential, \
                     WorkloadIdentityCredential, ManagedIdentityCredential or AzureCliCredential"
                ))),
            };
        }
        Ok(if get("AZURE_CLIENT_SECRET").is_some() {
            Self::Environment
        } else if get("AZURE_FEDERATED_TOKEN_FILE").is_some() {
            Self::WorkloadIdentity
        } else if get("IDENTITY_ENDPOINT").is_some() {
            Self::ManagedIdentity
        } else {
            Self::AzureCli
        })
    }
}

/// The credential that the environment asks for. `get` looks a variable up; tokens are fetched over
/// `connection`.
pub fn credential(
    connection: &Connection,
    get: impl Fn(&str) -> Option<String>,
) -> Result<Credential, Error> {
    let way = Way::of(&get)?;
    let need =
        |name: &str| get(name).ok_or_else(|| Error::Configuration(format!("{name} is not set")));
    let transport = Transport::new(Arc::new(Http(connection.http()?)));
    let client_options = ClientOptions { transport: Some(transport), ..ClientOptions::default() };
    let wrong = |error: CoreError| Error::Configuration(format!("{way:?}: {error}"));
    let source: Arc<dyn TokenCredential> = match way {
        Way::Environment => ClientSecretCredential::new(
            &need("AZURE_TENANT_ID")?,
            need("AZURE_CLIENT_ID")?,
            need("AZURE_CLIENT_SECRET")?.into(),
            Some(ClientSecretCredentialOptions { client_options }),
        )
        .map_err(wrong)?,
        Way::WorkloadIdentity => {
            WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                credential_options: ClientAssertionCredentialOptions { client_options },
                client_id: Some(need("AZURE_CLIENT_ID")?),
                tenant_id: Some(need("AZURE_TENANT_ID")?),
                token_file_path: Some(need("AZURE_FEDERATED_TOKEN_FILE")?.into()),
            }))
            .map_err(wrong)?
        }
        Way::ManagedIdentity => {
            ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                user_assigned_id: get("AZURE_CLIENT_ID").map(UserAssignedId::ClientId),
                client_options,
            }))
            .map_err(wrong)?
        }
        Way::AzureCli => AzureCliCredential::new(None).map_err(wrong)?,
    };
    Ok(Credential::new(Entra { way, source }))
}

/// Tokens from `azure_identity`, in our own terms.
struct Entra {
    way: Way,
    source: Arc<dyn TokenCredential>,
}

impl fmt::Debug for Entra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entra").field("way", &self.way).finish_non_exhaustive()
    }
}

impl TokenSource for Entra {
    fn token<'a>(
        &'a self,
        _http: &'a reqwest::Client,
        _login: &'a str,
        scope: &'a str,
    ) -> BoxFuture<'a, Result<Token, Error>> {
        Box::pin(async move {
            let token = self.source.get_token(&[scope], None).await.map_err(|error| {
                let reason = format!("{:?}: {error}", self.way);
                Error::Credential { scope: scope.to_owned(), reason }
            })?;
            let now = jiff::Timestamp::now().as_second();
            // A minute less than it is good for: it must still be good when it arrives.
            let good = token.expires_on.unix_timestamp().saturating_sub(now + 60).clamp(0, 86_400);
            Ok(Token {
                value: Secret::new(token.token.secret()),
                expires: Instant::now() + Duration::from_secs(good.cast_unsigned()),
            })
        })
    }
}

/// Our own HTTP client, for `azure_identity`: one TLS library, one set of roots, one proxy.
#[derive(Debug)]
struct Http(reqwest::Client);

/// The largest answer of a token endpoint that is read.
const LIMIT: usize = 1 << 20;

#[async_trait]
impl HttpClient for Http {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes());
        let method = method.map_err(|error| CoreError::new(ErrorKind::Other, error))?;
        let mut builder = self.0.request(method, request.url().as_str());
        for (name, value) in request.headers().iter() {
            builder = builder.header(name.as_str(), value.as_str());
        }
        let Body::Bytes(body) = request.body().clone() else {
            return Err(CoreError::with_message(ErrorKind::Other, "a token request that streams"));
        };
        let failed = |error: reqwest::Error| {
            let kind = if error.is_connect() { ErrorKind::Connection } else { ErrorKind::Io };
            CoreError::new(kind, error)
        };
        let sent = builder.body(body).timeout(Duration::from_secs(30)).send();
        let mut answer = sent.await.map_err(failed)?;
        let status = answer.status().as_u16();
        let mut headers = Headers::new();
        for (name, value) in answer.headers() {
            if let Ok(value) = value.to_str() {
                headers.insert(
                    HeaderName::from(name.as_str().to_owned()),
                    HeaderValue::from(value.to_owned()),
                );
            }
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > LIMIT {
                return Err(CoreError::with_message(ErrorKind::Io, "the answer is too large"));
            }
        }
        Ok(AsyncRawResponse::from_bytes(status.into(), headers, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(set: &[&str]) -> Way {
        let get = |name: &str| {
            set.iter().find_map(|one| {
                let (key, value) = one.split_once('=').unwrap_or((one, "x"));
                (key == name).then(|| value.to_owned())
            })
        };
        Way::of(&get).expect("a way")
    }

    #[test]
    fn the_environment_says_how() {
        assert_eq!(way(&["AZURE_CLIENT_SECRET", "IDENTITY_ENDPOINT"]), Way::Environment);
        assert_eq!(way(&["AZURE_FEDERATED_TOKEN_FILE"]), Way::WorkloadIdentity);
        assert_eq!(way(&["IDENTITY_ENDPOINT"]), Way::ManagedIdentity);
        assert_eq!(way(&[]), Way::AzureCli);
        assert_eq!(
            way(&["AZURE_CLIENT_SECRET", "AZURE_TOKEN_CREDENTIALS=AzureCliCredential"]),
            Way::AzureCli
        );
        let get = |name: &str| (name == "AZURE_TOKEN_CREDENTIALS").then(|| "prod".to_owned());
        assert!(Way::of(&get).is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        let get = |name: &str| (name == "AZURE_CLIENT_SECRET").then(|| "s3cret".to_owned());
        let error = credential(&Connection::default(), get).expect_err("incomplete").to_string();
        assert!(error.contains("AZURE_TENANT_ID") && !error.contains("s3cret"), "{error}");
    }
}
