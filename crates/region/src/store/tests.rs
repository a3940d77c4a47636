//! The store against a model, across restarts and `kill -9`.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn id(n: u8) -> ResourceId {
    let group = n % 3;
    let text = match n % 4 {
        0 => format!("/subscriptions/s/resourceGroups/g{group}"),
        1 => format!("/subscriptions/s/resourceGroups/g{group}/providers/Microsoft.Web/sites/a{n}"),
        2 => format!(
            "/subscriptions/s/resourceGroups/G{group}/providers/microsoft.web/Sites/a1/slots/b{n}"
        ),
        _ => format!("/subscriptions/s/providers/Microsoft.Authorization/roleAssignments/{n}"),
    };
    ResourceId::parse(&text).expect("an ID")
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u32),
    Delete(u8),
    State(u8, Vec<u8>),
    Forget(u8),
    /// Two writes, the second guarded by whether a third resource exists: all or nothing.
    Guarded(u8, u8, u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12_u8, any::<u32>()).prop_map(|(n, v)| Step::Put(n, v)),
        2 => (0..12_u8).prop_map(Step::Delete),
        2 => (0..6_u8, proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(n, v)| Step::State(n, v)),
        1 => (0..6_u8).prop_map(Step::Forget),
        2 => (0..12_u8, 0..12_u8, 0..12_u8).prop_map(|(a, b, c)| Step::Guarded(a, b, c)),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    resources: BTreeMap<ResourceId, Value>,
    state: BTreeMap<String, Vec<u8>>,
}

fn check(store: &Store, model: &Model) {
    for n in 0..12 {
        let found = store.get(&id(n)).map(|r| r.body.clone());
        assert_eq!(found.as_ref(), model.resources.get(&id(n)), "{}", id(n));
    }
    let root = ResourceId::root();
    let all: Vec<_> = store.list_below(&root).iter().map(|r| r.id.clone()).collect();
    assert_eq!(all, model.resources.keys().cloned().collect::<Vec<_>>());
    for scope in [root, id(0), id(1)] {
        for kind in ["microsoft.web/sites", "Microsoft.Web/sites/slots"] {
            let listed: Vec<_> = store.list(kind, &scope).iter().map(|r| r.id.clone()).collect();
            let expected: Vec<_> = model
                .resources
                .keys()
                .filter(|id| id.is(kind) && id.is_within(&scope))
                .cloned()
                .collect();
            assert_eq!(listed, expected, "{kind} in {scope}");
        }
    }
    let state: BTreeMap<_, _> =
        store.list_state("ns", "").into_iter().map(|(k, v)| (k, v.to_vec())).collect();
    assert_eq!(state, model.state);
    assert!(store.list_state("n", "").is_empty(), "a namespace is not a prefix");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_what_was_committed(steps in proptest::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("region.db");
        let mut store = Store::open(&path).expect("new");
        let mut model = Model::default();
        for step in steps {
            let mut batch = Batch::new();
            match step {
                Step::Put(n, v) => {
                    batch.put(&id(n), json!({ "v": v }));
                    model.resources.insert(id(n), json!({ "v": v }));
                }
                Step::Delete(n) => {
                    batch.delete(&id(n));
                    model.resources.remove(&id(n));
                }
                Step::State(n, v) => {
                    batch.put_state("ns", &n.to_string(), v.clone());
                    model.state.insert(n.to_string(), v);
                }
                Step::Forget(n) => {
                    batch.delete_state("ns", &n.to_string());
                    model.state.remove(&n.to_string());
                }
                Step::Guarded(a, b, c) => {
                    batch.expect(&id(c), Expect::Absent).put(&id(a), json!("guarded")).delete(&id(b));
                    let refused = model.resources.contains_key(&id(c));
                    let result = runtime.block_on(store.commit(batch));
                    prop_assert_eq!(result.is_err(), refused);
                    if !refused {
                        model.resources.insert(id(a), json!("guarded"));
                        model.resources.remove(&id(b));
                    }
                    check(&store, &model);
                    continue;
                }
                Step::Reopen => {
                    drop(store);
                    store = Store::open(&path).expect("again");
                }
            }
            runtime.block_on(store.commit(batch)).expect("committed");
            check(&store, &model);
        }
    }
}

#[tokio::test]
async fn given_an_etag_then_only_the_first_of_two_writers_wins() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(&dir.path().join("region.db")).expect("new");
    let mut batch = Batch::new();
    batch.put(&id(1), json!(0));
    store.commit(batch).await.expect("committed");
    let etag = store.get(&id(1)).expect("there").etag.clone();
    let write = |value: i32| {
        let mut batch = Batch::new();
        batch.expect(&id(1), Expect::Etag(etag.clone())).put(&id(1), json!(value));
        store.commit(batch)
    };
    let (one, two) = tokio::join!(write(1), write(2));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let mut batch = Batch::new();
    batch.put(&id(1), json!(3));
    store.commit(batch).await.expect("committed");
    let resource = store.get(&id(1)).expect("there");
    assert_ne!(resource.etag, etag);
    assert!(resource.created <= resource.changed);
}

