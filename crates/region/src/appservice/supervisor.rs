//! A set of instances of one launch, kept alive: started, health-checked, replaced with backoff,
//! scaled, and retired. A set knows nothing of slots: a slot points at one, and a swap exchanges what
//! they point at.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use lazuli_gateway::Instance;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    health::{self, Verdict},
    instance::{self, Failure, Kind, Program, Runtime, Started},
    logs::{SlotLog, short},
    settings::{Fingerprint, Launch},
};

/// What a set needs of its surroundings.
pub trait Front: Send + Sync + 'static {
    /// The set's instances in rotation, or its state, changed. What is in rotation must be so when
    /// this returns.
    fn changed(&self);
    /// Resolves when nothing is in flight on an instance that is in no table any more.
    fn drained(&self, instance: Arc<Instance>) -> BoxFuture<'static, ()>;
}

/// How long things take. The defaults are App Service's; tests are quicker.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two health pings of an instance.
    pub ping_interval: Duration,
    /// How long an instance stays unhealthy until it is replaced.
    pub replace_after: Duration,
    /// How long requests in flight may take to finish before a stopping instance gets SIGTERM. The
    /// front end's own limit for a silent response; gunicorn's graceful time comes on top.
    pub drain: Duration,
    /// The same where somebody waits for the stop: restart without overlap, `stop`, delete.
    pub drain_waiting: Duration,
    /// The first pause before a failed instance is started again; doubles up to `backoff_most`.
    pub backoff: Duration,
    /// The longest pause.
    pub backoff_most: Duration,
    /// An instance that served this long starts with no backoff again.
    pub proven: Duration,
    /// How long the old production is kept warm after a swap.
    pub standby: Duration,
    /// How old a Key Vault reference's value may become before it is read anew.
    /// <https://learn.microsoft.com/azure/app-service/app-service-key-vault-references#understand-rotation>
    pub refresh: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(60),
            replace_after: Duration::from_secs(3600),
            drain: Duration::from_secs(230),
            drain_waiting: Duration::from_secs(30),
            backoff: Duration::from_millis(500),
            backoff_most: Duration::from_secs(60),
            proven: Duration::from_secs(60),
            standby: Duration::from_secs(3600),
            refresh: Duration::from_secs(24 * 3600),
        }
    }
}

/// What may change without restarting instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `healthCheckPath`.
    pub health_path: Option<String>,
}

/// Where an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its port does not answer yet.
    Starting,
    /// In rotation.
    Ready,
    /// Its health check fails: out of rotation unless it is the last one.
    Unhealthy,
    /// It ended, and will be started again.
    Failed,
    /// Out of rotation, on its way down.
    Stopping,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "STARTING",
            Self::Ready => "READY",
            Self::Unhealthy => "UNHEALTHY",
            Self::Failed => "FAILED",
            Self::Stopping => "STOPPING",
        })
    }
}

/// One place of the set.
#[derive(Clone, Debug)]
pub struct Member {
    /// The instance's ID.
    pub id: String,
    /// Where it stands.
    pub phase: Phase,
    /// As the front end knows it, once it is ready.
    pub instance: Option<Arc<Instance>>,
    /// The top of its processes, while it runs.
    pub pid: Option<i32>,
    /// How long it took to start.
    pub took: Option<Duration>,
    /// Why it last failed.
    pub failure: Option<Failure>,
    /// Times it failed since it last served for long.
    pub failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    No,
    /// Drain for at most this long, then stop.
    Drain(Duration),
}

struct Shared {
    launch: Arc<Launch>,
    runtime: Arc<dyn Runtime>,
    front: Arc<dyn Front>,
    log: Arc<SlotLog>,
    timing: Timing,
    policy: watch::Receiver<Policy>,
    members: Mutex<BTreeMap<usize, Member>>,
    changes: watch::Sender<u64>,
}

impl Shared {
    fn members(&self) -> MutexGuard<'_, BTreeMap<usize, Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes one member, and tells everybody.
    fn set(&self, index: usize, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.members().get_mut(&index) {
            change(member);
        }
        self.tell();
    }

    fn tell(&self) {
        self.front.changed();
        self.changes.send_modify(|changes| *changes += 1);
    }
}

