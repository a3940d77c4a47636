//! Key Vault's data plane: `https://{vault}.vault.azure.net/secrets…`, API 7.0 and later.
//!
//! <https://learn.microsoft.com/rest/api/keyvault/secrets/operation-groups>; errors:
//! <https://learn.microsoft.com/azure/key-vault/general/rest-error-codes>

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use lazuli_gateway::{Body, Origin, Peer, Service};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::audit::Event;
use super::throttle::{Kind as Throttled, Throttle};
use super::{Attributes, NewSecret, VaultError, Vaults, Version, network, objects};
use crate::control::authorization::{Permission, allowed};
use crate::http::{self, Whole};
use crate::identity::token::Audience;
use crate::identity::{AuthError, Identity, Principal};
use crate::store::Resource;

/// More than the largest value, escaped.
const MAX_BODY: usize = 256 * 1024;
/// Secrets a page, as in Azure.
const PAGE: usize = 25;

/// The data plane of every vault.
pub struct DataPlane {
    vaults: Arc<Vaults>,
    identity: Arc<Identity>,
    throttle: Throttle,
}

/// A request, its body read.
struct Ask<'a> {
    method: &'a Method,
    vault: &'a str,
    path: &'a str,
    query: HashMap<String, String>,
    headers: &'a HeaderMap,
    body: &'a [u8],
    origin: Origin,
    ip: IpAddr,
}

/// An answer that is not a success.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    inner: Option<&'static str>,
    message: String,
    challenge: bool,
    /// Seconds until it makes sense to ask again.
    retry_after: Option<u64>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            inner: None,
            message: message.into(),
            challenge: false,
            retry_after: None,
        }
    }

    fn forbidden(inner: &'static str, message: impl Into<String>) -> Self {
        Self { inner: Some(inner), ..Self::new(StatusCode::FORBIDDEN, "Forbidden", message) }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadParameter", message)
    }

    fn unauthorized(message: &str) -> Self {
        Self { challenge: true, ..Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message) }
    }

    fn body(&self) -> Value {
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
            VaultError::NotFound(_) | VaultError::DeletedNotFound(_) => {
                Self::new(StatusCode::NOT_FOUND, "SecretNotFound", message)
            }
            VaultError::DeletedButRecoverable(_) => Self {
                inner: Some("ObjectIsDeletedButRecoverable"),
                ..Self::new(StatusCode::CONFLICT, "Conflict", message)
            },
            VaultError::Exists(_) => Self::new(StatusCode::CONFLICT, "Conflict", message),
            VaultError::Disabled(_) => Self::forbidden("SecretDisabled", message),
            VaultError::NotYetValid => Self::forbidden("SecretNotYetValid", message),
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

/// Who asks, in Azure's words.
fn described(principal: &Principal) -> String {
    format!(
        "Caller: appid={};oid={};iss=https://sts.windows.net/{}/",
        principal.app_id, principal.object_id, principal.tenant_id
    )
}

/// Whether the vault's network lets the caller in, before anything else is looked at.
fn reachable(ask: &Ask<'_>, vault: &Resource, principal: &Principal) -> Result<(), Refusal> {
    if ask.origin != Origin::Machine {
        return Ok(());
    }
    network::admit(vault, ask.ip).map_err(|(inner, why)| {
        let caller = described(principal);
        let location = vault.text("/location").unwrap_or_default();
        let vault = format!("Vault: {};location={location}", ask.vault);
        Refusal::forbidden(inner, format!("{why}\r\n{caller}\r\n{vault}"))
    })
}

/// Whether a version is one that the vault speaks: `7.0` to `7.6`, then dates
/// (<https://learn.microsoft.com/rest/api/keyvault/secrets/operation-groups>).
fn spoken(version: &str) -> bool {
    let date = version.strip_suffix("-preview").unwrap_or(version);
    version.starts_with("7.") || (date.len() == 10 && date.parse::<jiff::civil::Date>().is_ok())
}

impl Service for DataPlane {
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>> {
        http::call(self, request, peer)
    }
}

impl Whole for DataPlane {
    fn limit(&self) -> usize {
        MAX_BODY
    }

    fn too_large(&self) -> Response<Bytes> {
        self.respond(Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("The request body must not exceed {MAX_BODY} bytes."),
        )))
    }

    fn answer(
        self: Arc<Self>,
        request: Request<Bytes>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Bytes>> {
        Box::pin(async move {
            let (uri, headers) = (request.uri(), request.headers());
            let host = uri.host().or_else(|| headers.get(header::HOST)?.to_str().ok());
            let ask = Ask {
                method: request.method(),
                vault: host.unwrap_or_default().split('.').next().unwrap_or_default(),
                path: uri.path(),
                query: http::query(uri).into_iter().collect(),
                headers,
                body: request.body(),
                origin: peer.origin,
                ip: peer.addr.ip(),
            };
            let answer = self.outcome(&ask).await;
            self.respond(answer)
        })
    }
}

