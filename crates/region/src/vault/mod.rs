//! Key Vault's secrets, keys and certificates: kept sealed, versioned, softly deleted; who asks is
//! authorised and recorded.
//!
//! [`Vaults`] is the vaults' content. The life of all three kinds of objects is one (`life`); what is their
//! own is in `secrets`, `keys` and `certificates`. A certificate is three objects of one name: itself, its
//! key and the secret that holds both, which live and die together
//! (<https://learn.microsoft.com/azure/key-vault/certificates/about-certificates#composition-of-a-certificate>).
//! [`rest`] is the data plane that answers `{name}.vault.azure.net`; [`audit`] is the record of every read
//! and write; [`resolve`] is how App Service reads references.
//!
//! <https://learn.microsoft.com/rest/api/keyvault/>

mod adopt;
pub mod audit;
mod certificates;
mod cryptography;
pub mod expiry;
mod keys;
mod life;
#[cfg(test)]
mod matrix;
pub(crate) mod network;
mod policy;
pub mod resolve;
pub mod rest;
mod secrets;
mod throttle;

use std::sync::Arc;

use lazuli_azure::ResourceId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::seal::{SealError, Sealer};
use crate::store::{Resource, Store, StoreError};

/// The data plane's resource type.
pub const KIND: &str = "Microsoft.KeyVault/vaults";
/// What a vault holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A secret.
    #[default]
    Secret,
    /// A key.
    Key,
    /// A certificate.
    Certificate,
}

impl Kind {
    /// All three.
    pub(crate) const ALL: [Self; 3] = [Self::Secret, Self::Key, Self::Certificate];

    /// `{vault}/{name}` → [`ObjectRecord`].
    fn objects(self) -> &'static str {
        match self {
            Self::Secret => "vault.secret",
            Self::Key => "vault.keys",
            Self::Certificate => "vault.certificates",
        }
    }

    /// `{vault}/{name}/{version}` → [`VersionRecord`].
    fn versions(self) -> &'static str {
        match self {
            Self::Secret => "vault.version",
            Self::Key => "vault.key.version",
            Self::Certificate => "vault.certificate.version",
        }
    }

    /// As addresses have it.
    pub(crate) fn segment(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Key => "keys",
            Self::Certificate => "certificates",
        }
    }

    /// `Secret`.
    fn title(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::Key => "Key",
            Self::Certificate => "Certificate",
        }
    }

    /// `secret`.
    fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Key => "key",
            Self::Certificate => "certificate",
        }
    }

    /// What is deleted and comes back together, itself first.
    fn family(self) -> &'static [Self] {
        match self {
            Self::Secret => &[Self::Secret],
            Self::Key => &[Self::Key],
            Self::Certificate => &[Self::Certificate, Self::Key, Self::Secret],
        }
    }

    /// Where a version's value is sealed.
    fn place(self, version_key: &str) -> String {
        match self {
            Self::Secret => version_key.to_owned(),
            _ => format!("{}/{version_key}", self.versions()),
        }
    }
}

/// A value's greatest length, bytes:
/// <https://learn.microsoft.com/azure/key-vault/secrets/about-secrets>.
pub const MAX_VALUE: usize = 25_600;
/// `softDeleteRetentionInDays` when the vault does not say.
const RETENTION_DAYS: i64 = 90;

/// Why the vault could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No such object, or no such version of it.
    #[error(
        "A {word} with (name/id) {1} was not found in this key vault. If you recently deleted this {word} you may be able to recover it using the correct recovery command. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182", word = .0.word()
    )]
    NotFound(Kind, String),
    /// No such deleted object.
    #[error("Deleted {title} not found: {1}", title = .0.title())]
    DeletedNotFound(Kind, String),
    /// The name belongs to a deleted object.
    #[error(
        "{title} {1} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the {word} can only be recovered or purged.", title = .0.title(), word = .0.word()
    )]
    DeletedButRecoverable(Kind, String),
    /// The version is disabled.
    #[error("Operation {1} is not allowed on a disabled {word}.", word = .0.word())]
    Disabled(Kind, &'static str),
    /// Now is before `nbf`.
    #[error("Operation get is not allowed on a {word} that is not yet valid.", word = .0.word())]
    NotYetValid(Kind),
    /// The key or secret is a certificate's: it lives and changes with that.
    #[error("Operation \"{1}\" is not allowed as this object's lifetime is managed by Key Vault.")]
    Managed(Kind, &'static str),
    /// The key's own `key_ops` do not list it.
    #[error("Operation {0} is not permitted on this key.")]
    NotPermitted(&'static str),
    /// The request is not one.
    #[error("{0}")]
    BadParameter(String),
    /// What is asked for is Azure's, and not the region's.
    #[error("{0}")]
    NotSupported(String),
    /// The vault is purge protected.
    #[error(
        "Operation \"purge\" is not allowed because purge protection is enabled for this vault. Key Vault service will automatically purge it after the retention period has passed."
    )]
    PurgeProtected,
    /// An object of this name exists, so none can be restored under it.
    #[error("Restore cannot proceed: a {word} with the name {1} already exists.", word = .0.word())]
    Exists(Kind, String),
    /// A key or secret of the name exists that is not the certificate's.
    #[error(
        "Certificate {1} cannot be made: a {word} of that name exists that is not a certificate's.", word = .0.word()
    )]
    NameTaken(Kind, String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value could not be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A record is damaged.
    #[error("the vault's record {0} is damaged")]
    Damaged(String),
}

