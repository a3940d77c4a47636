//! Slots as they run: each is driven towards its record by one task of its own, level-triggered: it
//! looks at what should be and what is, does one thing about it, and looks again.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::BoxFuture;
use lazuli_gateway::{Instance, Pool, RampUp, Site, SiteState, Target, TlsVersion};
use serde_json::Value;
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, watch},
    time::Instant,
};

use super::{
    AppService, RouteChange, access,
    instance::Failure,
    logs::SlotLog,
    records::PLAN_KIND,
    references::{self, Resolution, Status},
    settings::{Fingerprint, Launch, sha256_hex},
    site::{SiteKey, SlotKey, SlotName, SlotRecord},
    supervisor::{Front, InstanceSet, Policy},
    swap,
    webjobs::Continuous,
};

/// Every slot is looked at this often even when nothing is known to have changed: a missed event must
/// not last, and unresolved references are tried again.
const LOOK: Duration = Duration::from_secs(60);

/// A site as it runs.
#[derive(Default)]
pub(super) struct SiteRuntime {
    pub(super) slots: BTreeMap<SlotName, SlotRuntime>,
    pub(super) standby: Option<Standby>,
    /// Held while a swap is under way.
    pub(super) operation: Arc<AsyncMutex<()>>,
}

/// A slot as it runs.
pub(super) struct SlotRuntime {
    pub(super) serving: Option<Arc<InstanceSet>>,
    /// Starting, to serve once it is complete.
    pub(super) next: Option<Arc<InstanceSet>>,
    pub(super) wake: Arc<Notify>,
    /// Held by whoever moves instances or content of the slot.
    pub(super) turn: Arc<AsyncMutex<()>>,
    /// Held while a deployment is under way.
    pub(super) deploying: Arc<AsyncMutex<()>>,
    pub(super) log: Arc<SlotLog>,
    pub(super) resolved: Option<Resolved>,
    pub(super) jobs: Continuous,
    /// Set when the slot is being deleted: nothing of it runs any more, whatever its record says.
    pub(super) removed: bool,
    /// Changes whenever something about the slot's instances did.
    pub(super) changes: watch::Sender<u64>,
}

/// The old production after a swap, kept warm: a swap back finds it as it was.
pub(super) struct Standby {
    pub(super) set: Arc<InstanceSet>,
    pub(super) source: SlotName,
    pub(super) target: SlotName,
    /// What a swap back would start, references unresolved: the standby is of use while that is so.
    pub(super) basis: Fingerprint,
    pub(super) until: Instant,
}

/// References of a slot, resolved.
#[derive(Clone)]
pub(super) struct Resolved {
    /// What was resolved, as whom.
    key: String,
    at: Instant,
    pub(super) app_settings: BTreeMap<String, Resolution>,
    pub(super) connection_strings: BTreeMap<String, Resolution>,
}

impl Resolved {
    /// The references that did not resolve.
    pub(super) fn unresolved(&self) -> Vec<(&str, &Resolution)> {
        self.app_settings
            .iter()
            .chain(&self.connection_strings)
            .filter(|(_, resolution)| resolution.status != Status::Resolved)
            .map(|(name, resolution)| (name.as_str(), resolution))
            .collect()
    }
}

/// What should be.
enum Desired {
    /// The slot does not exist.
    Absent,
    /// Nothing should run.
    Nothing,
    /// These instances.
    Run { launch: Box<Launch>, count: usize, policy: Policy },
}

/// Tells a site of changes in its sets.
struct SiteFront {
    app: Weak<AppService>,
    site: SiteKey,
}

impl Front for SiteFront {
    fn changed(&self) {
        if let Some(app) = self.app.upgrade() {
            app.publish(&self.site);
            app.wake_site(&self.site);
        }
    }

    fn drained(&self, instance: Arc<Instance>) -> BoxFuture<'static, ()> {
        match self.app.upgrade() {
            Some(app) => app.routes.drained(instance),
            None => Box::pin(async {}),
        }
    }
}

