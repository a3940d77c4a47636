//! The blob service: `https://{account}.blob.core.windows.net`
//! (<https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api>).

mod blobs;
mod containers;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use lazuli_gateway::{Body, Origin, Peer, Service, empty, full};
use uuid::Uuid;

pub(crate) use containers::valid_container;

use super::{
    Storage,
    auth::Signed,
    error::Refusal,
    sas::{Sas, Wanted},
    xml,
};
use crate::{
    control::authorization::{Permission, allowed},
    http as plain,
    identity::{AuthError, token::Audience},
    store::Resource,
};

/// The largest body of one request. Azure takes 5000 MiB in one Put Blob; larger blobs come in blocks.
const MAX_BODY: usize = 256 << 20;
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(600);
/// The version of the service's answers, where the client names none.
const VERSION: &str = "2023-11-03";
/// All of a blob's metadata, in bytes.
const MAX_METADATA: usize = 8 * 1024;

/// A request, its body read.
struct Ask<'a> {
    method: &'a Method,
    account: Arc<Resource>,
    container: &'a str,
    /// With its slashes, decoded; empty for what is about the container.
    blob: &'a str,
    query: &'a [(String, String)],
    headers: &'a HeaderMap,
    body: Bytes,
    now: Timestamp,
}

/// An answer.
struct Answer {
    status: StatusCode,
    headers: Vec<(&'static str, String)>,
    metadata: BTreeMap<String, String>,
    body: Body,
}

impl Answer {
    fn new(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), metadata: BTreeMap::new(), body: empty() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// `ETag` and `Last-Modified`.
    fn version(self, etag: &str, modified: Timestamp) -> Self {
        self.with("etag", format!("\"{etag}\"")).with("last-modified", http_date(modified))
    }

    fn xml(mut self, text: &str) -> Self {
        self.body = full(format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>{text}"));
        self.with("content-type", "application/xml")
    }
}

/// What a caller must be allowed to do.
#[derive(Clone, Copy)]
enum Needs {
    /// With a container.
    Action(&'static str),
    /// With its blobs.
    Data(&'static str),
}

const READ: Needs =
    Needs::Data("Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read");
const WRITE: Needs =
    Needs::Data("Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write");
const DELETE: Needs =
    Needs::Data("Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete");
const READ_CONTAINER: Needs =
    Needs::Action("Microsoft.Storage/storageAccounts/blobServices/containers/read");
const WRITE_CONTAINER: Needs =
    Needs::Action("Microsoft.Storage/storageAccounts/blobServices/containers/write");
const DELETE_CONTAINER: Needs =
    Needs::Action("Microsoft.Storage/storageAccounts/blobServices/containers/delete");

/// `Sun, 22 Nov 2026 10:00:00 GMT`.
fn http_date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

impl Ask<'_> {
    fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim).filter(|value| !value.is_empty())
    }

    /// `x-ms-meta-*`.
    fn metadata(&self) -> Result<BTreeMap<String, String>, Refusal> {
        let mut out = BTreeMap::new();
        let mut size = 0;
        for (name, value) in self.headers {
            let Some(name) = name.as_str().strip_prefix("x-ms-meta-") else { continue };
            let legal = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let Some(value) = value.to_str().ok().filter(|_| legal) else {
                return Err(Refusal::bad(
                    "InvalidMetadata",
                    "The metadata specified is invalid. It has characters that are not permitted.",
                ));
            };
            size += name.len() + value.len();
            out.insert(name.to_owned(), value.to_owned());
        }
        if size > MAX_METADATA {
            return Err(Refusal::bad(
                "MetadataTooLarge",
                "The size of the specified metadata exceeds the maximum size permitted.",
            ));
        }
        Ok(out)
    }
}

impl Service for Storage {
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let head = parts.method == Method::HEAD;
            let outcome = match tokio::time::timeout(BODY_TIMEOUT, read(body)).await {
                Ok(Ok(body)) => self.outcome(&parts, body, peer).await,
                Ok(Err(refusal)) => Err(refusal),
                Err(_) => Err(Refusal::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "OperationTimedOut",
                    "The operation could not be completed within the permitted time.",
                )),
            };
            self.respond(outcome, &parts.headers, head)
        })
    }
}

