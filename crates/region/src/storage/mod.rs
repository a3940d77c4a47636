//! Blob storage: containers and block blobs with metadata, snapshots and leases, as much as
//! Terraform's state backend, `az storage` and the SDKs use
//! (<https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api>).
//!
//! A container is a resource of Resource Manager. A blob is a record of the store: its properties and
//! the list of its blocks. A block is a file, sealed, that never changes; a write makes new files, then
//! replaces the record in one step, and what no record names is swept away. [`rest`] is the service.

pub mod auth;
pub mod error;
pub mod lease;
pub mod rest;
pub mod sas;
pub mod xml;

use std::{
    collections::{BTreeMap, HashSet},
    io::Write as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    identity::Identity,
    seal::Sealer,
    store::{Batch, Expect, Resource, Store},
};
use error::Refusal;
use lease::Lease;

/// The types of what is stored here.
pub const ACCOUNT: &str = "Microsoft.Storage/storageAccounts";
/// A container's.
pub const CONTAINER: &str = "Microsoft.Storage/storageAccounts/blobServices/containers";
/// Sealed [`Keys`], by account.
const KEYS: &str = "storage.keys";
/// [`Blob`]s, by `{account}/{container}/{blob}`.
const BLOBS: &str = "storage.blobs";
/// [`Blob`]s, by `{account}/{container}/{blob}\0{moment}`.
const SNAPSHOTS: &str = "storage.snapshots";
/// Lists of [`Block`]s that no blob has yet, by blob.
const UNCOMMITTED: &str = "storage.uncommitted";
/// How long what a reader may still be reading stays.
const LINGER: Duration = Duration::from_secs(60);

/// An account's two keys.
#[derive(Clone, Serialize, Deserialize)]
pub struct Keys {
    /// `key1` and `key2`, base64 of 64 random bytes.
    pub values: [String; 2],
    /// When each was made.
    pub made: [Timestamp; 2],
}

/// A part of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The file's name.
    pub file: Uuid,
    /// Its length in bytes, unsealed.
    pub size: u64,
    /// The client's name for it, base64; none for a blob that came in one piece.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
}

/// A block blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Without quotes.
    pub etag: String,
    /// When it came into being.
    pub created: Timestamp,
    /// When it was last written.
    pub modified: Timestamp,
    /// `Content-Type` and its like, by header name in lower case.
    pub headers: BTreeMap<String, String>,
    /// `x-ms-meta-*`.
    pub metadata: BTreeMap<String, String>,
    /// Its content, in order.
    pub blocks: Vec<Block>,
    /// Who has it.
    #[serde(default)]
    pub lease: Lease,
    /// The access tier, where one was asked for.
    #[serde(default)]
    pub tier: Option<String>,
}

impl Blob {
    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.blocks.iter().map(|block| block.size).sum()
    }
}

/// The name of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The account's.
    pub account: String,
    /// The container's.
    pub container: String,
    /// Its own, with its slashes.
    pub blob: String,
}

impl Name {
    fn key(&self) -> String {
        format!("{}/{}/{}", self.account, self.container, self.blob)
    }

    fn snapshot_key(&self, moment: &str) -> String {
        format!("{}\0{moment}", self.key())
    }
}

/// Every account's blobs.
pub struct Storage {
    store: Store,
    sealer: Arc<Sealer>,
    identity: Arc<Identity>,
    dir: PathBuf,
    /// One writer at a time: a check and the write that follows from it are one step.
    writes: tokio::sync::Mutex<()>,
    ticks: AtomicI64,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// A random account key.
fn new_key() -> Result<String, Refusal> {
    let mut bytes = [0_u8; 64];
    rand::fill(&mut bytes).map_err(|_| Refusal::internal(&"no random numbers"))?;
    Ok(STANDARD.encode(bytes))
}

impl Keys {
    /// Two new keys.
    pub fn new() -> Result<Self, Refusal> {
        let now = Timestamp::now();
        Ok(Self { values: [new_key()?, new_key()?], made: [now, now] })
    }

