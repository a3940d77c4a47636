//! Key Vault's secrets: kept sealed, versioned, softly deleted; who asks is authorised and recorded.
//!
//! [`Vaults`] is the vaults' content and the rules about it; [`rest`] is the data plane that answers
//! `{name}.vault.azure.net`; [`audit`] is the record of every read and write; [`resolve`] is how App
//! Service reads references.
//!
//! <https://learn.microsoft.com/rest/api/keyvault/secrets/operation-groups>

pub mod audit;
pub mod expiry;
#[cfg(test)]
mod matrix;
mod network;
mod objects;
pub mod resolve;
pub mod rest;
mod throttle;

use std::sync::Arc;

use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::identity::token::{base64, unbase64};
use crate::seal::{SealError, Sealer};
use crate::store::{Batch, Resource, Store, StoreError};

/// The data plane's resource type.
pub const KIND: &str = "Microsoft.KeyVault/vaults";
/// `{vault}/{name}` → [`SecretRecord`].
const SECRETS: &str = "vault.secret";
/// `{vault}/{name}/{version}` → [`VersionRecord`].
const VERSIONS: &str = "vault.version";
/// A value's greatest length, bytes:
/// <https://learn.microsoft.com/azure/key-vault/secrets/about-secrets>.
pub const MAX_VALUE: usize = 25_600;
/// `softDeleteRetentionInDays` when the vault does not say.
const RETENTION_DAYS: i64 = 90;

/// Why the vault could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No such secret, or no such version of it.
    #[error(
        "A secret with (name/id) {0} was not found in this key vault. If you recently deleted this secret you may be able to recover it using the correct recovery command. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182"
    )]
    NotFound(String),
    /// No such deleted secret.
    #[error("Deleted Secret not found: {0}")]
    DeletedNotFound(String),
    /// The name belongs to a deleted secret.
    #[error(
        "Secret {0} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the secret can only be recovered or purged."
    )]
    DeletedButRecoverable(String),
    /// The version is disabled.
    #[error("Operation {0} is not allowed on a disabled secret.")]
    Disabled(&'static str),
    /// Now is before `nbf`.
    #[error("Operation get is not allowed on a secret that is not yet valid.")]
    NotYetValid,
    /// The request is not one.
    #[error("{0}")]
    BadParameter(String),
    /// The vault is purge protected.
    #[error(
        "Operation \"purge\" is not allowed because purge protection is enabled for this vault. Key Vault service will automatically purge it after the retention period has passed."
    )]
    PurgeProtected,
    /// A secret of this name exists, so none can be restored under it.
    #[error("Restore cannot proceed: a secret with the name {0} already exists.")]
    Exists(String),
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
}

/// A version as it is kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionRecord {
    /// Sealed, base64.
    value: String,
    #[serde(flatten)]
    attributes: Attributes,
    /// Nanoseconds since 1970: orders the versions of a secret.
    created: i128,
    updated: i128,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Map<String, Value>>,
}

/// A secret as it is kept. Versions are records of their own, so that a write costs the same however
/// many there are.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretRecord {
    /// As the client spelt it.
    name: String,
    current: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<Deleted>,
}

/// When a secret was deleted, and when it will be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    /// Seconds since 1970.
    pub deleted_date: i64,
    /// Seconds since 1970.
    pub scheduled_purge_date: i64,
}

/// A version of a secret, without its value.
#[derive(Clone, Debug)]
pub struct Version {
    /// The secret's name.
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
    /// Set when the secret is deleted.
    pub deleted: Option<Deleted>,
}

/// A value and its version.
pub struct Read {
    /// The version.
    pub version: Version,
    /// The value.
    pub value: Zeroizing<String>,
}

/// What a backup holds, before it is sealed.
#[derive(Serialize, Deserialize)]
struct Backup {
    name: String,
    current: String,
    versions: Vec<(String, VersionRecord, String)>,
}

/// The content of every vault of the region.
pub struct Vaults {
    store: Store,
    sealer: Arc<Sealer>,
    /// Writers of secrets take turns: a version is decided on what was read before. Readers do not.
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