impl AppService {
    pub(super) fn sites(&self) -> MutexGuard<'_, std::collections::HashMap<SiteKey, SiteRuntime>> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of a slot as it runs, if it does.
    pub(super) fn with_slot<T>(
        &self,
        key: &SlotKey,
        look: impl FnOnce(&mut SlotRuntime) -> T,
    ) -> Option<T> {
        self.sites().get_mut(&key.site)?.slots.get_mut(&key.slot).map(look)
    }

    /// Begins to look after a slot that has a record. Harmless when it is looked after already.
    pub(super) fn attend(self: &Arc<Self>, key: &SlotKey) {
        let mut sites = self.sites();
        let site = sites.entry(key.site.clone()).or_default();
        if let Some(slot) = site.slots.get(&key.slot) {
            slot.wake.notify_one();
            return;
        }
        let log = match SlotLog::open(self.layout.logs(key)) {
            Ok(log) => log,
            Err(error) => {
                tracing::error!(slot = %key, %error, "a slot's logs cannot be opened");
                return;
            }
        };
        let wake = Arc::new(Notify::new());
        site.slots.insert(
            key.slot.clone(),
            SlotRuntime {
                serving: None,
                next: None,
                wake: wake.clone(),
                turn: Arc::default(),
                deploying: Arc::default(),
                log,
                resolved: None,
                jobs: Continuous::default(),
                removed: false,
                changes: watch::Sender::new(0),
            },
        );
        drop(sites);
        self.publish(&key.site);
        tokio::spawn(look_after(Arc::downgrade(self), key.clone(), wake));
    }

    /// Makes the slot's task look again.
    pub fn wake(&self, key: &SlotKey) {
        self.with_slot(key, |slot| {
            slot.wake.notify_one();
            slot.changes.send_modify(|changes| *changes += 1);
        });
    }

    pub(super) fn wake_site(&self, site: &SiteKey) {
        let sites = self.sites();
        for slot in sites.get(site).into_iter().flat_map(|site| site.slots.values()) {
            slot.wake.notify_one();
            slot.changes.send_modify(|changes| *changes += 1);
        }
    }

    /// Puts a site's routes in force: all its slots in one step.
    pub(super) fn publish(&self, site: &SiteKey) {
        let sites = self.sites();
        if let Some(runtime) = sites.get(site) {
            self.publish_locked(site, runtime);
        }
    }

    /// The same with the lock held, so that what runs and what is routed change together.
    pub(super) fn publish_locked(&self, site: &SiteKey, runtime: &SiteRuntime) {
        let pools: BTreeMap<&SlotName, Arc<Pool>> = runtime
            .slots
            .iter()
            .map(|(name, slot)| {
                let pool = slot.serving.as_ref().map(|set| set.pool()).unwrap_or_default();
                (name, Pool::new(pool))
            })
            .collect();
        let mut changes = Vec::new();
        for name in runtime.slots.keys() {
            let key = site.slot(name.clone());
            let removed = runtime.slots.get(name).is_some_and(|slot| slot.removed);
            let record = self.records.slot(&key).filter(|_| !removed);
            let unserved = self.metrics().unserved(&key);
            let target = record.map(|record| {
                let mut site = route(&key, &record, &pools);
                site.unserved = unserved;
                Target::Site(Arc::new(site))
            });
            let scm = target.is_some().then(|| self.scm(&key)).flatten();
            changes.extend(self.host_changes(&key, target.as_ref()));
            for (host, target) in [(key.host_name(), target), (key.scm_host_name(), scm)] {
                changes.push(RouteChange { host, target, certificate: None });
            }
        }
        self.routes.update(changes);
    }