async fn read(mut body: Incoming) -> Result<Bytes, Refusal> {
    let mut out = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Refusal::bad("InvalidInput", "The request's body ended before it was whole.")
        })?;
        if let Ok(data) = frame.into_data() {
            if out.len() + data.len() > MAX_BODY {
                return Err(Refusal::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "RequestBodyTooLarge",
                    format!(
                        "The request body is too large: this region takes {MAX_BODY} bytes at once."
                    ),
                ));
            }
            out.extend_from_slice(&data);
        }
    }
    Ok(out.freeze())
}

impl Storage {
    fn respond(
        &self,
        outcome: Result<Answer, Refusal>,
        asked: &HeaderMap,
        head: bool,
    ) -> Response<Body> {
        let id = Uuid::new_v4().to_string();
        let answer = outcome.unwrap_or_else(|refusal| {
            let time = Timestamp::now();
            let mut text = format!(
                "<Error>{}{}",
                xml::element("Code", refusal.code),
                xml::element("Message", &format!("{}\nRequestId:{id}\nTime:{time}", refusal.message))
            );
            if let Some(detail) = &refusal.detail {
                text.push_str(&xml::element("AuthenticationErrorDetail", detail));
            }
            text.push_str("</Error>");
            let mut answer = Answer::new(refusal.status).with("x-ms-error-code", refusal.code);
            if !head && refusal.status != StatusCode::NOT_MODIFIED {
                answer = answer.xml(&text);
            }
            if refusal.challenge {
                answer = answer.with(
                    "www-authenticate",
                    format!(
                        "Bearer authorization_uri=https://login.microsoftonline.com/{}/oauth2/authorize resource_id=https://storage.azure.com",
                        self.identity.tenant_id()
                    ),
                );
            }
            answer
        });
        let mut response = Response::new(answer.body);
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        let version = asked.get("x-ms-version").and_then(|value| value.to_str().ok());
        let own = [
            ("server", "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0".to_owned()),
            ("x-ms-request-id", id),
            ("x-ms-version", version.unwrap_or(VERSION).to_owned()),
        ];
        for (name, value) in own.into_iter().chain(answer.headers) {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        for (name, value) in answer.metadata {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(format!("x-ms-meta-{name}")), HeaderValue::try_from(value))
            {
                headers.insert(name, value);
            }
        }
        if let Some(client) = asked.get("x-ms-client-request-id") {
            headers.insert("x-ms-client-request-id", client.clone());
        }
        response
    }

    async fn outcome(
        self: &Arc<Self>,
        parts: &http::request::Parts,
        body: Bytes,
        peer: Peer,
    ) -> Result<Answer, Refusal> {
        let host = parts
            .uri
            .host()
            .or_else(|| parts.headers.get(header::HOST)?.to_str().ok())
            .unwrap_or_default();
        let account = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let found = self.account(&account).ok_or_else(|| {
            Refusal::new(
                StatusCode::NOT_FOUND,
                "ResourceNotFound",
                format!("There is no storage account named {account} in this region."),
            )
        })?;
        let invalid = || {
            Refusal::bad(
                "InvalidUri",
                "The requested URI does not represent any resource on the server.",
            )
        };
        let path = percent_encoding::percent_decode_str(parts.uri.path())
            .decode_utf8()
            .map_err(|_| invalid())?;
        let path = path.strip_prefix('/').ok_or_else(invalid)?;
        if path.contains('\0') {
            return Err(invalid());
        }
        let (container, blob) = path.split_once('/').unwrap_or((path, ""));
        let query = plain::query(&parts.uri);
        let ask = Ask {
            method: &parts.method,
            account: found,
            container,
            blob,
            query: &query,
            headers: &parts.headers,
            body,
            now: Timestamp::now(),
        };
        let needs = operation_needs(&ask);
        self.admit(&ask, parts.uri.path(), needs, peer)?;
        if ask.container.is_empty() {
            return self.containers(&ask);
        }
        if ask.blob.is_empty() {
            return self.on_container(&ask).await;
        }
        let mut answer = self.on_blob(&ask).await?;
        if let Some(sas) = Sas::of(&query).filter(|_| ask.header("authorization").is_none()) {
            for (name, value) in sas.headers() {
                answer.headers.retain(|(there, _)| *there != name);
                answer.headers.push((name, value.to_owned()));
            }
        }
        Ok(answer)
    }

