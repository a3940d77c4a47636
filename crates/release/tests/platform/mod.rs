//! A scripted platform: what the release process can see of Azure, behind the real gateway with real
//! TLS, with faults on order. A model, not a second region: deployments are names, a swap exchanges
//! them.
//!
//! Also used by the tests of the `lazuli` binary.
#![allow(dead_code)] // Each of its users needs a part of it.

pub(crate) mod vault;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use lazuli_azure::{Client, Connection, Credential, Endpoints, RetryPolicy, Secret};
use lazuli_gateway::{
    Authority, Body, Dialer, Gateway, Options, Peer, Service, Table, Target, empty, full,
};
use lazuli_release::provision::{Action, SettingValue, Tenancy, plan};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Notify;

pub(crate) const PRODUCTION: &str = "notes";
pub(crate) const STAGING: &str = "notes-staging";
pub(crate) const WORKER: &str = "notes-worker";
pub(crate) const SCHEDULER: &str = "notes-scheduler";

/// How long a swap takes.
const SWAP: Duration = Duration::from_millis(60);

/// What goes wrong, for as long as it is in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Every build fails.
    Build,
    /// The instances of what is deployed to staging do not start.
    Start,
    /// What is newly deployed answers `/health` with 500.
    Health,
    /// What is newly deployed answers `/health/ready` without `"status": "ready"`.
    NotReady,
    /// The migration of the staging database fails.
    MigrateStaging,
    /// The migration of production's database fails.
    MigrateProduction,
    /// The warm-up of a swap fails.
    Warmup,
    /// The swap is done, but the answer is 500.
    LostAnswer,
    /// What is in production after the swap answers 500.
    Production,
    /// Deployments to the worker's site fail.
    Worker,
    /// The first request of a kind is throttled (429, `Retry-After`).
    Throttled,
    /// A token is refused once (401) in the middle of a swap.
    TokenExpired,
    /// Polling a swap breaks the connection now and then.
    Flaky,
    /// For a while after a swap, what is asked of a slot is still as it was before.
    Stale,
    /// The trial finds a lock that is held for long.
    LongLock,
    /// The trial finds a column that is gone.
    ColumnGone,
    /// A Key Vault reference of the staging slot does not resolve.
    Unresolved,
    /// A secret has expired.
    Expired,
    /// Of what production answers after the swap a tenth is 5xx, by the platform's own count.
    Failing,
    /// What production answers after the swap takes ten times as long.
    Slow,
    /// After the swap, readiness is not given any more.
    Unready,
    /// What the canary gets fails.
    CanaryFails,
    /// Nobody visits.
    NoTraffic,
}

/// What happens to the platform, at a moment of a test's choosing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// Nothing is answered any more: the network is cut. What is under way goes on.
    Cut,
    /// It is killed: what was under way is forgotten or finished, as it happens, and nothing is
    /// answered until it is started again.
    Killed { finishes: bool },
    /// The next request that changes something is carried out and answered 500.
    LostAnswer,
}

/// When a command is cut off: at which request, before or after the platform did what it asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) at: usize,
    pub(crate) after: bool,
}

