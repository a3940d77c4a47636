//! Static Web Apps: what is deployed to their environments, and how it is served
//! (<https://learn.microsoft.com/azure/static-web-apps>).
//!
//! ```text
//! content    an environment's files: unpacked, checked, found by path
//! config     staticwebapp.config.json, and pattern: its routes
//! routing    what a request comes to
//! front      one environment, answering; file: what it sends of one
//! fetch      packages, downloaded
//! ```
//!
//! A static site is a resource of Resource Manager ([`crate::control`]); a record here says what each of its
//! environments shows. The official client uploads by a protocol that is not public, so content comes by
//! Resource Manager's `zipdeploy` alone.

pub mod config;
pub mod content;
pub mod fetch;
mod file;
pub mod front;
pub mod mime;
pub mod pattern;
pub mod routing;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use lazuli_azure::ResourceId;
use lazuli_gateway::{Gateway, Target};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::{
    content::{Content, ContentError, Quota, Shelf},
    fetch::{FetchError, Fetcher},
    front::Front,
};
use crate::{
    appservice::records::slot_key,
    store::{Batch, Expect, Resource, Store, StoreError},
};

/// The type of a static site.
pub const SITE: &str = "Microsoft.Web/staticSites";
/// The type of its link to a back end.
pub const LINKED: &str = "Microsoft.Web/staticSites/linkedBackends";
/// The production environment.
pub const PRODUCTION: &str = "default";
/// [`Build`]s, by `{site}/builds/{environment}`.
const BUILDS: &str = "web.staticSites.builds";
/// How long content stays that a visitor may still be reading.
const LINGER: Duration = Duration::from_secs(60);

/// An environment, as it is stored. Production's may be missing: nothing was deployed to it then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// What it shows.
    pub content: Option<Uuid>,
    /// How far the last deployment got.
    pub status: Status,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `deploymentTitle` of the last deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// When it came into being.
    pub created: Timestamp,
    /// When it was last deployed to.
    pub changed: Timestamp,
}

impl Build {
    /// An environment that nothing was deployed to.
    pub fn new(created: Timestamp) -> Self {
        Self {
            content: None,
            status: Status::WaitingForDeployment,
            error: None,
            title: None,
            created,
            changed: created,
        }
    }
}

/// `status` of a build (<https://learn.microsoft.com/rest/api/appservice/static-sites/get-static-site-build>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Status {
    WaitingForDeployment,
    Uploading,
    Deploying,
    Ready,
    Failed,
}

/// Why a deployment failed. What was shown before is shown still.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The package could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It cannot be shown.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// All environments together.
    #[error("{0}")]
    Quota(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The site or the environment is gone.
    #[error("the static site or its environment was deleted meanwhile")]
    Gone,
}

/// Every static site's content.
pub struct StaticWeb {
    store: Store,
    shelf: Shelf,
    fetcher: Fetcher,
    gateway: Arc<Gateway>,
    /// What is shown now, or was a moment ago.
    loaded: Mutex<HashMap<Uuid, Arc<Content>>>,
    /// Held while a site is published, so that the last to look is the last to write.
    published: Mutex<Published>,
}

/// What is in the front end's table.
#[derive(Default)]
struct Published {
    /// The host names of each site.
    hosts: HashMap<ResourceId, BTreeSet<String>>,
    /// Sites that are being deleted: a deployment that ends meanwhile does not bring one back.
    withdrawn: HashSet<ResourceId>,
}

impl std::fmt::Debug for StaticWeb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticWeb").field("shelf", &self.shelf).finish_non_exhaustive()
    }
}

fn place(site: &ResourceId, environment: &str) -> String {
    format!("{}/builds/{environment}", site.key())
}

impl StaticWeb {
    /// The content below `root`. Sweeps away what a crash left there.
    pub fn open(
        root: PathBuf,
        store: Store,
        gateway: Arc<Gateway>,
        fetcher: Fetcher,
    ) -> std::io::Result<Arc<Self>> {
        let named: HashSet<Uuid> = store
            .list_state(BUILDS, "")
            .into_iter()
            .filter_map(|(_, bytes)| serde_json::from_slice::<Build>(&bytes).ok()?.content)
            .collect();
        let shelf = Shelf::open(root, &named)?;
        Ok(Arc::new(Self {
            store,
            shelf,
            fetcher,
            gateway,
            loaded: Mutex::default(),
            published: Mutex::default(),
        }))
    }