    /// How many instances a slot has: those of its plan; fewer where the plan scales per site.
    /// <https://learn.microsoft.com/azure/app-service/manage-scale-per-app>
    pub(super) fn count(&self, record: &SlotRecord) -> usize {
        let plan = lazuli_azure::ResourceId::parse(&record.plan)
            .ok()
            .and_then(|id| self.records.store().get(&id));
        let capacity = plan
            .as_ref()
            .and_then(|plan| plan.body.pointer("/sku/capacity"))
            .and_then(Value::as_u64);
        let capacity = usize::try_from(capacity.unwrap_or(1)).unwrap_or(1).clamp(1, 30);
        let per_site = plan
            .as_ref()
            .and_then(|plan| plan.body.pointer("/properties/perSiteScaling"))
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let workers = record.config.get("numberOfWorkers").and_then(Value::as_u64);
        match workers.and_then(|workers| usize::try_from(workers).ok()) {
            Some(workers) if per_site => workers.clamp(1, capacity),
            _ => capacity,
        }
    }

    /// The plan's tier, `PremiumV3`.
    pub(super) fn tier(&self, record: &SlotRecord) -> String {
        lazuli_azure::ResourceId::parse(&record.plan)
            .ok()
            .filter(|id| id.is(PLAN_KIND))
            .and_then(|id| self.records.store().get(&id))
            .and_then(|plan| plan.text("/sku/tier").map(str::to_owned))
            .unwrap_or_default()
    }

    /// Resolves a record's references with the identity it has. Answers what was resolved before if
    /// that is the same and will not be older than `Timing::refresh` at the next look, or if the vault does not answer now.
    pub(super) async fn resolve(&self, at: &SlotKey, record: &SlotRecord, fresh: bool) -> Resolved {
        let principal = record.identity.as_ref().map(|identity| identity.principal_id.as_str());
        let key = resolution_key(principal, record);
        let cached = self
            .with_slot(at, |slot| slot.resolved.clone())
            .flatten()
            .filter(|cached| cached.key == key && cached.unresolved().is_empty());
        if let Some(cached) = &cached
            && !fresh
            && cached.at.elapsed() < self.timing.refresh.saturating_sub(LOOK)
        {
            return cached.clone();
        }
        let settings = record.app_settings.clone().into_iter().collect();
        let strings = record
            .connection_strings
            .iter()
            .map(|(name, string)| (name.clone(), string.value.clone()))
            .collect();
        let resolved = Resolved {
            app_settings: references::resolve(&*self.secrets, principal, settings).await,
            connection_strings: references::resolve(&*self.secrets, principal, strings).await,
            key,
            at: Instant::now(),
        };
        match cached {
            // App Service keeps what it has when the vault does not answer.
            Some(cached) if !fresh && !resolved.unresolved().is_empty() => cached,
            _ => resolved,
        }
    }

    /// Remembers what was resolved for a slot.
    pub(super) fn remember(&self, at: &SlotKey, resolved: Resolved) {
        self.with_slot(at, |slot| slot.resolved = Some(resolved));
    }

    /// Resolves a slot's references anew; what changed restarts its instances.
    pub async fn refresh_references(&self, key: &SlotKey) {
        if let Some(record) = self.records.slot(key) {
            let resolved = self.resolve(key, &record, true).await;
            self.remember(key, resolved);
            self.wake(key);
        }
    }

    async fn desired(&self, key: &SlotKey) -> Desired {
        let removed = self.with_slot(key, |slot| slot.removed).unwrap_or(true);
        let Some(record) = self.records.slot(key).filter(|_| !removed) else {
            return Desired::Absent;
        };
        if !record.running {
            return Desired::Nothing;
        }
        let (runs_as, record) = match &record.preview {
            None => (key.clone(), record),
            Some(preview) => {
                let target = key.site.slot(preview.target.clone());
                let Some(with) = self.records.slot(&target) else { return Desired::Nothing };
                let sticky = self.records.site(&key.site).sticky;
                (target, swap::exchange(&record, &with, &sticky).1)
            }
        };
        if record.deployment.is_none() {
            return Desired::Nothing;
        }
        let resolved = self.resolve(key, &record, false).await;
        let before = self.with_slot(key, |slot| slot.resolved.replace(resolved.clone())).flatten();
        if before.is_none_or(|before| before.key != resolved.key) {
            for (name, resolution) in resolved.unresolved() {
                let text = format!(
                    "Key Vault reference of setting {name} was not resolved ({}): {} The application gets its literal text.",
                    resolution.status, resolution.details
                );
                self.with_slot(key, |slot| slot.log.platform(&text));
            }
        }
        let launch = Launch::new(
            &runs_as,
            &record,
            &self.tier(&record),
            &resolved.app_settings,
            &resolved.connection_strings,
        );
        Desired::Run {
            launch: Box::new(launch),
            count: self.count(&record),
            policy: policy(&record),
        }
    }