#[derive(Default)]
struct State {
    /// Active deployment of each site and slot.
    active: BTreeMap<String, String>,
    /// Deployments of each: id and whether it was built.
    deployments: BTreeMap<String, Vec<(String, bool)>>,
    /// What was sent: deployment → hash of the package.
    contents: BTreeMap<String, u64>,
    faults: BTreeSet<Fault>,
    /// Deployments made while a fault of the app itself was on.
    sick: BTreeSet<String>,
    /// A swap under way: when it ends, its number, whether it will fail.
    swap: Option<(Instant, usize, bool)>,
    failed_swaps: BTreeSet<usize>,
    swaps: usize,
    /// Whether the database server is through with its maintenance.
    asked: usize,
    /// Databases in the order they were migrated.
    migrated: Vec<String>,
    jobs: Vec<(String, bool)>,
    requests: usize,
    /// The lock of the environment: its record set, and how often it was written.
    lease: Option<Value>,
    etags: usize,
    /// Percentage that goes to staging.
    ramp: u64,
    preview: bool,
    /// What was throttled already.
    throttled: BTreeSet<String>,
    /// When production last changed, what it and staging held before, and since when each is served.
    switched: Option<Instant>,
    /// A minute, and how many requests production had in it before it last changed.
    carried: (u64, f64),
    before: (Option<String>, Option<String>),
    /// Nothing is answered.
    gone: bool,
    /// The next change is answered 500 though it is made.
    lose_answer: bool,
    /// Trials made.
    pub(crate) trials: usize,
    started: Option<Instant>,
    cut: Option<Cut>,
    /// The command is cut off at the first request whose path holds this.
    cut_on: Option<&'static str>,
    /// What the manifest's blueprint says is there, by resource ID in lower case.
    resources: BTreeMap<String, Value>,
    /// The names of its secrets.
    secrets: Vec<String>,
    /// Requests, for a test that fails.
    seen: Vec<String>,
    /// What production held, whenever it changed.
    history: Vec<u64>,
    /// The vault, where a rotation is tested.
    kept: Option<vault::Kept>,
}

/// The platform. Clones share it.
#[derive(Clone)]
pub(crate) struct Platform {
    state: Arc<Mutex<State>>,
    pub(crate) cut: Arc<Notify>,
    pub(crate) client: Client,
    /// Where the gateway listens.
    pub(crate) proxy: String,
    /// The CA to trust.
    pub(crate) roots: String,
    _gateway: Arc<Gateway>,
    _dir: Arc<tempfile::TempDir>,
}

struct Hosts {
    state: Arc<Mutex<State>>,
    cut: Arc<Notify>,
}

struct Nowhere;

impl Dialer for Nowhere {
    fn dial(&self, host: &str, _: u16) -> BoxFuture<'static, std::io::Result<TcpStream>> {
        let error = std::io::Error::other(format!("{host} is not part of this test"));
        Box::pin(async move { Err(error) })
    }
}