    /// A site's environments by name; production is always there.
    pub fn builds(store: &Store, site: &Resource) -> BTreeMap<String, Build> {
        let prefix = place(&site.id, "");
        let mut builds: BTreeMap<String, Build> = store
            .list_state(BUILDS, &prefix)
            .into_iter()
            .filter_map(|(key, bytes)| {
                Some((key[prefix.len()..].to_owned(), serde_json::from_slice(&bytes).ok()?))
            })
            .collect();
        builds.entry(PRODUCTION.to_owned()).or_insert_with(|| Build::new(site.created));
        builds
    }

    /// Puts an environment into a batch, on the condition that its site is there.
    pub fn put(batch: &mut Batch, site: &ResourceId, environment: &str, build: &Build) {
        let bytes = serde_json::to_vec(build).unwrap_or_default();
        batch.expect(site, Expect::Present).put_state(BUILDS, &place(site, environment), bytes);
    }

    /// Puts an environment's end into a batch.
    pub fn forget(batch: &mut Batch, site: &ResourceId, environment: &str) {
        batch.delete_state(BUILDS, &place(site, environment));
    }

    /// The host name of an environment: `{subdomain}-{environment}.{location}.{n}.azurestaticapps.net`
    /// (<https://learn.microsoft.com/azure/static-web-apps/preview-environments>).
    pub fn host(site: &Resource, environment: &str) -> String {
        let default = site.text("/properties/defaultHostname").unwrap_or_default();
        if environment == PRODUCTION {
            return default.to_owned();
        }
        let location = site.text("/location").unwrap_or_default();
        match default.split_once('.') {
            Some((label, domain)) => format!("{label}-{environment}.{location}.{domain}"),
            None => default.to_owned(),
        }
    }

