//! Access tokens: RS256, with the claims that Azure's own carry.
//!
//! <https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference>

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::IdentityError;
use super::users::User;
use crate::seal::write_private;

/// How long an application's token lives: Entra's default is 60 to 90 minutes.
pub const APPLICATION_LIFETIME: i64 = 3600;
/// How long a managed identity's token lives: about 24 hours in Azure.
pub const MANAGED_LIFETIME: i64 = 86_400;
/// Clocks may differ by this much, seconds.
const LEEWAY: u64 = 300;
/// No honest token is longer.
const MAX_TOKEN: usize = 16 * 1024;

/// A service that tokens are meant for. Each goes by several names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Resource Manager; SCM (Kudu) takes it too.
    ResourceManager,
    /// App Service's SCM (Kudu): what `az` asks a token for.
    AppService,
    /// Key Vault's data plane.
    KeyVault,
    /// Microsoft Graph.
    Graph,
    /// Blob, queue, table and file storage.
    Storage,
    /// Azure AI services.
    CognitiveServices,
    /// Azure Monitor ingestion and queries.
    Monitor,
    /// PostgreSQL with Entra authentication.
    Postgres,
    /// Azure Cache for Redis with Entra authentication.
    Redis,
    /// Application Insights' and Log Analytics' query APIs.
    LogAnalytics,
    /// Entra itself: a token to be exchanged for one of a federated identity.
    TokenExchange,
}

const AUDIENCES: [(Audience, &[&str]); 11] = [
    (
        Audience::ResourceManager,
        &["https://management.azure.com", "https://management.core.windows.net"],
    ),
    (Audience::AppService, &["https://appservice.azure.com"]),
    (Audience::KeyVault, &["https://vault.azure.net"]),
    (Audience::Graph, &["https://graph.microsoft.com", "https://graph.windows.net"]),
    (Audience::Storage, &["https://storage.azure.com"]),
    (Audience::CognitiveServices, &["https://cognitiveservices.azure.com", "https://ai.azure.com"]),
    (Audience::Monitor, &["https://monitor.azure.com"]),
    (Audience::Postgres, &["https://ossrdbms-aad.database.windows.net"]),
    (Audience::Redis, &["https://redis.azure.com"]),
    (
        Audience::LogAnalytics,
        &["https://api.loganalytics.io", "https://api.applicationinsights.io"],
    ),
    (Audience::TokenExchange, &["api://AzureADTokenExchange"]),
];

impl Audience {
    /// The service that a `resource` (or `scope` without `/.default`) names. A trailing slash is
    /// part of the name in some clients and not in others.
    pub fn of(resource: &str) -> Option<Self> {
        let resource = resource.trim_end_matches('/');
        // An account's own address is also the audience of its tokens.
        if let Some(host) = resource.strip_prefix("https://")
            && let Some((_, "blob.core.windows.net")) = host.split_once('.')
        {
            return Some(Self::Storage);
        }
        AUDIENCES
            .iter()
            .find(|(_, names)| names.iter().any(|name| name.eq_ignore_ascii_case(resource)))
            .map(|(audience, _)| *audience)
    }
}

/// Why a token is not accepted. None says anything of the token itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Not a token, or not one of ours, or changed.
    #[error("the token is invalid")]
    Invalid,
    /// Its time is over, or has not come.
    #[error("the token has expired")]
    Expired,
    /// It is meant for another service.
    #[error("the token is meant for another audience")]
    Audience,
    /// It is another tenant's.
    #[error("the token is from the wrong issuer")]
    Issuer,
    /// Whose token it is does not exist any more.
    #[error("the token's principal does not exist")]
    UnknownPrincipal,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The service it is for.
    pub aud: String,
    /// Who issued it.
    pub iss: String,
    /// Seconds since 1970.
    pub iat: i64,
    /// Not before.
    pub nbf: i64,
    /// Not after.
    pub exp: i64,
    /// The application.
    pub appid: String,
    /// `1`: it proved itself by a secret; `2`: by a certificate or as a managed identity.
    pub appidacr: String,
    /// The identity provider.
    pub idp: String,
    /// `app` or `user`.
    pub idtyp: String,
    /// The service principal or user.
    pub oid: String,
    /// The same.
    pub sub: String,
    /// The tenant.
    pub tid: String,
    /// The token's own ID.
    pub uti: String,
    /// The token format's version: Azure's own services take 1.0.
    pub ver: String,
    /// The resource of a managed identity.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub xms_mirid: Option<String>,
    /// What an application may do in a user's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scp: Option<String>,
    /// A user's name to sign in with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub upn: Option<String>,
    /// The same, in tokens of version 1.0.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unique_name: Option<String>,
    /// A user's name for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}