    /// A set of instances of a site's slot, starting.
    pub(super) fn new_set(
        self: &Arc<Self>,
        launch: Launch,
        log: Arc<SlotLog>,
        policy: Policy,
        count: usize,
    ) -> Arc<InstanceSet> {
        let front = SiteFront { app: Arc::downgrade(self), site: launch.slot.site.clone() };
        InstanceSet::start(
            self.runtime.clone(),
            Arc::new(front),
            log,
            self.timing,
            Arc::new(launch),
            policy,
            count,
        )
    }

    /// Lets a set finish what is in flight and end, in the background.
    pub(super) fn retire(&self, set: Arc<InstanceSet>) {
        let drain = self.timing.drain;
        let retirement = async move { set.retire(drain).await };
        self.retirements.spawn(retirement);
    }

    /// Does what is to be done about a slot; false when the slot is no more.
    async fn reconcile(self: &Arc<Self>, key: &SlotKey) -> bool {
        let Some(turn) = self.with_slot(key, |slot| slot.turn.clone()) else { return false };
        let _turn = turn.lock().await;
        let desired = self.desired(key).await;
        self.prune_standby(&key.site);
        let runs = match &desired {
            Desired::Run { launch, .. } => Some(Arc::new((**launch).clone())),
            _ => None,
        };
        match desired {
            Desired::Absent => {
                let standby = {
                    let mut sites = self.sites();
                    sites.get_mut(&key.site).and_then(|site| site.standby.take())
                };
                drop(standby);
                self.end(key).await;
                self.reconcile_jobs(key, None).await;
                let mut sites = self.sites();
                if let Some(site) = sites.get_mut(&key.site) {
                    self.publish_locked(&key.site, site);
                    site.slots.remove(&key.slot);
                    if site.slots.is_empty() {
                        sites.remove(&key.site);
                    }
                }
                return false;
            }
            Desired::Nothing => self.end(key).await,
            Desired::Run { launch, count, policy } => self.run(key, *launch, count, &policy).await,
        }
        self.reconcile_jobs(key, runs).await;
        self.with_slot(key, |slot| slot.changes.send_modify(|changes| *changes += 1));
        true
    }

    /// Stops whatever runs in a slot, and waits until it has ended.
    async fn end(&self, key: &SlotKey) {
        let sets = {
            let mut sites = self.sites();
            let Some(site) = sites.get_mut(&key.site) else { return };
            let Some(slot) = site.slots.get_mut(&key.slot) else { return };
            let sets = [slot.serving.take(), slot.next.take()];
            self.publish_locked(&key.site, site);
            sets
        };
        let ends = sets.iter().flatten().map(|set| set.retire(self.timing.drain_waiting));
        futures_util::future::join_all(ends).await;
    }

