//! The routing table: host name to target.

use std::{collections::HashMap, fmt, sync::Arc};

use crate::{Service, Site, names::canonical};

/// Who answers for a host name.
#[derive(Clone)]
pub enum Target {
    /// A site behind App Service's front end.
    Site(Arc<Site>),
    /// Something of the region itself: Resource Manager, a vault, a site's SCM.
    Service(Arc<dyn Service>),
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(site) => f.debug_tuple("Site").field(&site.host).finish(),
            Self::Service(_) => f.write_str("Service"),
        }
    }
}

/// Every host name the region owns and who answers for it. A table is never changed once published:
/// build the next one from [`Clone`], and publish that.
#[derive(Clone, Debug, Default)]
pub struct Table {
    targets: HashMap<Box<str>, Target>,
}

impl Table {
    /// A table of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Routes `host` (exact, any case, a trailing dot ignored) to `target`; returns whom it replaced.
    pub fn insert(&mut self, host: &str, target: Target) -> Option<Target> {
        self.targets.insert(canonical(host).into(), target)
    }

    /// Forgets `host`.
    pub fn remove(&mut self, host: &str) -> Option<Target> {
        self.targets.remove(&*canonical(host))
    }

    /// Who answers for `host`.
    pub fn get(&self, host: &str) -> Option<&Target> {
        self.targets.get(&*canonical(host))
    }

    /// Every host name and its target.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Target)> {
        self.targets.iter().map(|(host, target)| (&**host, target))
    }
}