    /// Makes `key1` or `key2` anew; false for any other name.
    pub fn regenerate(&mut self, name: &str) -> Result<bool, Refusal> {
        let index = match name.to_ascii_lowercase().as_str() {
            "key1" => 0,
            "key2" => 1,
            _ => return Ok(false),
        };
        self.values[index] = new_key()?;
        self.made[index] = Timestamp::now();
        Ok(true)
    }

    /// Puts them into a batch, sealed.
    pub fn store(&self, sealer: &Sealer, account: &ResourceId, batch: &mut Batch) {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        batch.put_state(KEYS, account.key(), sealer.seal(account.key(), &bytes));
    }

    /// An account's.
    pub fn load(store: &Store, sealer: &Sealer, account: &ResourceId) -> Option<Self> {
        let sealed = store.get_state(KEYS, account.key())?;
        let open = sealer.open_sealed(account.key(), &sealed).ok()?;
        serde_json::from_slice(&open).ok()
    }

    /// Forgets an account's.
    pub fn forget(account: &ResourceId, batch: &mut Batch) {
        batch.delete_state(KEYS, account.key());
    }
}

/// Puts the end of every blob of a container into a batch; their files are swept away later.
pub fn forget_container(store: &Store, container: &ResourceId, batch: &mut Batch) {
    let Some(account) = container.parent().and_then(|service| service.parent()) else { return };
    let prefix = format!("{}/{}/", account.name().to_ascii_lowercase(), container.name());
    for namespace in [BLOBS, SNAPSHOTS, UNCOMMITTED] {
        for (key, _) in store.list_state(namespace, &prefix) {
            batch.delete_state(namespace, &key);
        }
    }
}

impl Storage {
    /// The blobs whose content lies in `dir`. Sweeps away what a crash left there.
    pub fn open(
        dir: PathBuf,
        store: Store,
        sealer: Arc<Sealer>,
        identity: Arc<Identity>,
    ) -> std::io::Result<Arc<Self>> {
        std::fs::create_dir_all(&dir)?;
        let storage = Arc::new(Self {
            store,
            sealer,
            identity,
            dir,
            writes: tokio::sync::Mutex::new(()),
            ticks: AtomicI64::new(0),
        });
        storage.sweep();
        Ok(storage)
    }

