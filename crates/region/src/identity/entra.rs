//! `login.microsoftonline.com`: discovery and the token endpoints, versions 1 and 2.
//!
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>;
//! error codes: <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>

use std::collections::HashMap;
use std::sync::Arc;

use ::http::{HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use lazuli_gateway::{Body, Peer, Service};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Identity;
use super::applications::Presented;
use super::sign_in::{self, Failure, Page};
use super::token::{self, Audience, Subject};
use crate::http::{self, Whole};

/// The host the region answers for.
pub const HOST: &str = "login.microsoftonline.com";
/// The type of an assertion that is a token.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// More than any honest request to a token endpoint.
pub const MAX_BODY: usize = 64 * 1024;

/// Entra ID's HTTP service.
pub struct Entra {
    identity: Arc<Identity>,
}

impl Entra {
    /// The service for the principals of `identity`.
    pub fn new(identity: Arc<Identity>) -> Arc<Self> {
        Arc::new(Self { identity })
    }
}

impl Service for Entra {
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>> {
        http::call(self, request, peer)
    }

    /// The page where people sign in is for browsers, which do not trust the region's CA.
    fn answers_plain_http_locally(&self) -> bool {
        true
    }
}

impl Whole for Entra {
    fn limit(&self) -> usize {
        MAX_BODY
    }

    fn too_large(&self) -> Response<Bytes> {
        http::status(StatusCode::PAYLOAD_TOO_LARGE)
    }

    fn answer(
        self: Arc<Self>,
        request: Request<Bytes>,
        _peer: Peer,
    ) -> BoxFuture<'static, Response<Bytes>> {
        Box::pin(async move {
            // Waiting for a key that is still being made, and RSA itself, block for milliseconds and
            // more: not on a thread that serves others.
            let answered = tokio::task::spawn_blocking(move || {
                if let Some(page) = sign_in::page(&self.identity, &request) {
                    return shown(page);
                }
                let uri = request.uri();
                let (status, body) = answer(
                    &self.identity,
                    request.method(),
                    uri.path(),
                    uri.query().unwrap_or_default(),
                    request.body(),
                );
                http::json(status, &body)
            });
            answered.await.unwrap_or_else(|_| http::status(StatusCode::INTERNAL_SERVER_ERROR))
        })
    }
}

/// A page as it is sent: nobody may frame it, keep it, or learn from where somebody left it.
fn shown(page: Page) -> Response<Bytes> {
    let mut response = match page {
        Page::Json(status, body) => return http::json(status, &body),
        Page::Html(status, text) => http::text(status, "text/html; charset=utf-8", text),
        Page::Redirect(to) => {
            let mut response = http::status(StatusCode::FOUND);
            if let Ok(to) = HeaderValue::try_from(to) {
                response.headers_mut().insert("location", to);
            }
            response
        }
    };
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A refusal, in Entra's shape.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    error: &'static str,
    code: u32,
    message: String,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        error: &'static str,
        code: u32,
        message: impl Into<String>,
    ) -> Self {
        Self { status, error, code, message: message.into() }
    }

    /// What a page says.
    pub(super) fn said(&self) -> String {
        format!("AADSTS{}: {}", self.code, self.message)
    }

    pub(super) fn into_answer(self) -> (StatusCode, Value) {
        let (trace, correlation) = (Uuid::new_v4(), Uuid::new_v4());
        let time = Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        let description = format!(
            "{} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {time}",
            self.said()
        );
        let body = json!({
            "error": self.error,
            "error_description": description,
            "error_codes": [self.code],
            "timestamp": time,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://{HOST}/error?code={}", self.code),
        });
        (self.status, body)
    }
}

/// Answers a request to Entra ID.
pub fn answer(
    identity: &Arc<Identity>,
    method: &Method,
    path: &str,
    query: &str,
    body: &[u8],
) -> (StatusCode, Value) {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (tenant, rest) = segments.split_first().unwrap_or((&"", &[]));
    match (method.as_str(), rest) {
        ("GET", ["discovery", "instance"]) => (StatusCode::OK, instance_discovery(identity, query)),
        ("GET", [.., "discovery", "keys"] | [.., "discovery", "v2.0", "keys"]) => {
            match identity.tokens.jwks() {
                Ok(keys) => (StatusCode::OK, keys.clone()),
                Err(error) => unavailable(&error),
            }
        }
        ("GET", [".well-known", "openid-configuration"]) => {
            checked(identity, tenant, |tenant| openid(tenant, false))
        }
        ("GET", ["v2.0", ".well-known", "openid-configuration"]) => {
            checked(identity, tenant, |tenant| openid(tenant, true))
        }
        ("POST", ["oauth2", "token"]) => grant(identity, tenant, body, false),
        ("POST", ["oauth2", "v2.0", "token"]) => grant(identity, tenant, body, true),
        ("POST", ["oauth2", "devicecode"] | ["oauth2", "v2.0", "devicecode"]) => {
            match sign_in::device_code(identity, body) {
                Ok(answer) => (StatusCode::OK, answer),
                Err(refusal) => refusal.into_answer(),
            }
        }
        (_, ["oauth2", "token"] | ["oauth2", "v2.0", "token"]) => Refusal::new(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            900_561,
            "The endpoint only accepts POST requests. Received a GET request.",
        )
        .into_answer(),
        _ => (StatusCode::NOT_FOUND, json!({ "error": "not_found" })),
    }
}