    /// Whether the network, then the caller, may do this.
    fn admit(&self, ask: &Ask<'_>, path: &str, needs: Needs, peer: Peer) -> Result<(), Refusal> {
        let account = &ask.account;
        let properties = account.properties();
        let closed = properties["publicNetworkAccess"] == "Disabled"
            || properties["publicNetworkAccess"] == "SecuredByPerimeter"
            || properties["networkAcls"]["defaultAction"] == "Deny";
        if closed && peer.origin == Origin::Machine {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "AuthorizationFailure",
                "This request is not authorized to perform this operation.",
            ));
        }
        let Some(authorization) = ask.header("authorization") else {
            return match Sas::of(ask.query) {
                Some(sas) => self.admit_signature(ask, &sas, needs, peer),
                None => self.admit_anybody(ask, needs),
            };
        };
        if let Some(signature) = authorization.strip_prefix("SharedKey ") {
            if properties["allowSharedKeyAccess"] == false {
                return Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "KeyBasedAuthenticationNotPermitted",
                    "Key based authentication is not permitted on this storage account.",
                ));
            }
            let keys = self.keys(&account.id).ok_or_else(|| {
                Refusal::internal(&format!("the keys of {} are lost", account.id))
            })?;
            let signed =
                Signed { method: ask.method, path, query: ask.query, headers: ask.headers };
            let name = account.id.name().to_ascii_lowercase();
            return signed.verify(&name, signature, &[&keys.values[0], &keys.values[1]]);
        }
        let Some(token) = plain::bearer(ask.headers) else {
            return Err(Refusal::bad(
                "InvalidAuthenticationInfo",
                "Authentication information is not given in the correct format. Check the value of Authorization header.",
            ));
        };
        let who = self.identity.verify(token, Audience::Storage).map_err(|error| {
            let message = match error {
                AuthError::Expired => "Lifetime validation failed. The token is expired.",
                AuthError::Audience => "Audience validation failed. Audience did not match.",
                AuthError::Issuer => "Issuer validation failed. Issuer did not match.",
                AuthError::Invalid | AuthError::UnknownPrincipal => {
                    "Signature validation failed. Signature verification failed."
                }
            };
            Refusal {
                detail: Some(message.to_owned()),
                challenge: true,
                ..Refusal::new(
                    StatusCode::UNAUTHORIZED,
                    "InvalidAuthenticationInfo",
                    "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.",
                )
            }
        })?;
        let scope =
            Self::container_id(&account.id, ask.container).unwrap_or_else(|| account.id.clone());
        let permission = match needs {
            Needs::Action(name) => Permission::Action(name),
            Needs::Data(name) => Permission::DataAction(name),
        };
        if allowed(&self.store, &who.object_id, permission, &scope) {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "AuthorizationPermissionMismatch",
            "This request is not authorized to perform this operation using this permission.",
        ))
    }

    /// What a shared access signature lets its bearer do.
    fn admit_signature(
        &self,
        ask: &Ask<'_>,
        sas: &Sas<'_>,
        needs: Needs,
        peer: Peer,
    ) -> Result<(), Refusal> {
        let account = &ask.account;
        if account.properties()["allowSharedKeyAccess"] == false {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "KeyBasedAuthenticationNotPermitted",
                "Key based authentication is not permitted on this storage account.",
            ));
        }
        let keys = self
            .keys(&account.id)
            .ok_or_else(|| Refusal::internal(&format!("the keys of {} are lost", account.id)))?;
        let reads = matches!(needs, Needs::Data(name) if name.ends_with("/read"));
        let wanted = match (reads, ask.blob.is_empty()) {
            (true, false) => Wanted::Read,
            (true, true) => Wanted::List,
            (false, _) => Wanted::Other,
        };
        let name = account.id.name().to_ascii_lowercase();
        let resource = (name.as_str(), ask.container, ask.blob);
        sas.admit(resource, wanted, &[&keys.values[0], &keys.values[1]], peer)
    }

    /// What a container's `publicAccess` lets anybody read.
    fn admit_anybody(&self, ask: &Ask<'_>, needs: Needs) -> Result<(), Refusal> {
        let open = ask.account.properties()["allowBlobPublicAccess"] == true;
        let container = self.container(&ask.account.id, ask.container);
        let level = container
            .as_ref()
            .and_then(|container| container.text("/properties/publicAccess"))
            .unwrap_or("None");
        let listing = ask.blob.is_empty();
        let reads = matches!(needs, Needs::Data(name) if name.ends_with("/read"));
        if open && reads && (level == "Container" || (level == "Blob" && !listing)) {
            return Ok(());
        }
        if open {
            // Azure does not tell strangers what there is.
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "ResourceNotFound",
                "The specified resource does not exist.",
            ));
        }
        Err(Refusal {
            challenge: true,
            ..Refusal::new(
                StatusCode::UNAUTHORIZED,
                "NoAuthenticationInformation",
                "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.",
            )
        })
    }
}

