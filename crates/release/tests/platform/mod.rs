//! A scripted platform: what the release process can see of Azure, behind the real gateway with real
//! TLS, with faults on order. A model, not a second region: deployments are names, a swap exchanges
//! them.
//!
//! Also used by the tests of the `lazuli` binary.
#![allow(dead_code)] // Each of its users needs a part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use lazuli_azure::{Client, Connection, Credential, Secret};
use lazuli_gateway::{
    Authority, Body, Dialer, Gateway, Options, Peer, Service, Table, Target, empty, full,
};
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
    maintained: bool,
    /// Databases in the order they were migrated.
    migrated: Vec<String>,
    jobs: Vec<(String, bool)>,
    requests: usize,
    cut: Option<Cut>,
    /// Requests, for a test that fails.
    seen: Vec<String>,
    /// What production held, whenever it changed.
    history: Vec<u64>,
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
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::load_or_create(dir.path()).expect("a CA");
        let roots = authority.ca_pem().to_owned();
        let options = Options { reactors: 1, ..Options::default() };
        let gateway = Gateway::new(authority, Arc::new(Nowhere), options).expect("a gateway");
        let state = Arc::new(Mutex::new(State::default()));
        let cut = Arc::new(Notify::new());
        let hosts = Arc::new(Hosts { state: state.clone(), cut: cut.clone() });
        let mut table = Table::new();
        let mut names =
            vec!["management.azure.com".to_owned(), "login.microsoftonline.com".to_owned()];
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
        let client = Client::new(&connection, credential).expect("a client");
        Self { state, cut, client, proxy, roots, _gateway: gateway, _dir: Arc::new(dir) }
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.lock().faults.insert(fault);
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
            return json(200, &json!({ "access_token": "token", "expires_in": 3600 }));
        }
        if host == "management.azure.com" {
            return self.management(method, path);
        }
        let site = host.split('.').next().unwrap_or_default().to_owned();
        if host.contains(".scm.") {
            return self.scm(method, &site, path, query, body);
        }
        self.app(&site, path)
    }

    fn management(&mut self, method: &Method, path: &str) -> Response<Body> {
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
        if path.contains("/Microsoft.DBforPostgreSQL/flexibleServers/") {
            // The first who asks comes during maintenance.
            let state = if self.maintained { "Ready" } else { "Updating" };
            self.maintained = true;
            return json(200, &json!({ "properties": { "state": state } }));
        }
        let busy = self.swap.map(|(_, number, _)| number.to_string());
        json(200, &json!({ "properties": { "state": "Running", "inProgressOperationId": busy } }))
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
        let active = self.active.get(site).cloned();
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
            let fails = self.faults.contains(&fault);
            if !fails {
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
            || site == PRODUCTION && self.faults.contains(&Fault::Production);
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
            let (path, query) =
                (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
            let (cut, answer) = {
                let mut state = self.state.lock().expect("not poisoned");
                let number = state.requests;
                state.requests += 1;
                state.seen.push(format!("{number} {} {host}{path}", head.method));
                let cut = state.cut.filter(|cut| cut.at == number);
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

fn with(status: u16, headers: &[(&str, &str)]) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        response.headers_mut().insert(name, value.parse().expect("a value"));
    }
    response
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