impl Platform {
    pub(crate) fn start(manifest: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::load_or_create(dir.path()).expect("a CA");
        let roots = authority.ca_pem().to_owned();
        let options = Options { reactors: 1, ..Options::default() };
        let gateway = Gateway::new(authority, Arc::new(Nowhere), options).expect("a gateway");
        let (resources, secrets) = provisioned(manifest);
        let state = State { resources, secrets, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let cut = Arc::new(Notify::new());
        let hosts = Arc::new(Hosts { state: state.clone(), cut: cut.clone() });
        let mut table = Table::new();
        let mut names =
            vec!["management.azure.com".to_owned(), "login.microsoftonline.com".to_owned()];
        names.push("notes-kv.vault.azure.net".to_owned());
        for site in [PRODUCTION, STAGING, WORKER, SCHEDULER] {
            names.push(format!("{site}.azurewebsites.net"));
            names.push(format!("{site}.scm.azurewebsites.net"));
        }
        for name in names {
            table.insert(&name, Target::Service(hosts.clone()));
        }
        gateway.publish(table);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let port = listener.local_addr().expect("an address").port();
        gateway.serve_machine(listener).expect("served");
        let proxy = format!("http://127.0.0.1:{port}");
        let connection = Connection { proxy: Some(proxy.clone()), roots: Some(roots.clone()) };
        let credential = Credential::client_secret("tenant", "client", Secret::new("secret"));
        let retry = RetryPolicy {
            attempts: 4,
            base: Duration::from_millis(5),
            cap: Duration::from_millis(50),
        };
        let client = Client::with(&connection, credential, Endpoints::default(), retry);
        let client = client.expect("a client");
        Self { state, cut, client, proxy, roots, _gateway: gateway, _dir: Arc::new(dir) }
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.lock().faults.insert(fault);
    }

    /// With a vault, as a rotation sees it.
    pub(crate) fn keep(&self, kept: vault::Kept) {
        self.lock().kept = Some(kept);
    }

    /// What became of it.
    pub(crate) fn kept<T>(&self, look: impl FnOnce(&vault::Kept) -> T) -> T {
        look(self.lock().kept.as_ref().expect("a vault"))
    }

    pub(crate) fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Cuts the next command off; the count of requests begins now.
    pub(crate) fn cut_at(&self, cut: Option<Cut>) {
        let mut state = self.lock();
        state.requests = 0;
        state.cut = cut;
    }

    /// Cuts the next command off at a path, after what is asked there was done.
    pub(crate) fn cut_on(&self, part: Option<&'static str>) {
        self.lock().cut_on = part;
    }

    /// What was sent to where something is active now, as a hash.
    pub(crate) fn content(&self, site: &str) -> Option<u64> {
        let mut state = self.lock();
        state.tick();
        let id = state.active.get(site)?.clone();
        state.contents.get(&id).copied()
    }

    pub(crate) fn migrated(&self) -> Vec<String> {
        self.lock().migrated.clone()
    }

    /// How often something else came into production.
    pub(crate) fn switches(&self) -> usize {
        let mut state = self.lock();
        state.tick();
        state.history.len()
    }

    /// Something happens to it.
    pub(crate) fn mishap(&self, mishap: Mishap) {
        let mut state = self.lock();
        match mishap {
            Mishap::Cut => state.gone = true,
            Mishap::Killed { finishes } => {
                state.gone = true;
                if let Some((_, number, fails)) = state.swap.take() {
                    // Recovered from its journal, or undone by it.
                    state.swap = finishes.then(|| (Instant::now(), number, fails));
                    if !finishes {
                        state.failed_swaps.insert(number);
                    }
                }
                state.tick();
            }
            Mishap::LostAnswer => state.lose_answer = true,
        }
    }

    /// All is well again.
    pub(crate) fn recover(&self) {
        let mut state = self.lock();
        state.gone = false;
        state.lose_answer = false;
        state.tick();
    }

    /// Whether the environment's lock is held.
    pub(crate) fn leased(&self) -> bool {
        self.lock().lease.is_some()
    }

    /// Puts somebody else's lock there.
    pub(crate) fn lease(&self, host: &str, renewed: &str) {
        self.lock().lease = Some(json!({
            "etag": "theirs",
            "properties": { "metadata": {
                "user": "ada", "host": host, "pid": "7", "started": "boot/1",
                "since": "2026-11-22T10:00:00Z", "purpose": "deploy",
                "project": "/home/ada/notes", "renewed": renewed,
            } },
        }));
    }

    /// The share of the traffic that goes to staging, and whether the slot has production's settings.
    pub(crate) fn canary(&self) -> (u64, bool) {
        let state = self.lock();
        (state.ramp, state.preview)
    }

    pub(crate) fn trials(&self) -> usize {
        self.lock().trials
    }

    /// Somebody deploys past the release process.
    pub(crate) fn meddle(&self) {
        let mut state = self.lock();
        let id = format!("x{:09x}", state.contents.len() + 1);
        state.contents.insert(id.clone(), 42);
        state.deployments.entry(PRODUCTION.to_owned()).or_default().push((id.clone(), true));
        state.active.insert(PRODUCTION.to_owned(), id);
    }

    pub(crate) fn seen(&self) -> String {
        self.lock().seen.join("\n")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }
}

impl State {
    /// Ends a swap whose time has come.
    fn tick(&mut self) {
        let Some((ends, number, fails)) = self.swap else { return };
        if Instant::now() < ends {
            return;
        }
        self.swap = None;
        if fails {
            self.failed_swaps.insert(number);
            return;
        }
        self.preview = false;
        // What was served in this minute before the switch stays counted in it.
        let (minute, requests) = self.served();
        self.carried = (minute, requests);
        self.switched = Some(Instant::now());
        self.before = (self.active.get(PRODUCTION).cloned(), self.active.get(STAGING).cloned());
        let (a, b) = (self.active.remove(PRODUCTION), self.active.remove(STAGING));
        self.active.extend(b.map(|id| (PRODUCTION.to_owned(), id)));
        self.active.extend(a.map(|id| (STAGING.to_owned(), id)));
        let (a, b) = (self.deployments.remove(PRODUCTION), self.deployments.remove(STAGING));
        self.deployments.extend(b.map(|list| (PRODUCTION.to_owned(), list)));
        self.deployments.extend(a.map(|list| (STAGING.to_owned(), list)));
        let now = self.active.get(PRODUCTION).and_then(|id| self.contents.get(id)).copied();
        self.history.extend(now);
    }

