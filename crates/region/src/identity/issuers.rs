//! Other issuers of tokens: their keys, by OpenID Connect Discovery
//! (<https://openid.net/specs/openid-connect-discovery-1_0.html>), fetched when a token of theirs comes.
//!
//! They are fetched as an app inside the region would: through its proxy, which leads neither to this
//! machine nor to the real Azure.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{Jwk, JwkSet, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use lazuli_azure::Client;
use serde_json::Value;

use super::token::AuthError;

/// How long an issuer's keys are good without asking again.
const FRESH: Duration = Duration::from_secs(3600);
/// How soon they are asked for again because a token names a key that is not among them.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How long an issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any honest document of an issuer, bytes.
const MAX_DOCUMENT: usize = 256 * 1024;
/// The most issuers whose keys are kept.
const MAX_ISSUERS: usize = 200;
/// Clocks may differ by this much, seconds.
const LEEWAY: u64 = 300;

/// The issuers whose tokens came, and how they are reached.
#[derive(Default)]
pub(super) struct Issuers {
    client: OnceLock<Client>,
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Clone)]
struct Known {
    keys: JwkSet,
    fetched: Instant,
}

impl Issuers {
    /// How the world is reached, once that is known.
    pub(super) fn reach_by(&self, client: Client) {
        let _ = self.client.set(client);
    }

    /// Whether `token` is signed by `issuer` for `audience` and now is its time; the outer error says why
    /// the issuer's keys cannot be had. Waits for the issuer: not on a thread that serves others.
    pub(super) fn verify(
        &self,
        issuer: &str,
        audience: &str,
        token: &str,
    ) -> Result<Result<(), AuthError>, String> {
        let Ok(head) = jsonwebtoken::decode_header(token) else {
            return Ok(Err(AuthError::Invalid));
        };
        // Entra takes RS256 alone from other issuers.
        if head.alg != Algorithm::RS256 {
            return Ok(Err(AuthError::Invalid));
        }
        let Some(key) = self.key(issuer, head.kid.as_deref())? else {
            return Ok(Err(AuthError::Invalid));
        };
        let Ok(key) = DecodingKey::from_jwk(&key) else { return Ok(Err(AuthError::Invalid)) };
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_audience(&[audience]);
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let decoded = jsonwebtoken::decode::<Value>(token, &key, &validation);
        Ok(decoded.map(|_| ()).map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::ExpiredSignature
            | jsonwebtoken::errors::ErrorKind::ImmatureSignature => AuthError::Expired,
            _ => AuthError::Invalid,
        }))
    }

    /// The key that a token names, or the only one there is.
    fn key(&self, issuer: &str, kid: Option<&str>) -> Result<Option<Jwk>, String> {
        let pick = |keys: &JwkSet| match kid {
            Some(kid) => keys.find(kid).cloned(),
            None if keys.keys.len() == 1 => keys.keys.first().cloned(),
            None => None,
        };
        let known = self.known().get(issuer).cloned();
        if let Some(known) = known {
            let found = pick(&known.keys);
            let age = known.fetched.elapsed();
            if age < ASK_AGAIN || found.is_some() && age < FRESH {
                return Ok(found);
            }
        }
        let client = self.client.get().ok_or("this region has no way to it")?;
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| error.to_string())?;
        let keys = runtime.block_on(fetch(client, issuer))?;
        let found = pick(&keys);
        let mut all = self.known();
        if all.len() >= MAX_ISSUERS {
            all.clear();
        }
        all.insert(issuer.to_owned(), Known { keys, fetched: Instant::now() });
        Ok(found)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch(client: &Client, issuer: &str) -> Result<JwkSet, String> {
    let at = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let found = document(client, &at).await?;
    if found["issuer"].as_str() != Some(issuer) {
        return Err(format!("{at} is another issuer's document"));
    }
    let keys = found["jwks_uri"].as_str().filter(|url| url.starts_with("https://"));
    let keys = keys.ok_or_else(|| format!("{at} names no jwks_uri"))?;
    let mut keys: JwkSet = serde_json::from_value(document(client, keys).await?)
        .map_err(|_| format!("{keys} holds no keys"))?;
    keys.keys.retain(|key| {
        key.common.key_algorithm.is_none_or(|algorithm| algorithm == KeyAlgorithm::RS256)
    });
    Ok(keys)
}

/// What is at the bottom of an error.
fn root(url: &str, mut error: &dyn std::error::Error) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    format!("{url}: {error}")
}

async fn document(client: &Client, url: &str) -> Result<Value, String> {
    let get = async {
        let mut answer = client.http().get(url).send().await.map_err(|e| root(url, &e))?;
        if !answer.status().is_success() {
            return Err(format!("{url} answered {}", answer.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| root(url, &e))? {
            if bytes.len() + chunk.len() > MAX_DOCUMENT {
                return Err(format!("{url} is longer than {MAX_DOCUMENT} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&bytes).map_err(|_| format!("{url} is not JSON"))
    };
    tokio::time::timeout(PATIENCE, get)
        .await
        .unwrap_or_else(|_| Err(format!("{url} did not answer in {} s", PATIENCE.as_secs())))
}
