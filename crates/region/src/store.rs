//! The region's memory: every Azure resource and every controller's own records, durable.
//!
//! SQLite in WAL mode with `synchronous=FULL` is the truth; a persistent map behind one atomic pointer
//! is what readers see. One thread writes: it takes every batch that is waiting, checks each batch's
//! conditions, commits them in one transaction, and only then shows readers the new snapshot and
//! answers the writers. What was acknowledged survives `kill -9`; what was not is not half there.
//! Readers take no lock and never wait for a writer.
//!
//! Secrets do not belong into [`Resource::body`]: it is what clients are shown. They go into private
//! state, sealed by [`crate::seal::Sealer`].

use std::{
    collections::HashMap,
    fmt,
    ops::Bound,
    path::Path,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use rpds::RedBlackTreeMapSync;
use rusqlite::{Connection, params};
use serde_json::Value;
use tokio::sync::{broadcast, oneshot};
use uuid::Uuid;

/// The schema this code writes. Older ones are migrated when opened, newer ones refused.
const SCHEMA: i64 = 1;
/// The most batches that one transaction takes.
const GROUP: usize = 512;
/// How many change notices a slow watcher may fall behind before it is told to look at everything.
const WATCH: usize = 1024;

/// Why the store could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// A condition of the batch did not hold. Nothing of it was written.
    #[error("{0} was changed by somebody else")]
    Conflict(ResourceId),
    /// SQLite or the disk failed. Nothing was written.
    #[error("the region's store failed: {0}")]
    Database(String),
    /// The file was written by a newer Lazuli.
    #[error("the region was last used by a newer version (schema {0}, this one knows {SCHEMA})")]
    Newer(i64),
    /// The store is shutting down.
    #[error("the region's store is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// A resource as it is stored.
#[derive(Clone, PartialEq)]
pub struct Resource {
    /// Whose it is.
    pub id: ResourceId,
    /// The resource as Azure returns it, without `id`, `name` and `type`, which follow from the ID,
    /// and without secrets.
    pub body: Value,
    /// Changes with every write. Opaque.
    pub etag: Arc<str>,
    /// When it was first written.
    pub created: Timestamp,
    /// When it was last written.
    pub changed: Timestamp,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource")
            .field("id", &self.id)
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}

impl Resource {
    /// `body.properties`, or null.
    pub fn properties(&self) -> &Value {
        &self.body["properties"]
    }

    /// A string at a JSON pointer in the body, `/properties/state`.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.body.pointer(pointer).and_then(Value::as_str)
    }
}

/// What a batch demands of a resource before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// It does not exist.
    Absent,
    /// It exists.
    Present,
    /// It exists with this etag.
    Etag(Arc<str>),
}

enum Op {
    Put { id: ResourceId, body: Value, bytes: Vec<u8> },
    Delete(ResourceId),
    PutState { namespace: String, key: String, value: Arc<[u8]> },
    DeleteState { namespace: String, key: String },
}

/// Changes that are made together or not at all.
#[derive(Default)]
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch {
    expect: Vec<(ResourceId, Expect)>,
    ops: Vec<Op>,
}

impl Batch {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses the whole batch unless `id` is as expected when it is written.
    pub fn expect(&mut self, id: &ResourceId, expect: Expect) -> &mut Self {
        self.expect.push((id.clone(), expect));
        self
    }

    /// Writes a resource in whole.
    pub fn put(&mut self, id: &ResourceId, body: Value) -> &mut Self {
        // Serialised here, on the caller's thread: the one writer has better things to do.
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        self.ops.push(Op::Put { id: id.clone(), body, bytes });
        self
    }

    /// Deletes a resource, if it exists. Not what lies below it: see [`Store::list_below`].
    pub fn delete(&mut self, id: &ResourceId) -> &mut Self {
        self.ops.push(Op::Delete(id.clone()));
        self
    }