    fn answer(
        &mut self,
        method: &Method,
        host: &str,
        path: &str,
        query: &str,
        body: &[u8],
    ) -> Response<Body> {
        self.tick();
        if host == "login.microsoftonline.com" {
            let token = vault::Kept::token();
            return json(
                200,
                &json!({
                    "token_type": "Bearer", "access_token": token, "expires_in": 3600,
                    "ext_expires_in": 3600,
                }),
            );
        }
        if host == "notes-kv.vault.azure.net"
            && let Some(kept) = &mut self.kept
        {
            return kept.data(method, path, query, body);
        }
        if host == "management.azure.com"
            && let Some(kept) = &mut self.kept
            && let Some(answer) = kept.management(method, path, body)
        {
            return answer;
        }
        if host == "management.azure.com" {
            if self.faults.contains(&Fault::Throttled)
                && self.throttled.insert(format!("{method} {path}"))
            {
                return with(429, &[("Retry-After", "0")]);
            }
            let polls = path.starts_with("/operations/");
            if polls && self.faults.remove(&Fault::TokenExpired) {
                return json(
                    401,
                    &json!({ "error": { "code": "ExpiredAuthenticationToken", "message": "expired" } }),
                );
            }
            let changes = *method != Method::GET && !path.ends_with("/list");
            let answer = self.management(method, path, query, body);
            if changes && std::mem::take(&mut self.lose_answer) {
                return json(
                    500,
                    &json!({ "error": { "code": "InternalServerError", "message": "oops" } }),
                );
            }
            return answer;
        }
        let site = host.split('.').next().unwrap_or_default().to_owned();
        if host.contains(".scm.") {
            return self.scm(method, &site, path, query, body);
        }
        self.app(&site, path)
    }

