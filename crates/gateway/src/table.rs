//! The routing table: host name to target.

use std::{collections::HashMap, fmt, sync::Arc};

use crate::{Certificate, Service, Site, names::canonical};

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
    /// Of names that are not Azure's.
    certificates: HashMap<Box<str>, Certificate>,
    /// How many targets are for `*.` something.
    wildcards: usize,
}

impl Table {
    /// A table of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Routes `host` (any case, a trailing dot ignored; a first label `*` stands for any one label) to
    /// `target`; returns whom it replaced.
    pub fn insert(&mut self, host: &str, target: Target) -> Option<Target> {
        let before = self.targets.insert(canonical(host).into(), target);
        self.wildcards += usize::from(before.is_none() && host.starts_with("*."));
        before
    }

    /// Forgets `host`, and its certificate.
    pub fn remove(&mut self, host: &str) -> Option<Target> {
        self.certificates.remove(&*canonical(host));
        let before = self.targets.remove(&*canonical(host));
        self.wildcards -= usize::from(before.is_some() && host.starts_with("*."));
        before
    }

    /// Shows `certificate` to whoever asks for `host`; without one the region's own is shown.
    pub fn certify(&mut self, host: &str, certificate: Option<Certificate>) {
        let host = canonical(host);
        match certificate {
            Some(certificate) => self.certificates.insert(host.into(), certificate),
            None => self.certificates.remove(&*host),
        };
    }

    /// Who answers for `host`.
    pub fn get(&self, host: &str) -> Option<&Target> {
        self.find(&self.targets, host)
    }

    /// The certificate that was brought for `host`.
    pub fn certificate(&self, host: &str) -> Option<&Certificate> {
        self.find(&self.certificates, host)
    }

    fn find<'a, T>(&self, map: &'a HashMap<Box<str>, T>, host: &str) -> Option<&'a T> {
        let host = canonical(host);
        let exact = map.get(&*host);
        if exact.is_some() || self.wildcards == 0 || self.targets.contains_key(&*host) {
            return exact;
        }
        let (_, domain) = host.split_once('.')?;
        map.get(format!("*.{domain}").as_str())
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

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let mut table = Table::new();
        table.insert("*.example.org", site("a"));
        table.insert("www.example.org", site("b"));
        let found = |table: &Table, host: &str| match table.get(host) {
            Some(Target::Site(site)) => Some(site.host.clone()),
            _ => None,
        };
        assert_eq!(found(&table, "x.Example.org").as_deref(), Some("a"));
        assert_eq!(found(&table, "www.example.org").as_deref(), Some("b"));
        assert_eq!(found(&table, "example.org"), None);
        assert_eq!(found(&table, "x.y.example.org"), None);
        table.remove("*.example.org");
        assert_eq!(found(&table, "x.example.org"), None);
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