    /// Has the front end answer for a site as it is stored, `without` one of its links.
    pub fn publish(&self, site: &ResourceId, without: Option<&ResourceId>) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        if published.withdrawn.contains(site) {
            return;
        }
        let fronts =
            self.store.get(site).map(|site| self.fronts(&site, without)).unwrap_or_default();
        let before = published.hosts.remove(site).unwrap_or_default();
        let now: BTreeSet<String> = fronts.iter().map(|front| front.host.to_string()).collect();
        let fronts: Vec<Arc<Front>> = fronts.into_iter().map(Arc::new).collect();
        self.gateway.update(|table| {
            for host in before.difference(&now) {
                table.remove(host);
            }
            for front in &fronts {
                table.insert(&front.host, Target::Service(front.clone()));
            }
        });
        if !now.is_empty() {
            published.hosts.insert(site.clone(), now);
        }
    }

    /// Has the front end answer for a site that was written: it may have been deleted before.
    pub fn provide(&self, site: &ResourceId) {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).withdrawn.remove(site);
        self.publish(site, None);
    }

    /// Takes a site off the front end, for it is about to be deleted.
    pub fn withdraw(&self, site: &ResourceId) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.withdrawn.insert(site.clone());
        let before = published.hosts.remove(site).unwrap_or_default();
        self.gateway.update(|table| {
            for host in &before {
                table.remove(host);
            }
        });
    }

    fn fronts(&self, site: &Resource, without: Option<&ResourceId>) -> Vec<Front> {
        let default: Arc<str> = Self::host(site, PRODUCTION).into();
        let private = site
            .text("/properties/publicNetworkAccess")
            .is_some_and(|access| access.eq_ignore_ascii_case("disabled"));
        let links = self.store.list(LINKED, &site.id);
        let linked = links.iter().find(|link| Some(&link.id) != without).and_then(|link| {
            let id = ResourceId::parse(link.text("/properties/backendResourceId")?).ok()?;
            Some(Arc::from(slot_key(&id)?.host_name()))
        });
        Self::builds(&self.store, site)
            .into_iter()
            .map(|(environment, build)| Front {
                host: Self::host(site, &environment).into(),
                site: default.clone(),
                content: build.content.and_then(|id| self.content(id)),
                // A back end is linked to production.
                backend: linked.clone().filter(|_| environment == PRODUCTION),
                private,
            })
            .collect()
    }

    fn content(&self, id: Uuid) -> Option<Arc<Content>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(content) = loaded.get(&id) {
            return Some(content.clone());
        }
        match self.shelf.load(id) {
            Ok(content) => {
                let content = Arc::new(content);
                loaded.insert(id, content.clone());
                Some(content)
            }
            Err(error) => {
                tracing::error!(%id, %error, "a static site's content cannot be read");
                None
            }
        }
    }

    /// Deploys the package at `url` to an environment whose record says that a deployment is under way. The
    /// caller holds others that do the same to it apart.
    pub async fn deploy(
        self: &Arc<Self>,
        site: &ResourceId,
        environment: &str,
        url: &str,
    ) -> Result<(), DeployError> {
        let package = self.shelf.incoming().join(format!("{}.zip", Uuid::new_v4()));
        let outcome = self.deploy_package(site, environment, url, &package).await;
        let _ = tokio::fs::remove_file(&package).await;
        if let Err(error) = &outcome {
            let told = error.to_string();
            self.change(site, environment, |build| {
                build.status = Status::Failed;
                build.error = Some(told);
            })
            .await?;
        }
        self.publish(site, None);
        outcome
    }

    async fn deploy_package(
        self: &Arc<Self>,
        site: &ResourceId,
        environment: &str,
        url: &str,
        package: &std::path::Path,
    ) -> Result<(), DeployError> {
        let resource = self.store.get(site).ok_or(DeployError::Gone)?;
        let standard = resource.text("/sku/name") == Some("Standard");
        let quota = Quota::of(standard);
        self.fetcher.fetch(url, package, quota.app_bytes).await?;
        self.change(site, environment, |build| build.status = Status::Deploying).await?;
        let (shelf, path) = (self.shelf.clone(), package.to_owned());
        let content = tokio::task::spawn_blocking(move || shelf.add(&path, standard))
            .await
            .map_err(|error| DeployError::Quota(format!("the package was not read: {error}")))??;
        let (id, content) = (content.id, Arc::new(content));
        let others: u64 = Self::builds(&self.store, &resource)
            .into_iter()
            .filter(|(name, _)| name != environment)
            .filter_map(|(_, build)| Some(self.content(build.content?)?.bytes()))
            .sum();
        if others + content.bytes() > quota.all_bytes {
            self.shelf.remove(id);
            return Err(DeployError::Quota(format!(
                "The content of all environments together would have {} bytes. The limit for this Static Web App is {} bytes.",
                others + content.bytes(),
                quota.all_bytes
            )));
        }
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).insert(id, content);
        let mut before = None;
        // The one step from the old content to the new.
        let changed = self
            .change(site, environment, |build| {
                before = build.content.replace(id);
                build.status = Status::Ready;
                build.error = None;
            })
            .await;
        self.retire(before.filter(|_| changed.is_ok()).or(changed.is_err().then_some(id)));
        changed
    }

    async fn change(
        &self,
        site: &ResourceId,
        environment: &str,
        change: impl FnOnce(&mut Build),
    ) -> Result<(), DeployError> {
        let bytes =
            self.store.get_state(BUILDS, &place(site, environment)).ok_or(DeployError::Gone)?;
        let mut build: Build = serde_json::from_slice(&bytes).map_err(|_| DeployError::Gone)?;
        change(&mut build);
        build.changed = Timestamp::now();
        let mut batch = Batch::new();
        Self::put(&mut batch, site, environment, &build);
        self.store.commit(batch).await.map_err(|error| match error {
            StoreError::Conflict(_) => DeployError::Gone,
            error => error.into(),
        })
    }

    /// Removes content once nobody can be reading it, unless a record names it after all.
    pub fn retire(self: &Arc<Self>, ids: impl IntoIterator<Item = Uuid>) {
        let ids: Vec<Uuid> = ids.into_iter().collect();
        if ids.is_empty() {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LINGER).await;
            let named: HashSet<Uuid> = this
                .store
                .list_state(BUILDS, "")
                .into_iter()
                .filter_map(|(_, bytes)| serde_json::from_slice::<Build>(&bytes).ok()?.content)
                .collect();
            for id in ids.into_iter().filter(|id| !named.contains(id)) {
                this.loaded.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                let shelf = this.shelf.clone();
                let _ = tokio::task::spawn_blocking(move || shelf.remove(id)).await;
            }
        });
    }
}
