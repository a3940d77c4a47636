//! The records of sites and slots in the region's store.
//!
//! A slot's record holds secrets, so it is sealed private state; beside it stands the ARM resource that
//! clients are shown, made from the record. Both are written in one batch, which demands that the
//! resource is still the one that was read: two writers at once cannot lose one another's changes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use lazuli_azure::ResourceId;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    render,
    site::{SiteKey, SiteRecord, SlotKey, SlotName, SlotRecord},
};
use crate::store::{Batch, Expect, Store, StoreError};

const SLOTS: &str = "web.slots";
const SITES: &str = "web.sites";

/// The type of a site.
pub const SITE_KIND: &str = "Microsoft.Web/sites";
/// The type of a slot.
pub const SLOT_KIND: &str = "Microsoft.Web/sites/slots";
/// The type of a plan.
pub const PLAN_KIND: &str = "Microsoft.Web/serverfarms";

/// Encrypts what must not lie on the disk in clear. `place` binds it to where it is kept.
pub trait Seal: Send + Sync + 'static {
    /// Encrypts.
    fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, String>;
    /// Decrypts.
    fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, String>;
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No such site or slot.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that cannot be read.
    #[error("the record of {0} is damaged: {1}")]
    Damaged(String, String),
    /// What the change itself refused.
    #[error("{0}")]
    Refused(String),
}

/// A record read, and who it was when it was read.
#[derive(Clone)]
pub struct Versioned {
    /// The record.
    pub record: SlotRecord,
    /// The etag of its resource.
    pub etag: Arc<str>,
}

/// The records.
pub struct Records {
    store: Store,
    seal: Arc<dyn Seal>,
    /// Decrypted and parsed, by the etag of the resource it belongs to.
    cache: Mutex<HashMap<SlotKey, Versioned>>,
}

impl Records {
    /// The records in `store`.
    pub fn new(store: Store, seal: Arc<dyn Seal>) -> Self {
        Self { store, seal, cache: Mutex::default() }
    }

