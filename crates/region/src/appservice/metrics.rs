//! What sites have served, minute by minute: the front end's counters, kept.
//!
//! Azure keeps a site's metrics by the minute and shows the current one as it fills
//! (<https://learn.microsoft.com/azure/azure-monitor/essentials/data-platform-metrics>); so does this.
//! A count belongs to the slot that an instance served when it was made: instances change slots in a
//! swap, which is why the swap samples just before it. Kept in memory for a day: a restart of the
//! region begins anew, and what was not seen is not there (not zero).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lazuli_gateway::{Counters, Instance};
use lazuli_host::Processes;

use super::{
    AppService,
    site::{SiteKey, SlotKey},
    slot::SiteRuntime,
    supervisor::Phase,
};

/// Between two samples.
const EVERY: Duration = Duration::from_secs(1);
/// Between two looks at what the instances' processes use, in samples.
const USAGE_EVERY: u64 = 5;
/// Minutes kept of each slot.
const KEPT: usize = 24 * 60;

/// What a slot served in one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Requests answered.
    pub requests: u64,
    /// Answers by class: `status[0]` is 1xx, `status[4]` 5xx.
    pub status: [u64; 5],
    /// Time to the responses' heads in all, in microseconds.
    pub micros: u64,
    /// Requests that have such a time: those an instance was asked.
    pub timed: u64,
    /// Bytes of response bodies.
    pub bytes: u64,
    /// Samples of the instances' health, and their sum: 100 when all are in rotation.
    pub health: (u64, f64),
    /// Processor time of all instances, in microseconds.
    pub cpu: u64,
    /// Samples of the instances' memory in all, and their sum in bytes.
    pub memory: (u64, u64),
    /// Samples of how many instances there were, and their sum.
    pub instances: (u64, u64),
    /// Of a plan: which share of its processors and of its memory is used, in percent.
    pub share: Option<(f64, f64)>,
}

#[derive(Default)]
struct Kept {
    /// By minutes since 1970.
    bins: BTreeMap<i64, Bin>,
    unserved: Arc<AtomicU64>,
    seen_unserved: u64,
}

struct Seen {
    instance: Arc<Instance>,
    counters: Counters,
    slot: SlotKey,
}

/// What all slots served.
#[derive(Default)]
pub struct Ledger {
    slots: HashMap<SlotKey, Kept>,
    /// By address: the `Arc` keeps it from being another's.
    seen: HashMap<usize, Seen>,
    /// Processor time so far, by instance.
    used: HashMap<String, Duration>,
}

impl Ledger {
    /// Counts what no instance of the slot could be asked.
    pub(super) fn unserved(&mut self, slot: &SlotKey) -> Arc<AtomicU64> {
        self.slots.entry(slot.clone()).or_default().unserved.clone()
    }

    /// A slot's minutes from `from` up to and including `to`, in minutes since 1970. The current
    /// minute is as far as it has come.
    pub fn minutes(&self, slot: &SlotKey, from: i64, to: i64) -> Vec<(i64, Bin)> {
        let Some(kept) = self.slots.get(slot).filter(|_| from <= to) else { return Vec::new() };
        kept.bins.range(from..=to).map(|(minute, bin)| (*minute, *bin)).collect()
    }

    /// Reads the counters of a site's instances now.
    pub(super) fn sample_site(&mut self, site: &SiteKey, runtime: &SiteRuntime) {
        self.sample_site_at(minute_now(), site, runtime);
    }

    fn sample_site_at(&mut self, minute: i64, site: &SiteKey, runtime: &SiteRuntime) {
        for (name, slot) in &runtime.slots {
            let key = site.slot(name.clone());
            let mut health = (0_u32, 0.0);
            for member in slot.serving.iter().flat_map(|set| set.members()) {
                health.0 += 1;
                if member.phase == Phase::Ready {
                    health.1 += 100.0;
                }
                if let Some(instance) = member.instance {
                    self.count(minute, &key, &instance);
                }
            }
            if health.0 > 0 {
                let bin = self.bin(&key, minute);
                bin.health.0 += 1;
                bin.health.1 += health.1 / f64::from(health.0);
            }
            self.count_unserved(minute, &key);
        }
    }