impl DataPlane {
    /// The data plane over `vaults`, for the principals of `identity`.
    pub fn new(vaults: Arc<Vaults>, identity: Arc<Identity>) -> Arc<Self> {
        Arc::new(Self { vaults, identity, throttle: Throttle::default() })
    }

    fn respond(&self, answer: Result<Reply, Refusal>) -> Response<Bytes> {
        let mut response = match &answer {
            Ok(Reply(status, Some(body))) => http::json(*status, body),
            Ok(Reply(status, None)) => http::status(*status),
            Err(refusal) => http::json(refusal.status, &refusal.body()),
        };
        let headers = response.headers_mut();
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        if let Some(seconds) = answer.as_ref().err().and_then(|refusal| refusal.retry_after) {
            set("retry-after", &seconds.to_string());
        }
        if answer.is_err_and(|refusal| refusal.challenge) {
            set(
                "www-authenticate",
                &format!(
                    "Bearer authorization=\"https://login.microsoftonline.com/{}\", \
                     resource=\"https://vault.azure.net\"",
                    self.identity.tenant_id()
                ),
            );
        }
        set("x-ms-request-id", &Uuid::new_v4().to_string());
        set("x-ms-keyvault-service-version", "1.9.2600.1");
        set("strict-transport-security", "max-age=31536000;includeSubDomains");
        set("x-content-type-options", "nosniff");
        response
    }