    /// Writes a record of a controller's own. Keys are compared with regard to case.
    pub fn put_state(
        &mut self,
        namespace: &str,
        key: &str,
        value: impl Into<Arc<[u8]>>,
    ) -> &mut Self {
        self.ops.push(Op::PutState {
            namespace: namespace.into(),
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// Deletes a record of a controller's own, if it exists.
    pub fn delete_state(&mut self, namespace: &str, key: &str) -> &mut Self {
        self.ops.push(Op::DeleteState { namespace: namespace.into(), key: key.into() });
        self
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

type Ordered<V> = RedBlackTreeMapSync<Box<str>, V>;

/// One moment of the whole store.
#[derive(Clone, Default)]
struct Snapshot {
    /// By [`ResourceId::key`].
    resources: Ordered<Arc<Resource>>,
    /// By `{type in lower case}\0{key}`: lists of one type below a scope.
    by_kind: Ordered<Arc<Resource>>,
    /// By `{namespace}\0{key}`.
    state: Ordered<Arc<[u8]>>,
}

fn kind_key(kind: &str, key: &str) -> Box<str> {
    let mut out = String::with_capacity(kind.len() + 1 + key.len());
    out.extend(kind.chars().map(|c| c.to_ascii_lowercase()));
    out.push('\0');
    out.push_str(key);
    out.into()
}

fn state_key(namespace: &str, key: &str) -> Box<str> {
    format!("{namespace}\0{key}").into()
}

/// Every entry whose key begins with `prefix`, in order.
fn range<'a, V>(map: &'a Ordered<V>, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a V)> {
    map.range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix))
        .map(|(key, value)| (&**key, value))
}

impl Snapshot {
    fn insert(&mut self, resource: Arc<Resource>) {
        let key = resource.id.key();
        self.by_kind.insert_mut(kind_key(resource.id.kind(), key), resource.clone());
        self.resources.insert_mut(key.into(), resource);
    }

    fn holds(&self, id: &ResourceId, expect: &Expect) -> bool {
        match (self.resources.get(id.key()), expect) {
            (None, Expect::Absent) | (Some(_), Expect::Present) => true,
            (Some(resource), Expect::Etag(etag)) => resource.etag == *etag,
            _ => false,
        }
    }
}

/// What changed, as told to watchers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These resources were written or deleted.
    Resources(Arc<[ResourceId]>),
    /// Too much to say: look at everything.
    Everything,
    /// The store is closed; nothing will change any more.
    Closed,
}

/// Tells of changes. What it says is a hint to look: the store is the truth.
pub struct Watcher(broadcast::Receiver<Arc<[ResourceId]>>);

impl Watcher {
    /// Waits for the next change.
    pub async fn changed(&mut self) -> Change {
        match self.0.recv().await {
            Ok(ids) => Change::Resources(ids),
            Err(broadcast::error::RecvError::Lagged(_)) => Change::Everything,
            Err(broadcast::error::RecvError::Closed) => Change::Closed,
        }
    }
}

type Reply = oneshot::Sender<Result<(), StoreError>>;

struct Shared {
    snapshot: ArcSwap<Snapshot>,
    changes: broadcast::Sender<Arc<[ResourceId]>>,
}

struct Writer {
    queue: Option<mpsc::Sender<(Batch, Reply)>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Writer {
    /// Ends the writer after what was queued, so that the file is closed when the last handle is gone.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The store. Clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
}

impl Store {
    /// Opens or creates the store at `path`, whatever state a crash left it in.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = connect(path)?;
        let snapshot = load(&connection)?;
        let (changes, _) = broadcast::channel(WATCH);
        let shared = Arc::new(Shared { snapshot: ArcSwap::from_pointee(snapshot), changes });
        let (queue, batches) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn({
                let shared = shared.clone();
                move || write(&connection, &shared, &batches)
            })
            .map_err(|error| StoreError::Database(error.to_string()))?;
        Ok(Self { shared, writer: Arc::new(Writer { queue: Some(queue), thread: Some(thread) }) })
    }

    /// The resource, if it exists.
    pub fn get(&self, id: &ResourceId) -> Option<Arc<Resource>> {
        self.shared.snapshot.load().resources.get(id.key()).cloned()
    }

    /// Every resource of `kind` (any casing) at or below `scope`, ordered by ID.
    pub fn list(&self, kind: &str, scope: &ResourceId) -> Vec<Arc<Resource>> {
        let snapshot = self.shared.snapshot.load();
        let prefix = kind_key(kind, if scope.key() == "/" { "" } else { scope.key() });
        range(&snapshot.by_kind, &prefix)
            .map(|(_, resource)| resource)
            .filter(|resource| resource.id.is_within(scope))
            .cloned()
            .collect()
    }

