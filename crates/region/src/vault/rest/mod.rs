//! Key Vault's data plane: `https://{vault}.vault.azure.net/{secrets, keys, certificates}…`, API 7.0 and
//! later.
//!
//! <https://learn.microsoft.com/rest/api/keyvault/>; errors:
//! <https://learn.microsoft.com/azure/key-vault/general/rest-error-codes>

mod operation;
mod refusal;
mod show;
#[cfg(test)]
mod tests;

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

use self::operation::{Operation, What};
use self::refusal::Refusal;
use self::show::Shape;
use super::audit::Event;
use super::throttle::{Kind as Throttled, Throttle};
use super::{Attributes, Kind, NewSecret, Vaults, Version, keys, network};
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
        let Some(operation) = Operation::of(ask.method, &segments) else {
            return Err(unknown(ask));
        };
        let needs = (
            operation.permission.as_str(),
            operation.object.map(|name| (operation.kind.segment(), name)),
        );
        let creates = matches!(
            operation.what,
            What::Set | What::Restore | What::Create | What::Import | What::Rotate
        );
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
            Ok(()) => self.perform(ask, &vault, &operation).await,
        };
        self.vaults.audit().record(Event {
            vault: vault.id.as_str(),
            operation: &operation.name,
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

    async fn perform(
        &self,
        ask: &Ask<'_>,
        vault: &Resource,
        operation: &Operation<'_>,
    ) -> Result<Reply, Refusal> {
        let vaults = &self.vaults;
        let (key, kind) = (ask.vault, operation.kind);
        let name = operation.object.unwrap_or_default();
        let retention =
            vault.body.pointer("/properties/softDeleteRetentionInDays").and_then(Value::as_i64);
        let protected = vault
            .body
            .pointer("/properties/enablePurgeProtection")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let shape = Shape { vault: key, kind, retention: retention.unwrap_or(90), protected };
        let answer = match operation.what {
            What::Set => {
                let (value, new) = read_secret(ask.body, true)?;
                let value = value.ok_or_else(|| {
                    Refusal::bad("The parameter 'value' is required and must be a string.")
                })?;
                let set = vaults.set(key, name, &value, new).await?;
                shape.bundle(&set, Some(&value))
            }
            What::Create if kind == Kind::Certificate => {
                let made = vaults.create_certificate(key, name, &parse(ask.body)?).await?;
                // It is made by now; clients expect to be told so by the operation alone.
                let pending = shape.pending(&made, "inProgress");
                return Ok(Reply(StatusCode::ACCEPTED, Some(pending)));
            }
            What::Create => {
                shape.bundle(&vaults.create_key(key, name, &parse(ask.body)?).await?, None)
            }
            What::Import => {
                let asked = parse(ask.body)?;
                let made = match kind {
                    Kind::Certificate => vaults.import_certificate(key, name, &asked).await?,
                    _ => vaults.import_key(key, name, &asked).await?,
                };
                shape.bundle(&made, None)
            }
            What::Rotate => shape.bundle(&vaults.rotate_key(key, name).await?, None),
            What::Get if kind == Kind::Secret => {
                let read = vaults.read(key, name, operation.version)?;
                shape.bundle(&read.version, Some(&read.value))
            }
            What::Get => shape.bundle(&vaults.one(kind, key, name, operation.version)?, None),
            What::Update => {
                let change = match kind {
                    Kind::Secret => read_secret(ask.body, false)?.1,
                    _ => read_change(ask.body)?,
                };
                let updated = vaults.update(kind, key, name, operation.version, change).await?;
                shape.bundle(&updated, None)
            }
            What::Delete => shape.deleted(&vaults.delete(kind, key, name, retention).await?),
            What::List => {
                page(ask, &vaults.list(kind, key, false)?, mark, |v| shape.item(v, false))?
            }
            What::Versions => {
                page(ask, &vaults.versions(kind, key, name)?, mark, |v| shape.item(v, true))?
            }
            What::ListDeleted => {
                page(ask, &vaults.list(kind, key, true)?, mark, |v| shape.deleted_item(v))?
            }
            What::GetDeleted => shape.deleted(&vaults.deleted(kind, key, name)?),
            What::Purge => {
                vaults.purge(kind, key, name, protected).await?;
                return Ok(Reply(StatusCode::NO_CONTENT, None));
            }
            What::Recover => shape.bundle(&vaults.recover(kind, key, name).await?, None),
            What::Backup => {
                json!({ "value": URL_SAFE_NO_PAD.encode(vaults.backup(kind, key, name)?) })
            }
            What::Restore => {
                let body: Value = parse(ask.body)?;
                let blob = body["value"]
                    .as_str()
                    .and_then(|text| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok())
                    .ok_or_else(|| Refusal::bad("The parameter 'value' is not a backup blob."))?;
                shape.bundle(&vaults.restore(kind, key, &blob).await?, None)
            }
            What::Perform(deed) => {
                vaults.perform(key, name, operation.version, deed, &parse(ask.body)?)?
            }
            What::Policy => shape.policy(&vaults.current(kind, key, name)?),
            What::UpdatePolicy => {
                shape.policy(&vaults.update_policy(key, name, &parse(ask.body)?).await?)
            }
            What::Pending => {
                let made = vaults.current(kind, key, name)?;
                if !made.detail["csr"].is_string() {
                    return Err(Refusal::new(
                        StatusCode::NOT_FOUND,
                        "PendingCertificateNotFound",
                        format!("Pending certificate not found: {name}"),
                    ));
                }
                shape.pending(&made, "completed")
            }
            What::Contacts => {
                return Err(Refusal::new(
                    StatusCode::NOT_FOUND,
                    "ContactsNotFound",
                    "Contacts not found.",
                ));
            }
            What::Issuers => json!({ "value": [], "nextLink": null }),
        };
        Ok(Reply(StatusCode::OK, Some(answer)))
    }
}

/// A successful answer.
struct Reply(StatusCode, Option<Value>);

fn unknown(ask: &Ask<'_>) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "NotFound",
        format!("{} {} is not an operation that this vault knows.", ask.method, ask.path),
    )
}

impl Vaults {
    fn store(&self) -> &crate::store::Store {
        &self.store
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
    Ok((value, NewSecret { content_type, tags, attributes, detail: Value::Null }))
}

/// What a request to update a key or certificate says.
fn read_change(body: &[u8]) -> Result<NewSecret, Refusal> {
    let body = parse(body)?;
    let detail = match &body["key_ops"] {
        Value::Null => Value::Null,
        ops => json!({ "key_ops": ops }),
    };
    let attributes = Vaults::attributes_of(&body)?;
    Ok(NewSecret { content_type: None, tags: keys::tags(&body)?, attributes, detail })
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
