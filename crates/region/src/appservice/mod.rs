//! App Service: from records of sites and slots to processes that serve, as the real one behaves
//! (<https://learn.microsoft.com/azure/app-service>).
//!
//! [`records`] hold what should be; [`slot`] drives each slot towards it; [`supervisor`] keeps a set of
//! instances alive; [`swapping`] exchanges what slots point at. What starts processes, resolves secrets,
//! builds, routes and authorises is behind traits ([`Parts`]), so that all of this is tested without
//! any of it. Any part may be killed at any instant: [`AppService::recover`] is how it always starts.

pub mod access;
pub mod adapters;
pub mod build;
pub mod commands;
pub mod content;
pub mod deployments;
pub mod health;
pub mod hosts;
pub mod instance;
pub mod logs;
pub mod metrics;
pub mod python;
pub mod records;
pub mod references;
pub mod render;
pub mod sandbox;
pub mod scm;
pub mod settings;
pub mod site;
pub mod slot;
pub mod supervisor;
pub mod swap;
pub mod swapping;
#[cfg(test)]
mod testing;
pub mod webjobs;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::BoxFuture;
use lazuli_gateway::{Certificate, Instance, Target};
use tokio_util::task::TaskTracker;

use self::{
    build::Builder,
    content::{Layout, Limits},
    instance::Runtime,
    metrics::Ledger,
    records::{RecordError, Records},
    references::{Resolution, Secrets},
    settings::Launch,
    site::{SiteKey, SlotKey, SlotName},
    slot::SiteRuntime,
    supervisor::Timing,
};

/// A change of the front end's table.
#[derive(Debug)]
pub struct RouteChange {
    /// The host name.
    pub host: String,
    /// Who answers for it; `None` for nobody.
    pub target: Option<Target>,
    /// The certificate that it brings; `None` for the region's own.
    pub certificate: Option<Certificate>,
}

/// The front end's table.
pub trait Routes: Send + Sync + 'static {
    /// Changes the table in one step.
    fn update(&self, changes: Vec<RouteChange>);
    /// Resolves when nothing is in flight on an instance that no table has any more.
    fn drained(&self, instance: Arc<Instance>) -> BoxFuture<'static, ()>;
}

/// Who may use a site's SCM.
pub trait Authorize: Send + Sync + 'static {
    /// The name of whoever holds this bearer token, if they may publish to the slot; otherwise whether
    /// the token is not valid (401) or not enough (403).
    fn bearer(&self, token: &str, slot: &SlotKey) -> Result<String, Denied>;
}

/// Why somebody may not use a site's SCM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Who they are is not known.
    Unauthenticated,
    /// They may not.
    Forbidden,
}

/// What App Service is made of.
pub struct Parts {
    /// Records of sites and slots.
    pub records: Records,
    /// The front end.
    pub routes: Arc<dyn Routes>,
    /// Starts programs.
    pub runtime: Arc<dyn Runtime>,
    /// Builds virtual environments.
    pub builder: Arc<dyn Builder>,
    /// Key Vault.
    pub secrets: Arc<dyn Secrets>,
    /// Who may use SCM.
    pub authorize: Arc<dyn Authorize>,
    /// Where files are.
    pub layout: Layout,
    /// What a package may be.
    pub limits: Limits,
    /// How long things take.
    pub timing: Timing,
}

/// App Service.
pub struct AppService {
    /// Records of sites and slots.
    pub records: Records,
    routes: Arc<dyn Routes>,
    runtime: Arc<dyn Runtime>,
    builder: Arc<dyn Builder>,
    secrets: Arc<dyn Secrets>,
    authorize: Arc<dyn Authorize>,
    layout: Layout,
    limits: Limits,
    timing: Timing,
    sites: Mutex<HashMap<SiteKey, SiteRuntime>>,
    triggered: Mutex<HashSet<(SlotKey, String)>>,
    scm: Mutex<HashMap<SlotKey, Target>>,
    hosts: Mutex<hosts::Hosts>,
    /// What the sites have served, minute by minute.
    metrics: Mutex<Ledger>,
    /// Everything that goes on in the background: deployments, jobs, instances on their way down.
    retirements: TaskTracker,
    this: Weak<AppService>,
}

