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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn site(host: &str) -> Target {
        Target::Site(Arc::new(Site { host: host.to_owned(), ..Site::new("x", None) }))
    }

    proptest! {
        #[test]
        fn a_host_is_found_in_any_spelling_and_no_other_host_is(
            hosts in prop::collection::hash_set("[a-z]{1,3}(-[a-z]{1,2})?", 0..12),
            absent in "[a-z]{1,3}(-[a-z]{1,2})?",
            upper: bool,
            dot: bool,
        ) {
            let full = |host: &str| format!("{host}.azurewebsites.net");
            let mut table = Table::new();
            for host in &hosts {
                prop_assert!(table.insert(&full(host).to_uppercase(), site(&full(host))).is_none());
            }
            for host in hosts.iter().chain([&absent]) {
                let mut asked = if upper { full(host).to_uppercase() } else { full(host) };
                if dot {
                    asked.push('.');
                }
                let found = match table.get(&asked) {
                    Some(Target::Site(site)) => Some(site.host.clone()),
                    _ => None,
                };
                prop_assert_eq!(found, hosts.contains(host).then(|| full(host)));
            }
            let names: HashSet<String> = table.iter().map(|(name, _)| name.to_owned()).collect();
            prop_assert_eq!(names, hosts.iter().map(|host| full(host)).collect::<HashSet<_>>());
            for host in &hosts {
                prop_assert!(table.remove(&full(host)).is_some());
                prop_assert!(table.get(&full(host)).is_none());
            }
        }
    }
}