    /// Writes a new version of a secret, which is the current one from then on.
    pub async fn set(
        &self,
        vault: &str,
        name: &str,
        value: &str,
        new: NewSecret,
    ) -> Result<Version, VaultError> {
        check_name(name)?;
        if value.len() > MAX_VALUE {
            return Err(VaultError::BadParameter(format!(
                "Secret value must not exceed {MAX_VALUE} bytes; it has {}.",
                value.len()
            )));
        }
        let _turn = self.writing.lock().await;
        let existing = self.secret(vault, name)?;
        if existing.as_ref().is_some_and(|secret| secret.deleted.is_some()) {
            return Err(VaultError::DeletedButRecoverable(name.to_owned()));
        }
        let version = Uuid::new_v4().simple().to_string();
        let place = version_key(vault, name, &version);
        let now = Timestamp::now().as_nanosecond();
        let record = VersionRecord {
            value: base64(&self.sealer.seal(&place, value.as_bytes())),
            attributes: new.attributes,
            created: now,
            updated: now,
            content_type: new.content_type,
            tags: new.tags,
        };
        let secret = SecretRecord {
            // The first spelling stays, as in Azure.
            name: existing.map_or_else(|| name.to_owned(), |secret| secret.name),
            current: version.clone(),
            deleted: None,
        };
        let mut batch = Batch::new();
        batch.put_state(VERSIONS, &place, to_json(&record)).put_state(
            SECRETS,
            &secret_key(vault, name),
            to_json(&secret),
        );
        self.store.commit(batch).await?;
        Ok(shown(&secret, &version, record))
    }

    /// The value of a version, or of the current one.
    pub fn read(&self, vault: &str, name: &str, version: Option<&str>) -> Result<Read, VaultError> {
        let secret = self.alive(vault, name)?;
        let version = version.unwrap_or(&secret.current);
        let record = self.version(vault, name, version)?;
        if record.attributes.enabled == Some(false) {
            return Err(VaultError::Disabled("get"));
        }
        if record.attributes.nbf.is_some_and(|nbf| nbf > Timestamp::now().as_second()) {
            return Err(VaultError::NotYetValid);
        }
        let value = self.unseal(vault, name, version, &record)?;
        Ok(Read { version: shown(&secret, version, record), value })
    }

    /// The current version of a secret, without its value; also of a disabled one.
    pub fn current(&self, vault: &str, name: &str) -> Result<Version, VaultError> {
        let secret = self.alive(vault, name)?;
        let record = self.version(vault, name, &secret.current)?;
        Ok(shown(&secret, &secret.current, record))
    }

    /// Every version of a secret, oldest first, without values.
    pub fn versions(&self, vault: &str, name: &str) -> Result<Vec<Version>, VaultError> {
        let secret = self.alive(vault, name)?;
        let mut versions = self.version_records(vault, name)?;
        versions.sort_by_key(|(_, record)| record.created);
        Ok(versions.into_iter().map(|(id, record)| shown(&secret, &id, record)).collect())
    }

    /// The current version of every secret, deleted ones or the others, ordered by name.
    pub fn list(&self, vault: &str, deleted: bool) -> Result<Vec<Version>, VaultError> {
        let prefix = format!("{}/", vault.to_ascii_lowercase());
        let mut found = Vec::new();
        for (key, bytes) in self.store.list_state(SECRETS, &prefix) {
            let secret: SecretRecord = from_json(&key, &bytes)?;
            if secret.deleted.is_some() == deleted {
                let record = self.version(vault, &secret.name, &secret.current)?;
                found.push(shown(&secret, &secret.current, record));
            }
        }
        Ok(found)
    }