/// Which permission a request needs.
fn operation_needs(ask: &Ask<'_>) -> Needs {
    let reads = ask.method == Method::GET || ask.method == Method::HEAD;
    if ask.container.is_empty() {
        return READ_CONTAINER;
    }
    if ask.blob.is_empty() {
        return match (reads, ask.param("comp")) {
            (true, Some("list")) => READ,
            (true, _) => READ_CONTAINER,
            (false, _) if ask.method == Method::DELETE => DELETE_CONTAINER,
            (false, _) => WRITE_CONTAINER,
        };
    }
    if reads {
        READ
    } else if ask.method == Method::DELETE {
        DELETE
    } else {
        WRITE
    }
}

/// Conditions of a request against what there is
/// (<https://learn.microsoft.com/rest/api/storageservices/specifying-conditional-headers-for-blob-service-operations>).
fn conditions(
    ask: &Ask<'_>,
    there: Option<(&str, Timestamp)>,
    exists: Refusal,
) -> Result<(), Refusal> {
    let reads = ask.method == Method::GET || ask.method == Method::HEAD;
    let failed = || {
        Refusal::new(
            StatusCode::PRECONDITION_FAILED,
            "ConditionNotMet",
            "The condition specified using HTTP conditional header(s) is not met.",
        )
    };
    let unchanged = || {
        if reads { Refusal { status: StatusCode::NOT_MODIFIED, ..failed() } } else { failed() }
    };
    let fits = |given: &str| {
        there.is_some_and(|(etag, _)| given == "*" || given.trim_matches('"') == etag)
    };
    if ask.header("if-match").is_some_and(|given| !fits(given)) {
        return Err(failed());
    }
    if let Some(given) = ask.header("if-none-match")
        && fits(given)
    {
        return Err(if given == "*" && !reads { exists } else { unchanged() });
    }
    let Some((_, modified)) = there else { return Ok(()) };
    let time = |name| {
        ask.header(name)
            .and_then(|text| jiff::fmt::rfc2822::parse(text).ok())
            .map(|z| z.timestamp())
    };
    // Times on the wire have whole seconds.
    let modified = modified.as_second();
    if time("if-modified-since").is_some_and(|since| modified <= since.as_second()) {
        return Err(unchanged());
    }
    if time("if-unmodified-since").is_some_and(|since| modified > since.as_second()) {
        return Err(failed());
    }
    Ok(())
}

/// The account's address.
fn endpoint(account: &ResourceId) -> String {
    format!("https://{}.blob.core.windows.net/", account.name().to_ascii_lowercase())
}
