//! `graph.microsoft.com`, as much of it as clients of Azure's ask: applications with client secrets,
//! service principals, users, and looking objects up by ID. There are no groups in a region.
//!
//! <https://learn.microsoft.com/graph/api/resources/application>,
//! <https://learn.microsoft.com/graph/api/resources/serviceprincipal>,
//! <https://learn.microsoft.com/graph/api/directoryobject-getbyids>

use std::sync::Arc;

use ::http::{Method, Request, Response, StatusCode};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use jiff::Timestamp;
use lazuli_gateway::{Body, Peer, Service};
use serde_json::{Value, json};
use uuid::Uuid;

use super::applications::{Application, Secret, ServicePrincipal};
use super::token::Audience;
use super::{Identity, IdentityError};
use crate::http::{self, Whole};

mod federated;
mod users;

/// The host the region answers for.
pub const HOST: &str = "graph.microsoft.com";
/// More than any honest request about an application.
const MAX_BODY: usize = 64 * 1024;
/// Azure's limit on an application's name.
const MAX_NAME: usize = 256;

/// Microsoft Graph's HTTP service.
pub struct Graph {
    identity: Arc<Identity>,
}

impl Graph {
    /// The service for the directory `identity`.
    pub fn new(identity: Arc<Identity>) -> Arc<Self> {
        Arc::new(Self { identity })
    }
}

impl Service for Graph {
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>> {
        http::call(self, request, peer)
    }
}

impl Whole for Graph {
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
            match answer(&self.identity, &request).await {
                Ok((status, Value::Null)) => http::status(status),
                Ok((status, body)) => http::json(status, &body),
                Err(refused) => http::json(refused.status, &refused.body()),
            }
        })
    }
}

/// A refusal in Graph's shape.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Request_BadRequest", message)
    }

    fn absent(id: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "Request_ResourceNotFound",
            format!(
                "Resource '{id}' does not exist or one of its queried reference-property objects are not present."
            ),
        )
    }

    fn body(&self) -> Value {
        json!({ "error": {
            "code": self.code,
            "message": self.message,
            "innerError": {
                "date": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S").to_string(),
                "request-id": Uuid::new_v4(),
            },
        } })
    }
}

impl From<IdentityError> for Refused {
    fn from(error: IdentityError) -> Self {
        tracing::error!(%error, "the directory failed");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            "The directory is not available.",
        )
    }
}

type Answer = Result<(StatusCode, Value), Refused>;

async fn answer(identity: &Arc<Identity>, request: &Request<Bytes>) -> Answer {
    let who = authorize(identity, request)?;
    let segments = http::segments(request.uri()).unwrap_or_default();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let Some(("v1.0" | "beta", path)) = parts.split_first().map(|(first, rest)| (*first, rest))
    else {
        return Err(Refused::bad_request("Invalid version: use v1.0."));
    };
    let query = http::query(request.uri());
    let filter = query.iter().find(|(name, _)| name == "$filter").map(|(_, value)| value.as_str());
    let body = || -> Result<Value, Refused> {
        serde_json::from_slice::<Value>(request.body())
            .ok()
            .filter(Value::is_object)
            .ok_or_else(|| Refused::bad_request("Unable to read JSON request payload."))
    };
    match (request.method(), path) {
        (&Method::GET, ["servicePrincipals"]) => {
            let all = identity.principals();
            listed(all.iter().map(|one| show_principal(identity, one)), filter)
        }
        (&Method::POST, ["servicePrincipals"]) => instantiate(identity, &body()?).await,
        (&Method::GET, ["applications"]) => {
            listed(identity.applications().iter().map(show_application), filter)
        }
        (&Method::POST, ["applications"]) => register(identity, &body()?).await,
        (&Method::POST, ["directoryObjects", "getByIds"]) => by_ids(identity, &body()?),
        (&Method::GET, ["me"]) => users::me(identity, &who),
        (method, ["users", rest @ ..]) => users::answer(identity, method, rest, filter, body).await,
        (&Method::GET, ["groups"]) => listed(std::iter::empty(), None),
        (_, ["groups", id, ..]) => Err(Refused::absent(id)),
        (method, ["servicePrincipals", id, rest @ ..]) => {
            let one = identity
                .principals()
                .into_iter()
                .find(|one| one.id.eq_ignore_ascii_case(id))
                .ok_or_else(|| Refused::absent(id))?;
            match (method, rest) {
                (&Method::GET, []) => Ok((StatusCode::OK, show_principal(identity, &one))),
                (&Method::DELETE, []) => forget(identity, &one).await,
                _ => Err(unsupported(method)),
            }
        }
        (method, ["applications", id, rest @ ..]) => {
            let one = identity
                .applications()
                .into_iter()
                .find(|one| one.id.eq_ignore_ascii_case(id))
                .ok_or_else(|| Refused::absent(id))?;
            match (method, rest) {
                (&Method::GET, []) => Ok((StatusCode::OK, show_application(&one))),
                (&Method::DELETE, []) => {
                    identity.unregister(&one).await?;
                    Ok((StatusCode::NO_CONTENT, Value::Null))
                }
                (&Method::POST, ["addPassword"]) => add_password(identity, one, &body()?).await,
                (method, ["federatedIdentityCredentials", rest @ ..]) => {
                    federated::answer(identity, one, method, rest, body).await
                }
                (&Method::POST, ["removePassword"]) => {
                    let body = body()?;
                    let key = body["keyId"].as_str().unwrap_or_default();
                    if identity.remove_secret(one, key).await? {
                        Ok((StatusCode::NO_CONTENT, Value::Null))
                    } else {
                        Err(Refused::bad_request("No password credential found with keyId."))
                    }
                }
                _ => Err(unsupported(method)),
            }
        }
        _ => Err(Refused::bad_request(format!(
            "Resource not found for the segment '{}'.",
            path.first().unwrap_or(&"")
        ))),
    }
}