    /// Deletes files that no record names. Only while nobody writes.
    fn sweep(&self) {
        let mut named = HashSet::new();
        for (namespace, prefix) in [(BLOBS, ""), (SNAPSHOTS, ""), (UNCOMMITTED, "")] {
            for (_, bytes) in self.store.list_state(namespace, prefix) {
                named.extend(blocks_of(namespace, &bytes).into_iter().map(|block| block.file));
            }
        }
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let file = entry.file_name().to_str().and_then(|name| Uuid::parse_str(name).ok());
            if file.is_none_or(|file| !named.contains(&file)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// The account of this name.
    pub fn account(&self, name: &str) -> Option<Arc<Resource>> {
        self.store
            .list(ACCOUNT, &ResourceId::root())
            .into_iter()
            .find(|account| account.id.name().eq_ignore_ascii_case(name))
    }

    fn keys(&self, account: &ResourceId) -> Option<Keys> {
        Keys::load(&self.store, &self.sealer, account)
    }

    /// The ID of a container.
    fn container_id(account: &ResourceId, name: &str) -> Option<ResourceId> {
        account.child("blobServices", "default").ok()?.child("containers", name).ok()
    }

    fn container(&self, account: &ResourceId, name: &str) -> Option<Arc<Resource>> {
        self.store.get(&Self::container_id(account, name)?)
    }

    /// A new ETag, as Azure's look: ticks of 100 ns since the year 1, which never repeat.
    fn etag(&self, now: Timestamp) -> String {
        const YEAR_1: i64 = 621_355_968_000_000_000;
        let tick = i64::try_from(now.as_nanosecond() / 100).unwrap_or(0) + YEAR_1;
        let before = self
            .ticks
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(tick.max(last + 1)))
            .unwrap_or(0);
        format!("0x{:X}", tick.max(before + 1))
    }

    fn blob(&self, name: &Name) -> Option<Blob> {
        serde_json::from_slice(&self.store.get_state(BLOBS, &name.key())?).ok()
    }

    fn snapshot(&self, name: &Name, moment: &str) -> Option<Blob> {
        serde_json::from_slice(&self.store.get_state(SNAPSHOTS, &name.snapshot_key(moment))?).ok()
    }

    /// The moments of a blob's snapshots.
    fn snapshots(&self, name: &Name) -> Vec<(String, Blob)> {
        let prefix = name.snapshot_key("");
        self.store
            .list_state(SNAPSHOTS, &prefix)
            .into_iter()
            .filter_map(|(key, bytes)| {
                Some((key[prefix.len()..].to_owned(), serde_json::from_slice(&bytes).ok()?))
            })
            .collect()
    }

    fn uncommitted(&self, name: &Name) -> Vec<Block> {
        self.store
            .get_state(UNCOMMITTED, &name.key())
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Every blob of a container whose name begins with `prefix`, in order.
    fn list(&self, account: &str, container: &str, prefix: &str) -> Vec<(String, Blob)> {
        let base = format!("{account}/{container}/");
        self.store
            .list_state(BLOBS, &format!("{base}{prefix}"))
            .into_iter()
            .filter_map(|(key, bytes)| {
                Some((key[base.len()..].to_owned(), serde_json::from_slice(&bytes).ok()?))
            })
            .collect()
    }

    /// Writes content to a file of its own. Durable when it returns.
    async fn write_file(&self, content: Bytes) -> Result<Block, Refusal> {
        let file = Uuid::new_v4();
        let (path, sealer) = (self.dir.join(file.to_string()), self.sealer.clone());
        let size = content.len() as u64;
        let written = tokio::task::spawn_blocking(move || {
            let sealed = sealer.seal(&file.to_string(), &content);
            let mut out = std::fs::File::options().write(true).create_new(true).open(&path)?;
            out.write_all(&sealed)?;
            out.sync_all()
        });
        match written.await {
            Ok(Ok(())) => Ok(Block { file, size, id: None }),
            Ok(Err(error)) => Err(Refusal::internal(&error)),
            Err(error) => Err(Refusal::internal(&error)),
        }
    }

    /// The content of a block.
    async fn read_file(&self, block: &Block) -> std::io::Result<Bytes> {
        let (file, dir, sealer) = (block.file, self.dir.clone(), self.sealer.clone());
        tokio::task::spawn_blocking(move || {
            let sealed = std::fs::read(dir.join(file.to_string()))?;
            let open =
                sealer.open_sealed(&file.to_string(), &sealed).map_err(std::io::Error::other)?;
            Ok(Bytes::copy_from_slice(&open))
        })
        .await
        .map_err(std::io::Error::other)?
    }

    /// Puts records into the store on the condition that their container is there.
    async fn commit(
        &self,
        account: &ResourceId,
        container: &str,
        mut batch: Batch,
    ) -> Result<(), Refusal> {
        let id = Self::container_id(account, container).ok_or_else(Refusal::no_container)?;
        batch.expect(&id, Expect::Present);
        self.store.commit(batch).await.map_err(Refusal::from)
    }

    /// Deletes files that were a blob's and are no more, once nobody can be reading them.
    fn release(self: &Arc<Self>, name: &Name, files: Vec<Block>) {
        if files.is_empty() {
            return;
        }
        let (storage, name) = (self.clone(), name.clone());
        tokio::spawn(async move {
            tokio::time::sleep(LINGER).await;
            let _writes = storage.writes.lock().await;
            let mut named: HashSet<Uuid> =
                storage.uncommitted(&name).iter().map(|block| block.file).collect();
            let kept = storage.snapshots(&name).into_iter().map(|(_, blob)| blob);
            for blob in kept.chain(storage.blob(&name)) {
                named.extend(blob.blocks.iter().map(|block| block.file));
            }
            for block in files.iter().filter(|block| !named.contains(&block.file)) {
                let _ = std::fs::remove_file(storage.dir.join(block.file.to_string()));
            }
        });
    }
}

fn blocks_of(namespace: &str, bytes: &[u8]) -> Vec<Block> {
    if namespace == UNCOMMITTED {
        return serde_json::from_slice(bytes).unwrap_or_default();
    }
    serde_json::from_slice::<Blob>(bytes).map(|blob| blob.blocks).unwrap_or_default()
}