    /// Changes what is said of a version. What is `None` stays.
    pub async fn update(
        &self,
        vault: &str,
        name: &str,
        version: Option<&str>,
        change: NewSecret,
    ) -> Result<Version, VaultError> {
        let _turn = self.writing.lock().await;
        let secret = self.alive(vault, name)?;
        let version = version.unwrap_or(&secret.current);
        let mut record = self.version(vault, name, version)?;
        record.attributes = Attributes {
            enabled: change.attributes.enabled.or(record.attributes.enabled),
            nbf: change.attributes.nbf.or(record.attributes.nbf),
            exp: change.attributes.exp.or(record.attributes.exp),
        };
        record.content_type = change.content_type.or(record.content_type);
        record.tags = change.tags.or(record.tags);
        record.updated = Timestamp::now().as_nanosecond();
        let mut batch = Batch::new();
        batch.put_state(VERSIONS, &version_key(vault, name, version), to_json(&record));
        self.store.commit(batch).await?;
        Ok(shown(&secret, version, record))
    }

    /// Deletes a secret softly: it can be recovered until `retention_days` have passed.
    pub async fn delete(
        &self,
        vault: &str,
        name: &str,
        retention_days: Option<i64>,
    ) -> Result<Version, VaultError> {
        let _turn = self.writing.lock().await;
        let mut secret = self.alive(vault, name)?;
        let now = Timestamp::now().as_second();
        secret.deleted = Some(Deleted {
            deleted_date: now,
            scheduled_purge_date: now + retention_days.unwrap_or(RETENTION_DAYS) * 86_400,
        });
        self.save(vault, name, &secret).await?;
        let record = self.version(vault, name, &secret.current)?;
        Ok(shown(&secret, &secret.current, record))
    }

    /// A deleted secret.
    pub fn deleted(&self, vault: &str, name: &str) -> Result<Version, VaultError> {
        let secret = self.dead(vault, name)?;
        let record = self.version(vault, name, &secret.current)?;
        Ok(shown(&secret, &secret.current, record))
    }

    /// Brings a deleted secret back, all its versions with it.
    pub async fn recover(&self, vault: &str, name: &str) -> Result<Version, VaultError> {
        let _turn = self.writing.lock().await;
        let mut secret = self.dead(vault, name)?;
        secret.deleted = None;
        self.save(vault, name, &secret).await?;
        let record = self.version(vault, name, &secret.current)?;
        Ok(shown(&secret, &secret.current, record))
    }