    async fn outcome(&self, ask: &Ask<'_>) -> Result<Reply, Refusal> {
        let vault = self.vaults.find(ask.vault).ok_or_else(|| {
            Refusal::new(
                StatusCode::NOT_FOUND,
                "VaultNotFound",
                format!("There is no vault named {} in this region.", ask.vault),
            )
        })?;
        let principal = self.authenticate(ask)?;
        reachable(ask, &vault, &principal)?;
        let segments: Vec<&str> = ask.path.split('/').filter(|part| !part.is_empty()).collect();
        let object = objects::Operation::of(ask.method, &segments);
        let operation = Operation::of(ask.method, &segments);
        let (name, needs, creates) = match (&object, &operation) {
            (Some(object), _) => {
                let needs = (object.permission, object.object.map(|name| (object.kind, name)));
                (object.name, needs, object.name.ends_with("Create"))
            }
            (None, Some(operation)) => {
                let needs = (operation.permission, operation.secret.map(|name| ("secrets", name)));
                let creates = matches!(operation.what, What::Set | What::Restore);
                (operation.name, needs, creates)
            }
            (None, None) => return Err(unknown(ask)),
        };
        let kind = if creates { Throttled::Create } else { Throttled::Other };
        if let Err(seconds) = self.throttle.admit(vault.id.key(), kind) {
            // Not recorded: a log of refused floods would be the next flood.
            return Err(Refusal {
                retry_after: Some(seconds),
                ..Refusal::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "Throttled",
                    "Request was not processed because too many requests were received. Reason: \
                     VaultRequestTypeLimitReached",
                )
            });
        }
        let outcome = match self.admit(ask, &vault, &principal, needs) {
            Err(refusal) => Err(refusal),
            Ok(()) => match (&object, &operation) {
                (Some(object), _) => self.object(ask, object).await,
                (None, Some(operation)) => {
                    self.perform(ask, &vault, operation).await.map(Reply::of)
                }
                (None, None) => Err(unknown(ask)),
            },
        };
        self.vaults.audit().record(Event {
            vault: vault.id.as_str(),
            operation: name,
            object: &format!("https://{}.vault.azure.net{}", ask.vault, ask.path),
            object_id: &principal.object_id,
            app_id: &principal.app_id,
            caller: Some(ask.ip),
            status: match &outcome {
                Ok(reply) => reply.0.as_u16(),
                Err(refusal) => refusal.status.as_u16(),
            },
        });
        outcome
    }

    fn authenticate(&self, ask: &Ask<'_>) -> Result<Principal, Refusal> {
        let bearer = http::bearer(ask.headers).ok_or_else(|| {
            Refusal::unauthorized("AKV10000: Request is missing a Bearer or PoP token.")
        })?;
        self.identity.verify(bearer, Audience::KeyVault).map_err(|error| {
            Refusal::unauthorized(match error {
                AuthError::Invalid => "AKV10001: Unable to parse or validate the token.",
                AuthError::Expired => "AKV10005: Token has expired.",
                AuthError::Audience => {
                    "AKV10022: Invalid audience. Expected https://vault.azure.net."
                }
                AuthError::Issuer => {
                    "AKV10032: Invalid issuer. Expected one of the tenant's issuers."
                }
                AuthError::UnknownPrincipal => {
                    "AKV10046: Unable to resolve the key used for signature validation."
                }
            })
        })
    }

    fn admit(
        &self,
        ask: &Ask<'_>,
        vault: &Resource,
        principal: &Principal,
        (permission, object): (&str, Option<(&str, &str)>),
    ) -> Result<(), Refusal> {
        if !ask.query.get("api-version").is_some_and(|version| spoken(version)) {
            return Err(Refusal::bad(
                "AKV10002: The api-version query parameter is missing or not supported; this vault \
                 speaks 7.0 and later, and the versions that are dates.",
            ));
        }
        let caller = described(principal);
        let location = vault.text("/location").unwrap_or_default();
        // Roles can be given on one secret alone.
        let scope = object
            .and_then(|(kind, name)| vault.id.child(kind, name).ok())
            .unwrap_or_else(|| vault.id.clone());
        if !allowed(
            self.vaults.store(),
            &principal.object_id,
            Permission::DataAction(permission),
            &scope,
        ) {
            return Err(Refusal::forbidden(
                "ForbiddenByRbac",
                format!(
                    "Caller is not authorized to perform action on resource.\r\nIf role \
                     assignments, deny assignments or role definitions were changed recently, \
                     please observe propagation time.\r\n{caller}\r\nAction: '{}'\r\nResource: \
                     '{}{}'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\n\
                     DecisionReason: null \r\nVault: {};location={location}\r\n",
                    permission,
                    vault.id,
                    object.map(|(kind, name)| format!("/{kind}/{name}")).unwrap_or_default(),
                    ask.vault
                ),
            ));
        }
        Ok(())
    }

    async fn object(
        &self,
        ask: &Ask<'_>,
        operation: &objects::Operation<'_>,
    ) -> Result<Reply, Refusal> {
        let answer = self.vaults.object(ask.vault, operation, ask.body).await;
        Ok(match answer.map_err(|error| missing(error, operation.kind))? {
            objects::Answer::One(body) => Reply(StatusCode::OK, Some(body)),
            objects::Answer::Accepted(body) => Reply(StatusCode::ACCEPTED, Some(body)),
            objects::Answer::Many(all) => {
                let mark = |item: &Value| {
                    let id = item["kid"].as_str().or_else(|| item["id"].as_str());
                    id.unwrap_or_default().to_ascii_lowercase()
                };
                Reply(StatusCode::OK, Some(page(ask, &all, mark, Clone::clone)?))
            }
        })
    }

    async fn perform(
        &self,
        ask: &Ask<'_>,
        vault: &Resource,
        operation: &Operation<'_>,
    ) -> Result<Option<Value>, Refusal> {
        let vaults = &self.vaults;
        let key = ask.vault;
        let name = operation.secret.unwrap_or_default();
        let retention =
            vault.body.pointer("/properties/softDeleteRetentionInDays").and_then(Value::as_i64);
        let protected = vault
            .body
            .pointer("/properties/enablePurgeProtection")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let shape = Shape { vault: key, retention: retention.unwrap_or(90), protected };
        let answer = match operation.what {
            What::Set => {
                let (value, new) = read_secret(ask.body, true)?;
                let value = value.ok_or_else(|| {
                    Refusal::bad("The parameter 'value' is required and must be a string.")
                })?;
                let set = vaults.set(key, name, &value, new).await?;
                shape.bundle(&set, Some(&value))
            }
            What::Get => {
                let read = vaults.read(key, name, operation.version)?;
                shape.bundle(&read.version, Some(&read.value))
            }
            What::Update => {
                let (_, change) = read_secret(ask.body, false)?;
                let updated = vaults.update(key, name, operation.version, change).await?;
                shape.bundle(&updated, None)
            }
            What::Delete => shape.deleted(&vaults.delete(key, name, retention).await?),
            What::List => page(ask, &vaults.list(key, false)?, mark, |v| shape.item(v, false))?,
            What::Versions => {
                page(ask, &vaults.versions(key, name)?, mark, |v| shape.item(v, true))?
            }
            What::ListDeleted => {
                page(ask, &vaults.list(key, true)?, mark, |v| shape.deleted_item(v))?
            }
            What::GetDeleted => shape.deleted(&vaults.deleted(key, name)?),
            What::Purge => {
                vaults.purge(key, name, protected).await?;
                return Ok(None);
            }
            What::Recover => shape.bundle(&vaults.recover(key, name).await?, None),
            What::Backup => json!({ "value": URL_SAFE_NO_PAD.encode(vaults.backup(key, name)?) }),
            What::Restore => {
                let body: Value = parse(ask.body)?;
                let blob = body["value"]
                    .as_str()
                    .and_then(|text| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok())
                    .ok_or_else(|| Refusal::bad("The parameter 'value' is not a backup blob."))?;
                shape.bundle(&vaults.restore(key, &blob).await?, None)
            }
        };
        Ok(Some(answer))
    }
}

