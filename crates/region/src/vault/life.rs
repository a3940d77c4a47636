//! The life of whatever a vault holds: versions, lists, changes of what is said of them, soft deletion,
//! recovery, purging, backups. One for secrets, keys and certificates
//! (<https://learn.microsoft.com/azure/key-vault/general/soft-delete-overview>).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Attributes, Deleted, Kind, NewSecret, ObjectRecord, RETENTION_DAYS, VaultError, Vaults,
    Version, VersionRecord, from_json, object_key, shown, to_json, version_key,
};
use crate::identity::token::{base64, unbase64};
use crate::seal::Secret;
use crate::store::Batch;

/// What a backup holds, before it is sealed: the objects that live and die together.
#[derive(Serialize, Deserialize)]
struct Backup {
    objects: Vec<Backed>,
}

#[derive(Serialize, Deserialize)]
struct Backed {
    #[serde(default)]
    kind: Kind,
    name: String,
    current: String,
    #[serde(default)]
    managed: bool,
    #[serde(default)]
    policy: Value,
    /// Version, record, value in base64 (as it is, of a backup of before).
    versions: Vec<(String, VersionRecord, String)>,
}

/// A version's name: 32 hexadecimal digits.
pub(super) fn new_version() -> String {
    Uuid::new_v4().simple().to_string()
}

/// A version made now, its value not yet in it.
pub(super) fn new_record(new: NewSecret) -> VersionRecord {
    let now = Timestamp::now().as_nanosecond();
    VersionRecord {
        value: String::new(),
        attributes: new.attributes,
        created: now,
        updated: now,
        content_type: new.content_type,
        tags: new.tags,
        detail: Value::Null,
    }
}

impl Vaults {
    /// The current version of an object, without its value; also of a disabled one.
    pub fn current(&self, kind: Kind, vault: &str, name: &str) -> Result<Version, VaultError> {
        self.one(kind, vault, name, None)
    }

    /// A version of an object, or the current one, without its value; also of a disabled one.
    pub fn one(
        &self,
        kind: Kind,
        vault: &str,
        name: &str,
        version: Option<&str>,
    ) -> Result<Version, VaultError> {
        let object = self.alive(kind, vault, name)?;
        let version = version.unwrap_or(&object.current).to_ascii_lowercase();
        let record = self.version(kind, vault, name, &version)?;
        Ok(shown(&object, &version, record))
    }

    /// Every version of an object, oldest first, without values.
    pub fn versions(
        &self,
        kind: Kind,
        vault: &str,
        name: &str,
    ) -> Result<Vec<Version>, VaultError> {
        let object = self.alive(kind, vault, name)?;
        let mut versions = self.version_records(kind, vault, name)?;
        versions.sort_by_key(|(_, record)| record.created);
        Ok(versions.into_iter().map(|(id, record)| shown(&object, &id, record)).collect())
    }

    /// The current version of every object of a kind, deleted ones or the others, ordered by name.
    pub fn list(&self, kind: Kind, vault: &str, deleted: bool) -> Result<Vec<Version>, VaultError> {
        let prefix = format!("{}/", vault.to_ascii_lowercase());
        let mut found = Vec::new();
        for (key, bytes) in self.store.list_state(kind.objects(), &prefix) {
            let object: ObjectRecord = from_json(&key, &bytes)?;
            if object.deleted.is_some() == deleted {
                let record = self.version(kind, vault, &object.name, &object.current)?;
                found.push(shown(&object, &object.current, record));
            }
        }
        Ok(found)
    }