    /// Adds what the instances' processes have used since they were last looked at.
    fn sample_usage(
        &mut self,
        minute: i64,
        members: &[(SlotKey, Vec<(String, i32)>)],
        processes: &Processes,
    ) {
        let mut used = HashMap::new();
        for (slot, members) in members {
            let (mut cpu, mut resident) = (Duration::ZERO, 0);
            for (id, pid) in members {
                let now = processes.below(*pid);
                // What a new instance used to start counts.
                cpu += now.cpu.saturating_sub(self.used.get(id).copied().unwrap_or_default());
                resident += now.resident;
                used.insert(id.clone(), now.cpu);
            }
            let bin = self.bin(slot, minute);
            bin.cpu += u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX);
            bin.memory = (bin.memory.0 + 1, bin.memory.1 + resident);
            bin.instances = (bin.instances.0 + 1, bin.instances.1 + members.len() as u64);
        }
        self.used = used;
    }

    /// Adds what the instance has served since it was last looked at to the slot it served then.
    fn count(&mut self, minute: i64, slot: &SlotKey, instance: &Arc<Instance>) {
        let now = instance.counters();
        let at = Arc::as_ptr(instance) as usize;
        let seen = self.seen.entry(at).or_insert_with(|| Seen {
            instance: instance.clone(),
            counters: Counters::default(),
            slot: slot.clone(),
        });
        let before = std::mem::replace(&mut seen.counters, now.clone());
        let served = std::mem::replace(&mut seen.slot, slot.clone());
        let bin = self.bin(&served, minute);
        bin.add(&before, &now);
    }

    fn count_unserved(&mut self, minute: i64, slot: &SlotKey) {
        let kept = self.slots.entry(slot.clone()).or_default();
        let now = kept.unserved.load(Ordering::Relaxed);
        let more = now - std::mem::replace(&mut kept.seen_unserved, now);
        if more > 0 {
            let bin = kept.bins.entry(minute).or_default();
            bin.requests += more;
            bin.status[4] += more;
        }
    }

    fn bin(&mut self, slot: &SlotKey, minute: i64) -> &mut Bin {
        self.slots.entry(slot.clone()).or_default().bins.entry(minute).or_default()
    }

    /// Counts what instances on their way down still answered, and forgets those that are gone.
    fn sweep(&mut self, minute: i64) {
        let gone: Vec<usize> = self
            .seen
            .iter()
            .filter(|(_, seen)| Arc::strong_count(&seen.instance) == 1)
            .map(|(at, _)| *at)
            .collect();
        let here: Vec<(SlotKey, Arc<Instance>)> =
            self.seen.values().map(|seen| (seen.slot.clone(), seen.instance.clone())).collect();
        for (slot, instance) in here {
            self.count(minute, &slot, &instance);
        }
        for at in gone {
            self.seen.remove(&at);
        }
        for kept in self.slots.values_mut() {
            while kept.bins.len() > KEPT {
                kept.bins.pop_first();
            }
        }
    }
}

impl Bin {
    fn add(&mut self, before: &Counters, now: &Counters) {
        let requests = now.requests.saturating_sub(before.requests);
        self.requests += requests;
        self.timed += requests;
        for (sum, (now, before)) in
            self.status.iter_mut().zip(now.status.iter().zip(before.status.iter()))
        {
            *sum += now.saturating_sub(*before);
        }
        self.micros += now.micros.saturating_sub(before.micros);
        self.bytes += now.bytes_sent.saturating_sub(before.bytes_sent);
    }
}

impl AppService {
    /// What the sites have served.
    pub(super) fn metrics(&self) -> MutexGuard<'_, Ledger> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot's minutes, sampled now.
    pub fn served(&self, slot: &SlotKey, from: i64, to: i64) -> Vec<(i64, Bin)> {
        self.sample();
        self.metrics().minutes(slot, from, to)
    }