/// A successful answer.
struct Reply(StatusCode, Option<Value>);

impl Reply {
    fn of(body: Option<Value>) -> Self {
        Self(if body.is_some() { StatusCode::OK } else { StatusCode::NO_CONTENT }, body)
    }
}

fn unknown(ask: &Ask<'_>) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "NotFound",
        format!("{} {} is not an operation that this vault knows.", ask.method, ask.path),
    )
}

/// What is not there is said in the words of its kind.
fn missing(error: VaultError, kind: &str) -> Refusal {
    let VaultError::NotFound(name) = error else { return error.into() };
    let (code, kind) = match kind {
        "keys" => ("KeyNotFound", "key"),
        _ => ("CertificateNotFound", "certificate"),
    };
    let message = format!("A {kind} with (name/id) {name} was not found in this key vault.");
    Refusal::new(StatusCode::NOT_FOUND, code, message)
}

impl Vaults {
    fn store(&self) -> &crate::store::Store {
        &self.store
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Set,
    Get,
    Update,
    Delete,
    List,
    Versions,
    ListDeleted,
    GetDeleted,
    Purge,
    Recover,
    Backup,
    Restore,
}

/// One of the data plane's operations, found in a request.
#[derive(Debug)]
struct Operation<'a> {
    what: What,
    /// As the audit log calls it.
    name: &'static str,
    /// The data action that a role must grant.
    permission: &'static str,
    secret: Option<&'a str>,
    version: Option<&'a str>,
}

impl<'a> Operation<'a> {
    fn of(method: &Method, segments: &[&'a str]) -> Option<Self> {
        // Verbs and data actions: learn.microsoft.com/azure/role-based-access-control/permissions/security
        let (what, name, permission, secret, version) = match (method.as_str(), segments) {
            ("GET", ["secrets"]) => (What::List, "SecretList", "readMetadata/action", None, None),
            ("POST", ["secrets", "restore"]) => {
                (What::Restore, "SecretRestore", "restore/action", None, None)
            }
            ("PUT", ["secrets", name]) => {
                (What::Set, "SecretSet", "setSecret/action", Some(*name), None)
            }
            ("GET", ["secrets", name]) => {
                (What::Get, "SecretGet", "getSecret/action", Some(*name), None)
            }
            ("DELETE", ["secrets", name]) => {
                (What::Delete, "SecretDelete", "delete", Some(*name), None)
            }
            ("PATCH", ["secrets", name]) => {
                (What::Update, "SecretUpdate", "update/action", Some(*name), None)
            }
            ("GET", ["secrets", name, "versions"]) => {
                (What::Versions, "SecretListVersions", "readMetadata/action", Some(*name), None)
            }
            ("POST", ["secrets", name, "backup"]) => {
                (What::Backup, "SecretBackup", "backup/action", Some(*name), None)
            }
            ("GET", ["secrets", name, version]) => {
                (What::Get, "SecretGet", "getSecret/action", Some(*name), Some(*version))
            }
            ("PATCH", ["secrets", name, version]) => {
                (What::Update, "SecretUpdate", "update/action", Some(*name), Some(*version))
            }
            ("GET", ["deletedsecrets"]) => {
                (What::ListDeleted, "SecretListDeleted", "readMetadata/action", None, None)
            }
            ("GET", ["deletedsecrets", name]) => {
                (What::GetDeleted, "SecretGetDeleted", "readMetadata/action", Some(*name), None)
            }
            ("DELETE", ["deletedsecrets", name]) => {
                (What::Purge, "SecretPurge", "purge/action", Some(*name), None)
            }
            ("POST", ["deletedsecrets", name, "recover"]) => {
                (What::Recover, "SecretRecover", "recover/action", Some(*name), None)
            }
            _ => return None,
        };
        let permission = match permission {
            "readMetadata/action" => "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
            "restore/action" => "Microsoft.KeyVault/vaults/secrets/restore/action",
            "setSecret/action" => "Microsoft.KeyVault/vaults/secrets/setSecret/action",
            "getSecret/action" => "Microsoft.KeyVault/vaults/secrets/getSecret/action",
            "delete" => "Microsoft.KeyVault/vaults/secrets/delete",
            "update/action" => "Microsoft.KeyVault/vaults/secrets/update/action",
            "backup/action" => "Microsoft.KeyVault/vaults/secrets/backup/action",
            "purge/action" => "Microsoft.KeyVault/vaults/secrets/purge/action",
            _ => "Microsoft.KeyVault/vaults/secrets/recover/action",
        };
        Some(Self { what, name, permission, secret, version })
    }
}

/// How a vault shows its secrets.
struct Shape<'a> {
    vault: &'a str,
    retention: i64,
    protected: bool,
}