/// What a client says of a version, besides its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attributes {
    /// Whether it may be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Not before, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Expires, seconds since 1970. An expired secret can still be read, as in Azure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
}

/// What to write.
#[derive(Debug, Default)]
pub struct NewSecret {
    /// `contentType`.
    pub content_type: Option<String>,
    /// `tags`.
    pub tags: Option<Map<String, Value>>,
    /// `attributes`.
    pub attributes: Attributes,
    /// What is a key's or certificate's own.
    pub(crate) detail: Value,
}

/// A version as it is kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionRecord {
    /// Sealed, base64: a secret's value, a key's private part. Empty for a certificate.
    value: String,
    #[serde(flatten)]
    attributes: Attributes,
    /// Nanoseconds since 1970: orders the versions of an object.
    created: i128,
    updated: i128,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Map<String, Value>>,
    /// What is a key's or certificate's own.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    detail: Value,
}

/// An object as it is kept. Versions are records of their own, so that a write costs the same however
/// many there are.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRecord {
    /// As the client spelt it.
    name: String,
    current: String,
    /// It is a certificate's: it lives and changes with that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    managed: bool,
    /// A certificate's policy.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    policy: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<Deleted>,
}

/// When an object was deleted, and when it will be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    /// Seconds since 1970.
    pub deleted_date: i64,
    /// Seconds since 1970.
    pub scheduled_purge_date: i64,
}

/// A version of an object, without its value.
#[derive(Clone, Debug)]
pub struct Version {
    /// The object's name.
    pub name: String,
    /// The version: 32 hexadecimal digits.
    pub version: String,
    /// What the client said of it.
    pub attributes: Attributes,
    /// Seconds since 1970.
    pub created: i64,
    /// Seconds since 1970.
    pub updated: i64,
    /// `contentType`.
    pub content_type: Option<String>,
    /// `tags`.
    pub tags: Option<Map<String, Value>>,
    /// Set when the object is deleted.
    pub deleted: Option<Deleted>,
    /// It is a certificate's: it lives and changes with that.
    pub managed: bool,
    /// What is a key's or certificate's own.
    pub(crate) detail: Value,
    /// A certificate's policy.
    pub(crate) policy: Value,
}

/// A value and its version.
pub struct Read {
    /// The version.
    pub version: Version,
    /// The value.
    pub value: Zeroizing<String>,
}

/// The content of every vault of the region.
pub struct Vaults {
    store: Store,
    sealer: Arc<Sealer>,
    /// Writers take turns: a version is decided on what was read before. Readers do not.
    writing: Mutex<()>,
    audit: audit::Audit,
}

impl Vaults {
    /// The vaults whose content is in `store`, recording into `audit`.
    pub fn new(store: &Store, sealer: Arc<Sealer>, audit: audit::Audit) -> Arc<Self> {
        Arc::new(Self { store: store.clone(), sealer, writing: Mutex::new(()), audit })
    }

    /// The record of reads and writes.
    pub fn audit(&self) -> &audit::Audit {
        &self.audit
    }

    /// The vault of this name (any case), which is unique in the region as it is in Azure.
    pub fn find(&self, name: &str) -> Option<Arc<Resource>> {
        self.store
            .list(KIND, &ResourceId::root())
            .into_iter()
            .find(|vault| vault.id.name().eq_ignore_ascii_case(name))
    }
}

/// 1 to 127 letters, digits and hyphens.
fn check_name(name: &str) -> Result<(), VaultError> {
    let valid = (1..=127).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if valid {
        return Ok(());
    }
    Err(VaultError::BadParameter(
        "The request URI contains an invalid name: its name is 1 to 127 letters, digits and \
         hyphens."
            .to_owned(),
    ))
}

fn object_key(vault: &str, name: &str) -> String {
    format!("{vault}/{name}").to_ascii_lowercase()
}

fn version_key(vault: &str, name: &str, version: &str) -> String {
    format!("{vault}/{name}/{version}").to_ascii_lowercase()
}

fn shown(object: &ObjectRecord, version: &str, record: VersionRecord) -> Version {
    let seconds = |nanos: i128| i64::try_from(nanos / 1_000_000_000).unwrap_or_default();
    Version {
        name: object.name.clone(),
        version: version.to_owned(),
        attributes: record.attributes,
        created: seconds(record.created),
        updated: seconds(record.updated),
        content_type: record.content_type,
        tags: record.tags,
        deleted: object.deleted,
        managed: object.managed,
        detail: record.detail,
        policy: object.policy.clone(),
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    // Records are plain structs with string keys: they always serialise.
    serde_json::to_vec(value).unwrap_or_default()
}

fn from_json<T: for<'a> Deserialize<'a>>(key: &str, bytes: &[u8]) -> Result<T, VaultError> {
    serde_json::from_slice(bytes).map_err(|_| VaultError::Damaged(key.to_owned()))
}

#[cfg(test)]
pub(crate) mod tests;