    /// Forgets a deleted secret for good, unless the vault is `protected` against that.
    pub async fn purge(&self, vault: &str, name: &str, protected: bool) -> Result<(), VaultError> {
        let _turn = self.writing.lock().await;
        self.dead(vault, name)?;
        if protected {
            return Err(VaultError::PurgeProtected);
        }
        let mut batch = Batch::new();
        self.forget(&mut batch, vault, name);
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Forgets everything in a vault: the vault itself was purged.
    pub async fn purge_vault(&self, vault: &str) -> Result<(), VaultError> {
        let _turn = self.writing.lock().await;
        let prefix = format!("{}/", vault.to_ascii_lowercase());
        let mut batch = Batch::new();
        for (key, _) in self.store.list_state(SECRETS, &prefix) {
            batch.delete_state(SECRETS, &key);
        }
        for (key, _) in self.store.list_state(VERSIONS, &prefix) {
            batch.delete_state(VERSIONS, &key);
        }
        objects::forget(&self.store, &mut batch, &prefix);
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Forgets what was deleted and whose retention is over. To be called now and then.
    pub async fn purge_expired(&self) -> Result<(), VaultError> {
        let _turn = self.writing.lock().await;
        let now = Timestamp::now().as_second();
        let mut batch = Batch::new();
        for (key, bytes) in self.store.list_state(SECRETS, "") {
            let secret: SecretRecord = from_json(&key, &bytes)?;
            if secret.deleted.is_some_and(|deleted| deleted.scheduled_purge_date <= now)
                && let Some((vault, name)) = key.split_once('/')
            {
                self.forget(&mut batch, vault, name);
            }
        }
        if !batch.is_empty() {
            self.store.commit(batch).await?;
        }
        Ok(())
    }

    /// Everything of a secret, sealed so that only this region's vaults open it.
    pub fn backup(&self, vault: &str, name: &str) -> Result<Vec<u8>, VaultError> {
        let secret = self.alive(vault, name)?;
        let mut versions = Vec::new();
        for (id, record) in self.version_records(vault, name)? {
            let value = self.unseal(vault, name, &id, &record)?;
            versions.push((id, record, (*value).clone()));
        }
        let backup = Backup { name: secret.name, current: secret.current, versions };
        let plain = Zeroizing::new(to_json(&backup));
        Ok(self.sealer.seal("vault.backup", &plain))
    }

    /// Brings a backed-up secret back, all its versions with it, into this vault or another of the
    /// region.
    pub async fn restore(&self, vault: &str, blob: &[u8]) -> Result<Version, VaultError> {
        let malformed = || VaultError::BadParameter("Backup blob is corrupted.".to_owned());
        let plain = self.sealer.open_backup("vault.backup", blob).map_err(|_| malformed())?;
        let backup: Backup = serde_json::from_slice(&plain).map_err(|_| malformed())?;
        let _turn = self.writing.lock().await;
        match self.secret(vault, &backup.name)? {
            Some(secret) if secret.deleted.is_some() => {
                return Err(VaultError::DeletedButRecoverable(backup.name));
            }
            Some(_) => return Err(VaultError::Exists(backup.name)),
            None => {}
        }
        let mut batch = Batch::new();
        let mut current = None;
        for (id, mut record, value) in backup.versions {
            let place = version_key(vault, &backup.name, &id);
            let value = Zeroizing::new(value);
            record.value = base64(&self.sealer.seal(&place, value.as_bytes()));
            batch.put_state(VERSIONS, &place, to_json(&record));
            if id == backup.current {
                current = Some(record);
            }
        }
        let record = current.ok_or_else(malformed)?;
        let secret = SecretRecord { name: backup.name, current: backup.current, deleted: None };
        batch.put_state(SECRETS, &secret_key(vault, &secret.name), to_json(&secret));
        self.store.commit(batch).await?;
        Ok(shown(&secret, &secret.current, record))
    }

    async fn save(&self, vault: &str, name: &str, secret: &SecretRecord) -> Result<(), VaultError> {
        let mut batch = Batch::new();
        batch.put_state(SECRETS, &secret_key(vault, name), to_json(secret));
        self.store.commit(batch).await?;
        Ok(())
    }

    fn forget(&self, batch: &mut Batch, vault: &str, name: &str) {
        batch.delete_state(SECRETS, &secret_key(vault, name));
        for (key, _) in self.store.list_state(VERSIONS, &version_key(vault, name, "")) {
            batch.delete_state(VERSIONS, &key);
        }
    }

    fn secret(&self, vault: &str, name: &str) -> Result<Option<SecretRecord>, VaultError> {
        let key = secret_key(vault, name);
        self.store.get_state(SECRETS, &key).map(|bytes| from_json(&key, &bytes)).transpose()
    }

    fn alive(&self, vault: &str, name: &str) -> Result<SecretRecord, VaultError> {
        self.secret(vault, name)?
            .filter(|secret| secret.deleted.is_none())
            .ok_or_else(|| VaultError::NotFound(name.to_owned()))
    }

    fn dead(&self, vault: &str, name: &str) -> Result<SecretRecord, VaultError> {
        self.secret(vault, name)?
            .filter(|secret| secret.deleted.is_some())
            .ok_or_else(|| VaultError::DeletedNotFound(name.to_owned()))
    }

    fn version(&self, vault: &str, name: &str, version: &str) -> Result<VersionRecord, VaultError> {
        let key = version_key(vault, name, &version.to_ascii_lowercase());
        let bytes = self
            .store
            .get_state(VERSIONS, &key)
            .ok_or_else(|| VaultError::NotFound(format!("{name}/{version}")))?;
        from_json(&key, &bytes)
    }

    fn version_records(
        &self,
        vault: &str,
        name: &str,
    ) -> Result<Vec<(String, VersionRecord)>, VaultError> {
        let prefix = version_key(vault, name, "");
        self.store
            .list_state(VERSIONS, &prefix)
            .into_iter()
            .map(|(key, bytes)| Ok((key[prefix.len()..].to_owned(), from_json(&key, &bytes)?)))
            .collect()
    }

    fn unseal(
        &self,
        vault: &str,
        name: &str,
        version: &str,
        record: &VersionRecord,
    ) -> Result<Zeroizing<String>, VaultError> {
        let place = version_key(vault, name, &version.to_ascii_lowercase());
        let damaged = || VaultError::Damaged(place.clone());
        let bytes = unbase64(&record.value).ok_or_else(damaged)?;
        let plain = self.sealer.open_sealed(&place, &bytes)?;
        let text = std::str::from_utf8(&plain).map_err(|_| damaged())?;
        Ok(Zeroizing::new(text.to_owned()))
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
        "The request URI contains an invalid name: a secret's name is 1 to 127 letters, digits and \
         hyphens."
            .to_owned(),
    ))
}

fn secret_key(vault: &str, name: &str) -> String {
    format!("{vault}/{name}").to_ascii_lowercase()
}

fn version_key(vault: &str, name: &str, version: &str) -> String {
    format!("{vault}/{name}/{version}").to_ascii_lowercase()
}

fn shown(secret: &SecretRecord, version: &str, record: VersionRecord) -> Version {
    let seconds = |nanos: i128| i64::try_from(nanos / 1_000_000_000).unwrap_or_default();
    Version {
        name: secret.name.clone(),
        version: version.to_owned(),
        attributes: record.attributes,
        created: seconds(record.created),
        updated: seconds(record.updated),
        content_type: record.content_type,
        tags: record.tags,
        deleted: secret.deleted,
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
pub(crate) mod tests {
    use super::*;
    use crate::directory::Directory;

    pub(crate) fn vaults_in(directory: &Directory) -> Arc<Vaults> {
        directory.create().expect("created");
        let store = Store::open(&directory.store()).expect("a store");
        let sealer = Arc::new(Sealer::open(&directory.vault_key()).expect("a key"));
        let audit = audit::Audit::open(&directory.logs().join("vault-audit.jsonl"));
        Vaults::new(&store, sealer, audit.expect("an audit log"))
    }

    pub(crate) fn vaults() -> Arc<Vaults> {
        vaults_in(&Directory::at(tempfile::tempdir().expect("temp dir").keep()))
    }

    #[tokio::test]
    async fn versions_are_kept_and_the_newest_is_current() {
        let vaults = vaults();
        let one = vaults.set("kv", "Db-Password", "one", NewSecret::default()).await.expect("set");
        let two = vaults.set("KV", "db-password", "two", NewSecret::default()).await.expect("set");
        assert_ne!(one.version, two.version);
        assert_eq!(*vaults.read("kv", "DB-PASSWORD", None).expect("read").value, "two");
        let first = vaults.read("kv", "db-password", Some(&one.version)).expect("read");
        assert_eq!(*first.value, "one");
        let versions = vaults.versions("kv", "db-password").expect("list");
        let ids: Vec<_> = versions.into_iter().map(|found| found.version).collect();
        assert_eq!(ids, [one.version, two.version]);
    }

    #[tokio::test]
    async fn a_deleted_secret_can_be_recovered_until_it_is_purged() {
        let vaults = vaults();
        vaults.set("kv", "a", "v", NewSecret::default()).await.expect("set");
        vaults.delete("kv", "a", Some(7)).await.expect("deleted");
        assert!(matches!(vaults.read("kv", "a", None), Err(VaultError::NotFound(_))));
        assert!(matches!(
            vaults.set("kv", "a", "w", NewSecret::default()).await,
            Err(VaultError::DeletedButRecoverable(_))
        ));
        vaults.recover("kv", "a").await.expect("recovered");
        assert_eq!(*vaults.read("kv", "a", None).expect("back").value, "v");
        vaults.delete("kv", "a", Some(7)).await.expect("deleted");
        assert!(matches!(vaults.purge("kv", "a", true).await, Err(VaultError::PurgeProtected)));
        vaults.purge("kv", "a", false).await.expect("purged");
        assert!(matches!(vaults.recover("kv", "a").await, Err(VaultError::DeletedNotFound(_))));
        vaults.set("kv", "a", "new", NewSecret::default()).await.expect("the name is free");
        assert_eq!(vaults.versions("kv", "a").expect("list").len(), 1);
    }

    #[tokio::test]
    async fn what_is_over_its_retention_is_forgotten() {
        let vaults = vaults();
        vaults.set("kv", "a", "v", NewSecret::default()).await.expect("set");
        vaults.set("kv", "b", "v", NewSecret::default()).await.expect("set");
        vaults.delete("kv", "a", Some(-1)).await.expect("deleted");
        vaults.delete("kv", "b", Some(7)).await.expect("deleted");
        vaults.purge_expired().await.expect("purged");
        assert!(vaults.deleted("kv", "a").is_err());
        assert!(vaults.deleted("kv", "b").is_ok());
    }

    #[tokio::test]
    async fn a_disabled_or_future_version_is_not_read() {
        let vaults = vaults();
        let disabled = Attributes { enabled: Some(false), ..Attributes::default() };
        vaults.set("kv", "a", "v", NewSecret::default()).await.expect("set");
        let change = NewSecret { attributes: disabled, ..NewSecret::default() };
        vaults.update("kv", "a", None, change).await.expect("disabled");
        assert!(matches!(vaults.read("kv", "a", None), Err(VaultError::Disabled(_))));
        let future = Attributes { nbf: Some(i64::MAX), ..Attributes::default() };
        let new = NewSecret { attributes: future, ..NewSecret::default() };
        vaults.set("kv", "b", "v", new).await.expect("set");
        assert!(matches!(vaults.read("kv", "b", None), Err(VaultError::NotYetValid)));
    }

    #[tokio::test]
    async fn a_backup_restores_every_version_and_opens_nowhere_else() {
        let vaults = vaults();
        let one = vaults.set("kv", "a", "one", NewSecret::default()).await.expect("set");
        vaults.set("kv", "a", "two", NewSecret::default()).await.expect("set");
        let blob = vaults.backup("kv", "a").expect("backed up");
        assert!(!blob.windows(3).any(|window| window == b"two"));
        assert!(matches!(vaults.restore("kv", &blob).await, Err(VaultError::Exists(_))));
        vaults.restore("other", &blob).await.expect("restored");
        assert_eq!(*vaults.read("other", "a", None).expect("read").value, "two");
        let first = vaults.read("other", "a", Some(&one.version)).expect("read");
        assert_eq!(*first.value, "one");
        let stranger = self::vaults();
        assert!(matches!(stranger.restore("kv", &blob).await, Err(VaultError::BadParameter(_))));
    }

    #[tokio::test]
    async fn bad_names_and_values_are_refused() {
        let vaults = vaults();
        let long = "n".repeat(128);
        for name in ["", "a/b", "..", "a b", "ü", "a\u{0}", &long] {
            assert!(
                matches!(
                    vaults.set("kv", name, "v", NewSecret::default()).await,
                    Err(VaultError::BadParameter(_))
                ),
                "{name:?}"
            );
        }
        let value = "v".repeat(MAX_VALUE + 1);
        assert!(vaults.set("kv", "a", &value, NewSecret::default()).await.is_err());
        assert!(vaults.set("kv", "a", &value[1..], NewSecret::default()).await.is_ok());
        let text = "Ünïcode 🔑\n\u{7f}";
        vaults.set("kv", "u", text, NewSecret::default()).await.expect("set");
        assert_eq!(*vaults.read("kv", "u", None).expect("read").value, text);
    }

    #[tokio::test]
    async fn no_value_is_on_the_disk_in_clear() {
        let temp = tempfile::tempdir().expect("temp dir");
        let directory = Directory::at(temp.path());
        let vaults = vaults_in(&directory);
        let value = "a-value-that-nobody-else-writes";
        vaults.set("kv", "a", value, NewSecret::default()).await.expect("set");
        vaults.read("kv", "a", None).expect("read");
        drop(vaults);
        for entry in std::fs::read_dir(temp.path()).expect("listed").flatten() {
            if entry.path().is_file() {
                let bytes = std::fs::read(entry.path()).expect("read");
                let found = bytes.windows(value.len()).any(|window| window == value.as_bytes());
                assert!(!found, "{}", entry.path().display());
            }
        }
    }
}
