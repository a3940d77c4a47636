//! What the front end knows of a site or slot.

use std::{sync::Arc, time::Duration};

use crate::Instance;

/// A site or slot as the front end serves it. Immutable: a changed site is a new one in a new table.
#[derive(Clone, Debug)]
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
    /// `X-SITE-DEPLOYMENT-ID`: Azure's runtime name of the content, which travels with a swap.
    pub deployment_id: String,
    /// Where requests go that no ramp-up rule sends elsewhere.
    pub pool: Arc<Pool>,
    /// `siteConfig.experiments.rampUpRules`, on production only.
    pub ramp_up: Vec<RampUp>,
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
            pool: Arc::default(),
            ramp_up: Vec::new(),
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
}

impl Pool {
    /// A pool of these instances.
    pub fn new(instances: impl IntoIterator<Item = Arc<Instance>>) -> Arc<Self> {
        Arc::new(Self { instances: instances.into_iter().collect() })
    }

    /// The instances.
    pub fn instances(&self) -> &[Arc<Instance>] {
        &self.instances
    }
}