impl Shape<'_> {
    fn url(&self, kind: &str, name: &str) -> String {
        format!("https://{}.vault.azure.net/{kind}/{name}", self.vault)
    }

    fn attributes(&self, version: &Version) -> Value {
        let mut attributes = json!({
            "enabled": version.attributes.enabled.unwrap_or(true),
            "created": version.created,
            "updated": version.updated,
            "recoveryLevel": if self.protected { "Recoverable" } else { "Recoverable+Purgeable" },
            "recoverableDays": self.retention,
        });
        if let Some(nbf) = version.attributes.nbf {
            attributes["nbf"] = json!(nbf);
        }
        if let Some(exp) = version.attributes.exp {
            attributes["exp"] = json!(exp);
        }
        attributes
    }

    fn item(&self, version: &Version, with_version: bool) -> Value {
        let mut id = self.url("secrets", &version.name);
        if with_version {
            id = format!("{id}/{}", version.version);
        }
        let mut item = json!({ "id": id, "attributes": self.attributes(version) });
        if let Some(kind) = &version.content_type {
            item["contentType"] = json!(kind);
        }
        if let Some(tags) = &version.tags {
            item["tags"] = json!(tags);
        }
        item
    }

    fn bundle(&self, version: &Version, value: Option<&str>) -> Value {
        let mut bundle = self.item(version, true);
        if let Some(value) = value {
            bundle["value"] = json!(value);
        }
        bundle
    }

    fn add_deleted(&self, item: &mut Value, version: &Version) {
        item["recoveryId"] = json!(self.url("deletedsecrets", &version.name));
        if let Some(deleted) = version.deleted {
            item["deletedDate"] = json!(deleted.deleted_date);
            item["scheduledPurgeDate"] = json!(deleted.scheduled_purge_date);
        }
    }

    fn deleted(&self, version: &Version) -> Value {
        let mut bundle = self.bundle(version, None);
        self.add_deleted(&mut bundle, version);
        bundle
    }

    fn deleted_item(&self, version: &Version) -> Value {
        let mut item = self.item(version, false);
        self.add_deleted(&mut item, version);
        item
    }
}

fn parse(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| Refusal::bad("The request body is not a JSON object."))
}

/// What a request to set or update says: the value, and everything else.
fn read_secret(
    body: &[u8],
    with_value: bool,
) -> Result<(Option<zeroize::Zeroizing<String>>, NewSecret), Refusal> {
    let mut body = parse(body)?;
    let wrong = |name: &str, what: &str| {
        Refusal::bad(format!("The parameter '{name}' is invalid: {what}."))
    };
    let value = match body["value"].take() {
        Value::String(value) if with_value => Some(zeroize::Zeroizing::new(value)),
        Value::Null => None,
        _ if with_value => return Err(wrong("value", "it must be a string")),
        _ => return Err(wrong("value", "a version's value cannot be changed; set a new version")),
    };
    let content_type = match body["contentType"].take() {
        Value::Null => None,
        Value::String(text) if text.len() <= 255 => Some(text),
        _ => return Err(wrong("contentType", "it must be a string of at most 255 characters")),
    };
    let tags = match body["tags"].take() {
        Value::Null => None,
        Value::Object(tags) => Some(check_tags(tags).map_err(|what| wrong("tags", what))?),
        _ => return Err(wrong("tags", "it must be an object")),
    };
    let attributes = match body["attributes"].take() {
        Value::Null => Attributes::default(),
        given @ Value::Object(_) => serde_json::from_value(given)
            .map_err(|_| wrong("attributes", "enabled is a boolean, nbf and exp are numbers"))?,
        _ => return Err(wrong("attributes", "it must be an object")),
    };
    if let (Some(nbf), Some(exp)) = (attributes.nbf, attributes.exp)
        && exp <= nbf
    {
        return Err(wrong("attributes", "exp must be after nbf"));
    }
    Ok((value, NewSecret { content_type, tags, attributes }))
}