/// A token and when it ends.
#[derive(Clone)]
pub struct Token {
    /// The token.
    pub text: String,
    /// Seconds since 1970.
    pub expires_on: i64,
    /// Seconds from now.
    pub expires_in: i64,
}

/// Whom a token is for.
pub(super) struct Subject<'a> {
    pub(super) tenant: &'a str,
    pub(super) object_id: &'a str,
    pub(super) client_id: &'a str,
    /// The resource, for a managed identity.
    pub(super) resource: Option<&'a str>,
    /// The user in whose name `client_id` asks.
    pub(super) user: Option<&'a User>,
}

struct Keys {
    id: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    jwks: Value,
}

/// Signs and verifies tokens.
pub(super) struct Signer {
    /// Making an RSA key takes up to a second: the region answers meanwhile, and who needs the key
    /// waits for it.
    keys: Arc<OnceLock<Result<Keys, String>>>,
}

impl Signer {
    /// The signer whose key is at `path`; it is made, in the background, when there is none.
    pub(super) fn open(path: &Path) -> Result<Self, IdentityError> {
        let keys = Arc::new(OnceLock::new());
        if path.exists() {
            let made = load(path).map_err(IdentityError::Key)?;
            let _ = keys.set(Ok(made));
        } else {
            let path = path.to_owned();
            let keys = keys.clone();
            let thread = thread::Builder::new().name("signing-key".into());
            thread
                .spawn(move || keys.get_or_init(|| load(&path)).is_ok())
                .map_err(|error| IdentityError::Key(error.to_string()))?;
        }
        Ok(Self { keys })
    }

    fn keys(&self) -> Result<&Keys, IdentityError> {
        // The thread that makes the key always sets it, so this wait ends.
        self.keys.wait().as_ref().map_err(|reason| IdentityError::Key(reason.clone()))
    }

    /// The public keys, as `discovery/v2.0/keys` gives them.
    pub(super) fn jwks(&self) -> Result<&Value, IdentityError> {
        Ok(&self.keys()?.jwks)
    }

    /// A token of `subject` for `audience` that lives for `lifetime` seconds.
    pub(super) fn issue(
        &self,
        subject: &Subject<'_>,
        audience: &str,
        lifetime: i64,
    ) -> Result<Token, IdentityError> {
        let now = Timestamp::now().as_second();
        let claims = Claims {
            aud: audience.to_owned(),
            iss: issuer(subject.tenant),
            // As Entra does: the clock of the service may be a little behind.
            iat: now - 300,
            nbf: now - 300,
            exp: now + lifetime,
            appid: subject.client_id.to_owned(),
            // An application on a person's machine proves nothing of itself.
            appidacr: match (subject.user, subject.resource) {
                (Some(_), _) => "0",
                (None, Some(_)) => "2",
                (None, None) => "1",
            }
            .to_owned(),
            idp: issuer(subject.tenant),
            idtyp: if subject.user.is_some() { "user" } else { "app" }.to_owned(),
            oid: subject.object_id.to_owned(),
            sub: subject.object_id.to_owned(),
            tid: subject.tenant.to_owned(),
            uti: random(16)?,
            ver: "1.0".to_owned(),
            xms_mirid: subject.resource.map(str::to_owned),
            scp: subject.user.map(|_| "user_impersonation".to_owned()),
            upn: subject.user.map(|user| user.upn.clone()),
            unique_name: subject.user.map(|user| user.upn.clone()),
            name: subject.user.map(|user| user.display_name.clone()),
        };
        Ok(Token { text: self.sign(&claims)?, expires_on: claims.exp, expires_in: lifetime })
    }

    /// Claims of any kind, signed with the key that `discovery/v2.0/keys` gives.
    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<String, IdentityError> {
        let keys = self.keys()?;
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(keys.id.clone());
        jsonwebtoken::encode(&header, claims, &keys.encoding)
            .map_err(|error| IdentityError::Key(error.to_string()))
    }