/// A set of instances of one launch. Dropped without [`InstanceSet::retire`], its processes are
/// killed.
pub struct InstanceSet {
    shared: Arc<Shared>,
    fingerprint: Fingerprint,
    policy: watch::Sender<Policy>,
    places: Mutex<Vec<Place>>,
}

/// The task that keeps one place of the set filled, and how to end it.
struct Place {
    end: watch::Sender<End>,
    task: tokio::task::JoinHandle<()>,
    index: usize,
}

impl Drop for InstanceSet {
    fn drop(&mut self) {
        for place in self.places.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            place.task.abort();
        }
    }
}

impl fmt::Debug for InstanceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceSet").field("launch", &self.shared.launch).finish_non_exhaustive()
    }
}

impl InstanceSet {
    /// A set of `count` instances, starting.
    pub fn start(
        runtime: Arc<dyn Runtime>,
        front: Arc<dyn Front>,
        log: Arc<SlotLog>,
        timing: Timing,
        launch: Arc<Launch>,
        policy: Policy,
        count: usize,
    ) -> Arc<Self> {
        let (policy, policy_seen) = watch::channel(policy);
        let set = Arc::new(Self {
            fingerprint: launch.fingerprint(),
            shared: Arc::new(Shared {
                launch,
                runtime,
                front,
                log,
                timing,
                policy: policy_seen,
                members: Mutex::default(),
                changes: watch::Sender::new(0),
            }),
            policy,
            places: Mutex::default(),
        });
        set.scale(count);
        set
    }

    /// What it runs.
    pub fn launch(&self) -> &Arc<Launch> {
        &self.shared.launch
    }

    /// What it runs, to compare.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Changes with every change of its members.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Its members.
    pub fn members(&self) -> Vec<Member> {
        self.shared.members().values().cloned().collect()
    }

    /// The instances in rotation.
    pub fn pool(&self) -> Vec<Arc<Instance>> {
        let members = self.shared.members();
        let of = |wanted: Phase| {
            members
                .values()
                .filter(move |member| member.phase == wanted)
                .filter_map(|member| member.instance.clone())
        };
        let ready: Vec<_> = of(Phase::Ready).collect();
        // Never the last one: when all are unhealthy, all of them serve.
        if ready.is_empty() { of(Phase::Unhealthy).collect() } else { ready }
    }

    /// How many instances there should be.
    pub fn count(&self) -> usize {
        self.places().len()
    }

    /// Whether every instance there should be is there.
    pub fn is_complete(&self) -> bool {
        let members = self.shared.members();
        let mut wanted =
            members.values().filter(|member| member.phase != Phase::Stopping).peekable();
        wanted.peek().is_some()
            && wanted.all(|member| matches!(member.phase, Phase::Ready | Phase::Unhealthy))
    }

    /// The newest failure of a member that does not serve.
    pub fn failure(&self) -> Option<Failure> {
        self.shared
            .members()
            .values()
            .filter(|member| !matches!(member.phase, Phase::Ready | Phase::Unhealthy))
            .find_map(|member| member.failure.clone())
    }

    /// Resolves when every instance is ready, or with the first failure of one.
    pub async fn complete(&self) -> Result<(), Failure> {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            if self.is_complete() {
                return Ok(());
            }
            if changes.changed().await.is_err() {
                return Err(Failure {
                    reason: "The instances were stopped.".to_owned(),
                    last_lines: Vec::new(),
                });
            }
        }
    }

    /// Changes what needs no restart.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.send_if_modified(|old| {
            let changed = *old != policy;
            *old = policy;
            changed
        });
    }

    /// Starts or stops instances until there are `count`.
    pub fn scale(&self, count: usize) {
        let mut places = self.places();
        while places.len() > count {
            if let Some(place) = places.pop() {
                place.end.send_replace(End::Drain(self.shared.timing.drain));
                // The task ends by itself once the instance has.
            }
        }
        while places.len() < count {
            let index = places.last().map_or(0, |place| place.index + 1);
            let index =
                (index..).find(|index| !self.shared.members().contains_key(index)).unwrap_or(index);
            self.shared.members().insert(
                index,
                Member {
                    id: String::new(),
                    phase: Phase::Starting,
                    instance: None,
                    pid: None,
                    took: None,
                    failure: None,
                    failures: 0,
                },
            );
            let (end, end_seen) = watch::channel(End::No);
            let task = tokio::spawn(keep(self.shared.clone(), index, end_seen));
            places.push(Place { end, task, index });
        }
    }

    /// Takes every instance out of rotation, lets requests in flight finish for at most `drain`, and
    /// stops them. The caller has published tables without this set. Resolves when nothing is left.
    pub async fn retire(&self, drain: Duration) {
        let places: Vec<Place> = self.places().drain(..).collect();
        for place in &places {
            place.end.send_replace(End::Drain(drain));
        }
        for place in places {
            let _ = place.task.await;
        }
    }

    fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a ready instance is to be no more.