fn check_tags(tags: Map<String, Value>) -> Result<Map<String, Value>, &'static str> {
    if tags.len() > 15 {
        return Err("a secret has at most 15 tags");
    }
    let fits = |(name, value): (&String, &Value)| {
        name.len() <= 256 && value.as_str().is_some_and(|value| value.len() <= 256)
    };
    if tags.iter().all(fits) {
        Ok(tags)
    } else {
        Err("names and values are strings of at most 256")
    }
}

/// One page of `all`, with a `nextLink` that says where the next begins. `mark` names an item; what is
/// listed by name is in the order of its marks.
fn page<T>(
    ask: &Ask<'_>,
    all: &[T],
    mark: impl Fn(&T) -> String,
    show: impl Fn(&T) -> Value,
) -> Result<Value, Refusal> {
    let size = match ask.query.get("maxresults") {
        None => PAGE,
        Some(text) => {
            text.parse().ok().filter(|size| (1..=PAGE).contains(size)).ok_or_else(|| {
                Refusal::bad("The parameter 'maxresults' must be between 1 and 25.")
            })?
        }
    };
    let start = match ask.query.get("$skiptoken") {
        None => 0,
        Some(token) => {
            let last = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
            let last = String::from_utf8_lossy(&last).into_owned();
            let at = all.iter().position(|item| mark(item) == last);
            // What stood there may be gone by now; the one after it is found by the order.
            let after = || all.iter().position(|item| mark(item) > last).unwrap_or(all.len());
            at.map_or_else(after, |at| at + 1)
        }
    };
    let rest = &all[start..];
    let shown = &rest[..rest.len().min(size)];
    let next = (rest.len() > size).then(|| shown.last()).flatten().map(|last| {
        format!(
            "https://{}.vault.azure.net{}?api-version={}&$skiptoken={}&maxresults={size}",
            ask.vault,
            ask.path,
            ask.query.get("api-version").map_or("7.4", String::as_str),
            URL_SAFE_NO_PAD.encode(mark(last))
        )
    });
    Ok(json!({ "value": shown.iter().map(show).collect::<Vec<_>>(), "nextLink": next }))
}