    fn management(
        &mut self,
        method: &Method,
        path: &str,
        query: &str,
        body: &[u8],
    ) -> Response<Body> {
        if path.ends_with("/TXT/lazuli-release") {
            return self.record_set(method, query, body);
        }
        if path.contains("/providers/Microsoft.Insights/metrics") {
            return self.metrics(path);
        }
        // What provisioning made, as the blueprint has it.
        let id = path.trim_end_matches("/list").to_ascii_lowercase();
        let resource = self.resources.get(&id).cloned();
        if path.ends_with("/config/appsettings/list") {
            return json(200, &resource.unwrap_or_default());
        }
        if path.ends_with("/config/web") {
            let site = id.trim_end_matches("/config/web");
            let config =
                self.resources.get(site).map(|site| site["properties"]["siteConfig"].clone());
            if *method == Method::PATCH {
                let body: Value = serde_json::from_slice(body).unwrap_or_default();
                let rule = "/properties/experiments/rampUpRules/0/reroutePercentage";
                self.ramp = body.pointer(rule).and_then(Value::as_u64).unwrap_or(0);
            }
            return json(200, &json!({ "properties": config }));
        }
        if path.ends_with("/applySlotConfig") || path.ends_with("/resetSlotConfig") {
            self.preview = path.ends_with("/applySlotConfig");
            return json(200, &json!({}));
        }
        if path.ends_with("/config/configreferences/appsettings") {
            let broken = self.faults.contains(&Fault::Unresolved) && path.contains("/slots/");
            let status = if broken { "SecretNotFound" } else { "Resolved" };
            return json(
                200,
                &json!({ "value": [{ "name": "DATABASE_URL", "properties": { "status": status } }] }),
            );
        }
        if path.ends_with("/secrets") && path.contains("/Microsoft.KeyVault/") {
            let expired = self.faults.contains(&Fault::Expired);
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let now = now.expect("after 1970").as_secs();
            let exp = if expired { now - 3 * 86_400 } else { now + 86_400 };
            let secrets: Vec<Value> = self
                .secrets
                .iter()
                .map(|name| {
                    let attributes =
                        json!({ "enabled": true, "created": now - 86_400, "exp": exp });
                    json!({ "name": name, "properties": { "attributes": attributes } })
                })
                .collect();
            return json(200, &json!({ "value": secrets }));
        }
        if let Some(number) = path.strip_prefix("/operations/") {
            let number: usize = number.parse().expect("our own number");
            return if self.swap.is_some_and(|(_, current, _)| current == number) {
                with(202, &[("Location", &format!("https://management.azure.com{path}"))])
            } else if self.failed_swaps.contains(&number) {
                json(
                    500,
                    &json!({ "error": { "code": "WarmupFailed", "message": "/health answered 500" } }),
                )
            } else {
                json(200, &json!({}))
            };
        }
        if *method == Method::POST && path.ends_with("/slots/staging/slotsswap") {
            if self.swap.is_some() {
                return json(
                    409,
                    &json!({ "error": { "code": "Conflict", "message": "another operation" } }),
                );
            }
            self.swaps += 1;
            let fails = self.faults.contains(&Fault::Warmup);
            self.swap = Some((Instant::now() + SWAP, self.swaps, fails));
            if self.faults.remove(&Fault::LostAnswer) {
                return json(
                    500,
                    &json!({ "error": { "code": "InternalServerError", "message": "oops" } }),
                );
            }
            let location = format!("https://management.azure.com/operations/{}", self.swaps);
            return with(202, &[("Location", &location)]);
        }
        if let Some((_, id)) = path.split_once("/deploymentStatus/") {
            let failed = self.faults.contains(&Fault::Start);
            let status = if failed { "RuntimeFailed" } else { "RuntimeSuccessful" };
            let errors = failed.then(|| json!([{ "message": "the container exited" }]));
            return json(
                200,
                &json!({ "properties": { "deploymentId": id, "status": status, "errors": errors } }),
            );
        }
        let busy = self.swap.map(|(_, number, _)| number.to_string());
        let mut resource = resource.unwrap_or_else(|| json!({ "properties": {} }));
        if path.contains("/Microsoft.DBforPostgreSQL/flexibleServers/") && path.ends_with("-pg") {
            // The first who waits for it comes during maintenance; a gate has looked before.
            self.asked += 1;
            let state = if self.asked > 2 { "Ready" } else { "Updating" };
            resource["properties"]["state"] = json!(state);
        }
        if path.contains("/Microsoft.Web/sites/") {
            resource["properties"]["state"] = json!("Running");
            resource["properties"]["inProgressOperationId"] = json!(busy);
        }
        json(200, &resource)
    }

    /// The environment's lock, as Azure's private DNS does it: conditions and etags.
    fn record_set(&mut self, method: &Method, condition: &str, body: &[u8]) -> Response<Body> {
        let current = self.lease.as_ref().map(|set| set["etag"].as_str().unwrap_or("").to_owned());
        let fits = match condition.split_once('=') {
            Some(("if-none-match", _)) => current.is_none(),
            Some(("if-match", etag)) => etag == "*" || current.as_deref() == Some(etag),
            _ => true,
        };
        if *method == Method::GET {
            return match &self.lease {
                Some(set) => json(200, set),
                None => json(404, &json!({ "code": "NotFound", "message": "no such record" })),
            };
        }
        if !fits {
            let message = json!({ "code": "PreconditionFailed", "message": "another etag" });
            return json(412, &message);
        }
        if *method == Method::DELETE {
            self.lease = None;
            return with(200, &[]);
        }
        self.etags += 1;
        let mut set: Value = serde_json::from_slice(body).expect("JSON");
        set["etag"] = json!(format!("e{}", self.etags));
        self.lease = Some(set.clone());
        json(if current.is_some() { 200 } else { 201 }, &set)
    }

    /// Steady traffic of 100 requests a second, as the platform counts it.
    /// The minute, and how many requests production has had in it.
    fn served(&mut self) -> (u64, f64) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.expect("after 1970");
        let minute = now.as_secs() / 60 * 60;
        let since = match self.switched {
            Some(switched) => switched.elapsed(),
            None => {
                self.started.get_or_insert_with(Instant::now).elapsed() + Duration::from_secs(9)
            }
        };
        let since = since.min(now.saturating_sub(Duration::from_secs(minute)));
        let carried = if self.carried.0 == minute { self.carried.1 } else { 0.0 };
        (minute, carried + (since.as_secs_f64() * 100.0).floor())
    }