    /// The store itself.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A slot with its version; `None` when it does not exist.
    pub fn versioned(&self, key: &SlotKey) -> Option<Versioned> {
        let id = resource_id(key).ok()?;
        let resource = self.store.get(&id)?;
        let cached = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        if let Some(cached) = cached
            && cached.etag == resource.etag
        {
            return Some(cached);
        }
        let record = match self.read(key) {
            Ok(record) => record?,
            Err(error) => {
                tracing::error!(%error, "a slot's record cannot be read");
                return None;
            }
        };
        // Read after the etag: a newer record with an older etag only makes a later write fail.
        let versioned = Versioned { record, etag: resource.etag.clone() };
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), versioned.clone());
        Some(versioned)
    }

    /// A slot.
    pub fn slot(&self, key: &SlotKey) -> Option<SlotRecord> {
        self.versioned(key).map(|versioned| versioned.record)
    }

    fn read(&self, key: &SlotKey) -> Result<Option<SlotRecord>, RecordError> {
        let place = key.state_key();
        let Some(sealed) = self.store.get_state(SLOTS, &place) else { return Ok(None) };
        let damaged = |error: String| RecordError::Damaged(place.clone(), error);
        let plain = self.seal.open(&place, &sealed).map_err(damaged)?;
        serde_json::from_slice(&plain)
            .map(Some)
            .map_err(|error| RecordError::Damaged(place.clone(), error.to_string()))
    }

    /// Puts a slot's record into a batch, without its resource.
    pub fn put_private(
        &self,
        batch: &mut Batch,
        key: &SlotKey,
        record: &SlotRecord,
    ) -> Result<(), RecordError> {
        let place = key.state_key();
        let plain = serde_json::to_vec(record)
            .map_err(|error| RecordError::Damaged(place.clone(), error.to_string()))?;
        let sealed = self
            .seal
            .seal(&place, &plain)
            .map_err(|error| RecordError::Damaged(place.clone(), error))?;
        batch.put_state(SLOTS, &place, sealed);
        Ok(())
    }

    /// Puts something of App Service's that is secret into a batch.
    pub fn put_sealed(
        &self,
        batch: &mut Batch,
        namespace: &str,
        place: &str,
        plain: &[u8],
    ) -> Result<(), RecordError> {
        let sealed = self
            .seal
            .seal(place, plain)
            .map_err(|error| RecordError::Damaged(place.to_owned(), error))?;
        batch.put_state(namespace, place, sealed);
        Ok(())
    }

    /// What was put so; `None` when it is not there or does not open.
    pub fn sealed(&self, namespace: &str, place: &str) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        let sealed = self.store.get_state(namespace, place)?;
        self.seal
            .open(place, &sealed)
            .inspect_err(|error| tracing::error!(namespace, place, error, "does not open"))
            .ok()
            .map(zeroize::Zeroizing::new)
    }

    /// Puts a slot's record and its resource into a batch, which then demands that the slot is still
    /// as it was read.
    pub fn put(
        &self,
        batch: &mut Batch,
        key: &SlotKey,
        record: &SlotRecord,
        read: &Arc<str>,
    ) -> Result<(), RecordError> {
        let id = resource_id(key).map_err(RecordError::Refused)?;
        batch.expect(&id, Expect::Etag(read.clone()));
        self.put_private(batch, key, record)?;
        batch.put(&id, render::body(key, record));
        Ok(())
    }

    /// Changes a slot; `change` is called again when somebody else was faster.
    pub async fn update<T>(
        &self,
        key: &SlotKey,
        mut change: impl FnMut(&mut SlotRecord) -> Result<T, String>,
    ) -> Result<T, RecordError> {
        loop {
            let Versioned { mut record, etag } =
                self.versioned(key).ok_or_else(|| RecordError::NotFound(key.display()))?;
            let answer = change(&mut record).map_err(RecordError::Refused)?;
            record.changed = jiff::Timestamp::now().to_string();
            let mut batch = Batch::new();
            self.put(&mut batch, key, &record, &etag)?;
            match self.store.commit(batch).await {
                Err(StoreError::Conflict(_)) => {}
                other => return other.map(|()| answer).map_err(Into::into),
            }
        }
    }

    /// What is kept of a site besides its slots.
    pub fn site(&self, key: &SiteKey) -> SiteRecord {
        self.json(SITES, &key.state_key()).unwrap_or_default()
    }

    /// Puts it into a batch.
    pub fn put_site(&self, batch: &mut Batch, key: &SiteKey, record: &SiteRecord) {
        put_json(batch, SITES, &key.state_key(), record);
    }

    /// Puts the removal of a slot's record into a batch.
    pub fn delete_private(&self, batch: &mut Batch, key: &SlotKey) {
        batch.delete_state(SLOTS, &key.state_key());
        if key.slot == SlotName::Production {
            batch.delete_state(SITES, &key.site.state_key());
        }
    }

    /// Every slot there is.
    pub fn all(&self) -> Vec<SlotKey> {
        self.store
            .list_state(SLOTS, "")
            .into_iter()
            .filter_map(|(key, _)| SlotKey::from_state_key(&key))
            .filter(|key| resource_id(key).is_ok_and(|id| self.store.get(&id).is_some()))
            .collect()
    }

    /// A site's slots, production first.
    pub fn slots_of(&self, site: &SiteKey) -> Vec<SlotKey> {
        let mut slots: Vec<_> = self.all().into_iter().filter(|key| key.site == *site).collect();
        slots.sort();
        slots
    }

    /// A private record that holds no secret.
    pub fn json<T: DeserializeOwned>(&self, namespace: &str, key: &str) -> Option<T> {
        let bytes = self.store.get_state(namespace, key)?;
        serde_json::from_slice(&bytes)
            .inspect_err(|error| tracing::error!(namespace, key, %error, "a damaged record"))
            .ok()
    }
}

/// Puts a private record that holds no secret into a batch.
pub fn put_json(batch: &mut Batch, namespace: &str, key: &str, value: &impl Serialize) {
    // Our own records are structs of strings and maps with string keys: they always serialise.
    batch.put_state(namespace, key, serde_json::to_vec(value).unwrap_or_default());
}

/// The resource of a slot.
pub fn resource_id(key: &SlotKey) -> Result<ResourceId, String> {
    let SiteKey { subscription, group, name } = &key.site;
    let mut path = format!(
        "/subscriptions/{subscription}/resourceGroups/{group}/providers/{SITE_KIND}/{name}"
    );
    if let SlotName::Named(slot) = &key.slot {
        path.push_str("/slots/");
        path.push_str(slot);
    }
    ResourceId::parse(&path).map_err(|error| error.to_string())
}

/// The slot that a resource ID of a site, a slot or anything below one is of.
pub fn slot_key(id: &ResourceId) -> Option<SlotKey> {
    let names = id.names();
    let mut kind = id.kind().split('/').skip(1);
    if !id.namespace()?.eq_ignore_ascii_case("Microsoft.Web")
        || !kind.next()?.eq_ignore_ascii_case("sites")
    {
        return None;
    }
    let site = SiteKey::new(id.subscription()?, id.resource_group()?, names.first()?);
    let slot = match (kind.next(), names.get(1)) {
        (Some(kind), Some(slot)) if kind.eq_ignore_ascii_case("slots") => SlotName::new(slot),
        _ => SlotName::Production,
    };
    Some(site.slot(slot))
}
