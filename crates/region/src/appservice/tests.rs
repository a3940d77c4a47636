//! App Service as a whole, on a machine without processes.

use std::{collections::BTreeMap, sync::Mutex as StdMutex};

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::{
    deployments::{Package, RuntimeStatus, Status},
    records::{Seal, resource_id},
    settings::sha256_hex,
    site::{SlotIdentity, SlotRecord},
    supervisor::Phase,
    swapping::SwapError,
    testing::{FakeBuilder, FakeMachine, FakeRuntime, FakeVault, quick, until},
    *,
};
use crate::store::{Batch, Store};

#[derive(Default)]
struct FakeRoutes(StdMutex<BTreeMap<String, Target>>);

impl Routes for FakeRoutes {
    fn update(&self, changes: Vec<RouteChange>) {
        let mut table = self.0.lock().expect("table");
        for RouteChange { host, target, .. } in changes {
            match target {
                Some(target) => table.insert(host, target),
                None => table.remove(&host),
            };
        }
    }
    fn drained(&self, _: Arc<Instance>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

struct Plain;
impl Seal for Plain {
    fn seal(&self, _: &str, plain: &[u8]) -> Result<Vec<u8>, String> {
        Ok(plain.to_vec())
    }
    fn open(&self, _: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        Ok(sealed.to_vec())
    }
}

struct Token;
impl Authorize for Token {
    fn bearer(&self, token: &str, _: &SlotKey) -> Result<String, Denied> {
        match token {
            "owner" => Ok("owner".to_owned()),
            "reader" => Err(Denied::Forbidden),
            _ => Err(Denied::Unauthenticated),
        }
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    machine: Arc<FakeMachine>,
    routes: Arc<FakeRoutes>,
    vault: Arc<FakeVault>,
    app: Arc<AppService>,
}

fn site() -> SiteKey {
    SiteKey::new("s", "rg-notes-prod", "notes")
}
fn production() -> SlotKey {
    site().slot(SlotName::Production)
}
fn staging() -> SlotKey {
    site().slot(SlotName::new("staging"))
}

fn build(
    dir: &std::path::Path,
    machine: &Arc<FakeMachine>,
    vault: &Arc<FakeVault>,
) -> (Arc<AppService>, Arc<FakeRoutes>) {
    build_timed(dir, machine, vault, quick())
}

fn build_timed(
    dir: &std::path::Path,
    machine: &Arc<FakeMachine>,
    vault: &Arc<FakeVault>,
    timing: supervisor::Timing,
) -> (Arc<AppService>, Arc<FakeRoutes>) {
    let routes = Arc::new(FakeRoutes::default());
    let app = AppService::new(Parts {
        records: Records::new(Store::open(&dir.join("region.db")).expect("store"), Arc::new(Plain)),
        routes: routes.clone(),
        runtime: Arc::new(FakeRuntime(machine.clone())),
        builder: Arc::new(FakeBuilder),
        secrets: vault.clone(),
        authorize: Arc::new(Token),
        layout: Layout::new(dir.join("apps")),
        limits: Limits::default(),
        timing,
    });
    (app, routes)
}

async fn fixture() -> Fixture {
    fixture_timed(quick()).await
}

async fn fixture_timed(timing: supervisor::Timing) -> Fixture {
    let dir = tempfile::tempdir().expect("tempdir");
    let (machine, vault) = (FakeMachine::new(), Arc::new(FakeVault::default()));
    let (app, routes) = build_timed(dir.path(), &machine, &vault, timing);
    app.recover().await.expect("recover");
    let fixture = Fixture { dir, machine, routes, vault, app };
    for key in [production(), staging()] {
        fixture.create(&key, |_| {}).await;
    }
    fixture
}

/// The body that whatever listens at `address` answers with.
async fn body_of(address: std::net::SocketAddr) -> Option<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer.split("\r\n\r\n").nth(1).map(str::to_owned)
}

impl Fixture {
    async fn create(&self, key: &SlotKey, change: impl FnOnce(&mut SlotRecord)) {
        let mut record = settings::tests::record();
        record.volume = key.label();
        record.identity = Some(SlotIdentity {
            principal_id: key.slot.as_str().to_owned(),
            tenant_id: "t".into(),
        });
        record.app_settings.insert("WEBSITES_CONTAINER_START_TIME_LIMIT".into(), "2".into());
        change(&mut record);
        let mut batch = Batch::new();
        self.app.records.put_private(&mut batch, key, &record).expect("put");
        batch.put(&resource_id(key).expect("id"), render::body(key, &record));
        self.app.records.store().commit(batch).await.expect("commit");
        self.app.changed(key);
    }

    async fn set(&self, key: &SlotKey, name: &str, value: &str) {
        self.app
            .records
            .update(key, |record| {
                record.app_settings.insert(name.to_owned(), value.to_owned());
                Ok(())
            })
            .await
            .expect("update");
        self.app.changed(key);
    }

    async fn sticky(&self, names: &[&str]) {
        let mut record = site::SiteRecord::default();
        record.sticky.app_setting_names = names.iter().map(|name| (*name).to_owned()).collect();
        let mut batch = Batch::new();
        self.app.records.put_site(&mut batch, &site(), &record);
        self.app.records.store().commit(batch).await.expect("commit");
    }

    /// Deploys a package whose label in the fake machine is its digest.
    async fn deploy(&self, key: &SlotKey, files: &[(&str, &[u8], u32)]) -> deployments::Deployment {
        let path = content::tests::package(self.dir.path(), files);
        let digest = sha256_hex(&std::fs::read(&path).expect("read"));
        let package =
            Package { path, digest, author: "a".into(), deployer: "d".into(), message: "m".into() };
        let id = self.app.deploy(key, package).await.expect("taken");
        self.app.deployed(key, &id).await.expect("over")
    }

    async fn release(&self, key: &SlotKey, version: &str) -> String {
        let deployment = self.deploy(key, &[("main.py", version.as_bytes(), 0o644)]).await;
        assert_eq!(deployment.status, Status::Success, "{}", deployment.status_text);
        deployment.content
    }

    /// `kill -9` of the region, and its next start.
    async fn crash(&mut self, timing: supervisor::Timing) {
        self.app.sites().clear();
        let machine = FakeMachine::new();
        let dir = self.dir.path().to_owned();
        let old = std::mem::replace(&mut self.app, {
            let elsewhere = tempfile::tempdir().expect("tempdir");
            build(elsewhere.path(), &machine, &self.vault).0
        });
        drop(old);
        // The old store must let go of its file.
        until("the store is closed", || Store::open(&dir.join("region.db")).is_ok()).await;
        let (app, routes) = build_timed(&dir, &machine, &self.vault, timing);
        app.recover().await.expect("recover");
        self.app = app;
        self.routes = routes;
        self.machine = machine;
    }

    /// The value that a slot's instances have of a setting.
    fn setting(&self, key: &SlotKey, name: &str) -> Option<String> {
        let launch =
            |slot: &mut slot::SlotRuntime| slot.serving.as_ref().map(|set| set.launch().clone());
        let launch = self.app.with_slot(key, launch).flatten()?;
        launch.setting(name).map(str::to_owned)
    }

    /// What answers at a slot's host: the fake machine's labels. Unlike the front end this holds no
    /// instance while it asks, so one that left the table meanwhile is not asked again.
    async fn answers(&self, key: &SlotKey) -> Vec<String> {
        loop {
            let Some(pool) = self.pool(key) else { return Vec::new() };
            let mut answers = Vec::new();
            for instance in pool.instances() {
                answers.extend(body_of(instance.addr()).await);
            }
            let same = self.pool(key).is_some_and(|now| Arc::ptr_eq(&now, &pool));
            if same || answers.len() == pool.instances().len() {
                return answers;
            }
        }
    }

    fn pool(&self, key: &SlotKey) -> Option<Arc<lazuli_gateway::Pool>> {
        match self.routes.0.lock().expect("table").get(&key.host_name()) {
            Some(Target::Site(site)) => Some(site.pool.clone()),
            _ => None,
        }
    }

    async fn serves(&self, key: &SlotKey, content: &str, as_slot: &str) {
        let wanted = format!("{content}@{as_slot}");
        for _ in 0..500 {
            let answers = self.answers(key).await;
            if !answers.is_empty() && answers.iter().all(|answer| *answer == wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "{key} does not serve {wanted} but {:?}; events: {:#?}",
            self.answers(key).await,
            self.machine.events()
        );
    }

    async fn swap(&self) -> Result<(), SwapError> {
        let token = uuid::Uuid::new_v4().to_string();
        self.app.swap(&site(), &staging().slot, &SlotName::Production, &token).await
    }

    /// Both slots as a release leaves them: `v1` in production, `v2` in staging.
    async fn two_versions(&self) -> (String, String) {
        let one = self.release(&staging(), "v1").await;
        self.serves(&staging(), &one, "staging").await;
        self.swap().await.expect("first swap");
        let two = self.release(&staging(), "v2").await;
        self.serves(&staging(), &two, "staging").await;
        self.serves(&production(), &one, "production").await;
        (one, two)
    }
}

#[tokio::test]
async fn a_deployment_is_unpacked_started_and_served() {
    let fixture = fixture().await;
    let version = fixture.release(&staging(), "v1").await;
    fixture.serves(&staging(), &version, "staging").await;
    assert!(fixture.answers(&production()).await.is_empty(), "production has nothing yet");
    until("its runtime status is known", || {
        fixture.app.deployment(&staging(), "latest").expect("listed").runtime
            == RuntimeStatus::Successful(1)
    })
    .await;
    let log = fixture.app.deployment_log(&staging(), "latest", None).expect("log");
    assert!(log.iter().any(|entry| entry["message"] == "Deployment successful."), "{log:?}");
}

#[tokio::test]
async fn a_swap_switches_production_and_the_old_goes_to_the_source() {
    let fixture = fixture().await;
    let (one, two) = fixture.two_versions().await;
    fixture.swap().await.expect("swap");
    fixture.serves(&production(), &two, "production").await;
    fixture.serves(&staging(), &one, "staging").await;
    let record = fixture.app.records.slot(&production()).expect("record");
    assert_eq!(record.deployment.expect("deployed").content, two);
    assert_eq!(record.volume, "notes", "two swaps bring a volume back");
}

#[tokio::test]
async fn a_swap_back_finds_the_old_production_warm_and_starts_nothing_for_it() {
    let fixture = fixture().await;
    let (one, two) = fixture.two_versions().await;
    fixture.swap().await.expect("swap");
    fixture.serves(&staging(), &one, "staging").await;
    let label = format!("{one}@production");
    let before = fixture.machine.started.lock().expect("started")[&label];
    let begun = std::time::Instant::now();
    fixture.swap().await.expect("swap back");
    let took = begun.elapsed();
    assert_eq!(fixture.answers(&production()).await, std::slice::from_ref(&label), "at once");
    assert_eq!(
        fixture.machine.started.lock().expect("started")[&label],
        before,
        "nothing was started"
    );
    assert!(took < Duration::from_secs(1), "{took:?}");
    fixture.serves(&staging(), &two, "staging").await;
    // And forth again.
    fixture.swap().await.expect("swap forth");
    assert_eq!(fixture.answers(&production()).await, [format!("{two}@production")]);
}

#[tokio::test]
async fn swapping_back_and_forth_at_once_never_stops_what_serves() {
    let fixture = fixture().await;
    let (one, two) = fixture.two_versions().await;
    for round in 0..4 {
        fixture.swap().await.expect("swap");
        let wanted = if round % 2 == 0 { &two } else { &one };
        for _ in 0..20 {
            assert_eq!(fixture.answers(&production()).await, [format!("{wanted}@production")]);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    fixture.serves(&staging(), &two, "staging").await;
    fixture.serves(&production(), &one, "production").await;
}

#[tokio::test]
async fn a_new_deployment_to_the_source_ends_the_standby() {
    let fixture = fixture().await;
    let (one, _) = fixture.two_versions().await;
    fixture.swap().await.expect("swap");
    fixture.serves(&staging(), &one, "staging").await;
    let old = format!("{one}@production");
    assert!(fixture.machine.alive().contains(&old), "kept warm");
    let three = fixture.release(&staging(), "v3").await;
    fixture.serves(&staging(), &three, "staging").await;
    until("the standby has ended", || !fixture.machine.alive().contains(&old)).await;
}

#[tokio::test]
async fn the_standby_ends_after_its_time() {
    let fixture = fixture().await;
    let (one, _) = fixture.two_versions().await;
    fixture.swap().await.expect("swap");
    fixture.serves(&staging(), &one, "staging").await;
    {
        let mut sites = fixture.app.sites();
        let standby = sites.get_mut(&site()).and_then(|site| site.standby.as_mut()).expect("kept");
        standby.until = tokio::time::Instant::now();
    }
    fixture.app.wake(&staging());
    until("ended", || !fixture.machine.alive().contains(&format!("{one}@production"))).await;
}

#[tokio::test]
async fn a_release_that_cannot_start_with_the_targets_settings_leaves_production_alone() {
    let fixture = fixture().await;
    let (one, two) = fixture.two_versions().await;
    fixture.sticky(&["BEHAVE"]).await;
    fixture.set(&production(), "BEHAVE", "serve").await;
    fixture.serves(&production(), &one, "production").await;
    for (behave, words) in [("exit", "ModuleNotFoundError"), ("hang", "within 2 s")] {
        // Sticky to production: only what runs there with it behaves so. Its own instances are left as
        // they are by changing the record alone.
        fixture
            .app
            .records
            .update(&production(), |record| {
                record.app_settings.insert("BEHAVE".into(), behave.into());
                Ok(())
            })
            .await
            .expect("update");
        let error = fixture.swap().await.expect_err("it cannot start");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(fixture.answers(&production()).await, [format!("{one}@production")]);
        fixture.serves(&staging(), &two, "staging").await;
        let record = fixture.app.records.slot(&production()).expect("record");
        assert_eq!(record.deployment.expect("deployed").content, one);
    }
}

#[tokio::test]
async fn warm_up_statuses_decide_when_they_are_named() {
    let fixture = fixture().await;
    let (one, _) = fixture.two_versions().await;
    fixture.set(&staging(), "BEHAVE", "status=503").await;
    fixture.set(&staging(), "WEBSITE_SWAP_WARMUP_PING_PATH", "/health").await;
    fixture.set(&staging(), "WEBSITE_SWAP_WARMUP_PING_STATUSES", "200,202").await;
    let error = fixture.swap().await.expect_err("503 is not among them");
    assert!(error.to_string().contains("did not respond to http ping"), "{error}");
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(fixture.answers(&production()).await, [format!("{one}@production")]);
    until("what was started for it has ended", || {
        fixture.machine.alive().iter().filter(|label| label.ends_with("@production")).count() == 1
    })
    .await;
    // Without the list any answer is an answer.
    fixture.set(&staging(), "WEBSITE_SWAP_WARMUP_PING_STATUSES", "").await;
    fixture.swap().await.expect("503 is an answer");
}

#[tokio::test]
async fn references_that_do_not_resolve_for_the_target_stop_a_swap_before_anything_moves() {
    let fixture = fixture().await;
    let (one, _) = fixture.two_versions().await;
    let secret = |principal: &str| (("jwt".to_owned(), principal.to_owned()), "value".to_owned());
    fixture.vault.0.lock().expect("vault").extend([secret("staging")]);
    fixture.set(&staging(), "JWT_SECRET", "@Microsoft.KeyVault(VaultName=kv;SecretName=jwt)").await;
    let started = fixture.machine.events().len();
    let error = fixture.swap().await.expect_err("production may not read it");
    assert!(error.to_string().contains("JWT_SECRET (AccessToKeyVaultDenied)"), "{error}");
    assert!(
        !fixture.machine.events()[started..]
            .iter()
            .any(|event| event.starts_with("start") && event.contains("@production"))
    );
    assert_eq!(fixture.answers(&production()).await, [format!("{one}@production")]);
    fixture.vault.0.lock().expect("vault").extend([secret("production")]);
    fixture.swap().await.expect("now it may");
}

#[tokio::test]
async fn an_unresolved_reference_reaches_the_application_as_its_text_and_its_status_says_why() {
    let fixture = fixture().await;
    let text = "@Microsoft.KeyVault(VaultName=kv;SecretName=none)";
    fixture.set(&staging(), "KEY", text).await;
    let version = fixture.release(&staging(), "v1").await;
    fixture.serves(&staging(), &version, "staging").await;
    let launch = fixture
        .app
        .with_slot(&staging(), |slot| slot.serving.as_ref().expect("serving").launch().clone())
        .expect("slot");
    assert_eq!(launch.setting("KEY"), Some(text));
    let (settings, _) = fixture.app.references(&staging()).await;
    assert_eq!(settings["KEY"].status, references::Status::AccessToKeyVaultDenied);
}

#[tokio::test]
async fn a_references_new_version_reaches_the_app_within_the_interval_also_after_a_restart() {
    // Twenty-four hours, here 200 ms.
    let timing = supervisor::Timing { refresh: Duration::from_millis(200), ..quick() };
    assert_eq!(supervisor::Timing::default().refresh, Duration::from_secs(86_400));
    let mut fixture = fixture_timed(timing).await;
    let write = |vault: &FakeVault, value: &str| {
        let key = ("jwt".to_owned(), "staging".to_owned());
        vault.0.lock().expect("vault").insert(key, value.to_owned());
    };
    write(&fixture.vault, "first");
    fixture.set(&staging(), "KEY", "@Microsoft.KeyVault(VaultName=kv;SecretName=jwt)").await;
    let version = fixture.release(&staging(), "v1").await;
    fixture.serves(&staging(), &version, "staging").await;
    let has = |fixture: &Fixture, value: &str| {
        fixture.setting(&staging(), "KEY").as_deref() == Some(value)
    };
    assert!(has(&fixture, "first"));
    // Nobody says anything to App Service.
    write(&fixture.vault, "second");
    until("the second value reaches it", || has(&fixture, "second")).await;
    fixture.serves(&staging(), &version, "staging").await;
    fixture.crash(timing).await;
    fixture.serves(&staging(), &version, "staging").await;
    assert!(has(&fixture, "second"));
    write(&fixture.vault, "third");
    until("the third value reaches it", || has(&fixture, "third")).await;
    // A vault that does not answer takes nothing away.
    fixture.vault.0.lock().expect("vault").clear();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(has(&fixture, "third"));
}

#[tokio::test]
async fn before_the_interval_is_over_nothing_is_read_anew() {
    let fixture = fixture().await;
    let key = ("jwt".to_owned(), "staging".to_owned());
    fixture.vault.0.lock().expect("vault").insert(key.clone(), "first".to_owned());
    fixture.set(&staging(), "KEY", "@Microsoft.KeyVault(VaultName=kv;SecretName=jwt)").await;
    let version = fixture.release(&staging(), "v1").await;
    fixture.serves(&staging(), &version, "staging").await;
    fixture.vault.0.lock().expect("vault").insert(key, "second".to_owned());
    fixture.app.wake(&staging());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fixture.setting(&staging(), "KEY").as_deref(), Some("first"));
    // On request it is.
    fixture.app.refresh_references(&staging()).await;
    until("it is", || fixture.setting(&staging(), "KEY").as_deref() == Some("second")).await;
}

#[tokio::test]
async fn changed_settings_replace_the_instances_without_a_gap() {
    let fixture = fixture().await;
    let version = fixture.release(&production(), "v1").await;
    fixture.serves(&production(), &version, "production").await;
    let label = format!("{version}@production");
    fixture.set(&production(), "LOG_LEVEL", "debug").await;
    for _ in 0..2000 {
        assert_eq!(fixture.answers(&production()).await, std::slice::from_ref(&label));
        if fixture.machine.started.lock().expect("started")[&label] == 2
            && fixture.machine.alive().len() == 1
        {
            return;
        }
    }
    panic!("not replaced: {:?}", fixture.machine.events());
}

#[tokio::test]
async fn without_overlap_the_old_ends_before_the_new_begins() {
    let fixture = fixture().await;
    fixture.set(&production(), "WEBSITE_DISABLE_OVERLAPPED_RECYCLING", "1").await;
    let version = fixture.release(&production(), "v1").await;
    fixture.serves(&production(), &version, "production").await;
    let seen = fixture.machine.events().len();
    fixture.app.restart(&production()).await.expect("restart");
    until("restarted", || {
        fixture.machine.events()[seen..].iter().any(|event| event.starts_with("start"))
    })
    .await;
    let events: Vec<String> = fixture.machine.events()[seen..]
        .iter()
        .map(|event| event.split(' ').next().expect("word").to_owned())
        .collect();
    assert_eq!(events[..3], ["term", "gone", "start"]);
}

#[tokio::test]
async fn a_deployment_that_cannot_start_says_so_and_the_old_version_stays() {
    let fixture = fixture().await;
    let one = fixture.release(&staging(), "v1").await;
    fixture.serves(&staging(), &one, "staging").await;
    fixture.set(&staging(), "BEHAVE", "exit").await;
    let two = fixture.release(&staging(), "v2").await;
    until("its runtime status is known", || {
        matches!(
            fixture.app.deployment(&staging(), "latest").expect("listed").runtime,
            RuntimeStatus::Failed(_)
        )
    })
    .await;
    let RuntimeStatus::Failed(why) =
        fixture.app.deployment(&staging(), "latest").expect("listed").runtime
    else {
        panic!("it failed");
    };
    assert!(why.contains("exit code 3") && why.contains("ModuleNotFoundError"), "{why}");
    assert_eq!(fixture.answers(&staging()).await, [format!("{one}@staging")]);
    assert_eq!(
        fixture.app.records.slot(&staging()).expect("record").deployment.expect("deployed").content,
        two
    );
}

#[tokio::test]
async fn a_corrupt_package_and_a_failing_build_change_nothing() {
    let fixture = fixture().await;
    let one = fixture.release(&staging(), "v1").await;
    let path = fixture.dir.path().join("corrupt.zip");
    std::fs::write(&path, "PK not a zip").expect("write");
    let package = Package {
        path: path.clone(),
        digest: "d".repeat(64),
        author: String::new(),
        deployer: String::new(),
        message: String::new(),
    };
    let id = fixture.app.deploy(&staging(), package).await.expect("taken");
    let deployment = fixture.app.deployed(&staging(), &id).await.expect("over");
    assert_eq!(deployment.status, Status::Failed);
    assert!(deployment.status_text.contains("not a valid zip"), "{}", deployment.status_text);
    assert!(!path.exists(), "the upload is gone");

    fixture.set(&staging(), "SCM_DO_BUILD_DURING_DEPLOYMENT", "true").await;
    let deployment = fixture.deploy(&staging(), &[("unbuildable", b"", 0o644)]).await;
    assert_eq!(deployment.status, Status::Failed);
    assert!(deployment.status_text.contains("No solution found"), "{}", deployment.status_text);
    assert_eq!(deployment.to_arm_status(1)["status"], "BuildFailed");
    assert_eq!(
        fixture.app.records.slot(&staging()).expect("record").deployment.expect("deployed").content,
        one
    );
    fixture.serves(&staging(), &one, "staging").await;
}

#[tokio::test]
async fn stop_and_start_and_delete() {
    let fixture = fixture().await;
    let version = fixture.release(&production(), "v1").await;
    fixture.serves(&production(), &version, "production").await;
    fixture.app.set_running(&production(), false).await.expect("stop");
    until("stopped", || fixture.machine.alive().is_empty()).await;
    match fixture.routes.0.lock().expect("table").get("notes.azurewebsites.net") {
        Some(Target::Site(site)) => assert_eq!(site.state, lazuli_gateway::SiteState::Stopped),
        other => panic!("{other:?}"),
    }
    fixture.app.set_running(&production(), true).await.expect("start");
    fixture.serves(&production(), &version, "production").await;
    fixture.app.remove(&production()).await;
    assert!(fixture.machine.alive().is_empty());
    assert!(!fixture.routes.0.lock().expect("table").contains_key("notes.azurewebsites.net"));
}

#[tokio::test]
async fn after_a_crash_everything_is_as_the_store_says() {
    let mut fixture = fixture().await;
    let (one, two) = fixture.two_versions().await;
    fixture.swap().await.expect("swap");
    // kill -9: processes die with the region, the store stays.
    fixture.crash(quick()).await;
    fixture.serves(&production(), &two, "production").await;
    fixture.serves(&staging(), &one, "staging").await;
    assert!(fixture.machine.events()[0].starts_with("start"));
}

#[tokio::test]
async fn a_swap_resumed_after_it_was_done_is_not_done_again() {
    let fixture = fixture().await;
    let (_, two) = fixture.two_versions().await;
    for _ in 0..2 {
        fixture
            .app
            .swap(&site(), &staging().slot, &SlotName::Production, "token")
            .await
            .expect("swap");
        assert_eq!(fixture.answers(&production()).await, [format!("{two}@production")]);
    }
}

#[tokio::test]
async fn two_swaps_at_once_are_one_swap_and_one_refusal() {
    let fixture = fixture().await;
    fixture.two_versions().await;
    let (a, b) = tokio::join!(fixture.swap(), fixture.swap());
    let refused = [a, b].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(matches!(refused.as_slice(), [SwapError::Busy]), "{refused:?}");
}

#[tokio::test]
async fn a_preview_runs_the_source_with_the_targets_settings_and_can_be_taken_back() {
    let fixture = fixture().await;
    let (one, two) = fixture.two_versions().await;
    fixture.app.apply_slot_config(&staging(), &SlotName::Production).await.expect("apply");
    fixture.serves(&staging(), &two, "production").await;
    fixture.app.reset_slot_config(&staging()).await.expect("reset");
    fixture.serves(&staging(), &two, "staging").await;
    fixture.app.apply_slot_config(&staging(), &SlotName::Production).await.expect("apply");
    fixture.serves(&staging(), &two, "production").await;
    let label = format!("{two}@production");
    let before = fixture.machine.started.lock().expect("started")[&label];
    fixture.swap().await.expect("swap");
    assert_eq!(fixture.answers(&production()).await, std::slice::from_ref(&label));
    assert_eq!(
        fixture.machine.started.lock().expect("started")[&label],
        before,
        "the preview's instances took over"
    );
    fixture.serves(&staging(), &one, "staging").await;
}

#[tokio::test]
async fn the_plan_says_how_many() {
    let fixture = fixture().await;
    let version = fixture.release(&production(), "v1").await;
    fixture.serves(&production(), &version, "production").await;
    let plan = lazuli_azure::ResourceId::parse(&settings::tests::record().plan).expect("id");
    for capacity in [3, 1] {
        let mut batch = Batch::new();
        batch.put(&plan, json!({ "sku": { "capacity": capacity, "tier": "PremiumV3" } }));
        fixture.app.records.store().commit(batch).await.expect("commit");
        fixture.app.plan_changed();
        until("scaled", || fixture.machine.alive().len() == capacity).await;
        until("in rotation", || {
            let ready = fixture.app.instances(&production());
            ready.len() == capacity && ready.iter().all(|member| member.phase == Phase::Ready)
        })
        .await;
        // The tier is in the environment, so the first change of it replaces the instances.
        fixture.serves(&production(), &version, "production").await;
    }
}

#[tokio::test]
async fn a_triggered_job_runs_with_its_history_and_output() {
    let fixture = fixture().await;
    let script: (&str, &[u8], u32) = ("App_Data/jobs/triggered/migrate/run.sh", b"", 0o755);
    fixture.deploy(&staging(), &[script]).await;
    fixture.set(&staging(), "BEHAVE", "exit").await;
    let id =
        fixture.app.trigger(&staging(), "migrate", "production", "test").await.expect("started");
    until("over", || {
        fixture.app.job_run(&staging(), "migrate", &id).is_some_and(|run| run.end.is_some())
    })
    .await;
    let run = fixture.app.job_run(&staging(), "migrate", &id).expect("run");
    assert_eq!((&*run.status, run.ended.as_deref()), ("Failed", Some("exit code 3")));
    let output = fixture.app.job_output(&staging(), "migrate", &id).expect("output");
    assert!(output.contains("ModuleNotFoundError"), "{output}");
    assert!(fixture.app.trigger(&staging(), "other", "", "test").await.is_err());
}

#[tokio::test]
async fn a_continuous_singleton_runs_once_and_stops_when_told() {
    let fixture = fixture().await;
    let files: &[(&str, &[u8], u32)] = &[
        ("App_Data/jobs/continuous/tick/run.sh", b"", 0o755),
        ("App_Data/jobs/continuous/tick/settings.job", br#"{"is_singleton": true}"#, 0o644),
    ];
    fixture.deploy(&staging(), files).await;
    let jobs = |fixture: &Fixture| {
        fixture.machine.events().iter().filter(|event| event.ends_with(" job")).count()
    };
    until("it runs", || fixture.app.continuous_status(&staging(), "tick") == "Running").await;
    assert_eq!(jobs(&fixture), 1);
    fixture.app.set_continuous(&staging(), "tick", false).await.expect("stop");
    until("stopped", || fixture.app.continuous_status(&staging(), "tick") == "Stopped").await;
    fixture.app.set_continuous(&staging(), "tick", true).await.expect("start");
    until("again", || fixture.app.continuous_status(&staging(), "tick") == "Running").await;
    assert_eq!(jobs(&fixture), 2);
}

async fn ask(
    fixture: &Fixture,
    key: &SlotKey,
    method: &str,
    path: &str,
    auth: &str,
    body: Vec<u8>,
) -> (StatusCode, http::HeaderMap, Vec<u8>) {
    let scm = scm::Scm { app: Arc::downgrade(&fixture.app), slot: key.clone() };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", auth)
        .body(Full::new(bytes::Bytes::from(body)))
        .expect("request");
    let response = scm.answer(request).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("body").to_bytes().to_vec();
    (parts.status, parts.headers, body)
}

#[tokio::test]
async fn scm_takes_a_package_and_tells_how_it_goes() {
    let fixture = fixture().await;
    let zip = content::tests::package(fixture.dir.path(), &[("main.py", b"v1", 0o644)]);
    let zip = std::fs::read(zip).expect("read");
    let (status, headers, _) = ask(
        &fixture,
        &staging(),
        "POST",
        "/api/publish?type=zip&async=true",
        "Bearer owner",
        zip.clone(),
    )
    .await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let id = headers["scm-deployment-id"].to_str().expect("id").to_owned();
    fixture.app.deployed(&staging(), &id).await.expect("over");
    let (status, _, body) =
        ask(&fixture, &staging(), "GET", "/api/deployments/latest", "Bearer owner", Vec::new())
            .await;
    let deployment: Value = serde_json::from_slice(&body).expect("json");
    assert_eq!(
        (status, &deployment["status"], &deployment["active"]),
        (StatusCode::OK, &json!(4), &json!(true))
    );
    let path = format!("/api/deployments/{id}/log");
    let (_, _, body) = ask(&fixture, &staging(), "GET", &path, "Bearer owner", Vec::new()).await;
    assert!(String::from_utf8_lossy(&body).contains("Deployment successful."));
    // The same again, waiting for it.
    let (status, ..) =
        ask(&fixture, &staging(), "POST", "/api/zipdeploy", "Bearer owner", zip).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _, body) =
        ask(&fixture, &staging(), "POST", "/api/zipdeploy", "Bearer owner", b"no zip".to_vec())
            .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(String::from_utf8_lossy(&body).contains("not a valid zip"));
    assert_eq!(
        std::fs::read_dir(fixture.dir.path().join("apps/uploads")).expect("read").count(),
        0
    );
}

#[tokio::test]
async fn scm_lets_in_whoever_may_publish_and_nobody_else() {
    let fixture = fixture().await;
    let slot = staging();
    let get =
        |auth: &'static str| ask(&fixture, &slot, "GET", "/api/deployments", auth, Vec::new());
    assert_eq!(get("Bearer owner").await.0, StatusCode::OK);
    assert_eq!(get("Bearer reader").await.0, StatusCode::FORBIDDEN);
    assert_eq!(get("Bearer nobody").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(get("nonsense").await.0, StatusCode::UNAUTHORIZED);
    use base64::Engine as _;
    let encode =
        |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let good: &'static str = encode("$notes__staging:pw").leak();
    let bad: &'static str = encode("$notes__staging:px").leak();
    assert_eq!(get(good).await.0, StatusCode::OK, "on unless switched off");
    assert_eq!(get(bad).await.0, StatusCode::UNAUTHORIZED);
    fixture
        .app
        .records
        .update(&staging(), |record| {
            record.basic_auth.insert("scm".into(), false);
            Ok(())
        })
        .await
        .expect("update");
    assert_eq!(get(good).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn ramp_up_rules_reach_the_front_end() {
    let fixture = fixture().await;
    fixture.two_versions().await;
    fixture
        .app
        .records
        .update(&production(), |record| {
            record.config.insert(
                "experiments".into(),
                json!({ "rampUpRules": [{ "name": "staging", "actionHostName": "notes-staging.azurewebsites.net", "reroutePercentage": 10.0 }] }),
            );
            Ok(())
        })
        .await
        .expect("update");
    fixture.app.changed(&production());
    match fixture.routes.0.lock().expect("table").get("notes.azurewebsites.net") {
        Some(Target::Site(site)) => {
            assert_eq!(site.ramp_up.len(), 1);
            assert_eq!(
                (&*site.ramp_up[0].slot, site.ramp_up[0].pool.instances().len()),
                ("staging", 1)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_no_remembered_deployment_uses_is_deleted_from_the_disk() {
    let fixture = fixture().await;
    let first = fixture.release(&staging(), "1").await;
    let environment = |name: &str, hours: u64| {
        let dir = fixture.app.layout.environment(name);
        std::fs::create_dir_all(&dir).expect("directory");
        let then = std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
        std::fs::File::open(&dir).and_then(|dir| dir.set_modified(then)).expect("an older one");
        dir
    };
    let (old, young) = (environment("old", 2), environment("young", 0));
    for version in 2..=12 {
        fixture.release(&staging(), &version.to_string()).await;
    }
    // The deployment tidies up after it has ended.
    until("both are gone", || !fixture.app.layout.content(&first).exists() && !old.exists()).await;
    assert!(young.exists(), "a build may be about to use it");
}