    fn metrics(&mut self, path: &str) -> Response<Body> {
        let staging = path.contains("/slots/");
        let (minute, served) = self.served();
        let carried = if self.carried.0 == minute { self.carried.1 } else { 0.0 };
        let new = !staging && self.switched.is_some() && self.history.len() > 1;
        let quiet = self.faults.contains(&Fault::NoTraffic) || staging && self.ramp == 0;
        let requests = if quiet { 0.0 } else { served };
        // Of them, those that the version which is judged has answered.
        let its = if quiet || staging { requests } else { requests - carried };
        let failing = new && self.faults.contains(&Fault::Failing)
            || staging && self.faults.contains(&Fault::CanaryFails);
        let failed = if failing { (its / 10.0).floor() } else { 0.0 };
        let slow = new && self.faults.contains(&Fault::Slow);
        let mean = if requests > 0.0 && slow {
            (its * 0.5 + (requests - its) * 0.05) / requests
        } else {
            0.05
        };
        let at = jiff::Timestamp::from_second(minute.cast_signed()).expect("a time").to_string();
        let metric = |name: &str, field: &str, value: f64| {
            json!({
                "name": { "value": name },
                "timeseries": [{ "data": [{ "timeStamp": at, field: value }] }],
            })
        };
        json(
            200,
            &json!({ "value": [
            metric("Requests", "total", requests),
            metric("Http5xx", "total", failed),
            metric("HttpResponseTime", "average", mean),
        ] }),
        )
    }