    /// Looks at what the instances' processes use now.
    async fn sample_usage(&self) {
        let members: Vec<(SlotKey, Vec<(String, i32)>)> = self
            .sites()
            .iter()
            .flat_map(|(site, runtime)| {
                runtime.slots.iter().map(|(name, slot)| {
                    let members = slot.serving.iter().flat_map(|set| set.members());
                    let running = members.filter_map(|one| Some((one.id.clone(), one.pid?)));
                    (site.slot(name.clone()), running.collect::<Vec<_>>())
                })
            })
            .filter(|(_, members)| !members.is_empty())
            .collect();
        if members.is_empty() {
            return;
        }
        // Reading a file for each process of the region is nothing for a thread that serves others.
        if let Ok(processes) = tokio::task::spawn_blocking(Processes::look).await {
            self.metrics().sample_usage(minute_now(), &members, &processes);
        }
    }

    /// Reads all counters now.
    fn sample(&self) {
        let minute = minute_now();
        let sites = self.sites();
        let mut ledger = self.metrics();
        for (site, runtime) in sites.iter() {
            ledger.sample_site_at(minute, site, runtime);
        }
        ledger.sweep(minute);
    }
}

fn minute_now() -> i64 {
    jiff::Timestamp::now().as_second().div_euclid(60)
}

/// Samples for as long as there is an App Service.
pub(super) async fn keep(app: Weak<AppService>) {
    for tick in 1_u64.. {
        tokio::time::sleep(EVERY).await;
        let Some(app) = app.upgrade() else { return };
        app.sample();
        if tick.is_multiple_of(USAGE_EVERY) {
            app.sample_usage().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::appservice::site::SlotName;

    fn site() -> SiteKey {
        SiteKey { subscription: "s".into(), group: "rg".into(), name: "notes".into() }
    }

    #[test]
    fn a_count_belongs_to_the_slot_that_served_it() {
        let (production, staging) =
            (site().slot(SlotName::Production), site().slot(SlotName::new("staging")));
        let mut ledger = Ledger::default();
        let instance = Arc::new(Instance::new("a", ([127, 0, 0, 1], 1).into()));
        ledger.count(10, &production, &instance);
        instance.count(StatusCode::OK, Duration::from_millis(3));
        instance.count(StatusCode::BAD_GATEWAY, Duration::from_millis(1));
        // Swapped: the last that production's instance served was production's.
        ledger.count(10, &staging, &instance);
        instance.count(StatusCode::OK, Duration::from_millis(5));
        ledger.count(11, &staging, &instance);
        let bins = ledger.minutes(&production, 0, 20);
        assert_eq!(bins.len(), 1);
        assert_eq!((bins[0].1.requests, bins[0].1.status[4], bins[0].1.micros), (2, 1, 4000));
        assert_eq!(ledger.minutes(&staging, 11, 11)[0].1.requests, 1);
    }

    #[test]
    fn what_nobody_could_answer_is_counted_as_5xx_and_gone_instances_are_forgotten() {
        let production = site().slot(SlotName::Production);
        let mut ledger = Ledger::default();
        ledger.unserved(&production).fetch_add(3, Ordering::Relaxed);
        ledger.count_unserved(5, &production);
        ledger.count_unserved(5, &production);
        let bin = ledger.minutes(&production, 5, 5)[0].1;
        assert_eq!((bin.requests, bin.status[4], bin.timed), (3, 3, 0));
        let instance = Arc::new(Instance::new("a", ([127, 0, 0, 1], 1).into()));
        ledger.count(5, &production, &instance);
        instance.count(StatusCode::OK, Duration::from_millis(1));
        drop(instance);
        ledger.sweep(6);
        assert_eq!(ledger.minutes(&production, 6, 6)[0].1.requests, 1, "its last answer counts");
        assert!(ledger.seen.is_empty());
    }
}
