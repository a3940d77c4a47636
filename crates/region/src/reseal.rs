//! A change of the key that seals what lies on the disk.
//!
//! [`crate::seal::add_key`] puts a new key into the file; the next start of the region finds more than
//! one there, seals everything anew by the first, and only then forgets the others. A crash at any
//! moment leaves every key that some value still needs, and the next start goes on. What is sealed and
//! was not found (a place that this module does not know) keeps its key, and the log says so.
//!
//! Backups of secrets are in clients' hands and cannot be sealed anew, but must still be restored, as
//! on Azure. The keys that left the file are therefore kept in the store, sealed by the new one, and
//! open backups and nothing else.

use std::path::Path;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::identity::token::{base64, unbase64};
use crate::seal::{self, SealError, Sealer, write_private};
use crate::store::{Batch, Store, StoreError};

const NAMESPACE: &str = "seal";
const RETIRED: &str = "retired";
/// Where the private parts of keys and certificates are sealed: `{this}/{record}/{version}`.
const OBJECTS: &str = "vault.key";
/// How many records one transaction takes.
const GROUP: usize = 500;

/// Why the region's secrets cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    /// The key file, or what was sealed by it.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A blob's file.
    #[error("a blob cannot be sealed anew: {0}")]
    Blob(#[source] std::io::Error),
}

/// Opens the key file at `path`, or makes it. If its key was changed, everything in `store` and in the
/// files of `blobs` is sealed anew before this returns. Only while nobody writes to either.
pub async fn open(path: &Path, store: &Store, blobs: &Path) -> Result<Sealer, ResealError> {
    let mut sealer = Sealer::open(path)?;
    let mut retired = Zeroizing::new(String::new());
    if let Some(sealed) = store.get_state(NAMESPACE, RETIRED) {
        let lines = sealer.open_sealed(RETIRED, &sealed)?;
        retired.push_str(&String::from_utf8_lossy(&lines));
    }
    if sealer.is_changing() {
        let old = seal::old_lines(path)?;
        for line in old.lines() {
            if !retired.lines().any(|known| known == line) {
                retired = Zeroizing::new(format!("{}{line}\n", *retired));
            }
        }
        // Before anything else: from here on a backup can be opened whatever happens.
        let mut batch = Batch::new();
        batch.put_state(NAMESPACE, RETIRED, sealer.seal(RETIRED, retired.as_bytes()));
        store.commit(batch).await?;
        let mut count = records(store, &sealer).await?;
        count += files(blobs, &sealer)?;
        let left = left(store, &sealer);
        if left.is_empty() {
            seal::forget(path, &old)?;
            tracing::info!(count, "the region's key was changed, and everything is sealed anew");
        } else {
            tracing::error!(?left, "the region's old key stays: these are not sealed anew");
        }
        if left.is_empty() {
            sealer = Sealer::open(path)?;
        }
    }
    sealer.keep_retired(&retired);
    Ok(sealer)
}

/// Seals the store's records anew; how many there were.
async fn records(store: &Store, sealer: &Sealer) -> Result<usize, StoreError> {
    let (mut count, mut batch, mut waiting) = (0, Batch::new(), 0);
    for (namespace, key, value) in store.every_state() {
        let Some(anew) = record(sealer, &namespace, &key, &value) else { continue };
        batch.put_state(&namespace, &key, anew);
        (count, waiting) = (count + 1, waiting + 1);
        if waiting == GROUP {
            store.commit(std::mem::take(&mut batch)).await?;
            waiting = 0;
        }
    }
    store.commit(batch).await?;
    Ok(count)
}

/// A record with everything in it sealed anew; `None` where nothing was to do.
fn record(sealer: &Sealer, namespace: &str, key: &str, value: &[u8]) -> Option<Vec<u8>> {
    if sealer.is_old(value) {
        return again(sealer, key, value);
    }
    let mut text = std::str::from_utf8(value).ok()?.to_owned();
    let before = text.len();
    let mut changed = false;
    for Sealed { text: old, bytes, version } in inside(sealer, value) {
        let object = version.map(|version| format!("{OBJECTS}/{key}/{version}"));
        let anew = again(sealer, key, &bytes)
            .or_else(|| again(sealer, &format!("{namespace}/{key}"), &bytes))
            .or_else(|| object.and_then(|place| again(sealer, &place, &bytes)));
        if let Some(anew) = anew {
            // As text: the rest of the record stays to the byte. Base64 is the same in JSON.
            text = text.replace(&old, &base64(&anew));
            changed = true;
        }
    }
    debug_assert_eq!(text.len(), before, "a seal is as long as the one before");
    changed.then(|| text.into_bytes())
}

