//! What a rotation does to a site or slot: new instances, on the new version, that are well.

use std::time::{Duration, Instant};

use lazuli_azure::{Error, look_again};
use serde_json::Value;

use super::exception::Fault;
use super::run::{Done, Run};
use super::trouble;
use crate::cloud::{Place, Trouble, WEB_API};
use crate::event;

/// How long new instances may take: App Service's own limit is 230 s, and a second try is normal.
const START_LIMIT: Duration = Duration::from_secs(2 * 230 + 30);
/// Where the platform gives new instances the names of the old ones (as Azure does), this long after
/// the restart they are the new ones.
const SAME_NAMES: Duration = Duration::from_secs(90);
/// How long references that are read anew may take to show the new version.
const REFRESH_LIMIT: Duration = Duration::from_mins(3);

impl Run<'_> {
    /// The Key Vault references of a place, and their status.
    pub(super) async fn references(&self, place: Place) -> Result<Vec<(String, Value)>, Error> {
        let path = format!("{}/config/configreferences/appsettings", self.rotation.cloud.id(place));
        let all = self.rotation.cloud.client().list(path, WEB_API).await?;
        Ok(all
            .into_iter()
            .map(|mut one| {
                (one["name"].as_str().unwrap_or_default().to_owned(), one["properties"].take())
            })
            .collect())
    }

    /// Names of the instances that run in a place, and whether all of them are ready.
    pub(super) async fn instances(
        &self,
        place: Place,
    ) -> Result<(Vec<String>, bool, Option<String>), Error> {
        let path = format!("{}/instances", self.rotation.cloud.id(place));
        let all = self.rotation.cloud.client().list(path, WEB_API).await?;
        let names = all.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
        let ready = all.iter().all(|one| one["properties"]["state"] == "READY");
        let error = all.iter().find_map(|one| one["properties"]["lastError"].as_str());
        Ok((names, ready, error.map(str::to_owned)))
    }

    /// Step 3 and 4: one place after the other.
    pub(super) async fn restart(&mut self, place: Place, line: &event::Step) -> Done {
        let began = Instant::now();
        if !self.renew(place, line).await? {
            return Ok("nothing runs there".to_owned());
        }
        if self.is_stale(place).await? {
            self.read_anew(place, line).await?;
            self.renew(place, line).await?;
        }
        self.resolved(place).await?;
        let looked = self.healthy(place).await?;
        let took = began.elapsed().as_secs_f64();
        Ok(format!("new instances after {took:.1} s{looked}"))
    }

    /// App Service starts the new instances beside the old ones and turns to them when they answer.
    /// Whether anything runs there.
    async fn renew(&mut self, place: Place, line: &event::Step) -> Result<bool, Fault> {
        let cloud = &self.rotation.cloud;
        let (before, ..) = self.instances(place).await?;
        cloud.client().post(format!("{}/restart", cloud.id(place)), WEB_API, None).await?;
        let began = Instant::now();
        loop {
            let (now, ready, error) = self.instances(place).await?;
            if before.is_empty() && now.is_empty() {
                return Ok(false);
            }
            let fresh = now.iter().all(|name| !before.contains(name));
            if !now.is_empty() && ready && (fresh || began.elapsed() > SAME_NAMES) {
                return Ok(true);
            }
            if let Some(error) = error.filter(|_| began.elapsed() > Duration::from_secs(2)) {
                let what =
                    format!("{} does not start on the new version: {error}", cloud.host(place));
                return Err(self.with_log(trouble(what), place).await.into());
            }
            if began.elapsed() > START_LIMIT {
                let what = format!(
                    "{} had not started after {} s",
                    cloud.host(place),
                    START_LIMIT.as_secs()
                );
                return Err(self.with_log(trouble(what), place).await.into());
            }
            line.message("new instances start beside the old ones");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Whether a place still has a version that is not current any more: App Service remembers for a
    /// day what it read, and a restart alone need not make it read anew.
    /// <https://learn.microsoft.com/azure/app-service/app-service-key-vault-references#understand-rotation>
    async fn is_stale(&self, place: Place) -> Result<bool, Error> {
        let secrets = self.family.read_by_app();
        for (_, reference) in self.references(place).await? {
            let name = reference["secretName"].as_str().unwrap_or_default();
            if let Some(active) = reference["activeVersion"].as_str()
                && secrets.iter().any(|secret| secret == name)
                && active != self.current(name).await?.0
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes a place read its references anew, and waits until it has.
    async fn read_anew(&self, place: Place, line: &event::Step) -> Result<(), Error> {
        self.refresh(place).await?;
        let began = Instant::now();
        while self.is_stale(place).await? && began.elapsed() < REFRESH_LIMIT {
            line.message("the references are read anew");
            tokio::time::sleep(look_again(began.elapsed(), Duration::from_secs(10))).await;
        }
        Ok(())
    }

    pub(super) async fn refresh(&self, place: Place) -> Result<(), Error> {
        let id = self.rotation.cloud.id(place);
        let path = format!("{id}/config/configreferences/appsettings/refresh");
        self.rotation.cloud.client().post(path, WEB_API, None).await.map(|_| ())
    }

    async fn with_log(&self, mut trouble: Trouble, place: Place) -> Trouble {
        let lines = self.rotation.cloud.app_log(place).await;
        trouble.log = (!lines.is_empty())
            .then(|| (format!("the app's log on {}", self.rotation.cloud.host(place)), lines));
        trouble
    }

    /// Every reference to the secrets resolves, and to the version that is current.
    pub(super) async fn resolved(&self, place: Place) -> Result<(), Fault> {
        let secrets = self.family.read_by_app();
        for (setting, reference) in self.references(place).await? {
            let name = reference["secretName"].as_str().unwrap_or_default();
            if !secrets.iter().any(|secret| secret == name) {
                continue;
            }
            let status = reference["status"].as_str().unwrap_or_default();
            if status != "Resolved" {
                return Err(trouble(format!(
                    "the setting {setting} of {} does not resolve ({status}): {}",
                    self.rotation.cloud.host(place),
                    reference["details"].as_str().unwrap_or_default()
                ))
                .into());
            }
            let (current, _) = self.current(name).await?;
            if let Some(active) = reference["activeVersion"].as_str()
                && active != current
            {
                return Err(trouble(format!(
                    "the setting {setting} of {} still has version {active}, not {current}",
                    self.rotation.cloud.host(place)
                ))
                .into());
            }
        }
        Ok(())
    }

    /// The backend's paths answer. Worker and scheduler have none: that their instances run is all
    /// that can be seen from outside.
    pub(super) async fn healthy(&self, place: Place) -> Result<String, Fault> {
        if !matches!(place, Place::Production | Place::Staging) {
            return Ok(String::new());
        }
        for path in &self.rotation.health {
            self.rotation.cloud.healthy(place, path).await?;
        }
        Ok(format!("; {} answer", self.rotation.health.join(", ")))
    }
}