    async fn run(self: &Arc<Self>, key: &SlotKey, launch: Launch, count: usize, policy: &Policy) {
        let fingerprint = launch.fingerprint();
        // Without overlap the old must have ended before the new begins.
        let ending = if launch.overlap_disabled() {
            let mut sites = self.sites();
            sites.get_mut(&key.site).and_then(|site| {
                let slot = site.slots.get_mut(&key.slot)?;
                let ending = slot.serving.take_if(|serving| *serving.fingerprint() != fingerprint);
                if ending.is_some() {
                    self.publish_locked(&key.site, site);
                }
                ending
            })
        } else {
            None
        };
        if let Some(ending) = ending {
            ending.retire(self.timing.drain_waiting).await;
        }
        let mut gone = Vec::new();
        {
            let mut sites = self.sites();
            let Some(site) = sites.get_mut(&key.site) else { return };
            let Some(slot) = site.slots.get_mut(&key.slot) else { return };
            let is = |set: &Option<Arc<InstanceSet>>| {
                set.as_ref().is_some_and(|set| *set.fingerprint() == fingerprint)
            };
            if is(&slot.serving) {
                gone.extend(slot.next.take());
            } else if !is(&slot.next) {
                gone.extend(slot.next.take());
                slot.log.platform(&format!(
                    "Starting {count} container(s) for site {} with content {}.",
                    launch.slot,
                    launch.deployment.as_ref().map_or("-", |deployment| &deployment.content
                        [..12.min(deployment.content.len())])
                ));
                slot.next = Some(self.new_set(launch, slot.log.clone(), policy.clone(), count));
            }
            // What serves nobody is no reason to wait.
            let idle = slot.serving.as_ref().is_none_or(|serving| serving.pool().is_empty());
            if slot.next.as_ref().is_some_and(|next| idle || next.is_complete()) {
                let old = std::mem::replace(&mut slot.serving, slot.next.take());
                let kept = site.standby.as_ref().map(|standby| &standby.set);
                gone.extend(old.filter(|old| !kept.is_some_and(|kept| Arc::ptr_eq(kept, old))));
                self.publish_locked(&key.site, site);
            }
        }
        for set in gone {
            self.retire(set);
        }
        // Outside the lock: scaling tells the site of changes.
        let sets = self.with_slot(key, |slot| [slot.serving.clone(), slot.next.clone()]);
        for set in sets.into_iter().flatten().flatten() {
            if *set.fingerprint() == fingerprint {
                set.scale(count);
                set.set_policy(policy.clone());
            }
        }
    }

    /// Ends the standby when a swap back would not use it, or its time is over.
    pub(super) fn prune_standby(&self, site: &SiteKey) {
        let gone = {
            let mut sites = self.sites();
            let Some(runtime) = sites.get_mut(site) else { return };
            let Some(standby) = &runtime.standby else { return };
            let basis = self.basis(site, &standby.source, &standby.target);
            if standby.until > Instant::now() && basis.as_ref() == Some(&standby.basis) {
                return;
            }
            let set = runtime.standby.take().map(|standby| standby.set);
            // Until its slot has its own instances the old production serves there.
            set.filter(|set| {
                !runtime
                    .slots
                    .values()
                    .any(|slot| slot.serving.as_ref().is_some_and(|s| Arc::ptr_eq(s, set)))
            })
        };
        if let Some(set) = gone {
            self.retire(set);
        }
    }

    /// What a swap of `source` into `target` would start, references unresolved.
    pub(super) fn basis(
        &self,
        site: &SiteKey,
        source: &SlotName,
        target: &SlotName,
    ) -> Option<Fingerprint> {
        let target_key = site.slot(target.clone());
        let from = self.records.slot(&site.slot(source.clone()))?;
        let to = self.records.slot(&target_key)?;
        let after = swap::exchange(&from, &to, &self.records.site(site).sticky).1;
        after.deployment.as_ref()?;
        let none = BTreeMap::new();
        Some(Launch::new(&target_key, &after, &self.tier(&after), &none, &none).fingerprint())
    }

    /// Where a slot's instances stand, those serving and those coming.
    pub fn instances(&self, key: &SlotKey) -> Vec<super::supervisor::Member> {
        let sets = self.with_slot(key, |slot| [slot.serving.clone(), slot.next.clone()]);
        sets.into_iter().flatten().flatten().flat_map(|set| set.members()).collect()
    }

    /// Why a slot's newest instances do not start, if they do not.
    pub fn failure(&self, key: &SlotKey) -> Option<Failure> {
        let sets = self.with_slot(key, |slot| [slot.next.clone(), slot.serving.clone()]);
        sets.into_iter().flatten().flatten().find_map(|set| set.failure())
    }