/// `common` and `organizations` stand for whatever tenant the caller turns out to be of.
fn is_placeholder(tenant: &str) -> bool {
    ["common", "organizations"].iter().any(|name| tenant.eq_ignore_ascii_case(name))
}

fn unknown_tenant(tenant: &str) -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "invalid_tenant",
        90_002,
        format!(
            "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are \
             signing into the correct cloud. This region has one tenant; `lazuli env` prints it."
        ),
    )
}

fn unsupported(grant_type: &str) -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "unsupported_grant_type",
        70_003,
        format!("The app requested an unsupported grant type '{grant_type}'."),
    )
}

fn checked(
    identity: &Identity,
    tenant: &str,
    answer: impl FnOnce(&str) -> Value,
) -> (StatusCode, Value) {
    if tenant.eq_ignore_ascii_case(identity.tenant_id()) || is_placeholder(tenant) {
        (StatusCode::OK, answer(tenant))
    } else {
        unknown_tenant(tenant).into_answer()
    }
}

fn openid(tenant: &str, v2: bool) -> Value {
    // For `common` Entra gives a template that clients fill in.
    let named = if is_placeholder(tenant) { "{tenantid}" } else { tenant };
    let (path, issuer) = if v2 {
        ("/v2.0", format!("https://{HOST}/{named}/v2.0"))
    } else {
        ("", token::issuer(named))
    };
    json!({
        "token_endpoint": format!("https://{HOST}/{tenant}/oauth2{path}/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        "jwks_uri": format!("https://{HOST}/{tenant}/discovery{path}/keys"),
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": issuer,
        "authorization_endpoint": format!("https://{HOST}/{tenant}/oauth2{path}/authorize"),
        "device_authorization_endpoint": format!("https://{HOST}/{tenant}/oauth2{path}/devicecode"),
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "tid", "oid", "appid"],
        "tenant_region_scope": "EU",
        "cloud_instance_name": "microsoftonline.com",
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": "graph.microsoft.com",
    })
}

fn instance_discovery(identity: &Identity, query: &str) -> Value {
    let query = pairs(query);
    let tenant = query
        .get("authorization_endpoint")
        .and_then(|url| url.strip_prefix("https://"))
        .and_then(|rest| rest.split('/').nth(1))
        .unwrap_or(identity.tenant_id());
    json!({
        "tenant_discovery_endpoint":
            format!("https://{HOST}/{tenant}/v2.0/.well-known/openid-configuration"),
        "api-version": "1.1",
        "metadata": [{
            "preferred_network": HOST,
            "preferred_cache": "login.windows.net",
            "aliases": [HOST, "login.windows.net", "login.microsoft.com", "sts.windows.net"],
        }],
    })
}

fn unavailable(error: &super::IdentityError) -> (StatusCode, Value) {
    tracing::error!(%error, "cannot issue a token");
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "temporarily_unavailable",
        90_033,
        "A transient error has occurred. Please try again.",
    )
    .into_answer()
}

fn grant(identity: &Arc<Identity>, tenant: &str, body: &[u8], v2: bool) -> (StatusCode, Value) {
    match try_grant(identity, tenant, body, v2) {
        Ok(answer) => (StatusCode::OK, answer),
        Err(Failure::Refused(refusal)) => refusal.into_answer(),
        Err(Failure::Broken(error)) => unavailable(&error),
    }
}

pub(super) fn missing(parameter: &str) -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "invalid_request",
        900_144,
        format!("The request body must contain the following parameter: '{parameter}'."),
    )
}