    /// Changes what is said of a version. What is `None` stays. A certificate's key and secret are
    /// enabled and disabled with it; when it is valid is in it and does not change.
    pub async fn update(
        &self,
        kind: Kind,
        vault: &str,
        name: &str,
        version: Option<&str>,
        change: NewSecret,
    ) -> Result<Version, VaultError> {
        let _turn = self.writing.lock().await;
        let object = self.alive(kind, vault, name)?;
        if object.managed {
            return Err(VaultError::Managed(kind, "update"));
        }
        let version = version.unwrap_or(&object.current).to_ascii_lowercase();
        let mut batch = Batch::new();
        let mut answer = None;
        for member in kind.family() {
            let mut record = match self.version(*member, vault, name, &version) {
                Err(VaultError::NotFound(..)) if *member != kind => continue,
                other => other?,
            };
            let said = &change.attributes;
            record.attributes.enabled = said.enabled.or(record.attributes.enabled);
            if kind != Kind::Certificate {
                record.attributes.nbf = said.nbf.or(record.attributes.nbf);
                record.attributes.exp = said.exp.or(record.attributes.exp);
                record.content_type = change.content_type.clone().or(record.content_type);
            }
            record.tags = change.tags.clone().or(record.tags);
            if let Some(ops) = change.detail.get("key_ops").filter(|_| kind == Kind::Key) {
                record.detail["key_ops"] = ops.clone();
            }
            record.updated = Timestamp::now().as_nanosecond();
            let key = version_key(vault, name, &version);
            batch.put_state(member.versions(), &key, to_json(&record));
            answer.get_or_insert_with(|| shown(&object, &version, record));
        }
        self.store.commit(batch).await?;
        answer.ok_or_else(|| VaultError::NotFound(kind, format!("{name}/{version}")))
    }

    /// Deletes an object softly: it can be recovered until `retention_days` have passed.
    pub async fn delete(
        &self,
        kind: Kind,
        vault: &str,
        name: &str,
        retention_days: Option<i64>,
    ) -> Result<Version, VaultError> {
        let _turn = self.writing.lock().await;
        if self.alive(kind, vault, name)?.managed {
            return Err(VaultError::Managed(kind, "delete"));
        }
        let now = Timestamp::now().as_second();
        let deleted = Deleted {
            deleted_date: now,
            scheduled_purge_date: now + retention_days.unwrap_or(RETENTION_DAYS) * 86_400,
        };
        self.mark(kind, vault, name, Some(deleted)).await?;
        self.deleted(kind, vault, name)
    }

    /// A deleted object.
    pub fn deleted(&self, kind: Kind, vault: &str, name: &str) -> Result<Version, VaultError> {
        let object = self.dead(kind, vault, name)?;
        let record = self.version(kind, vault, name, &object.current)?;
        Ok(shown(&object, &object.current, record))
    }

    /// Brings a deleted object back, all its versions with it.
    pub async fn recover(
        &self,
        kind: Kind,
        vault: &str,
        name: &str,
    ) -> Result<Version, VaultError> {
        let _turn = self.writing.lock().await;
        if self.dead(kind, vault, name)?.managed {
            return Err(VaultError::Managed(kind, "recover"));
        }
        self.mark(kind, vault, name, None).await?;
        self.current(kind, vault, name)
    }