    /// Every resource below `scope`, children and extensions, itself excluded, ordered by ID.
    pub fn list_below(&self, scope: &ResourceId) -> Vec<Arc<Resource>> {
        let snapshot = self.shared.snapshot.load();
        let prefix = if scope.key() == "/" { "/".to_owned() } else { format!("{}/", scope.key()) };
        range(&snapshot.resources, &prefix).map(|(_, resource)| resource.clone()).collect()
    }

    /// The role assignments made at exactly `scope`: what every authorisation looks at.
    pub fn role_assignments(&self, scope: &ResourceId) -> Vec<Arc<Resource>> {
        let snapshot = self.shared.snapshot.load();
        let scope = if scope.key() == "/" { "" } else { scope.key() };
        let prefix = kind_key(
            "Microsoft.Authorization/roleAssignments",
            &format!("{scope}/providers/microsoft.authorization/roleassignments/"),
        );
        range(&snapshot.by_kind, &prefix).map(|(_, resource)| resource.clone()).collect()
    }

    /// A controller's own record.
    pub fn get_state(&self, namespace: &str, key: &str) -> Option<Arc<[u8]>> {
        self.shared.snapshot.load().state.get(&*state_key(namespace, key)).cloned()
    }

    /// A controller's own records whose keys begin with `prefix` (empty for all), ordered by key.
    pub fn list_state(&self, namespace: &str, prefix: &str) -> Vec<(String, Arc<[u8]>)> {
        let snapshot = self.shared.snapshot.load();
        let start = state_key(namespace, prefix);
        range(&snapshot.state, &start)
            .map(|(key, value)| (key[namespace.len() + 1..].to_owned(), value.clone()))
            .collect()
    }

    /// Every controller's own records: namespace, key and value.
    pub fn every_state(&self) -> Vec<(String, String, Arc<[u8]>)> {
        let snapshot = self.shared.snapshot.load();
        let entries = snapshot.state.iter().filter_map(|(key, value)| {
            let (namespace, key) = key.split_once('\0')?;
            Some((namespace.to_owned(), key.to_owned(), value.clone()))
        });
        entries.collect()
    }

    /// Makes the batch's changes: all of them, durable when this returns, or none.
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.writer.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.send((batch, reply)).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Tells of every change from now on.
    pub fn watch(&self) -> Watcher {
        Watcher(self.shared.changes.subscribe())
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path)?;
    // WAL with FULL: a commit is on the disk when it returns, and costs one fsync.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > SCHEMA {
        return Err(StoreError::Newer(version));
    }
    if version < 1 {
        connection.execute_batch(&format!(
            "BEGIN;
             CREATE TABLE resources (
               key TEXT PRIMARY KEY, id TEXT NOT NULL, body BLOB NOT NULL, etag TEXT NOT NULL,
               created INTEGER NOT NULL, changed INTEGER NOT NULL) WITHOUT ROWID;
             CREATE TABLE state (
               namespace TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
               PRIMARY KEY (namespace, key)) WITHOUT ROWID;
             PRAGMA user_version = {SCHEMA};
             COMMIT;"
        ))?;
    }
    Ok(connection)
}

fn load(connection: &Connection) -> Result<Snapshot, StoreError> {
    let damaged =
        |what: &dyn fmt::Display| StoreError::Database(format!("a damaged record: {what}"));
    let mut snapshot = Snapshot::default();
    let mut query = connection.prepare("SELECT id, body, etag, created, changed FROM resources")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let id = ResourceId::parse(row.get_ref(0)?.as_str().map_err(|e| damaged(&e))?)
            .map_err(|e| damaged(&e))?;
        let body = serde_json::from_slice(row.get_ref(1)?.as_blob().map_err(|e| damaged(&e))?)
            .map_err(|e| damaged(&e))?;
        let etag: String = row.get(2)?;
        let created = Timestamp::from_microsecond(row.get(3)?).map_err(|e| damaged(&e))?;
        let changed = Timestamp::from_microsecond(row.get(4)?).map_err(|e| damaged(&e))?;
        snapshot.insert(Arc::new(Resource { id, body, etag: etag.into(), created, changed }));
    }
    let mut query = connection.prepare("SELECT namespace, key, value FROM state")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (namespace, key): (String, String) = (row.get(0)?, row.get(1)?);
        let value: Vec<u8> = row.get(2)?;
        snapshot.state.insert_mut(state_key(&namespace, &key), value.into());
    }
    Ok(snapshot)
}