fn again(sealer: &Sealer, place: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let plain = sealer.open_sealed(place, sealed).ok()?;
    Some(sealer.seal(place, &plain))
}

/// Something sealed by an old key in a JSON record, as base64.
struct Sealed {
    text: String,
    bytes: Vec<u8>,
    /// The `version` of the object that holds it.
    version: Option<String>,
}

fn inside(sealer: &Sealer, value: &[u8]) -> Vec<Sealed> {
    fn walk(sealer: &Sealer, value: &Value, version: Option<&str>, found: &mut Vec<Sealed>) {
        match value {
            Value::String(text) => {
                if let Some(bytes) = unbase64(text).filter(|bytes| sealer.is_old(bytes)) {
                    let (text, version) = (text.clone(), version.map(str::to_owned));
                    found.push(Sealed { text, bytes, version });
                }
            }
            Value::Array(all) => all.iter().for_each(|one| walk(sealer, one, None, found)),
            Value::Object(all) => {
                let version = all.get("version").and_then(Value::as_str);
                all.values().for_each(|one| walk(sealer, one, version, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    // Most records are sealed in whole or not at all.
    if matches!(value.first(), Some(b'{' | b'['))
        && let Ok(value) = serde_json::from_slice(value)
    {
        walk(sealer, &value, None, &mut found);
    }
    found
}

/// Seals blobs' files anew; how many there were. A file's place is its name.
fn files(dir: &Path, sealer: &Sealer) -> Result<usize, ResealError> {
    let mut count = 0;
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(ResealError::Blob)?,
    };
    for entry in entries {
        let entry = entry.map_err(ResealError::Blob)?;
        let name = entry.file_name();
        let sealed = std::fs::read(entry.path()).map_err(ResealError::Blob)?;
        if !sealer.is_old(&sealed) {
            continue;
        }
        let anew = name.to_str().and_then(|name| again(sealer, name, &sealed));
        // One that does not open is damaged, or no blob: its key would be of no use.
        let Some(anew) = anew else { continue };
        write_private(&entry.path(), &anew).map_err(ResealError::Blob)?;
        count += 1;
    }
    Ok(count)
}

/// Records in which something is still sealed by an old key.
fn left(store: &Store, sealer: &Sealer) -> Vec<String> {
    let is_left = |value: &[u8]| sealer.is_old(value) || !inside(sealer, value).is_empty();
    store
        .every_state()
        .into_iter()
        .filter(|(_, _, value)| is_left(value))
        .map(|(namespace, key, _)| format!("{namespace}/{key}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::directory::Directory;
    use crate::vault::audit::Audit;
    use crate::vault::{Kind, NewSecret, Vaults};

    struct Region {
        directory: Directory,
        store: Store,
    }

    impl Region {
        fn new(dir: &Path) -> Self {
            let directory = Directory::at(dir);
            directory.create().expect("created");
            let store = Store::open(&directory.store()).expect("a store");
            Self { directory, store }
        }

        async fn open(&self) -> Sealer {
            let (path, blobs) = (self.directory.vault_key(), self.directory.storage());
            open(&path, &self.store, &blobs).await.expect("opens")
        }

        fn vaults(&self, sealer: Sealer) -> std::sync::Arc<Vaults> {
            let audit = Audit::open(&self.directory.root().join("audit")).expect("a log");
            Vaults::new(&self.store, std::sync::Arc::new(sealer), audit)
        }

        fn keys(&self) -> usize {
            seal::count_keys(&self.directory.vault_key()).expect("reads")
        }
    }

    #[tokio::test]
    async fn after_a_change_of_the_key_everything_is_sealed_by_the_new_one() {
        let dir = tempfile::tempdir().expect("temp dir");
        let region = Region::new(dir.path());
        let sealer = region.open().await;
        let blob = uuid::Uuid::new_v4().to_string();
        std::fs::create_dir_all(region.directory.storage()).expect("made");
        let file = region.directory.storage().join(&blob);
        std::fs::write(&file, sealer.seal(&blob, b"state of terraform")).expect("written");
        let mut batch = Batch::new();
        batch.put_state("redis.keys", "/subscriptions/s/redis/r", {
            sealer.seal("/subscriptions/s/redis/r", b"a key")
        });
        let private = base64(&sealer.seal("vault.key/kv/k/01", b"a private key"));
        let entries = json!({"name": "k", "versions": [{"version": "01", "private": private}]});
        batch.put_state("vault.key", "kv/k", entries.to_string().into_bytes());
        region.store.commit(batch).await.expect("written");
        let first = std::fs::read_to_string(region.directory.vault_key()).expect("a key");
        let vaults = region.vaults(sealer);
        vaults.set("kv", "a", "before", NewSecret::default()).await.expect("set");
        let backup = vaults.backup(Kind::Secret, "kv", "a").expect("a backup");

        seal::add_key(&region.directory.vault_key()).expect("adds");
        let sealer = region.open().await;
        assert_eq!(region.keys(), 1);
        assert!(
            !std::fs::read_to_string(region.directory.vault_key())
                .expect("a key")
                .contains(first.trim())
        );
        for (namespace, key, value) in region.store.every_state() {
            let old = [1, 0, 0, 0, 1];
            assert!(!value.starts_with(&old), "{namespace}/{key}");
            assert!(!String::from_utf8_lossy(&value).contains("\"AQAAAAE"), "{namespace}/{key}");
        }
        let sealed = std::fs::read(&file).expect("reads");
        assert_eq!(&**sealer.open_sealed(&blob, &sealed).expect("opens"), b"state of terraform");
        let sealed = region.store.get_state("redis.keys", "/subscriptions/s/redis/r").expect("is");
        let plain = sealer.open_sealed("/subscriptions/s/redis/r", &sealed).expect("opens");
        assert_eq!(&**plain, b"a key");
        let object = region.store.get_state("vault.key", "kv/k").expect("is");
        let object: Value = serde_json::from_slice(&object).expect("JSON");
        let sealed = unbase64(object["versions"][0]["private"].as_str().expect("is")).expect("is");
        let plain = sealer.open_sealed("vault.key/kv/k/01", &sealed).expect("opens");
        assert_eq!(&**plain, b"a private key");
        let vaults = region.vaults(sealer);
        assert_eq!(*vaults.read("kv", "a", None).expect("reads").value, "before");
        // A client's backup of before is restored, also after one more change.
        seal::add_key(&region.directory.vault_key()).expect("adds");
        let vaults = region.vaults(region.open().await);
        vaults.restore(Kind::Secret, "other", &backup).await.expect("restores");
        assert_eq!(*vaults.read("other", "a", None).expect("reads").value, "before");
    }

    #[tokio::test]
    async fn a_crash_at_any_moment_loses_nothing() {
        // What a crash leaves: some values by each of the keys, all of which are in the file.
        let dir = tempfile::tempdir().expect("temp dir");
        let region = Region::new(dir.path());
        let path = region.directory.vault_key();
        for number in 0..4 {
            if number > 0 {
                seal::add_key(&path).expect("adds");
            }
            let vaults = region.vaults(Sealer::open(&path).expect("opens"));
            for name in ["a", "b"] {
                let (name, value) = (format!("{name}{number}"), format!("value-{number}"));
                vaults.set("kv", &name, &value, NewSecret::default()).await.expect("set");
            }
            if number == 2 {
                // It had come as far as the retired keys and half of the records.
                let sealer = Sealer::open(&path).expect("opens");
                let mut batch = Batch::new();
                let old = seal::old_lines(&path).expect("reads");
                batch.put_state(NAMESPACE, RETIRED, sealer.seal(RETIRED, old.as_bytes()));
                for (namespace, key, value) in region.store.every_state().into_iter().step_by(2) {
                    if let Some(anew) = record(&sealer, &namespace, &key, &value) {
                        batch.put_state(&namespace, &key, anew);
                    }
                }
                region.store.commit(batch).await.expect("written");
            }
        }
        assert_eq!(region.keys(), 4);
        let vaults = region.vaults(region.open().await);
        assert_eq!(region.keys(), 1);
        for number in 0..4 {
            for name in ["a", "b"] {
                let read = vaults.read("kv", &format!("{name}{number}"), None).expect("reads");
                assert_eq!(*read.value, format!("value-{number}"));
            }
        }
    }

    #[tokio::test]
    async fn a_key_that_something_still_needs_is_not_forgotten() {
        let dir = tempfile::tempdir().expect("temp dir");
        let region = Region::new(dir.path());
        let sealer = region.open().await;
        let mut batch = Batch::new();
        batch.put_state("new.feature", "key", sealer.seal("a place of its own", b"precious"));
        region.store.commit(batch).await.expect("written");
        seal::add_key(&region.directory.vault_key()).expect("adds");
        let sealer = region.open().await;
        assert_eq!(region.keys(), 2);
        let sealed = region.store.get_state("new.feature", "key").expect("is");
        assert_eq!(
            &**sealer.open_sealed("a place of its own", &sealed).expect("opens"),
            b"precious"
        );
    }
}