fn try_grant(
    identity: &Arc<Identity>,
    tenant: &str,
    body: &[u8],
    v2: bool,
) -> Result<Value, Failure> {
    let ours = tenant.eq_ignore_ascii_case(identity.tenant_id());
    if !ours && !is_placeholder(tenant) {
        return Err(unknown_tenant(tenant).into());
    }
    let body = std::str::from_utf8(body).map_err(|_| missing("grant_type"))?;
    let form = pairs(body);
    let field = |name: &str| form.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let grant_type = field("grant_type").ok_or_else(|| missing("grant_type"))?;
    if sign_in::is_ours(grant_type) {
        return sign_in::grant(identity, grant_type, &field, v2);
    }
    if grant_type != "client_credentials" {
        return Err(unsupported(grant_type).into());
    }
    // An application says which tenant it is of.
    if !ours {
        return Err(unknown_tenant(tenant).into());
    }
    let client_id = field("client_id").ok_or_else(|| missing("client_id"))?;
    let audience = requested_audience(&field, v2, false)?;
    let (object_id, record) = identity.application(client_id).ok_or_else(|| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "unauthorized_client",
            700_016,
            format!(
                "Application with identifier '{client_id}' was not found in the directory \
                 '{tenant}'."
            ),
        )
    })?;
    if let Some(assertion) = field("client_assertion") {
        if field("client_assertion_type") != Some(JWT_BEARER) {
            return Err(missing("client_assertion_type").into());
        }
        let trusted = match record.resource.as_deref().and_then(|id| ResourceId::parse(id).ok()) {
            Some(owner) => identity.trusted_by(&owner),
            None => identity.registered(client_id).map(|one| one.trusts()).unwrap_or_default(),
        };
        identity.federated(trusted, assertion).map_err(|error| {
            Refusal::new(
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                error.code(),
                error.to_string(),
            )
        })?;
    } else {
        by_secret(identity, client_id, field("client_secret"))?;
    }
    let subject = Subject {
        tenant: identity.tenant_id(),
        object_id: &object_id,
        client_id: &record.client_id,
        resource: record.resource.as_deref(),
        user: None,
    };
    let token = identity
        .tokens
        .issue(&subject, &audience, token::APPLICATION_LIFETIME)
        .map_err(Failure::Broken)?;
    // Version 1 gives numbers as strings, version 2 as numbers.
    Ok(if v2 {
        json!({
            "token_type": "Bearer",
            "expires_in": token.expires_in - 1,
            "ext_expires_in": token.expires_in - 1,
            "access_token": token.text,
        })
    } else {
        json!({
            "token_type": "Bearer",
            "expires_in": (token.expires_in - 1).to_string(),
            "ext_expires_in": (token.expires_in - 1).to_string(),
            "expires_on": token.expires_on.to_string(),
            "not_before": (token.expires_on - token.expires_in).to_string(),
            "resource": audience,
            "access_token": token.text,
        })
    })
}

/// Whether the secret is one of the application's.
fn by_secret(identity: &Identity, client_id: &str, secret: Option<&str>) -> Result<(), Failure> {
    let secret = secret.ok_or_else(|| {
        Refusal::new(
            StatusCode::UNAUTHORIZED,
            "invalid_client",
            7_000_218,
            "The request body must contain the following parameter: 'client_assertion' or \
             'client_secret'.",
        )
    })?;
    match identity.presented(client_id, secret) {
        Presented::Right => {}
        Presented::Wrong => {
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                7_000_215,
                format!(
                    "Invalid client secret provided. Ensure the secret being sent in the request is \
                     the client secret value, not the client secret ID, for a secret added to app \
                     '{client_id}'."
                ),
            )
            .into());
        }
        Presented::Expired => {
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                7_000_222,
                format!("The provided client secret keys for app '{client_id}' are expired."),
            )
            .into());
        }
    }
    Ok(())
}

/// The audience a token is asked for: `scope` ends in `/.default` in version 2, `resource` names it
/// in version 1. What is asked for in a person's name (`delegated`) may name one permission instead.
pub(super) fn requested_audience<'a>(
    field: &impl Fn(&str) -> Option<&'a str>,
    v2: bool,
    delegated: bool,
) -> Result<String, Refusal> {
    let resource = if v2 {
        let scopes = field("scope").ok_or_else(|| missing("scope"))?;
        // Clients add the reserved scopes of OpenID; they mean nothing to an application.
        let reserved = ["openid", "profile", "offline_access"];
        let scope = scopes
            .split(' ')
            .find(|scope| !scope.is_empty() && !reserved.contains(scope))
            .ok_or_else(|| missing("scope"))?;
        let named =
            if delegated { scope.rsplit_once('/').map(|(audience, _)| audience) } else { None };
        scope.strip_suffix("/.default").or(named).ok_or_else(|| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "invalid_scope",
                1_002_012,
                format!(
                    "The provided value for scope {scope} is not valid. Client credential flows \
                     must have a scope value with /.default suffixed to the resource identifier \
                     (application ID URI)."
                ),
            )
        })?
    } else {
        field("resource").ok_or_else(|| missing("resource"))?
    };
    Audience::of(resource).map(|_| resource.to_owned()).ok_or_else(|| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "invalid_resource",
            500_011,
            format!(
                "The resource principal named {resource} was not found in the tenant. This can \
                 happen if the application has not been installed by the administrator of the \
                 tenant or consented to by any user in the tenant."
            ),
        )
    })
}