/// The writer thread: until every handle is gone.
fn write(connection: &Connection, shared: &Shared, batches: &mpsc::Receiver<(Batch, Reply)>) {
    while let Ok(first) = batches.recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = batches.try_recv()
        {
            group.push(next);
        }
        let mut snapshot = Snapshot::clone(&shared.snapshot.load());
        let mut changed = Vec::new();
        let mut accepted = Vec::with_capacity(group.len());
        let mut failed: Option<StoreError> = None;
        if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
            failed = Some(error.into());
        }
        for (batch, reply) in group {
            if failed.is_some() {
                accepted.push(reply);
                continue;
            }
            // Conditions see what the batches before this one wrote, which is also what SQLite sees.
            if let Some((id, _)) = batch.expect.iter().find(|(id, e)| !snapshot.holds(id, e)) {
                let _ = reply.send(Err(StoreError::Conflict(id.clone())));
                continue;
            }
            if let Err(error) = apply(connection, &mut snapshot, batch.ops, &mut changed) {
                failed = Some(error);
            }
            accepted.push(reply);
        }
        let result = match failed {
            None => connection.execute_batch("COMMIT").map_err(StoreError::from),
            Some(error) => Err(error),
        };
        if result.is_ok() {
            shared.snapshot.store(Arc::new(snapshot));
        } else if !connection.is_autocommit() {
            let _ = connection.execute_batch("ROLLBACK");
        }
        // Announced first: who wrote may rely on the watchers having been told.
        if result.is_ok() && !changed.is_empty() {
            let _ = shared.changes.send(changed.into());
        }
        for reply in accepted {
            let _ = reply.send(result.clone());
        }
    }
}

fn apply(
    connection: &Connection,
    snapshot: &mut Snapshot,
    ops: Vec<Op>,
    changed: &mut Vec<ResourceId>,
) -> Result<(), StoreError> {
    // Microseconds are what the file keeps: readers see the same before and after a restart.
    let now = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap_or_default();
    // Several writes of one resource in one batch are one change of it.
    let mut etags: HashMap<ResourceId, Arc<str>> = HashMap::new();
    for op in ops {
        match op {
            Op::Put { id, body, bytes } => {
                let existing = snapshot.resources.get(id.key());
                // The first writer's casing stays: names are given back as they were created.
                let id = existing.map_or(id, |existing| existing.id.clone());
                let created = existing.map_or(now, |existing| existing.created);
                let etag = etags
                    .entry(id.clone())
                    .or_insert_with(|| Uuid::new_v4().to_string().into())
                    .clone();
                connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO resources (key, id, body, etag, created, changed) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    )?
                    .execute(params![
                        id.key(),
                        id.as_str(),
                        bytes,
                        &*etag,
                        created.as_microsecond(),
                        now.as_microsecond()
                    ])?;
                changed.push(id.clone());
                snapshot.insert(Arc::new(Resource { id, body, etag, created, changed: now }));
            }
            Op::Delete(id) => {
                connection
                    .prepare_cached("DELETE FROM resources WHERE key = ?1")?
                    .execute([id.key()])?;
                if snapshot.resources.remove_mut(id.key()) {
                    snapshot.by_kind.remove_mut(&*kind_key(id.kind(), id.key()));
                    changed.push(id);
                }
            }
            Op::PutState { namespace, key, value } => {
                connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO state (namespace, key, value) VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![namespace, key, &*value])?;
                snapshot.state.insert_mut(state_key(&namespace, &key), value);
            }
            Op::DeleteState { namespace, key } => {
                connection
                    .prepare_cached("DELETE FROM state WHERE namespace = ?1 AND key = ?2")?
                    .execute([&namespace, &key])?;
                snapshot.state.remove_mut(&*state_key(&namespace, &key));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