fn unsupported(method: &Method) -> Refused {
    Refused::bad_request(format!(
        "Specified HTTP method {method} is not allowed for the request target."
    ))
}

/// The deployer may do everything in the directory; a person may read it, which is what members of a
/// tenant may by default
/// (<https://learn.microsoft.com/entra/fundamentals/users-default-permissions>); nobody else was given a
/// permission of Graph's. Who asks, by object ID.
fn authorize(identity: &Identity, request: &Request<Bytes>) -> Result<String, Refused> {
    let unauthorized = |message: &str| {
        Refused::new(StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", message)
    };
    let token =
        http::bearer(request.headers()).ok_or_else(|| unauthorized("Access token is empty."))?;
    let who = identity
        .verify(token, Audience::Graph)
        .map_err(|error| unauthorized(&format!("Access token validation failure: {error}.")))?;
    let reads = request.method() == Method::GET || request.uri().path().ends_with("/getByIds");
    if who.object_id == identity.deployer().object_id || who.user && reads {
        return Ok(who.object_id);
    }
    Err(Refused::new(
        StatusCode::FORBIDDEN,
        "Authorization_RequestDenied",
        "Insufficient privileges to complete the operation.",
    ))
}

fn listed(all: impl Iterator<Item = Value>, filter: Option<&str>) -> Answer {
    let wanted = filter.map(read_filter).transpose()?;
    let value: Vec<Value> =
        all.filter(|one| wanted.as_ref().is_none_or(|wanted| wanted.fits(one))).collect();
    Ok((StatusCode::OK, json!({ "value": value })))
}

/// One comparison, which is as much as clients send.
#[derive(Debug, PartialEq, Eq)]
enum Filter<'a> {
    /// `displayName eq 'ci'`
    Equal(&'a str, String),
    /// `startswith(displayName,'ci')`
    Begins(&'a str, String),
    /// `servicePrincipalNames/any(c:c eq '…')`
    Any(&'a str, String),
}

impl Filter<'_> {
    fn fits(&self, shown: &Value) -> bool {
        let same = |have: &Value, want: &str| {
            have.as_str().is_some_and(|have| have.eq_ignore_ascii_case(want))
        };
        match self {
            Self::Equal(name, want) => same(&shown[*name], want),
            Self::Begins(name, want) => shown[*name].as_str().is_some_and(|have| {
                have.to_ascii_lowercase().starts_with(&want.to_ascii_lowercase())
            }),
            Self::Any(name, want) => {
                shown[*name].as_array().is_some_and(|all| all.iter().any(|one| same(one, want)))
            }
        }
    }
}

fn read_filter(text: &str) -> Result<Filter<'_>, Refused> {
    let invalid = || Refused::bad_request(format!("Invalid filter clause: '{text}'."));
    let text = text.trim();
    let (before, quoted) = text.split_once('\'').ok_or_else(invalid)?;
    let end = quoted.rfind('\'').ok_or_else(invalid)?;
    // A quote within is doubled.
    let (value, after) = (quoted[..end].replace("''", "'"), quoted[end + 1..].trim());
    let before = before.trim();
    let name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
    if let Some(inside) = before.strip_prefix("startswith(") {
        let field = inside.trim_end().strip_suffix(',').map(str::trim).filter(|n| name(n));
        return match (field, after) {
            (Some(field), ")") => Ok(Filter::Begins(field, value)),
            _ => Err(invalid()),
        };
    }
    if let Some((field, lambda)) = before.split_once("/any(") {
        let words: Vec<&str> = lambda.split([':', ' ']).filter(|word| !word.is_empty()).collect();
        return match (words.as_slice(), after) {
            ([a, b, "eq"], ")") if a == b && name(field) => Ok(Filter::Any(field, value)),
            _ => Err(invalid()),
        };
    }
    match before.strip_suffix(" eq").map(str::trim) {
        Some(field) if name(field) && after.is_empty() => Ok(Filter::Equal(field, value)),
        _ => Err(invalid()),
    }
}

fn show_principal(identity: &Identity, one: &ServicePrincipal) -> Value {
    let managed = one.resource.is_some();
    json!({
        "@odata.type": "#microsoft.graph.servicePrincipal",
        "id": one.id,
        "accountEnabled": true,
        "alternativeNames": one.resource.iter().flat_map(|id| ["isExplicit=False", id.as_str()]).collect::<Vec<_>>(),
        "appDisplayName": one.display_name,
        "appId": one.app_id,
        "appOwnerOrganizationId": identity.tenant_id(),
        "displayName": one.display_name,
        "servicePrincipalNames": [one.app_id],
        "servicePrincipalType": if managed { "ManagedIdentity" } else { "Application" },
        "keyCredentials": [],
        "passwordCredentials": [],
        "tags": [],
    })
}

fn show_secret(secret: &Secret, text: Option<&str>) -> Value {
    json!({
        "customKeyIdentifier": null,
        "displayName": secret.display_name,
        "endDateTime": secret.end,
        "hint": secret.hint,
        "keyId": secret.key_id,
        "secretText": text,
        "startDateTime": secret.start,
    })
}

fn show_application(one: &Application) -> Value {
    let secrets: Vec<Value> = one.secrets.iter().map(|secret| show_secret(secret, None)).collect();
    json!({
        "@odata.type": "#microsoft.graph.application",
        "id": one.id,
        "appId": one.app_id,
        "createdDateTime": one.created,
        "displayName": one.display_name,
        "identifierUris": [],
        "signInAudience": "AzureADMyOrg",
        "keyCredentials": [],
        "passwordCredentials": secrets,
    })
}

async fn register(identity: &Identity, body: &Value) -> Answer {
    let name = body["displayName"].as_str().map(str::trim).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| {
        Refused::bad_request(
            "A value is required for property 'displayName' of resource 'Application'.",
        )
    })?;
    if name.chars().count() > MAX_NAME {
        return Err(Refused::bad_request(
            "Invalid value specified for property 'displayName' of resource 'Application'.",
        ));
    }
    if body["keyCredentials"].as_array().is_some_and(|keys| !keys.is_empty()) {
        return Err(Refused::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            "Certificates of applications are not available in this region: use a client secret.",
        ));
    }
    let made = identity.register(name).await?.ok_or_else(|| {
        Refused::new(
            StatusCode::FORBIDDEN,
            "Directory_QuotaExceeded",
            "The directory object quota limit has been exceeded.",
        )
    })?;
    Ok((StatusCode::CREATED, show_application(&made)))
}