    fn scm(
        &mut self,
        method: &Method,
        site: &str,
        path: &str,
        query: &str,
        body: &[u8],
    ) -> Response<Body> {
        let base = format!("https://{site}.scm.azurewebsites.net");
        if *method == Method::POST && path == "/api/publish" {
            let mut hash = DefaultHasher::new();
            body.hash(&mut hash);
            let id = format!("d{:09x}", self.contents.len() + 1);
            self.contents.insert(id.clone(), hash.finish());
            let worker = site == WORKER && self.faults.contains(&Fault::Worker);
            let built = !self.faults.contains(&Fault::Build) && !worker;
            self.deployments.entry(site.to_owned()).or_default().push((id.clone(), built));
            if built {
                self.active.insert(site.to_owned(), id.clone());
            }
            if self.faults.contains(&Fault::Health) || self.faults.contains(&Fault::NotReady) {
                self.sick.insert(id.clone());
            }
            return with(202, &[("SCM-DEPLOYMENT-ID", &id)]);
        }
        let stale = self.faults.contains(&Fault::Stale)
            && self.switched.is_some_and(|at| at.elapsed() < Duration::from_millis(700));
        let active = match site {
            PRODUCTION if stale => self.before.0.clone(),
            STAGING if stale => self.before.1.clone(),
            _ => self.active.get(site).cloned(),
        };
        let site = match site {
            PRODUCTION if stale => STAGING,
            STAGING if stale => PRODUCTION,
            site => site,
        };
        let own = self.deployments.get(site).cloned().unwrap_or_default();
        let describe = |(id, built): &(String, bool)| {
            json!({
                "id": id, "status": if *built { 4 } else { 3 }, "complete": true,
                "status_text": if *built { "" } else { "the build ended with 1" },
                "active": active.as_ref() == Some(id),
            })
        };
        if path == "/api/deployments" {
            return json(200, &Value::Array(own.iter().rev().map(describe).collect()));
        }
        if let Some(id) = path.strip_prefix("/api/deployments/") {
            if id.ends_with("/log") {
                return json(200, &json!([{ "message": "no such package: fastapi==0.0.0" }]));
            }
            return match own.iter().find(|(own, _)| own == id) {
                Some(deployment) => json(200, &describe(deployment)),
                None => json(404, &json!({ "Message": "no such deployment" })),
            };
        }
        if path == "/api/triggeredwebjobs/migrate/run" {
            let database = query.strip_prefix("arguments=").unwrap_or_default().to_owned();
            let fault = match database.as_str() {
                "staging" => Fault::MigrateStaging,
                _ => Fault::MigrateProduction,
            };
            if database == "trial" {
                self.trials += 1;
            }
            let fails = self.faults.contains(&fault) && database != "trial";
            if !fails && database != "trial" {
                self.migrated.push(database.clone());
            }
            self.jobs.push((database, !fails));
            let location =
                format!("{base}/api/triggeredwebjobs/migrate/history/{}", self.jobs.len());
            return with(202, &[("Location", &location)]);
        }
        if let Some(run) = path.strip_prefix("/api/triggeredwebjobs/migrate/history/") {
            let Some((_, good)) = run.parse::<usize>().ok().and_then(|run| self.jobs.get(run - 1))
            else {
                return json(404, &json!({}));
            };
            let status = if *good { "Success" } else { "Failed" };
            let output = format!("{base}/output/{run}");
            return json(200, &json!({ "id": run, "status": status, "output_url": output }));
        }
        if let Some(run) = path.strip_prefix("/output/") {
            let job = run.parse::<usize>().ok().and_then(|run| self.jobs.get(run - 1));
            if job.is_some_and(|(database, _)| database == "trial") {
                let ms = if self.faults.contains(&Fault::LongLock) { 9000 } else { 12 };
                let gone: &[&str] = if self.faults.contains(&Fault::ColumnGone) {
                    &["column notes.summary"]
                } else {
                    &[]
                };
                let bad = self.faults.contains(&Fault::MigrateStaging);
                let report = json!({
                    "bytes": 8_000_000,
                    "first": {
                        "status": i32::from(bad), "ms": 40,
                        "output": ["relation \"no_such_table\" does not exist"],
                    },
                    "second": { "status": 0, "changed": false }, "gone": gone,
                    "locks": [{ "relation": "notes", "mode": "AccessExclusiveLock", "ms": ms }],
                });
                let mut response = with(200, &[("Content-Type", "text/plain")]);
                *response.body_mut() =
                    full(format!("[11/22/2026 21:00:00 > 1: INFO] LAZULI-TRIAL {report}\n"));
                return response;
            }
            return text(
                200,
                if job.is_some_and(|(_, good)| *good) {
                    "[11/22/2026 21:00:00 > 1: SYS INFO] Status changed to Running\n\
                     [11/22/2026 21:00:00 > 1: INFO] migrate: staging\n\
                     [11/22/2026 21:00:00 > 1: ERR ] INFO  [alembic] Running upgrade 0001 -> 0002\n"
                } else {
                    "[11/22/2026 21:00:00 > 1: SYS INFO] Status changed to Running\n\
                     [11/22/2026 21:00:00 > 1: ERR ] relation \"no_such_table\" does not exist\n"
                },
            );
        }
        if path == "/api/logs/docker" {
            let href = format!("{base}/vfs/default_docker.log");
            return json(
                200,
                &json!([{ "machineName": "m", "lastUpdated": "2026", "size": 1, "href": href, "path": "default_docker.log" }]),
            );
        }
        text(200, "Traceback (most recent call last):\nRuntimeError: the lapis is broken\n")
    }

    fn app(&mut self, site: &str, path: &str) -> Response<Body> {
        let Some(id) = self.active.get(site) else { return text(503, "nothing is deployed") };
        let sick = self.sick.contains(id) && self.faults.contains(&Fault::Health)
            || site == PRODUCTION && self.faults.contains(&Fault::Production)
            || site == PRODUCTION
                && path == "/health/ready"
                && self.faults.contains(&Fault::Unready)
                && self.history.len() > 1
                && self.switched.is_some_and(|at| at.elapsed() > Duration::from_millis(300));
        if sick {
            return text(500, "Internal Server Error");
        }
        let not_ready = self.sick.contains(id) && self.faults.contains(&Fault::NotReady);
        match path {
            "/health" => json(200, &json!({ "status": "healthy" })),
            _ => json(200, &json!({ "status": if not_ready { "starting" } else { "ready" } })),
        }
    }
}