/// The pairs of a query or of a form, percent-decoded; of two with one name the first counts.
pub(super) fn pairs(text: &str) -> HashMap<String, String> {
    let mut pairs = HashMap::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        pairs.entry(name.into_owned()).or_insert_with(|| value.into_owned());
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::super::tests::identity;
    use super::*;

    async fn ask(body: &str, v2: bool) -> (StatusCode, Value) {
        let identity = identity().await;
        let tenant = identity.tenant_id().to_owned();
        let body = body
            .replace("CLIENT", &identity.deployer().client_id)
            .replace("SECRET", &identity.deployer().client_secret);
        let path = if v2 { "oauth2/v2.0/token" } else { "oauth2/token" };
        answer(&identity, &Method::POST, &format!("/{tenant}/{path}"), "", body.as_bytes())
    }

    fn codes(answer: &Value) -> u64 {
        answer["error_codes"][0].as_u64().expect("an AADSTS code")
    }

    const FORM: &str = "grant_type=client_credentials&client_id=CLIENT&client_secret=SECRET";

    #[tokio::test]
    async fn the_deployer_gets_a_token_for_resource_manager() {
        let scope = "scope=https%3A%2F%2Fmanagement.azure.com%2F.default+openid";
        let (status, answer) = ask(&format!("{FORM}&{scope}"), true).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["token_type"], "Bearer");
        assert_eq!(answer["expires_in"], 3599);
        let (status, answer) =
            ask(&format!("{FORM}&resource=https://management.core.windows.net/"), false).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["expires_in"], "3599");
    }

    #[tokio::test]
    async fn what_entra_refuses_is_refused_with_its_code() {
        let scope = "scope=https://vault.azure.net/.default";
        let cases = [
            ("client_id=CLIENT".to_owned(), 900_144),
            (format!("grant_type=implicit&client_id=CLIENT&{scope}"), 70_003),
            (format!("grant_type=password&client_id=CLIENT&{scope}"), 700_016),
            (format!("grant_type=client_credentials&{scope}"), 900_144),
            (format!("{FORM}&scope=https://vault.azure.net"), 1_002_012),
            (format!("{FORM}&scope=https://example.org/.default"), 500_011),
            (FORM.to_owned(), 900_144),
            (
                format!("grant_type=client_credentials&client_id=CLIENT&client_secret=no&{scope}"),
                7_000_215,
            ),
            (format!("grant_type=client_credentials&client_id=CLIENT&{scope}"), 7_000_218),
            (
                format!("grant_type=client_credentials&client_id=x&client_secret=SECRET&{scope}"),
                700_016,
            ),
        ];
        for (form, code) in cases {
            let (status, answer) = ask(&form, true).await;
            assert!(status.is_client_error(), "{form}");
            assert_eq!(codes(&answer), code, "{form}");
            let said = answer["error_description"].as_str().expect("a description");
            assert!(said.starts_with(&format!("AADSTS{code}: ")), "{said}");
        }
    }

    #[tokio::test]
    async fn another_tenant_does_not_exist() {
        let identity = identity().await;
        let path = format!("/{}/oauth2/v2.0/token", Uuid::new_v4());
        let (status, said) = answer(&identity, &Method::POST, &path, "", b"");
        assert_eq!((status, codes(&said)), (StatusCode::BAD_REQUEST, 90_002));
        let path = format!("/{}/v2.0/.well-known/openid-configuration", Uuid::new_v4());
        let (status, _) = answer(&identity, &Method::GET, &path, "", b"");
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn discovery_leads_to_the_keys() {
        let identity = identity().await;
        let tenant = identity.tenant_id();
        let path = format!("/{tenant}/v2.0/.well-known/openid-configuration");
        let (status, found) = answer(&identity, &Method::GET, &path, "", b"");
        assert_eq!(status, StatusCode::OK);
        let keys = found["jwks_uri"].as_str().expect("a URL");
        let keys = keys.strip_prefix("https://login.microsoftonline.com").expect("our host");
        let (status, keys) = answer(&identity, &Method::GET, keys, "", b"");
        assert_eq!(status, StatusCode::OK);
        assert_eq!(keys["keys"][0]["kty"], "RSA");
    }

    #[test]
    fn of_two_parameters_the_first_counts() {
        assert_eq!(pairs("a=1&a=2&b=%26+")["a"], "1");
        assert_eq!(pairs("a=1&a=2&b=%26+")["b"], "& ");
    }
}