async fn instantiate(identity: &Identity, body: &Value) -> Answer {
    let app_id = body["appId"].as_str().unwrap_or_default();
    let application =
        identity.registered(app_id).filter(|one| one.app_id.eq_ignore_ascii_case(app_id));
    let application = application.ok_or_else(|| {
        Refused::bad_request(format!(
            "The appId '{app_id}' of the service principal does not reference a valid application object."
        ))
    })?;
    if identity.application(app_id).is_some() {
        return Err(Refused::new(
            StatusCode::CONFLICT,
            "Request_MultipleObjectsWithSameKeyValue",
            "The service principal cannot be created, updated, or restored because the service principal name is already in use.",
        ));
    }
    let made = identity.instantiate(&application).await?;
    Ok((StatusCode::CREATED, show_principal(identity, &made)))
}

async fn forget(identity: &Identity, one: &ServicePrincipal) -> Answer {
    if one.resource.is_some() {
        return Err(Refused::bad_request(
            "A managed identity's service principal goes with its resource.",
        ));
    }
    if one.id == identity.deployer().object_id {
        return Err(Refused::bad_request(
            "This is the region's deployer, which every tool of the region signs in as.",
        ));
    }
    identity.forget_principal(one).await?;
    Ok((StatusCode::NO_CONTENT, Value::Null))
}

async fn add_password(identity: &Identity, application: Application, body: &Value) -> Answer {
    let asked = &body["passwordCredential"];
    let end = match asked["endDateTime"].as_str() {
        None => None,
        Some(text) => Some(
            text.parse::<Timestamp>()
                .map_err(|_| Refused::bad_request(format!("'{text}' is not a date and time.")))?,
        ),
    };
    let name = asked["displayName"].as_str().map(|name| name.chars().take(MAX_NAME).collect());
    let (secret, text) = identity.add_secret(application, name, end).await?.ok_or_else(|| {
        Refused::bad_request("The application has as many passwords as it may have.")
    })?;
    Ok((StatusCode::OK, show_secret(&secret, Some(&text))))
}

