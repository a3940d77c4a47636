//! What the front end knows of a site or slot.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::StatusCode;

use crate::{Access, Cors, Instance, instance::InFlight};

/// A site or slot as the front end serves it. Immutable: a changed site is a new one in a new table.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are Azure's own switches")]
pub struct Site {
    /// The site's name, without the slot.
    pub name: String,
    /// The slot; `None` is production.
    pub slot: Option<String>,
    /// The default host name, `notes-staging.azurewebsites.net`.
    pub host: String,
    /// `httpsOnly`: plain HTTP is answered by a redirect.
    pub https_only: bool,
    /// `siteConfig.minTlsVersion`.
    pub min_tls: TlsVersion,
    /// `siteConfig.http20Enabled`: offer HTTP/2 to clients.
    pub http2: bool,
    /// `siteConfig.webSocketsEnabled`.
    pub websockets: bool,
    /// `clientAffinityEnabled`: the `ARRAffinity` cookie.
    pub affinity: bool,
    /// How long a connection may be silent while a response or an upgraded connection is open: 230 s
    /// in Azure.
    pub client_idle: Duration,
    /// `state`.
    pub state: SiteState,
    /// Where requests may come from.
    pub access: Access,
    /// App Service authentication, when it is on.
    pub auth: Option<Arc<Auth>>,
    /// `siteConfig.cors`, when origins are named.
    pub cors: Option<Arc<Cors>>,
    /// `X-SITE-DEPLOYMENT-ID`: Azure's runtime name of the content, which travels with a swap.
    pub deployment_id: String,
    /// Where requests go that no ramp-up rule sends elsewhere.
    pub pool: Arc<Pool>,
    /// `siteConfig.experiments.rampUpRules`, on production only.
    pub ramp_up: Vec<RampUp>,
    /// Requests that no instance could be asked to answer (503). They are no instance's, so they are
    /// counted here; whoever makes the next table hands the same counter on.
    pub unserved: Arc<AtomicU64>,
}

impl Site {
    /// A running site with App Service's defaults and no instance yet.
    pub fn new(name: impl Into<String>, slot: Option<&str>) -> Self {
        let name = name.into();
        let label = slot.map_or_else(|| name.clone(), |slot| format!("{name}-{slot}"));
        Self {
            host: format!("{}.azurewebsites.net", label.to_ascii_lowercase()),
            slot: slot.map(str::to_owned),
            deployment_id: label,
            name,
            https_only: false,
            min_tls: TlsVersion::V1_2,
            http2: false,
            websockets: true,
            affinity: true,
            client_idle: Duration::from_secs(230),
            state: SiteState::Running,
            access: Access::default(),
            auth: None,
            cors: None,
            pool: Arc::default(),
            ramp_up: Vec::new(),
            unserved: Arc::default(),
        }
    }
}

/// App Service authentication, as far as a region has it: the identity provider of a linked static site
/// (<https://learn.microsoft.com/azure/static-web-apps/apis-app-service#manage-access-to-azure-app-service>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The static site whose requests are let in, by its host name; without one nobody's are.
    pub linked: Option<String>,
    /// `globalValidation.unauthenticatedClientAction`.
    pub otherwise: Unauthenticated,
    /// `globalValidation.excludedPaths`: these are everybody's.
    pub excluded: Vec<String>,
}

/// What becomes of a request of somebody unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// `AllowAnonymous`: it is served.
    Allow,
    /// `Return401`, and what `RedirectToLoginPage` comes to where nobody can sign in.
    Refuse401,
    /// `Return403`.
    Refuse403,
    /// `Return404`.
    Refuse404,
}