    /// The slot's logs.
    pub fn log(&self, key: &SlotKey) -> Option<Arc<SlotLog>> {
        self.with_slot(key, |slot| slot.log.clone())
    }
}

/// Looks after one slot for as long as it exists.
async fn look_after(app: Weak<AppService>, key: SlotKey, wake: Arc<Notify>) {
    loop {
        let next = {
            let Some(app) = app.upgrade() else { return };
            if !app.reconcile(&key).await {
                return;
            }
            LOOK.min(app.timing.refresh)
        };
        let _ = tokio::time::timeout(next, wake.notified()).await;
    }
}

fn policy(record: &SlotRecord) -> Policy {
    Policy { health_path: record.config_str("healthCheckPath").map(str::to_owned) }
}

fn resolution_key(principal: Option<&str>, record: &SlotRecord) -> String {
    let mut key = format!("{principal:?} {}", record.restarts);
    let settings = record.app_settings.iter();
    let strings = record.connection_strings.iter().map(|(name, string)| (name, &string.value));
    for (name, value) in settings.chain(strings) {
        if references::parse(value) != references::Parsed::Literal {
            key.push_str(&format!("\n{name}={value}"));
        }
    }
    sha256_hex(key.as_bytes())
}

/// A slot as the front end serves it.
fn route(key: &SlotKey, record: &SlotRecord, pools: &BTreeMap<&SlotName, Arc<Pool>>) -> Site {
    let slot = match &key.slot {
        SlotName::Production => None,
        SlotName::Named(slot) => Some(slot.as_str()),
    };
    let mut site = Site::new(key.site.name.clone(), slot);
    site.https_only = record.flag("httpsOnly");
    site.min_tls = match record.config_str("minTlsVersion") {
        Some("1.0") => TlsVersion::V1_0,
        Some("1.1") => TlsVersion::V1_1,
        Some("1.3") => TlsVersion::V1_3,
        _ => TlsVersion::V1_2,
    };
    site.http2 = record.config_flag("http20Enabled");
    site.websockets = record.config_flag("webSocketsEnabled");
    site.affinity =
        record.properties.get("clientAffinityEnabled").and_then(Value::as_bool).unwrap_or(true);
    site.access = access::site(record);
    site.auth = access::auth(record);
    site.cors = record.config.get("cors").and_then(|cors| access::cors(cors).ok().flatten());
    site.state = if record.running { SiteState::Running } else { SiteState::Stopped };
    if let Some(deployment) = &record.deployment {
        site.deployment_id.clone_from(&deployment.id);
    }
    site.pool = pools.get(&key.slot).cloned().unwrap_or_default();
    if key.slot == SlotName::Production {
        site.ramp_up = ramp_up(&key.site, record, pools);
    }
    site
}

/// `experiments.rampUpRules`. A slot without an instance in rotation gets nobody.
/// <https://learn.microsoft.com/azure/app-service/deploy-staging-slots#route-traffic>
fn ramp_up(
    site: &SiteKey,
    record: &SlotRecord,
    pools: &BTreeMap<&SlotName, Arc<Pool>>,
) -> Vec<RampUp> {
    let rules =
        record.config.get("experiments").and_then(|experiments| experiments.get("rampUpRules"));
    rules
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|rule| {
            let host = rule.get("actionHostName").and_then(Value::as_str)?;
            let percent = rule
                .get("reroutePercentage")
                .and_then(Value::as_f64)
                .unwrap_or(0.0)
                .clamp(0.0, 100.0);
            let (name, pool) = pools.iter().find(|(name, _)| {
                site.slot((**name).clone()).host_name().eq_ignore_ascii_case(host)
            })?;
            (!pool.instances().is_empty()).then(|| RampUp {
                slot: name.as_str().to_owned(),
                percent,
                pool: pool.clone(),
            })
        })
        .collect()
}