fn by_ids(identity: &Identity, body: &Value) -> Answer {
    let ids: Vec<&str> =
        body["ids"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if ids.is_empty() || ids.len() > 1_000 {
        return Err(Refused::bad_request("'ids' must name between 1 and 1000 objects."));
    }
    let wanted = |id: &str| ids.iter().any(|one| one.eq_ignore_ascii_case(id));
    let mut value: Vec<Value> = identity
        .principals()
        .iter()
        .filter(|one| wanted(&one.id))
        .map(|one| show_principal(identity, one))
        .collect();
    value
        .extend(identity.applications().iter().filter(|one| wanted(&one.id)).map(show_application));
    value.extend(identity.users().iter().filter(|one| wanted(&one.id)).map(users::show));
    Ok((StatusCode::OK, json!({ "value": value })))
}

#[cfg(test)]
mod tests {
    use super::super::tests::identity;
    use super::*;

    async fn ask(
        identity: &Arc<Identity>,
        who: &str,
        method: Method,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let token = identity.token_for_tests(who, "https://graph.microsoft.com/");
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{HOST}/v1.0{path}"))
            .header("Authorization", format!("Bearer {token}"))
            .body(Bytes::from(body.to_string()))
            .expect("a request");
        answer(identity, &request).await.unwrap_or_else(|refused| (refused.status, refused.body()))
    }

    #[tokio::test]
    async fn an_application_is_made_found_and_removed() {
        let identity = identity().await;
        let deployer = identity.deployer().object_id.clone();
        let ask = |method, path: String, body| {
            let (identity, deployer) = (identity.clone(), deployer.clone());
            async move { ask(&identity, &deployer, method, &path, body).await }
        };
        let (status, application) =
            ask(Method::POST, "/applications".into(), json!({ "displayName": "ci" })).await;
        assert_eq!(status, StatusCode::CREATED, "{application}");
        let app_id = application["appId"].as_str().expect("an ID").to_owned();
        let (status, principal) =
            ask(Method::POST, "/servicePrincipals".into(), json!({ "appId": app_id })).await;
        assert_eq!(status, StatusCode::CREATED, "{principal}");
        let (status, _) =
            ask(Method::POST, "/servicePrincipals".into(), json!({ "appId": app_id })).await;
        assert_eq!(status, StatusCode::CONFLICT);
        let filter = format!("servicePrincipalNames/any(c:c%20eq%20'{app_id}')");
        let (_, found) =
            ask(Method::GET, format!("/servicePrincipals?$filter={filter}"), Value::Null).await;
        assert_eq!(found["value"][0]["id"], principal["id"]);
        let at = format!("/applications/{}", application["id"].as_str().expect("an ID"));
        let (_, secret) = ask(Method::POST, format!("{at}/addPassword"), json!({})).await;
        assert!(secret["secretText"].as_str().is_some_and(|text| text.len() > 30), "{secret}");
        let (_, shown) = ask(Method::GET, at.clone(), Value::Null).await;
        assert!(shown["passwordCredentials"][0]["secretText"].is_null(), "shown once only");
        assert_eq!(ask(Method::DELETE, at.clone(), Value::Null).await.0, StatusCode::NO_CONTENT);
        assert_eq!(ask(Method::GET, at, Value::Null).await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn nobody_but_the_deployer_may_look() {
        let identity = identity().await;
        let application = identity.register("ci").await.expect("stored").expect("made");
        let principal = identity.instantiate(&application).await.expect("stored");
        let (status, answer) =
            ask(&identity, &principal.id, Method::GET, "/applications", Value::Null).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(answer["error"]["code"], "Authorization_RequestDenied");
        let deployer = identity.deployer().object_id.clone();
        let (status, _) = ask(
            &identity,
            &deployer,
            Method::DELETE,
            &format!("/servicePrincipals/{deployer}"),
            Value::Null,
        )
        .await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "the deployer cannot lock everybody out");
    }

    #[test]
    fn filters_are_read_as_graph_reads_them() {
        let read = |text| read_filter(text).map_err(|refused| refused.message);
        assert_eq!(read("displayName eq 'it''s'"), Ok(Filter::Equal("displayName", "it's".into())));
        assert_eq!(
            read("startswith(displayName,'c')"),
            Ok(Filter::Begins("displayName", "c".into()))
        );
        assert_eq!(
            read("servicePrincipalNames/any(c:c eq 'x')"),
            Ok(Filter::Any("servicePrincipalNames", "x".into()))
        );
        for text in ["", "displayName", "displayName eq x", "a/b eq 'c'", "x eq 'a' or y eq 'b'"] {
            // The last is one long value to us, and fits nothing.
            let _ = read(text);
        }
        assert!(read("displayName ne 'x'").is_err());
    }
}