    /// Claims that [`Self::sign`] signed for `audience`, if their time is not over.
    pub(super) fn signed<T: serde::de::DeserializeOwned + Clone>(
        &self,
        text: &str,
        audience: &str,
    ) -> Option<T> {
        if text.len() > MAX_TOKEN {
            return None;
        }
        let keys = self.keys().ok()?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "aud"]);
        jsonwebtoken::decode::<T>(text, &keys.decoding, &validation).ok().map(|data| data.claims)
    }

    /// What a token says, if we signed it, it is for `audience` and `tenant`, and now is its time.
    pub(super) fn verify(
        &self,
        bearer: &str,
        audience: Audience,
        tenant: &str,
    ) -> Result<Claims, AuthError> {
        if bearer.len() > MAX_TOKEN {
            return Err(AuthError::Invalid);
        }
        let keys = self.keys().map_err(|_| AuthError::Invalid)?;
        // The algorithm is ours to choose, not the token's: `none` and HS256 do not get past here.
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud"]);
        let data = jsonwebtoken::decode::<Claims>(bearer, &keys.decoding, &validation).map_err(
            |error| match error.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature
                | jsonwebtoken::errors::ErrorKind::ImmatureSignature => AuthError::Expired,
                _ => AuthError::Invalid,
            },
        )?;
        if data.header.kid.as_deref() != Some(&keys.id) {
            return Err(AuthError::Invalid);
        }
        let claims = data.claims;
        if claims.tid != tenant || claims.iss != issuer(tenant) {
            return Err(AuthError::Issuer);
        }
        if Audience::of(&claims.aud) != Some(audience) {
            return Err(AuthError::Audience);
        }
        Ok(claims)
    }
}

/// The issuer of version 1.0 tokens.
pub(super) fn issuer(tenant: &str) -> String {
    format!("https://sts.windows.net/{tenant}/")
}

fn load(path: &Path) -> Result<Keys, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let key = match std::fs::read(path) {
        Ok(key) => Zeroizing::new(key),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let made = KeyPair::generate(KeySize::Rsa2048).map_err(|error| error.to_string())?;
            let der = made.as_der().map_err(|error| error.to_string())?;
            let key = Zeroizing::new(pem("PRIVATE KEY", der.as_ref()).into_bytes());
            write_private(path, &key).map_err(failed)?;
            key
        }
        Err(error) => return Err(failed(error)),
    };
    let unusable = |error: jsonwebtoken::errors::Error| format!("{}: {error}", path.display());
    let encoding = EncodingKey::from_rsa_pem(&key).map_err(unusable)?;
    let public = Jwk::from_encoding_key(&encoding, Algorithm::RS256).map_err(unusable)?;
    let AlgorithmParameters::RSA(rsa) = &public.algorithm else {
        return Err(format!("{} is not an RSA key", path.display()));
    };
    let decoding = DecodingKey::from_rsa_components(&rsa.n, &rsa.e).map_err(unusable)?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, rsa.n.as_bytes());
    let id = URL_SAFE_NO_PAD.encode(&digest.as_ref()[..20]);
    let jwks = json!({ "keys": [{
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": id, "x5t": id, "n": rsa.n, "e": rsa.e,
    }]});
    Ok(Keys { id, encoding, decoding, jwks })
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        out.extend(line.iter().map(|&byte| char::from(byte)));
        out.push('\n');
    }
    out + "-----END " + label + "-----\n"
}

pub(super) fn random(bytes: usize) -> Result<String, IdentityError> {
    let mut random = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| IdentityError::Key("no randomness".to_owned()))?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

/// A client secret or identity header: 256 random bits, less what the rule costs that it begins with a
/// letter or digit. `--password -x…` would be an option to a command line.
pub(crate) fn random_secret() -> Result<String, IdentityError> {
    loop {
        let secret = random(32)?;
        if secret.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            return Ok(secret);
        }
    }
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn unbase64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
pub(in crate::identity) mod tests {
    use super::*;

    pub(in crate::identity) fn url_base64(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    #[test]
    fn a_service_goes_by_several_names() {
        assert_eq!(Audience::of("https://vault.azure.net/"), Some(Audience::KeyVault));
        assert_eq!(
            Audience::of("https://management.core.windows.net//"),
            Some(Audience::ResourceManager)
        );
        assert_eq!(Audience::of("https://vault.azure.net.evil.org"), None);
    }
}
