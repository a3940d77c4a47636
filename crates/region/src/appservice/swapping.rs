//! Running a swap.
//!
//! 1. What the target will be is computed; its references must resolve with the target's identity.
//! 2. Instances of that are taken or started: those of a preview, the warm standby of the last swap,
//!    or new ones; every one is warmed up. Until here any failure leaves both slots as they were.
//! 3. One commit exchanges the two records: a crash leaves either before or after. In the same
//!    breath, routing switches in one table.
//! 4. The old production, now in the source slot, serves there until that slot's own instances are
//!    up, and is then kept warm for a while.
//!
//! <https://learn.microsoft.com/azure/app-service/deploy-staging-slots#what-happens-during-a-swap>

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    AppService, health,
    instance::Failure,
    logs::short,
    records::{RecordError, Versioned, put_json},
    settings::Launch,
    site::{Preview, SiteKey, SlotKey, SlotName},
    slot::{Resolved, Standby},
    supervisor::{InstanceSet, Policy},
    swap,
};
use crate::store::{Batch, StoreError};

const SWAPS: &str = "web.swaps";

/// Why a swap did not happen. Production is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// Another one is under way.
    #[error("Cannot modify this site because another operation is in progress.")]
    Busy,
    /// A slot that does not exist.
    #[error("The slot '{0}' does not exist.")]
    NoSlot(SlotName),
    /// With itself.
    #[error("A slot cannot be swapped with itself.")]
    Same,
    /// Nothing to swap in.
    #[error(
        "Cannot swap site slots for site '{site}': nothing has been deployed to the '{slot}' slot."
    )]
    Nothing {
        /// The site.
        site: String,
        /// The slot.
        slot: SlotName,
    },
    /// A slot that is stopped.
    #[error("Cannot swap site slots for site '{site}' because the '{slot}' slot is stopped.")]
    Stopped {
        /// The site.
        site: String,
        /// The slot.
        slot: SlotName,
    },
    /// Settings of the target that would have no value.
    #[error("Cannot swap site slots for site '{site}': Key Vault references do not resolve with the identity of the '{slot}' slot: {}", references.join("; "))]
    Unresolved {
        /// The site.
        site: String,
        /// The target.
        slot: SlotName,
        /// Which, and why.
        references: Vec<String>,
    },
    /// The instances with the target's settings did not start.
    #[error(
        "Cannot swap site slots for site '{site}' because the '{slot}' slot did not start with the settings of the target: {failure}"
    )]
    Start {
        /// The site.
        site: String,
        /// The source.
        slot: SlotName,
        /// Why.
        failure: Failure,
    },
    /// They did not answer as they should.
    #[error(
        "Cannot swap site slots for site '{site}' because the '{slot}' slot did not respond to http ping: {reason}"
    )]
    Ping {
        /// The site.
        site: String,
        /// The source.
        slot: SlotName,
        /// What they answered.
        reason: String,
    },
    /// Somebody changed a slot while its instances were warming up.
    #[error(
        "Cannot swap site slots for site '{0}': its configuration was changed during the swap. Please retry."
    )]
    Changed(String),
    /// The store.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl AppService {
    /// Swaps `source` and `target`. `token` names this swap: called again with the same one (an
    /// operation resumed after a crash), it does nothing if the swap was done.
    pub async fn swap(
        self: &Arc<Self>,
        site: &SiteKey,
        source: &SlotName,
        target: &SlotName,
        token: &str,
    ) -> Result<(), SwapError> {
        if self.records.json::<String>(SWAPS, &site.state_key()).as_deref() == Some(token) {
            return Ok(());
        }
        if source == target {
            return Err(SwapError::Same);
        }
        let (source_key, target_key) = (site.slot(source.clone()), site.slot(target.clone()));
        for key in [&source_key, &target_key] {
            if self.records.slot(key).is_none() {
                return Err(SwapError::NoSlot(key.slot.clone()));
            }
            self.attend(key);
        }
        let operation =
            self.sites().get(site).map(|site| site.operation.clone()).ok_or(SwapError::Busy)?;
        let _operation = operation.try_lock().map_err(|_| SwapError::Busy)?;
        // Always in the same order, so that two swaps cannot wait for one another.
        let mut turns = Vec::new();
        for key in [(&source_key).min(&target_key), (&source_key).max(&target_key)] {
            let turn = self.with_slot(key, |slot| slot.turn.clone());
            turns.push(turn.ok_or_else(|| SwapError::NoSlot(key.slot.clone()))?.lock_owned().await);
        }
        let begun = Instant::now();
        self.say(&target_key, &format!("Swapping {source_key} into {target_key}."));
        let swapped = self.swap_locked(&source_key, &target_key, token).await;
        drop(turns);
        match &swapped {
            Ok(()) => {
                let took = begun.elapsed().as_secs_f64();
                self.say(
                    &target_key,
                    &format!("Swapped {source_key} into {target_key} in {took:.2} s."),
                );
            }
            Err(error) => self.say(&target_key, &format!("The swap was undone: {error}")),
        }
        self.wake(&source_key);
        self.wake(&target_key);
        swapped
    }

    fn say(&self, key: &SlotKey, message: &str) {
        self.with_slot(key, |slot| slot.log.platform(message));
    }

    async fn swap_locked(
        self: &Arc<Self>,
        source_key: &SlotKey,
        target_key: &SlotKey,
        token: &str,
    ) -> Result<(), SwapError> {
        let site = &source_key.site;
        let read = |key: &SlotKey| {
            self.records.versioned(key).ok_or_else(|| SwapError::NoSlot(key.slot.clone()))
        };
        let (source, target) = (read(source_key)?, read(target_key)?);
        for (key, slot) in [(source_key, &source), (target_key, &target)] {
            if !slot.record.running {
                return Err(SwapError::Stopped { site: site.name.clone(), slot: key.slot.clone() });
            }
        }
        if source.record.deployment.is_none() {
            return Err(SwapError::Nothing {
                site: site.name.clone(),
                slot: source_key.slot.clone(),
            });
        }
        let sticky = self.records.site(site).sticky;
        let (source_after, target_after) = swap::exchange(&source.record, &target.record, &sticky);
        let resolved = self.resolve(target_key, &target_after, true).await;
        check_resolved(target_key, &resolved)?;
        let launch = Launch::new(
            target_key,
            &target_after,
            &self.tier(&target_after),
            &resolved.app_settings,
            &resolved.connection_strings,
        );
        let count = self.count(&target_after);
        let policy =
            Policy { health_path: target_after.config_str("healthCheckPath").map(str::to_owned) };
        let (set, origin) = self.warm_set(source_key, target_key, launch, count, policy).await?;

        // The point of no return, on the disk and then in routing.
        let mut batch = Batch::new();
        self.records.put(&mut batch, source_key, &source_after, &source.etag)?;
        self.records.put(&mut batch, target_key, &target_after, &target.etag)?;
        put_json(&mut batch, SWAPS, &site.state_key(), &token);
        match self.records.store().commit(batch).await {
            Ok(()) => {}
            Err(StoreError::Conflict(_)) => return Err(SwapError::Changed(site.name.clone())),
            Err(error) => return Err(SwapError::Record(error.into())),
        }
        self.switch(source_key, target_key, set, origin, resolved);
        Ok(())
    }

    /// Instances that run what the target will be, every one warmed up.
    async fn warm_set(
        self: &Arc<Self>,
        source: &SlotKey,
        target: &SlotKey,
        launch: Launch,
        count: usize,
        policy: Policy,
    ) -> Result<(Arc<InstanceSet>, Origin), SwapError> {
        let site = source.site.name.clone();
        let fingerprint = launch.fingerprint();
        let (standby, preview, log) = {
            let sites = self.sites();
            let runtime = sites.get(&source.site).ok_or(SwapError::Busy)?;
            let slot = runtime
                .slots
                .get(&source.slot)
                .ok_or_else(|| SwapError::NoSlot(source.slot.clone()))?;
            let log = runtime
                .slots
                .get(&target.slot)
                .ok_or_else(|| SwapError::NoSlot(target.slot.clone()))?
                .log
                .clone();
            let is = |set: &&Arc<InstanceSet>| *set.fingerprint() == fingerprint;
            let standby = runtime.standby.as_ref().map(|standby| &standby.set).filter(is).cloned();
            (standby, slot.serving.as_ref().filter(is).cloned(), log)
        };
        let kept = match (preview, standby) {
            (Some(set), _) => Some((set, Origin::Preview)),
            (None, Some(set)) => Some((set, Origin::Standby)),
            (None, None) => None,
        };
        if let Some((set, origin)) = kept {
            set.scale(count);
            set.set_policy(policy.clone());
            if set.is_complete() && warm_up(&set).await.is_ok() {
                return Ok((set, origin));
            }
            // Not well enough to take over: a fresh set is started instead.
        }
        // Also where overlap is disabled: a swap is two sets side by side by its nature, and production
        // must not be left without one.
        let set = self.new_set(launch, log, policy, count);
        if let Err(failure) = set.complete().await {
            return Err(SwapError::Start { site, slot: source.slot.clone(), failure });
        }
        if let Err(reason) = warm_up(&set).await {
            return Err(SwapError::Ping { site, slot: source.slot.clone(), reason });
        }
        Ok((set, Origin::Fresh))
    }

    /// Exchanges what runs, in one table.
    fn switch(
        self: &Arc<Self>,
        source: &SlotKey,
        target: &SlotKey,
        set: Arc<InstanceSet>,
        origin: Origin,
        resolved: Resolved,
    ) {
        let site = &source.site;
        let mut gone = Vec::new();
        {
            let mut sites = self.sites();
            let Some(runtime) = sites.get_mut(site) else { return };
            // What was served up to here is the slot's that served it.
            self.metrics().sample_site(site, runtime);
            let old_standby = runtime.standby.take().map(|standby| standby.set);
            let mut old = None;
            if let Some(slot) = runtime.slots.get_mut(&target.slot) {
                old = slot.serving.replace(set.clone());
                gone.extend(slot.next.take());
                slot.resolved = Some(resolved);
            }
            if let Some(slot) = runtime.slots.get_mut(&source.slot) {
                let was = std::mem::replace(&mut slot.serving, old.clone());
                if origin != Origin::Preview {
                    gone.extend(was);
                }
                gone.extend(slot.next.take());
                slot.resolved = None;
            }
            if origin != Origin::Standby {
                gone.extend(old_standby);
            }
            if let Some(set) = old
                && !set.launch().overlap_disabled()
                && let Some(basis) = self.basis(site, &source.slot, &target.slot)
            {
                let until = Instant::now() + self.timing.standby;
                let (source, target) = (source.slot.clone(), target.slot.clone());
                runtime.standby = Some(Standby { set, source, target, basis, until });
            }
            self.publish_locked(site, runtime);
            // A swap back before the source had its own instances takes the standby from there: one
            // set may have been in two places.
            let kept = |set: &Arc<InstanceSet>| {
                let slots = runtime.slots.values().filter_map(|slot| slot.serving.as_ref());
                let standby = runtime.standby.as_ref().map(|standby| &standby.set);
                slots.chain(standby).any(|kept| Arc::ptr_eq(kept, set))
            };
            gone.retain(|set| !kept(set));
        }
        for set in gone {
            self.retire(set);
        }
    }

    /// Swap with preview, its first phase: the source runs with the target's settings.
    pub async fn apply_slot_config(
        self: &Arc<Self>,
        source: &SlotKey,
        target: &SlotName,
    ) -> Result<(), SwapError> {
        if source.slot == *target {
            return Err(SwapError::Same);
        }
        let target_key = source.site.slot(target.clone());
        let read = |key: &SlotKey| -> Result<Versioned, SwapError> {
            self.records.versioned(key).ok_or_else(|| SwapError::NoSlot(key.slot.clone()))
        };
        let (from, to) = (read(source)?, read(&target_key)?);
        let sticky = self.records.site(&source.site).sticky;
        let after = swap::exchange(&from.record, &to.record, &sticky).1;
        check_resolved(&target_key, &self.resolve(&target_key, &after, true).await)?;
        let preview = Preview { target: target.clone() };
        self.records
            .update(source, |record| {
                record.preview = Some(preview.clone());
                Ok(())
            })
            .await?;
        self.wake(source);
        Ok(())
    }

    /// Ends a swap with preview without swapping: the slot gets its own settings back.
    pub async fn reset_slot_config(self: &Arc<Self>, slot: &SlotKey) -> Result<(), SwapError> {
        let previews = self.records.slots_of(&slot.site).into_iter().filter(|other| {
            other != slot
                && self.records.slot(other).is_some_and(|record| {
                    record.preview.is_some_and(|preview| preview.target == slot.slot)
                })
        });
        // `az` resets the slot that was to be swapped with, others the one that was.
        for slot in previews.chain([slot.clone()]) {
            self.records
                .update(&slot, |record| {
                    record.preview = None;
                    Ok(())
                })
                .await?;
            self.wake(&slot);
        }
        Ok(())
    }
}