impl Service for Hosts {
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        _: Peer,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let host = head
                .headers
                .get("host")
                .and_then(|host| host.to_str().ok())
                .or_else(|| head.uri.host())
                .unwrap_or_default()
                .to_owned();
            let body =
                body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let path = head.uri.path().to_owned();
            let query = head.uri.query().unwrap_or_default().to_owned();
            // A condition is as good as a parameter to whoever answers.
            let header = |name: &str| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
            let condition = header("if-none-match")
                .map(|value| format!("if-none-match={value}"))
                .or_else(|| header("if-match").map(|value| format!("if-match={value}")));
            let query = condition.unwrap_or(query);
            let (cut, answer) = {
                let mut state = self.state.lock().expect("not poisoned");
                if state.gone {
                    drop(state);
                    return broken();
                }
                let number = state.requests;
                state.requests += 1;
                state.seen.push(format!("{number} {} {host}{path}", head.method));
                let on = state.cut_on.filter(|part| path.contains(part));
                let on = on.map(|_| Cut { at: number, after: true });
                let cut = state.cut.filter(|cut| cut.at == number).or(on);
                let answer = match cut {
                    Some(Cut { after: false, .. }) => None,
                    _ => Some(state.answer(&head.method, &host, &path, &query, &body)),
                };
                (cut, answer)
            };
            if cut.is_some() {
                self.cut.notify_one();
                std::future::pending::<()>().await;
            }
            answer.unwrap_or_else(|| with(500, &[]))
        })
    }
}

/// Every resource of a manifest's production, as its provisioning would ask for it.
fn provisioned(manifest: &str) -> (BTreeMap<String, Value>, Vec<String>) {
    let manifest = lazuli_standard::Manifest::parse(manifest, "lazuli.yaml").expect("a manifest");
    let blueprint = lazuli_standard::Blueprint::new(&manifest, lazuli_standard::Environment::Prod);
    let tenancy = Tenancy {
        subscription: "00000000-0000-0000-0000-000000000000".to_owned(),
        tenant: "tenant".to_owned(),
        month: "2026-11".to_owned(),
    };
    let plan = plan(&blueprint, &tenancy).expect("a plan");
    let shown = |action: Action| match action {
        Action::Put { body, .. }
        | Action::Site(body)
        | Action::Vault(body)
        | Action::Server(body) => body,
        Action::Parameter(value) => json!({ "properties": { "value": value } }),
        Action::Settings(settings) => {
            let settings: serde_json::Map<String, Value> = settings
                .into_iter()
                .map(|(name, value)| match value {
                    SettingValue::Text(text) => (name, json!(text)),
                    SettingValue::InsightsOf(_) => (name, json!("InstrumentationKey=0")),
                })
                .collect();
            json!({ "properties": settings })
        }
        _ => json!({ "properties": {} }),
    };
    let resources = plan
        .steps
        .into_iter()
        .map(|step| (step.id.to_string().to_ascii_lowercase(), shown(step.action)))
        .collect();
    (resources, blueprint.secrets.into_iter().map(|secret| secret.name).collect())
}

fn with(status: u16, headers: &[(&str, &str)]) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        response.headers_mut().insert(name, value.parse().expect("a value"));
    }
    response
}

/// An answer that breaks off: the connection is gone, and nobody knows what was done.
fn broken() -> Response<Body> {
    let gone = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let stream = futures_util::stream::once(async move {
        Err::<hyper::body::Frame<bytes::Bytes>, lazuli_gateway::BoxError>(gone().into())
    });
    Response::new(http_body_util::StreamBody::new(stream).boxed_unsync())
}

fn json(status: u16, value: &Value) -> Response<Body> {
    let mut response = with(status, &[("Content-Type", "application/json")]);
    *response.body_mut() = full(value.to_string());
    response
}

fn text(status: u16, text: &'static str) -> Response<Body> {
    let mut response = with(status, &[("Content-Type", "text/plain")]);
    *response.body_mut() = full(text);
    response
}
