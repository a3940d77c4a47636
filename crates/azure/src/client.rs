//! The client: one HTTP pool, one token cache, one way to send.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, Method, header};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::retry::{RetryPolicy, retry_after, retryable};
use crate::{Connection, Credential, Error, Refusal, Scm, Secret, Token, Vault};

/// Resource Manager's scope; SCM takes the same token.
pub(crate) const MANAGEMENT_SCOPE: &str = "https://management.azure.com/.default";
/// Key Vault's scope.
pub(crate) const VAULT_SCOPE: &str = "https://vault.azure.net/.default";

/// How long one answer may take, unless the request says otherwise. Resource Manager itself cuts
/// at 60 seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(100);
/// The largest JSON answer that is read.
const BODY_LIMIT: usize = 64 << 20;

/// Where Azure's fixed services are. Only tests need another than the default.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// Resource Manager.
    pub management: String,
    /// Entra ID.
    pub login: String,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            management: "https://management.azure.com".to_owned(),
            login: "https://login.microsoftonline.com".to_owned(),
        }
    }
}

/// On what a write depends.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Nothing is there yet.
    Absent,
    /// What is there has this `etag`.
    Unchanged(String),
}

impl Condition {
    pub(crate) fn header(&self) -> (header::HeaderName, String) {
        match self {
            Self::Absent => (header::IF_NONE_MATCH, "*".to_owned()),
            Self::Unchanged(etag) => (header::IF_MATCH, etag.clone()),
        }
    }
}

/// A client of Azure's public API. Cheap to clone; clones share connections and tokens.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    connection: Connection,
    http1: std::sync::OnceLock<reqwest::Client>,
    outside: std::sync::OnceLock<reqwest::Client>,
    credential: Credential,
    endpoints: Endpoints,
    retry: RetryPolicy,
    tokens: Mutex<HashMap<&'static str, Token>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.0.endpoints).finish_non_exhaustive()
    }
}

/// A request's body. A file is opened anew for each try and never held in memory.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Empty,
    Json(Bytes),
    File(PathBuf),
}

pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) scope: &'static str,
    pub(crate) body: Body,
    /// `None`: as long as it takes.
    pub(crate) limit: Option<Duration>,
    /// `If-Match` or `If-None-Match`.
    pub(crate) condition: Option<(header::HeaderName, String)>,
}

impl Request {
    pub(crate) fn new(method: Method, url: String, scope: &'static str) -> Self {
        let limit = Some(ANSWER_LIMIT);
        Self { method, url, scope, body: Body::Empty, limit, condition: None }
    }

    pub(crate) fn json(mut self, value: &Value) -> Self {
        self.body = Body::Json(value.to_string().into());
        self
    }

    /// The address without its query, which may carry arguments.
    pub(crate) fn place(&self) -> String {
        self.url.split('?').next().unwrap_or_default().to_owned()
    }
}