    /// Forgets a deleted object for good, unless the vault is `protected` against that.
    pub async fn purge(
        &self,
        kind: Kind,
        vault: &str,
        name: &str,
        protected: bool,
    ) -> Result<(), VaultError> {
        let _turn = self.writing.lock().await;
        if self.dead(kind, vault, name)?.managed {
            return Err(VaultError::Managed(kind, "purge"));
        }
        if protected {
            return Err(VaultError::PurgeProtected);
        }
        let mut batch = Batch::new();
        for member in kind.family() {
            let object = self.object(*member, vault, name)?;
            if object.is_some_and(|object| object.managed || *member == kind) {
                self.forget(&mut batch, *member, vault, name);
            }
        }
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Forgets everything in a vault: the vault itself was purged.
    pub async fn purge_vault(&self, vault: &str) -> Result<(), VaultError> {
        let _turn = self.writing.lock().await;
        let prefix = format!("{}/", vault.to_ascii_lowercase());
        let mut batch = Batch::new();
        for kind in Kind::ALL {
            for namespace in [kind.objects(), kind.versions()] {
                for (key, _) in self.store.list_state(namespace, &prefix) {
                    batch.delete_state(namespace, &key);
                }
            }
        }
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Forgets what was deleted and whose retention is over. To be called now and then.
    pub async fn purge_expired(&self) -> Result<(), VaultError> {
        let _turn = self.writing.lock().await;
        let now = Timestamp::now().as_second();
        let mut batch = Batch::new();
        for kind in Kind::ALL {
            for (key, bytes) in self.store.list_state(kind.objects(), "") {
                let object: ObjectRecord = from_json(&key, &bytes)?;
                if object.deleted.is_some_and(|deleted| deleted.scheduled_purge_date <= now)
                    && let Some((vault, name)) = key.split_once('/')
                {
                    self.forget(&mut batch, kind, vault, name);
                }
            }
        }
        if !batch.is_empty() {
            self.store.commit(batch).await?;
        }
        Ok(())
    }

    /// Everything of an object, sealed so that only this region's vaults open it.
    pub fn backup(&self, kind: Kind, vault: &str, name: &str) -> Result<Vec<u8>, VaultError> {
        if self.alive(kind, vault, name)?.managed {
            return Err(VaultError::Managed(kind, "backup"));
        }
        let mut objects = Vec::new();
        for member in kind.family() {
            let object = match self.object(*member, vault, name)? {
                Some(object) if object.managed || *member == kind => object,
                _ => continue,
            };
            let mut versions = Vec::new();
            for (id, record) in self.version_records(*member, vault, name)? {
                let value = if record.value.is_empty() {
                    String::new()
                } else {
                    base64(&self.unseal(*member, vault, name, &id, &record)?)
                };
                versions.push((id, record, value));
            }
            objects.push(Backed {
                kind: *member,
                name: object.name,
                current: object.current,
                managed: object.managed,
                policy: object.policy,
                versions,
            });
        }
        let plain = Zeroizing::new(to_json(&Backup { objects }));
        Ok(self.sealer.seal("vault.backup", &plain))
    }

    /// Brings a backed-up object back, all its versions with it, into this vault or another of the
    /// region.
    pub async fn restore(
        &self,
        kind: Kind,
        vault: &str,
        blob: &[u8],
    ) -> Result<Version, VaultError> {
        let malformed = || VaultError::BadParameter("Backup blob is corrupted.".to_owned());
        let plain = self.sealer.open_backup("vault.backup", blob).map_err(|_| malformed())?;
        let (objects, encoded) = match serde_json::from_slice::<Backup>(&plain) {
            Ok(backup) => (backup.objects, true),
            // What was backed up before there were keys and certificates.
            Err(_) => (vec![serde_json::from_slice(&plain).map_err(|_| malformed())?], false),
        };
        if objects.first().map(|one| one.kind) != Some(kind) {
            return Err(malformed());
        }
        let _turn = self.writing.lock().await;
        let mut batch = Batch::new();
        let mut answer = None;
        for backed in objects {
            let (member, name) = (backed.kind, backed.name.clone());
            match self.object(member, vault, &name)? {
                Some(object) if object.deleted.is_some() => {
                    return Err(VaultError::DeletedButRecoverable(member, name));
                }
                Some(_) => return Err(VaultError::Exists(member, name)),
                None => {}
            }
            let object = ObjectRecord {
                name: backed.name,
                current: backed.current,
                managed: backed.managed,
                policy: backed.policy,
                deleted: None,
            };
            let mut current = None;
            for (id, mut record, value) in backed.versions {
                let value = Zeroizing::new(if encoded {
                    unbase64(&value).ok_or_else(malformed)?
                } else {
                    value.into_bytes()
                });
                if member != Kind::Certificate {
                    record.value = self.seal(member, vault, &name, &id, &value);
                }
                let key = version_key(vault, &name, &id);
                batch.put_state(member.versions(), &key, to_json(&record));
                if id == object.current {
                    current = Some(record);
                }
            }
            let record = current.ok_or_else(malformed)?;
            batch.put_state(member.objects(), &object_key(vault, &name), to_json(&object));
            answer.get_or_insert_with(|| shown(&object, &object.current, record));
        }
        self.store.commit(batch).await?;
        answer.ok_or_else(malformed)
    }

    /// Marks an object and those that live with it as deleted, or no longer.
    async fn mark(
        &self,
        kind: Kind,
        vault: &str,
        name: &str,
        deleted: Option<Deleted>,
    ) -> Result<(), VaultError> {
        let mut batch = Batch::new();
        for member in kind.family() {
            if let Some(mut object) = self.object(*member, vault, name)?
                && (object.managed || *member == kind)
            {
                object.deleted = deleted;
                batch.put_state(member.objects(), &object_key(vault, name), to_json(&object));
            }
        }
        self.store.commit(batch).await?;
        Ok(())
    }

    fn forget(&self, batch: &mut Batch, kind: Kind, vault: &str, name: &str) {
        batch.delete_state(kind.objects(), &object_key(vault, name));
        for (key, _) in self.store.list_state(kind.versions(), &version_key(vault, name, "")) {
            batch.delete_state(kind.versions(), &key);
        }
    }

    /// An object's record with a new current version, for `operation`. Only with the writers' turn.
    pub(super) fn next(
        &self,
        kind: Kind,
        vault: &str,
        name: &str,
        version: &str,
        operation: &'static str,
    ) -> Result<ObjectRecord, VaultError> {
        match self.object(kind, vault, name)? {
            Some(object) if object.deleted.is_some() => {
                Err(VaultError::DeletedButRecoverable(kind, name.to_owned()))
            }
            Some(object) if object.managed => Err(VaultError::Managed(kind, operation)),
            // The first spelling stays, as in Azure.
            Some(object) => Ok(ObjectRecord { current: version.to_owned(), ..object }),
            None => Ok(ObjectRecord {
                name: name.to_owned(),
                current: version.to_owned(),
                managed: false,
                policy: Value::Null,
                deleted: None,
            }),
        }
    }

    /// Puts a version that is the current one into a batch.
    pub(super) fn put(
        batch: &mut Batch,
        kind: Kind,
        vault: &str,
        object: &ObjectRecord,
        version: &str,
        record: &VersionRecord,
    ) {
        batch
            .put_state(kind.versions(), &version_key(vault, &object.name, version), to_json(record))
            .put_state(kind.objects(), &object_key(vault, &object.name), to_json(object));
    }

    pub(super) fn object(
        &self,
        kind: Kind,
        vault: &str,
        name: &str,
    ) -> Result<Option<ObjectRecord>, VaultError> {
        let key = object_key(vault, name);
        self.store.get_state(kind.objects(), &key).map(|bytes| from_json(&key, &bytes)).transpose()
    }

    pub(super) fn alive(
        &self,
        kind: Kind,
        vault: &str,
        name: &str,
    ) -> Result<ObjectRecord, VaultError> {
        self.object(kind, vault, name)?
            .filter(|object| object.deleted.is_none())
            .ok_or_else(|| VaultError::NotFound(kind, name.to_owned()))
    }

    fn dead(&self, kind: Kind, vault: &str, name: &str) -> Result<ObjectRecord, VaultError> {
        self.object(kind, vault, name)?
            .filter(|object| object.deleted.is_some())
            .ok_or_else(|| VaultError::DeletedNotFound(kind, name.to_owned()))
    }

    pub(super) fn version(
        &self,
        kind: Kind,
        vault: &str,
        name: &str,
        version: &str,
    ) -> Result<VersionRecord, VaultError> {
        let key = version_key(vault, name, version);
        let bytes = self
            .store
            .get_state(kind.versions(), &key)
            .ok_or_else(|| VaultError::NotFound(kind, format!("{name}/{version}")))?;
        from_json(&key, &bytes)
    }

    fn version_records(
        &self,
        kind: Kind,
        vault: &str,
        name: &str,
    ) -> Result<Vec<(String, VersionRecord)>, VaultError> {
        let prefix = version_key(vault, name, "");
        self.store
            .list_state(kind.versions(), &prefix)
            .into_iter()
            .map(|(key, bytes)| Ok((key[prefix.len()..].to_owned(), from_json(&key, &bytes)?)))
            .collect()
    }

    pub(super) fn seal(
        &self,
        kind: Kind,
        vault: &str,
        name: &str,
        version: &str,
        plain: &[u8],
    ) -> String {
        base64(&self.sealer.seal(&kind.place(&version_key(vault, name, version)), plain))
    }

    pub(super) fn unseal(
        &self,
        kind: Kind,
        vault: &str,
        name: &str,
        version: &str,
        record: &VersionRecord,
    ) -> Result<Secret, VaultError> {
        let place = kind.place(&version_key(vault, name, version));
        let bytes = unbase64(&record.value).ok_or_else(|| VaultError::Damaged(place.clone()))?;
        Ok(self.sealer.open_sealed(&place, &bytes)?)
    }

    /// What is said of a version that a client makes.
    pub(super) fn attributes_of(asked: &Value) -> Result<Attributes, VaultError> {
        match &asked["attributes"] {
            Value::Null => Ok(Attributes::default()),
            given => serde_json::from_value(given.clone()).map_err(|_| {
                VaultError::BadParameter("The parameter 'attributes' is invalid.".to_owned())
            }),
        }
    }
}