impl AppService {
    /// App Service with nothing running yet: see [`AppService::recover`].
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            records: parts.records,
            routes: parts.routes,
            runtime: parts.runtime,
            builder: parts.builder,
            secrets: parts.secrets,
            authorize: parts.authorize,
            layout: parts.layout,
            limits: parts.limits,
            timing: parts.timing,
            sites: Mutex::default(),
            triggered: Mutex::default(),
            scm: Mutex::default(),
            hosts: Mutex::default(),
            metrics: Mutex::default(),
            retirements: TaskTracker::new(),
            this: this.clone(),
        })
    }

    /// Starts whatever the store says should run: production first.
    pub async fn recover(self: &Arc<Self>) -> std::io::Result<()> {
        self.layout.prepare()?;
        let mut slots = self.records.all();
        slots.sort_by_key(|key| (key.slot != SlotName::Production, key.clone()));
        for key in &slots {
            self.abort_interrupted_runs(key);
            self.fail_interrupted_deployments(key).await;
        }
        for key in &slots {
            self.attend(key);
            self.resume_watching(key);
        }
        tokio::spawn(metrics::keep(self.this.clone()));
        Ok(())
    }

    /// Ends every instance and job in good order, for at most `limit`.
    pub async fn shutdown(&self, limit: Duration) {
        let sets: Vec<_> = {
            let mut sites = self.sites();
            let sets = sites.values_mut().flat_map(|site| {
                let standby = site.standby.take().map(|standby| standby.set);
                let slots = site
                    .slots
                    .values_mut()
                    .flat_map(|slot| [slot.serving.take(), slot.next.take()]);
                slots.flatten().chain(standby).collect::<Vec<_>>()
            });
            let sets = sets.collect();
            // Whoever looks after a slot finds it gone and ends.
            sites.clear();
            sets
        };
        let ends = sets.iter().map(|set| set.retire(Duration::from_secs(1)));
        let _ = tokio::time::timeout(limit, futures_util::future::join_all(ends)).await;
    }

    /// A slot whose record has changed.
    pub fn changed(self: &Arc<Self>, key: &SlotKey) {
        self.attend(key);
        self.publish(&key.site);
        self.prune_standby(&key.site);
        // Other slots depend on it in a preview.
        self.wake_site(&key.site);
    }

    /// Ends a slot that is about to be deleted, and deletes what it kept; resolves when nothing of it
    /// runs.
    pub async fn remove(self: &Arc<Self>, key: &SlotKey) {
        let changes = self.with_slot(key, |slot| {
            slot.removed = true;
            slot.changes.subscribe()
        });
        if let Some(mut changes) = changes {
            self.publish(&key.site);
            self.wake(key);
            // The sender goes with the slot.
            while changes.changed().await.is_ok() {}
        }
        self.scm.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        let _ = std::fs::remove_dir_all(self.layout.logs(key));
        if let Some(record) = self.records.slot(key) {
            let _ = std::fs::remove_dir_all(self.layout.volume(&record.volume));
        }
    }

    /// Every slot whose plan has changed looks again.
    pub fn plan_changed(&self) {
        for key in self.records.all() {
            self.wake(&key);
        }
    }

    /// Replaces a slot's instances.
    pub async fn restart(self: &Arc<Self>, key: &SlotKey) -> Result<(), RecordError> {
        self.records
            .update(key, |record| {
                record.restarts += 1;
                Ok(())
            })
            .await?;
        self.changed(key);
        Ok(())
    }

    /// Starts or stops a slot.
    pub async fn set_running(
        self: &Arc<Self>,
        key: &SlotKey,
        running: bool,
    ) -> Result<(), RecordError> {
        self.records
            .update(key, |record| {
                record.running = running;
                Ok(())
            })
            .await?;
        self.changed(key);
        Ok(())
    }

    /// The references of a slot's settings and connection strings, and what became of them.
    pub async fn references(
        &self,
        key: &SlotKey,
    ) -> (BTreeMap<String, Resolution>, BTreeMap<String, Resolution>) {
        match self.records.slot(key) {
            Some(record) => {
                let resolved = self.resolve(key, &record, false).await;
                (resolved.app_settings, resolved.connection_strings)
            }
            None => Default::default(),
        }
    }

    /// How many instances a slot has.
    pub fn count_of(&self, key: &SlotKey) -> usize {
        self.records.slot(key).map_or(1, |record| self.count(&record))
    }

    /// What a slot's programs are started from now; `None` when it has nothing to run or is stopped.
    async fn current_launch(&self, key: &SlotKey) -> Option<Launch> {
        let record = self.records.slot(key).filter(|record| record.running)?;
        record.deployment.as_ref()?;
        let resolved = self.resolve(key, &record, false).await;
        let tier = self.tier(&record);
        Some(Launch::new(key, &record, &tier, &resolved.app_settings, &resolved.connection_strings))
    }

    /// The SCM of a slot, to be routed to.
    fn scm(&self, key: &SlotKey) -> Option<Target> {
        let mut services = self.scm.lock().unwrap_or_else(PoisonError::into_inner);
        let target = services.entry(key.clone()).or_insert_with(|| {
            Target::Service(Arc::new(scm::Scm { app: self.this.clone(), slot: key.clone() }))
        });
        Some(target.clone())
    }
}

#[cfg(test)]
mod tests;