enum Why {
    Asked(Duration),
    Ended(String),
    Unhealthy,
}

/// Keeps place `index` filled until it is told to end.
async fn keep(shared: Arc<Shared>, index: usize, mut end: watch::Receiver<End>) {
    let mut backoff = shared.timing.backoff;
    loop {
        let id = instance::new_id();
        shared.set(index, |member| {
            member.id.clone_from(&id);
            member.phase = Phase::Starting;
            member.instance = None;
        });
        let program = Program { launch: shared.launch.clone(), id: id.clone(), kind: Kind::Web };
        let started = tokio::select! {
            biased;
            _ = asked(&mut end) => break,
            started = instance::start(&*shared.runtime, program, &shared.log) => started,
        };
        match started {
            Err(failure) => shared.set(index, |member| {
                member.phase = Phase::Failed;
                member.failures += 1;
                member.failure = Some(failure);
            }),
            Ok(started) => {
                let since = Instant::now();
                let asked = serve(&shared, index, &id, started, &mut end).await;
                if asked {
                    break;
                }
                if since.elapsed() >= shared.timing.proven {
                    backoff = shared.timing.backoff;
                    shared.set(index, |member| member.failures = 0);
                    // It served: its place is filled again at once.
                    continue;
                }
            }
        }
        tokio::select! {
            _ = asked(&mut end) => break,
            () = tokio::time::sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(shared.timing.backoff_most);
    }
    shared.members().remove(&index);
    shared.tell();
}

/// Resolves when the place is to end.
async fn asked(end: &mut watch::Receiver<End>) -> Duration {
    match end.wait_for(|end| *end != End::No).await.map(|end| *end) {
        Ok(End::Drain(drain)) => drain,
        // The set itself is gone: nobody waits for a graceful end.
        _ => Duration::ZERO,
    }
}

/// Serves until the instance ends, is to be replaced, or is asked to end (true).
async fn serve(
    shared: &Arc<Shared>,
    index: usize,
    id: &str,
    started: Started,
    end: &mut watch::Receiver<End>,
) -> bool {
    let Started { running, tail, took } = started;
    let front = Arc::new(Instance::new(id, running.address()));
    shared.set(index, |member| {
        member.phase = Phase::Ready;
        member.instance = Some(front.clone());
        member.pid = running.pid();
        member.took = Some(took);
        member.failure = None;
    });
    let cancel = CancellationToken::new();
    let why = tokio::select! {
        biased;
        ended = running.ended() => Why::Ended(ended.to_string()),
        drain = asked(end) => Why::Asked(drain),
        () = check(shared, index, &front, &cancel) => Why::Unhealthy,
    };
    cancel.cancel();
    // Before anything else: nobody is sent there any more.
    front.set_healthy(false);
    let failure = match &why {
        Why::Asked(_) => None,
        Why::Ended(how) => Some(Failure {
            reason: format!("The application's process ended ({how}) while it served."),
            last_lines: tail.last(20),
        }),
        Why::Unhealthy => Some(Failure {
            reason: "The instance's health check failed for too long; it is replaced.".to_owned(),
            last_lines: tail.last(20),
        }),
    };
    if let Some(failure) = &failure {
        shared.log.platform(&format!(
            "Container {} for site {}: {}",
            short(id),
            shared.launch.slot,
            failure.reason
        ));
    }
    shared.set(index, |member| {
        member.phase = if failure.is_some() { Phase::Failed } else { Phase::Stopping };
        member.pid = None;
        member.failures += u32::from(failure.is_some());
        member.failure = failure;
    });
    let drain = match why {
        Why::Ended(_) => return false,
        Why::Asked(drain) => drain,
        Why::Unhealthy => shared.timing.drain_waiting,
    };
    let _ = tokio::time::timeout(drain, shared.front.drained(front)).await;
    let ended = instance::stop(running, shared.launch.stop_limit()).await;
    shared.log.platform(&format!(
        "Container {} for site {} was stopped ({ended}).",
        short(id),
        shared.launch.slot
    ));
    matches!(why, Why::Asked(_))
}

/// Pings the health check path for as long as there is one; resolves when the instance is to be
/// replaced.
async fn check(
    shared: &Arc<Shared>,
    index: usize,
    front: &Arc<Instance>,
    cancel: &CancellationToken,
) {
    let mut policy = shared.policy.clone();
    let host = shared.launch.slot.host_name();
    let most = shared.launch.max_ping_failures();
    let mut record = health::Record::default();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(shared.timing.ping_interval) => {}
            changed = policy.changed() => {
                if changed.is_err() {
                    // The set is gone, and with it this task in a moment.
                    std::future::pending::<()>().await;
                }
                record = health::Record::default();
            }
        }
        let Some(path) = policy.borrow().health_path.clone() else { continue };
        let answer = health::ping(
            front.addr(),
            &host,
            &path,
            "HealthCheck/1.0",
            shared.timing.ping_interval,
        )
        .await;
        let ok = matches!(answer, Ok(200..=299));
        let phase = match record.count(ok, most, shared.timing.replace_after) {
            Verdict::Healthy => Phase::Ready,
            Verdict::Suspect => continue,
            Verdict::Unhealthy => Phase::Unhealthy,
            Verdict::Replace => return,
        };
        let before = shared.members().get(&index).map(|member| member.phase);
        if before != Some(phase) {
            shared.log.platform(&match answer {
                Ok(status) => format!(
                    "Health check of {} on {path}: {status}; now {phase}.",
                    short(front.id())
                ),
                Err(error) => format!(
                    "Health check of {} on {path}: {error}; now {phase}.",
                    short(front.id())
                ),
            });
            shared.set(index, |member| member.phase = phase);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appservice::{
        settings::tests::record,
        site::{ActiveDeployment, SiteKey, SlotName},
        testing::{FakeMachine, FakeRuntime, quick, until},
    };

    #[derive(Default)]
    struct Open;

    impl Front for Open {
        fn changed(&self) {}
        fn drained(&self, _: Arc<Instance>) -> BoxFuture<'static, ()> {
            Box::pin(async {})
        }
    }

    struct Fixture {
        machine: Arc<FakeMachine>,
        set: Arc<InstanceSet>,
        _dir: tempfile::TempDir,
    }

    fn start(behave: &str, count: usize, timing: Timing, health: Option<&str>) -> Fixture {
        let machine = FakeMachine::new();
        let dir = tempfile::tempdir().expect("tempdir");
        let mut record = record();
        record.app_settings.insert("BEHAVE".into(), behave.into());
        record.app_settings.insert("WEBSITES_CONTAINER_START_TIME_LIMIT".into(), "1".into());
        record.app_settings.insert("WEBSITE_HEALTHCHECK_MAXPINGFAILURES".into(), "2".into());
        record.deployment =
            Some(ActiveDeployment { id: "1".into(), content: "v1".into(), environment: None });
        let slot = SiteKey::new("s", "g", "notes").slot(SlotName::Production);
        let launch = Launch::new(&slot, &record, "", &BTreeMap::new(), &BTreeMap::new());
        let set = InstanceSet::start(
            Arc::new(FakeRuntime(machine.clone())),
            Arc::new(Open),
            SlotLog::open(dir.path().join("log")).expect("log"),
            timing,
            Arc::new(launch),
            Policy { health_path: health.map(str::to_owned) },
            count,
        );
        Fixture { machine, set, _dir: dir }
    }

    #[tokio::test]
    async fn a_killed_instance_is_noticed_and_replaced() {
        let Fixture { machine, set, _dir } = start("serve", 2, quick(), None);
        set.complete().await.expect("ready");
        tokio::time::sleep(quick().proven * 2).await;
        let before: Vec<String> =
            set.pool().iter().map(|instance| instance.id().to_owned()).collect();
        assert_eq!(before.len(), 2);
        machine.kill(&before[0]);
        until("replaced", || {
            set.pool().len() == 2 && !set.pool().iter().any(|instance| instance.id() == before[0])
        })
        .await;
        assert!(
            set.pool().iter().any(|instance| instance.id() == before[1]),
            "the other one stayed"
        );
    }

    #[tokio::test]
    async fn one_that_exits_says_why_with_its_last_lines_and_is_tried_again() {
        let Fixture { machine, set, _dir } = start("exit", 1, quick(), None);
        let failure = set.complete().await.expect_err("it cannot start");
        assert!(failure.reason.contains("exit code 3"), "{failure}");
        assert!(failure.to_string().contains("ModuleNotFoundError"), "{failure}");
        until("tried again", || {
            machine.started.lock().expect("started").values().sum::<usize>() > 2
        })
        .await;
        assert!(set.pool().is_empty());
    }

    #[tokio::test]
    async fn one_that_never_answers_fails_at_the_limit() {
        let Fixture { set, _dir, .. } = start("hang", 1, quick(), None);
        let failure = set.complete().await.expect_err("it cannot start");
        assert!(failure.reason.contains("within 1 s"), "{failure}");
    }

    #[tokio::test]
    async fn scaling_starts_and_stops_and_retiring_leaves_nothing() {
        let Fixture { machine, set, _dir } = start("serve", 1, quick(), None);
        set.scale(3);
        set.complete().await.expect("ready");
        assert_eq!(machine.alive().len(), 3);
        set.scale(1);
        until("scaled in", || machine.alive().len() == 1).await;
        assert_eq!(set.pool().len(), 1);
        set.retire(Duration::ZERO).await;
        assert!(machine.alive().is_empty());
        assert_eq!(machine.events().iter().filter(|event| event.starts_with("term")).count(), 3);
    }

    #[tokio::test]
    async fn a_dropped_set_leaves_no_process() {
        let Fixture { machine, set, _dir } = start("serve", 2, quick(), None);
        set.complete().await.expect("ready");
        drop(set);
        until("killed", || machine.alive().is_empty()).await;
    }

    #[tokio::test]
    async fn the_sick_leave_the_rotation_but_never_the_last_one() {
        let Fixture { machine, set, _dir } = start("serve", 2, quick(), Some("/health"));
        set.complete().await.expect("ready");
        let ids: Vec<String> = set.pool().iter().map(|instance| instance.id().to_owned()).collect();
        machine.sick.lock().expect("sick").insert(ids[0].clone());
        until("out", || set.pool().len() == 1 && set.pool()[0].id() == ids[1]).await;
        machine.sick.lock().expect("sick").insert(ids[1].clone());
        until("all sick", || set.members().iter().all(|member| member.phase == Phase::Unhealthy))
            .await;
        assert_eq!(set.pool().len(), 2, "when all are sick, all serve");
        machine.sick.lock().expect("sick").clear();
        until("well again", || set.members().iter().all(|member| member.phase == Phase::Ready))
            .await;
        assert_eq!(
            ids,
            set.pool().iter().map(|instance| instance.id().to_owned()).collect::<Vec<_>>()
        );
    }

    #[tokio::test]
    async fn the_sick_are_replaced_in_the_end() {
        let timing = Timing { replace_after: Duration::from_millis(100), ..quick() };
        let Fixture { machine, set, _dir } = start("serve", 2, timing, Some("/health"));
        set.complete().await.expect("ready");
        let sick = set.pool()[0].id().to_owned();
        machine.sick.lock().expect("sick").insert(sick.clone());
        until("replaced", || {
            set.pool().len() == 2 && !set.pool().iter().any(|instance| instance.id() == sick)
        })
        .await;
    }

    #[tokio::test]
    async fn the_health_path_can_change_without_a_restart() {
        let Fixture { machine, set, _dir } = start("serve", 2, quick(), None);
        set.complete().await.expect("ready");
        let sick = set.pool()[0].id().to_owned();
        machine.sick.lock().expect("sick").insert(sick);
        tokio::time::sleep(quick().ping_interval * 4).await;
        assert_eq!(set.pool().len(), 2, "no path, no check");
        set.set_policy(Policy { health_path: Some("/health".into()) });
        until("out", || set.pool().len() == 1).await;
        assert_eq!(machine.started.lock().expect("started").values().sum::<usize>(), 2);
    }
}