/// The order of secrets is that of their names; of versions, that of their making.
fn mark(version: &Version) -> String {
    format!("{}/{}", version.name.to_ascii_lowercase(), version.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_found_by_its_verb_and_path() {
        let find = |method: Method, path: &str| {
            let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            Operation::of(&method, &segments).map(|operation| operation.what)
        };
        assert_eq!(find(Method::GET, "/secrets"), Some(What::List));
        assert_eq!(find(Method::GET, "/secrets/a/"), Some(What::Get));
        assert_eq!(find(Method::GET, "/secrets/a/versions"), Some(What::Versions));
        assert_eq!(find(Method::GET, "/secrets/a/0123"), Some(What::Get));
        assert_eq!(find(Method::POST, "/secrets/restore"), Some(What::Restore));
        assert_eq!(find(Method::DELETE, "/deletedsecrets/a"), Some(What::Purge));
        assert_eq!(find(Method::POST, "/secrets/a"), None);
        assert_eq!(find(Method::GET, "/keys/a"), None);
    }

    #[test]
    fn what_a_client_says_of_a_secret_is_checked() {
        let bad = [
            &b"no"[..],
            b"[]",
            br#"{"value":1}"#,
            br#"{"value":"v","tags":[]}"#,
            br#"{"value":"v","tags":{"a":1}}"#,
            br#"{"value":"v","attributes":{"exp":"tomorrow"}}"#,
            br#"{"value":"v","attributes":{"exp":1,"nbf":2}}"#,
            br#"{"value":"v","contentType":7}"#,
        ];
        for body in bad {
            assert!(read_secret(body, true).is_err(), "{}", String::from_utf8_lossy(body));
        }
        let body = br#"{"value":"v","attributes":{"enabled":false},"tags":{"a":"b"}}"#;
        let (value, new) = read_secret(body, true).ok().expect("good");
        assert_eq!(value.as_deref().map(String::as_str), Some("v"));
        assert_eq!(new.attributes.enabled, Some(false));
        assert!(read_secret(body, false).is_err(), "an update has no value");
    }

    mod served {
        use std::net::{Ipv4Addr, SocketAddr};

        use lazuli_azure::ResourceId;

        use super::*;
        use crate::directory::Directory;
        use crate::seal::Sealer;
        use crate::store::{Batch, Store};
        use crate::tenancy::Tenancy;
        use crate::vault::audit::Audit;

        const GET: &str = "Key Vault Secrets User";

        struct Region {
            plane: Arc<DataPlane>,
            directory: Directory,
            reader: String,
            stranger: String,
        }

        /// A vault `kv`, a deployer who is Key Vault Administrator, a reader, and somebody without
        /// any role.
        async fn region(public: bool) -> Region {
            let directory = Directory::at(tempfile::tempdir().expect("temp dir").keep());
            directory.create().expect("created");
            let store = Store::open(&directory.store()).expect("a store");
            let sealer = Arc::new(Sealer::open(&directory.vault_key()).expect("a key"));
            let tenancy = Tenancy::open(&store).await.expect("a tenant");
            let identity =
                Identity::open(&store, &sealer, &tenancy, &directory).await.expect("ids");
            let group = ResourceId::of_resource_group(&tenancy.subscription_id, "rg").expect("id");
            let vault = group.resource(crate::vault::KIND, "kv").expect("id");
            let mut batch = Batch::new();
            let access = if public { "Enabled" } else { "Disabled" };
            batch.put(
                &vault,
                json!({ "location": "westeurope", "properties": { "publicNetworkAccess": access } }),
            );
            let mut tokens = Vec::new();
            let mut assign = |who: &str, role: &str| {
                let kind = "Microsoft.Authorization/roleAssignments";
                let id = vault.resource(kind, &Uuid::new_v4().to_string()).expect("id");
                let role = crate::control::roles::by_name(role).expect("a built-in role").id;
                let role = format!("/providers/Microsoft.Authorization/roleDefinitions/{role}");
                batch.put(
                    &id,
                    json!({ "properties": { "principalId": who, "roleDefinitionId": role } }),
                );
            };
            assign(&identity.deployer().object_id, "Key Vault Administrator");
            for (name, role) in [("reader", Some(GET)), ("stranger", None)] {
                let owner = group.resource("Microsoft.Web/sites", name).expect("id");
                let made = identity.create_identity(&owner).await.expect("made");
                if let Some(role) = role {
                    assign(&made.principal_id, role);
                }
                tokens
                    .push(identity.token_for_tests(&made.principal_id, "https://vault.azure.net"));
            }
            store.commit(batch).await.expect("stored");
            let audit = Audit::open(&directory.logs().join("audit")).expect("a log");
            let vaults = Vaults::new(&store, sealer, audit);
            let (reader, stranger) = (tokens.remove(0), tokens.remove(0));
            Region { plane: DataPlane::new(vaults, identity), directory, reader, stranger }
        }

        impl Region {
            fn admin(&self) -> String {
                let identity = &self.plane.identity;
                identity.token_for_tests(&identity.deployer().object_id, "https://vault.azure.net")
            }

            async fn ask(
                &self,
                token: &str,
                line: &str,
                body: &str,
                origin: Origin,
            ) -> (StatusCode, HeaderMap, Value) {
                let (method, path) = line.split_once(' ').expect("METHOD PATH");
                let join = if path.contains('?') { '&' } else { '?' };
                let request = Request::builder()
                    .method(method)
                    .uri(format!("{path}{join}api-version=7.4"))
                    .header("host", "KV.vault.azure.net")
                    .header("authorization", format!("Bearer {token}"))
                    .body(Bytes::from(body.to_owned()))
                    .expect("a request");
                let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
                let peer = Peer { addr, origin, tls: true };
                let response = self.plane.clone().answer(request, peer).await;
                let (parts, body) = response.into_parts();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                (parts.status, parts.headers, body)
            }

            async fn admin_asks(&self, line: &str, body: &str) -> (StatusCode, Value) {
                let (status, _, body) = self.ask(&self.admin(), line, body, Origin::Inside).await;
                (status, body)
            }
        }

        #[tokio::test]
        async fn a_secret_lives_as_in_azure() {
            let region = region(true).await;
            let (status, set) = region.admin_asks("PUT /secrets/a", r#"{"value":"one"}"#).await;
            assert_eq!(status, StatusCode::OK);
            let id = set["id"].as_str().expect("an ID").to_owned();
            assert!(id.starts_with("https://KV.vault.azure.net/secrets/a/"), "{id}");
            assert_eq!(set["value"], "one");
            assert_eq!(set["attributes"]["enabled"], true);
            let version = id.rsplit('/').next().expect("a version");
            let (_, got) = region.admin_asks(&format!("GET /secrets/a/{version}"), "").await;
            assert_eq!(got["value"], "one");
            let (status, gone) = region.admin_asks("DELETE /secrets/a", "").await;
            assert_eq!(status, StatusCode::OK);
            assert!(gone["scheduledPurgeDate"].is_i64() && gone.get("value").is_none());
            let (status, error) = region.admin_asks("GET /secrets/a", "").await;
            assert_eq!(status, StatusCode::NOT_FOUND);
            assert_eq!(error["error"]["code"], "SecretNotFound");
            let (status, error) = region.admin_asks("PUT /secrets/a", r#"{"value":"x"}"#).await;
            assert_eq!(status, StatusCode::CONFLICT);
            assert_eq!(error["error"]["innererror"]["code"], "ObjectIsDeletedButRecoverable");
            let (status, _) = region.admin_asks("POST /deletedsecrets/a/recover", "").await;
            assert_eq!(status, StatusCode::OK);
            region.admin_asks("DELETE /secrets/a", "").await;
            let (status, _) = region.admin_asks("DELETE /deletedsecrets/a", "").await;
            assert_eq!(status, StatusCode::NO_CONTENT);
        }

        #[tokio::test]
        async fn a_role_opens_exactly_its_doors() {
            let region = region(true).await;
            region.admin_asks("PUT /secrets/a", r#"{"value":"one"}"#).await;
            let ask = async |token: &str, line: &str| {
                region.ask(token, line, r#"{"value":"x"}"#, Origin::Inside).await.0
            };
            for (line, reader) in [
                ("GET /secrets/a", StatusCode::OK),
                ("GET /secrets", StatusCode::OK),
                ("GET /secrets/a/versions", StatusCode::OK),
                ("PUT /secrets/a", StatusCode::FORBIDDEN),
                ("PATCH /secrets/a", StatusCode::FORBIDDEN),
                ("DELETE /secrets/a", StatusCode::FORBIDDEN),
                ("POST /secrets/a/backup", StatusCode::FORBIDDEN),
                ("POST /secrets/restore", StatusCode::FORBIDDEN),
                ("DELETE /deletedsecrets/a", StatusCode::FORBIDDEN),
            ] {
                assert_eq!(ask(&region.reader, line).await, reader, "{line}");
                assert_eq!(ask(&region.stranger, line).await, StatusCode::FORBIDDEN, "{line}");
                assert_eq!(ask("forged", line).await, StatusCode::UNAUTHORIZED, "{line}");
            }
        }

        #[tokio::test]
        async fn without_a_token_the_challenge_says_where_to_get_one() {
            let region = region(true).await;
            let (status, headers, _) = region.ask("", "GET /secrets/a", "", Origin::Inside).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            let challenge = headers["www-authenticate"].to_str().expect("text");
            assert!(challenge.contains("authorization=\"https://login.microsoftonline.com/"));
            assert!(challenge.contains("resource=\"https://vault.azure.net\""));
        }

        #[tokio::test]
        async fn a_private_vault_answers_only_inside() {
            let region = region(false).await;
            let (status, _, error) =
                region.ask(&region.reader, "GET /secrets/a", "", Origin::Machine).await;
            assert_eq!(status, StatusCode::FORBIDDEN);
            assert_eq!(error["error"]["innererror"]["code"], "ForbiddenByConnection");
            let (status, ..) =
                region.ask(&region.reader, "GET /secrets/a", "", Origin::Inside).await;
            assert_eq!(status, StatusCode::NOT_FOUND);
        }

        #[tokio::test]
        async fn lists_come_in_pages() {
            let region = region(true).await;
            for at in 0..57 {
                let line = format!("PUT /secrets/s{at:02}");
                region.admin_asks(&line, r#"{"value":"v"}"#).await;
            }
            let mut names = Vec::new();
            let mut next = Some("/secrets".to_owned());
            while let Some(path) = next {
                let (status, page) = region.admin_asks(&format!("GET {path}"), "").await;
                assert_eq!(status, StatusCode::OK);
                let items = page["value"].as_array().expect("a list");
                assert!(items.len() <= PAGE);
                names.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
                next = page["nextLink"].as_str().map(|link| {
                    link.strip_prefix("https://KV.vault.azure.net").unwrap().to_owned()
                });
            }
            assert_eq!(names.len(), 57);
            names.dedup();
            assert_eq!(names.len(), 57);
        }

        #[tokio::test]
        async fn reads_and_writes_are_recorded_without_values() {
            let region = region(true).await;
            region.admin_asks("PUT /secrets/a", r#"{"value":"hunter2"}"#).await;
            region.ask(&region.stranger, "GET /secrets/a", "", Origin::Inside).await;
            let log = std::fs::read_to_string(region.directory.logs().join("audit")).expect("log");
            let events: Vec<Value> =
                log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            assert_eq!(events[0]["operationName"], "SecretSet");
            assert_eq!(events[0]["resultType"], "Success");
            assert_eq!(events[1]["operationName"], "SecretGet");
            assert_eq!(events[1]["properties"]["httpStatusCode"], 403);
            assert!(!log.contains("hunter2"));
        }
    }
}