/// An answer that was read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: http::StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) url: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Result<Value, Error> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).map_err(|e| Error::Unexpected {
            url: self.url.clone(),
            what: format!("not JSON: {e}"),
        })
    }

    pub(crate) fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|e| Error::Unexpected { url: self.url.clone(), what: e.to_string() })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Client {
    /// A client for Azure, or for whatever the connection leads to.
    pub fn new(connection: &Connection, credential: Credential) -> Result<Self, Error> {
        Self::with(connection, credential, Endpoints::default(), RetryPolicy::default())
    }

    /// A client with other endpoints or another retry policy.
    pub fn with(
        connection: &Connection,
        credential: Credential,
        endpoints: Endpoints,
        retry: RetryPolicy,
    ) -> Result<Self, Error> {
        let http = connection.http()?;
        Ok(Self(Arc::new(Inner {
            http,
            connection: connection.clone(),
            http1: std::sync::OnceLock::new(),
            outside: std::sync::OnceLock::new(),
            credential,
            endpoints,
            retry,
            tokens: Mutex::default(),
        })))
    }

    /// The vault of this name.
    pub fn vault(&self, name: &str) -> Vault {
        self.vault_at(format!("https://{name}.vault.azure.net"))
    }

    /// The vault at this address.
    pub fn vault_at(&self, url: impl Into<String>) -> Vault {
        Vault::new(self.clone(), url.into())
    }

    /// The deployment service (Kudu) on this host, `notes-staging.scm.azurewebsites.net`.
    pub fn scm(&self, host: &str) -> Scm {
        self.scm_at(format!("https://{host}"))
    }

    /// The deployment service at this address.
    pub fn scm_at(&self, url: impl Into<String>) -> Scm {
        Scm::new(self.clone(), url.into())
    }

    /// A plain HTTPS request without a token, through the same connection: health and smoke
    /// checks. No retries, no redirects.
    pub fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    /// The same, speaking HTTP/1.1 alone: for what a WebSocket begins with. Made when first asked for.
    pub fn http1(&self) -> Result<&reqwest::Client, Error> {
        if let Some(http) = self.0.http1.get() {
            return Ok(http);
        }
        let http = self.0.connection.http1()?;
        Ok(self.0.http1.get_or_init(|| http))
    }

    /// For hosts that are not Azure's (a chat, a provider of reviews): the system's roots are trusted,
    /// whatever Azure is reached by. Made when first asked for.
    pub fn outside(&self) -> Result<&reqwest::Client, Error> {
        if let Some(http) = self.0.outside.get() {
            return Ok(http);
        }
        let http = Connection { roots: None, ..self.0.connection.clone() }.http()?;
        Ok(self.0.outside.get_or_init(|| http))
    }

    /// A token for a scope: from the cache while it is good.
    pub async fn token(&self, scope: &'static str) -> Result<Secret, Error> {
        // Held across the request on purpose: ten requests at once ask for one token.
        let mut tokens = self.0.tokens.lock().await;
        if let Some(token) = tokens.get(scope)
            && token.expires > Instant::now()
        {
            return Ok(token.value.clone());
        }
        let mut attempt = 1;
        let token = loop {
            match self.0.credential.0.token(&self.0.http, &self.0.endpoints.login, scope).await {
                Ok(token) => break token,
                Err(error) if error.is_transport() && attempt < self.0.retry.attempts => {
                    tokio::time::sleep(self.0.retry.pause(attempt, None)).await;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        let value = token.value.clone();
        tokens.insert(scope, token);
        Ok(value)
    }

    pub(crate) fn management(&self) -> &str {
        &self.0.endpoints.management
    }

    /// Sends, retries, and reads the answer whole.
    pub(crate) async fn send(&self, request: &Request) -> Result<Answer, Error> {
        let response = self.send_streaming(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let transport = |source| Error::Transport {
            method: request.method.clone(),
            url: request.place(),
            source,
        };
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(transport)?);
            if body.len() > BODY_LIMIT {
                let what = format!("more than {} MiB", BODY_LIMIT >> 20);
                return Err(Error::Unexpected { url: request.place(), what });
            }
        }
        Ok(Answer { status, headers, body: body.into(), url: request.place() })
    }

    /// Sends and retries; the answer's body is still on the wire.
    pub(crate) async fn send_streaming(
        &self,
        request: &Request,
    ) -> Result<reqwest::Response, Error> {
        let policy = self.0.retry;
        // One ID for all tries of a request, as Azure's own SDKs do.
        let client_request_id = uuid::Uuid::new_v4().to_string();
        let mut attempt = 1;
        let mut refreshed = false;
        loop {
            let outcome = self.send_once(request, &client_request_id).await?;
            let pause = match outcome {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    let status = response.status();
                    if status == http::StatusCode::UNAUTHORIZED && !refreshed {
                        // The token was revoked, or a region was reset under us.
                        refreshed = true;
                        self.0.tokens.lock().await.remove(request.scope);
                        continue;
                    }
                    let after = retry_after(response.headers());
                    if attempt >= policy.attempts || !retryable(&request.method, status) {
                        return Err(refusal(request, response).await);
                    }
                    policy.pause(attempt, after)
                }
                Err(source) => {
                    // A connection that never came about carried nothing; one that broke may have.
                    let safe = source.is_connect()
                        || matches!(request.method, Method::GET | Method::PUT | Method::DELETE);
                    if attempt >= policy.attempts || !safe || source.is_timeout() {
                        let (method, url) = (request.method.clone(), request.place());
                        return Err(Error::Transport { method, url, source });
                    }
                    policy.pause(attempt, None)
                }
            };
            tracing::debug!(method = %request.method, url = request.place(), attempt, ?pause, "trying again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn send_once(
        &self,
        request: &Request,
        client_request_id: &str,
    ) -> Result<Result<reqwest::Response, reqwest::Error>, Error> {
        let token = self.token(request.scope).await?;
        let mut builder = self
            .0
            .http
            .request(request.method.clone(), &request.url)
            .bearer_auth(token.expose())
            .header("x-ms-client-request-id", client_request_id)
            .header(header::ACCEPT, "application/json");
        if let Some(limit) = request.limit {
            builder = builder.timeout(limit);
        }
        if let Some((name, value)) = &request.condition {
            builder = builder.header(name, value);
        }
        builder = match &request.body {
            Body::Empty if request.method == Method::GET => builder,
            Body::Empty => builder.header(header::CONTENT_LENGTH, 0),
            Body::Json(json) => {
                builder.header(header::CONTENT_TYPE, "application/json").body(json.clone())
            }
            Body::File(path) => {
                let failed = |source| Error::File { path: path.display().to_string(), source };
                let file = tokio::fs::File::open(path).await.map_err(failed)?;
                let length = file.metadata().await.map_err(failed)?.len();
                builder
                    .header(header::CONTENT_TYPE, "application/zip")
                    .header(header::CONTENT_LENGTH, length)
                    .body(file)
            }
        };
        Ok(builder.send().await)
    }
}

async fn refusal(request: &Request, response: reqwest::Response) -> Error {
    let status = response.status();
    let id = ["x-ms-request-id", "x-ms-correlation-request-id"]
        .iter()
        .find_map(|name| response.headers().get(*name)?.to_str().ok())
        .map(str::to_owned);
    let body = response.bytes().await.unwrap_or_default();
    Error::Refused(Box::new(Refusal::from_body(
        request.method.clone(),
        request.place(),
        status,
        id,
        &body,
    )))
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