impl Auth {
    /// What to answer to a request for `path` that `from` passed on, if it is not to be served.
    pub(crate) fn refusal(&self, from: Option<&str>, path: &str) -> Option<StatusCode> {
        if from.is_some() && self.linked.as_deref() == from {
            return None;
        }
        let excluded = self.excluded.iter().any(|one| match one.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => {
                path == one || path.strip_prefix(one.as_str()).is_some_and(|p| p.starts_with('/'))
            }
        });
        match self.otherwise {
            _ if excluded => None,
            Unauthenticated::Allow => None,
            Unauthenticated::Refuse401 => Some(StatusCode::UNAUTHORIZED),
            Unauthenticated::Refuse403 => Some(StatusCode::FORBIDDEN),
            Unauthenticated::Refuse404 => Some(StatusCode::NOT_FOUND),
        }
    }
}

/// `state` of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteState {
    /// Requests are served.
    Running,
    /// Requests are answered 403 with App Service's "Web App is stopped" page.
    Stopped,
}

/// `minTlsVersion`. Versions below 1.2 are accepted as settings and served as 1.2, which is the
/// least that the gateway's TLS library speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum TlsVersion {
    V1_0,
    V1_1,
    V1_2,
    V1_3,
}

/// One rule of `rampUpRules`.
#[derive(Clone, Debug)]
pub struct RampUp {
    /// The slot's name, the value of `x-ms-routing-name`.
    pub slot: String,
    /// `reroutePercentage`, 0 to 100. At 0 clients reach the slot only by asking for it.
    pub percent: f64,
    /// The slot's instances.
    pub pool: Arc<Pool>,
}

/// The instances that requests of a site are spread over.
#[derive(Debug, Default)]
pub struct Pool {
    instances: Box<[Arc<Instance>]>,
    /// Where the next search starts, so that equally busy instances take turns.
    turn: AtomicUsize,
}

impl Pool {
    /// A pool of these instances.
    pub fn new(instances: impl IntoIterator<Item = Arc<Instance>>) -> Arc<Self> {
        Arc::new(Self { instances: instances.into_iter().collect(), turn: AtomicUsize::new(0) })
    }

    /// The instances.
    pub fn instances(&self) -> &[Arc<Instance>] {
        &self.instances
    }

    /// The healthy instance with the fewest requests in flight, none of `tried` if there is another.
    pub(crate) fn pick(&self, tried: &[u64]) -> Option<InFlight> {
        let count = self.instances.len();
        let start = if count > 1 { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        (0..count)
            .map(|i| &self.instances[(start + i) % count])
            .filter(|instance| instance.healthy())
            .min_by_key(|instance| (tried.contains(&instance.key()), instance.in_flight()))
            .map(InFlight::begin)
    }

    /// The healthy instance of that id.
    pub(crate) fn find(&self, id: &str) -> Option<InFlight> {
        self.instances
            .iter()
            .find(|instance| instance.id() == id && instance.healthy())
            .map(InFlight::begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(count: u16) -> Vec<Arc<Instance>> {
        (1..=count)
            .map(|i| Arc::new(Instance::new(i.to_string(), ([127, 0, 0, 1], i).into())))
            .collect()
    }

    #[test]
    fn idle_instances_take_turns_and_busy_ones_wait() {
        let all = instances(3);
        let pool = Pool::new(all.clone());
        let mut seen: Vec<_> =
            (0..3).filter_map(|_| pool.pick(&[])).map(|p| p.instance().id().to_owned()).collect();
        seen.sort();
        assert_eq!(seen, ["1", "2", "3"]);
        let _busy: Vec<_> = [InFlight::begin(&all[0]), InFlight::begin(&all[2])].into();
        for _ in 0..5 {
            assert_eq!(pool.pick(&[]).expect("an instance").instance().id(), "2");
        }
    }

    #[test]
    fn the_unhealthy_are_passed_over_and_the_tried_come_last() {
        let all = instances(2);
        let pool = Pool::new(all.clone());
        all[0].set_healthy(false);
        assert_eq!(pool.pick(&[all[1].key()]).expect("the only one").instance().id(), "2");
        assert!(pool.find("1").is_none());
        all[0].set_healthy(true);
        assert_eq!(pool.pick(&[all[1].key()]).expect("the other").instance().id(), "1");
        for instance in &all {
            instance.set_healthy(false);
        }
        assert!(pool.pick(&[]).is_none());
    }
}