/// Where the instances that take over come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Fresh,
    Preview,
    Standby,
}

fn check_resolved(target: &SlotKey, resolved: &Resolved) -> Result<(), SwapError> {
    let references: Vec<String> = resolved
        .unresolved()
        .into_iter()
        .map(|(name, resolution)| format!("{name} ({}): {}", resolution.status, resolution.details))
        .collect();
    if references.is_empty() {
        return Ok(());
    }
    Err(SwapError::Unresolved {
        site: target.site.name.clone(),
        slot: target.slot.clone(),
        references,
    })
}

/// Asks every instance for the warm-up path: `WEBSITE_SWAP_WARMUP_PING_PATH`, by default the root; any
/// answer will do unless `WEBSITE_SWAP_WARMUP_PING_STATUSES` names those that do.
async fn warm_up(set: &InstanceSet) -> Result<(), String> {
    let launch = set.launch();
    let path = launch
        .setting("WEBSITE_SWAP_WARMUP_PING_PATH")
        .filter(|path| !path.is_empty())
        .unwrap_or("/");
    let statuses: Vec<u16> = launch
        .setting("WEBSITE_SWAP_WARMUP_PING_STATUSES")
        .into_iter()
        .flat_map(|statuses| statuses.split(','))
        .filter_map(|status| status.trim().parse().ok())
        .collect();
    let host = launch.slot.host_name();
    let limit = launch.start_limit().min(Duration::from_secs(230));
    let pool = set.pool();
    if pool.is_empty() {
        return Err("no instance is ready".to_owned());
    }
    let pings = pool.iter().map(|instance| {
        let host = &host;
        let statuses = &statuses;
        async move {
            let who = short(instance.id());
            match health::ping(instance.addr(), host, path, "SiteWarmup", limit).await {
                Ok(status) if statuses.is_empty() || statuses.contains(&status) => Ok(()),
                Ok(status) => Err(format!(
                    "GET {path} on instance {who} answered {status}, and WEBSITE_SWAP_WARMUP_PING_STATUSES is {statuses:?}"
                )),
                Err(error) => Err(format!("GET {path} on instance {who}: {error}")),
            }
        }
    });
    futures_util::future::try_join_all(pings).await.map(|_| ())
}