#[tokio::test]
async fn given_a_watcher_then_it_hears_of_changes_and_of_having_missed_some() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(&dir.path().join("region.db")).expect("new");
    let mut watcher = store.watch();
    let mut batch = Batch::new();
    batch.put(&id(1), json!(1)).put_state("ns", "k", *b"v");
    store.commit(batch).await.expect("committed");
    assert_eq!(watcher.changed().await, Change::Resources(vec![id(1)].into()));
    for n in 0..=WATCH {
        let mut batch = Batch::new();
        batch.put(&id(1), json!(n));
        store.commit(batch).await.expect("committed");
    }
    assert_eq!(watcher.changed().await, Change::Everything);
    let mut last = store.watch();
    drop(store);
    assert_eq!(last.changed().await, Change::Closed);
}

#[test]
fn given_a_newer_schema_then_it_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("region.db");
    drop(Store::open(&path).expect("new"));
    let connection = Connection::open(&path).expect("opens");
    connection.pragma_update(None, "user_version", SCHEMA + 1).expect("written");
    drop(connection);
    assert!(matches!(Store::open(&path), Err(StoreError::Newer(version)) if version == SCHEMA + 1));
}

const CHILD: &str = "LAZULI_TEST_STORE";

/// The process that is killed: writes for ever, eight writers at a time, and says what was
/// acknowledged. Does nothing when it is run as a test.
#[test]
fn a_writer_to_be_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let store = Store::open(Path::new(&path)).expect("opens");
    runtime.block_on(async {
        let writers = (0..8_u32).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0_u32.. {
                    let key = format!("{writer}/{n:08}");
                    let site = ResourceId::parse(&format!(
                        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/{writer}-{n}"
                    ))
                    .expect("an ID");
                    let mut batch = Batch::new();
                    batch.put(&site, json!({ "n": n })).put_state("ns", &key, key.as_bytes().repeat(40));
                    store.commit(batch).await.expect("committed");
                    // One write call: a line is whole or absent.
                    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{key}\n").as_bytes());
                }
            })
        });
        futures_util::future::join_all(writers).await;
    });
}

#[test]
fn given_kill_9_then_everything_acknowledged_is_whole() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut acknowledged = 0;
    for round in 0..3 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "store::tests::a_writer_to_be_killed", "--nocapture"])
            .env(CHILD, dir.path().join(format!("region{round}.db")))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut said = Vec::new();
        for line in lines {
            said.push(line.expect("text"));
            if said.len() == 300 + 100 * round {
                child.kill().expect("SIGKILL");
            }
        }
        child.wait().expect("gone");
        let store = Store::open(&dir.path().join(format!("region{round}.db"))).expect("recovers");
        assert!(said.len() >= 300);
        for key in &said {
            let value = store.get_state("ns", key).unwrap_or_else(|| panic!("{key} is lost"));
            assert_eq!(&*value, key.as_bytes().repeat(40), "{key} is damaged");
        }
        // Batches are whole: a record and its resource are there together or not at all.
        assert_eq!(
            store.list_state("ns", "").len(),
            store.list("Microsoft.Web/sites", &ResourceId::root()).len()
        );
        acknowledged += said.len();
    }
    assert!(acknowledged >= 1_200);
}

/// Not a benchmark: a guard against reading the file more than once or holding a lock while doing so.
#[tokio::test]
async fn given_ten_thousand_resources_then_reads_look_at_their_own_part() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("region.db");
    let store = Store::open(&path).expect("new");
    let mut batch = Batch::new();
    for n in 0..10_000 {
        let site = ResourceId::parse(&format!(
            "/subscriptions/s/resourceGroups/g{}/providers/Microsoft.Web/sites/{n}",
            n % 100
        ))
        .expect("an ID");
        batch.put(&site, json!({ "location": "westeurope", "properties": { "n": n } }));
    }
    store.commit(batch).await.expect("committed");
    drop(store);
    let store = Store::open(&path).expect("again");
    let group = ResourceId::of_resource_group("s", "g7").expect("an ID");
    assert_eq!(store.list("Microsoft.Web/sites", &group).len(), 100);
    assert_eq!(store.list("Microsoft.Web/sites", &ResourceId::root()).len(), 10_000);
    // `g7` is no prefix of `g70`.
    assert_eq!(store.list_below(&group).len(), 100);
}
