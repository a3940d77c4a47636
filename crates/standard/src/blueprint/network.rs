//! The VNet, its subnets and their security groups.
//!
//! Every subnet has a group that ends in a denial both ways: Azure's default rules let a whole
//! VNet talk to itself.

use super::{Direction, Network, SecurityGroup, SecurityRule, Subnet};
use crate::data::{database, network};

const INTERNET: &str = "Internet";
const ANY: &str = "*";
/// The last priority before Azure's default rules.
const LAST: u16 = 4096;

/// The VNet; `cache` is the port of whichever Redis there is.
pub(super) fn network(name: String, cache: u16) -> Network {
    let (app, pe, db, mgmt) = (*network::APP, *network::PE, *network::DB, *network::MGMT);
    let (direct, pooled) = (*database::PORT, *database::POOLED_PORT);
    let subnets = vec![
        Subnet {
            delegation: Some(network::APP_DELEGATION.to_string()),
            ..subnet(
                app,
                "app-nsg",
                vec![
                    outbound(100, "AllowVNetOutbound", app.1, &[pe.1, db.1], &[443, direct, pooled, cache])
                        .because("Key Vault and Redis by private endpoint; PostgreSQL directly (5432) and through PgBouncer (6432, erratum 1)"),
                    outbound(110, "AllowExternalOutbound", app.1, &[INTERNET], &[443])
                        .because("External APIs over HTTPS"),
                    outbound(LAST, "DenyAllOutbound", app.1, &[ANY], &[]).denied()
                        .because("Nothing else leaves"),
                    inbound(LAST, "DenyAllInbound", &[ANY], app.1, &[]).denied()
                        .because("App Service uses this subnet for outbound connections only"),
                ],
            )
        },
        Subnet {
            private_endpoint_policies: true,
            ..subnet(
                pe,
                "pe-nsg",
                vec![
                    inbound(100, "AllowFromApp", &[app.1], pe.1, &[443, cache])
                        .because("Key Vault and Redis, for the app alone"),
                    inbound(LAST, "DenyAll", &[ANY], pe.1, &[]).denied()
                        .because("Nobody else; holds for private endpoints because the subnet applies network policies to them (erratum 6)"),
                    outbound(LAST, "DenyAllOutbound", pe.1, &[ANY], &[]).denied()
                        .because("A private endpoint opens no connection"),
                ],
            )
        },
        Subnet {
            delegation: Some(network::DB_DELEGATION.to_string()),
            ..subnet(
                db,
                "db-nsg",
                vec![
                    inbound(100, "AllowFromApp", &[app.1], db.1, &[direct, pooled])
                        .because("PostgreSQL directly (migrations, LISTEN) and through PgBouncer (erratum 1)"),
                    inbound(110, "AllowWithinSubnet", &[db.1], db.1, &[direct, pooled])
                        .because("High availability: primary and standby talk to each other (erratum 5)"),
                    inbound(LAST, "DenyAll", &[ANY], db.1, &[]).denied().because("Nobody else"),
                    outbound(100, "AllowWithinSubnetOutbound", db.1, &[db.1], &[direct, pooled])
                        .because("High availability: primary and standby talk to each other (erratum 5)"),
                    outbound(110, "AllowStorageOutbound", db.1, &["Storage"], &[443])
                        .because("WAL is archived to Azure Storage: without it there is no backup (erratum 5)"),
                    outbound(LAST, "DenyAllOutbound", db.1, &[ANY], &[]).denied()
                        .because("A database opens no other connection"),
                ],
            )
        },
        subnet(
            mgmt,
            "mgmt-nsg",
            vec![
                inbound(LAST, "DenyAll", &[ANY], mgmt.1, &[]).denied()
                    .because("Empty until a Bastion is placed here"),
                outbound(LAST, "DenyAllOutbound", mgmt.1, &[ANY], &[]).denied()
                    .because("Empty until a Bastion is placed here"),
            ],
        ),
    ];
    Network { name, address_space: network::ADDRESS_SPACE.to_string(), subnets }
}

fn subnet((name, prefix): (&str, &str), group: &str, rules: Vec<SecurityRule>) -> Subnet {
    Subnet {
        name: name.to_owned(),
        prefix: prefix.to_owned(),
        delegation: None,
        private_endpoint_policies: false,
        security_group: SecurityGroup { name: group.to_owned(), rules },
    }
}

fn rule(
    direction: Direction,
    priority: u16,
    name: &str,
    sources: &[&str],
    destinations: &[&str],
    ports: &[u16],
) -> SecurityRule {
    let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    SecurityRule {
        name: name.to_owned(),
        priority,
        direction,
        allow: true,
        protocol: "Tcp".to_owned(),
        sources: owned(sources),
        destinations: owned(destinations),
        ports: ports.to_vec(),
        reason: String::new(),
    }
}

fn outbound(priority: u16, name: &str, from: &str, to: &[&str], ports: &[u16]) -> SecurityRule {
    rule(Direction::Outbound, priority, name, &[from], to, ports)
}

fn inbound(priority: u16, name: &str, from: &[&str], to: &str, ports: &[u16]) -> SecurityRule {
    rule(Direction::Inbound, priority, name, from, &[to], ports)
}

impl SecurityRule {
    fn denied(mut self) -> Self {
        self.allow = false;
        ANY.clone_into(&mut self.protocol);
        self
    }

    fn because(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.reason);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{Blueprint, Subnet};
    use super::*;
    use crate::reachability::paths;
    use crate::{Environment, Manifest};

    fn blueprints() -> impl Iterator<Item = Blueprint> {
        ["premium", "managed"].into_iter().flat_map(|cache| {
            let source = format!(
                "app: notes\nlocation: westeurope\nbackend: {{ app: a:b }}\ncache: {cache}\n"
            );
            let manifest = Manifest::parse(&source, "x").expect("a manifest");
            Environment::ALL.map(|e| Blueprint::new(&manifest, e))
        })
    }

    fn ends(subnets: &[Subnet]) -> Vec<(&'static str, &'static str, u16)> {
        paths(subnets).into_iter().map(|(from, to, port, _)| (from, to, port)).collect()
    }

    #[test]
    fn what_must_be_reachable_is_and_nothing_else() {
        for blueprint in blueprints() {
            let cache = blueprint.cache.port;
            let mut expected = vec![
                ("app", "db", 5432),
                ("app", "db", 6432),
                ("app", "internet", 443),
                ("app", "pe", 443),
                ("app", "pe", cache),
                ("app", "storage", 443),
                ("db", "db", 5432),
                ("db", "db", 6432),
                ("db", "storage", 443),
            ];
            expected.sort_unstable();
            assert_eq!(ends(&blueprint.network.subnets), expected, "{}", blueprint.environment);
        }
    }

    /// The analysis sees it when a rule goes missing or is widened, and names the path and the rule.
    #[test]
    fn a_broken_rule_opens_a_path_that_is_named() {
        let blueprint = blueprints().next().expect("one");
        let good = paths(&blueprint.network.subnets);
        let mut broken = blueprint.network.subnets.clone();
        broken[2].security_group.rules.retain(|r| r.name != "DenyAll");
        let opened: Vec<_> = paths(&broken).into_iter().filter(|p| !good.contains(p)).collect();
        // The app's group lets one list of ports out to both subnets; only the database's own denial
        // keeps those that are not PostgreSQL's from arriving.
        let by = || "app-nsg/AllowVNetOutbound and db-nsg/AllowVnet".to_owned();
        assert_eq!(opened, [("app", "db", 443, by()), ("app", "db", 6380, by())]);
        broken[3].security_group.rules.retain(|r| r.name != "DenyAllOutbound");
        let opened: Vec<_> = paths(&broken).into_iter().filter(|p| !good.contains(p)).collect();
        assert!(
            opened.contains(&(
                "mgmt",
                "db",
                5432,
                "mgmt-nsg/AllowVnet and db-nsg/AllowVnet".to_owned()
            )),
            "{opened:?}"
        );

        let mut broken = blueprint.network.subnets.clone();
        "*".clone_into(&mut broken[1].security_group.rules[0].sources[0]);
        let opened: Vec<_> = paths(&broken).into_iter().filter(|p| !good.contains(p)).collect();
        assert!(
            opened.contains(&("internet", "pe", 443, "pe-nsg/AllowFromApp".to_owned())),
            "{opened:?}"
        );
    }

    #[test]
    fn rules_are_what_azure_takes() {
        for blueprint in blueprints() {
            for subnet in &blueprint.network.subnets {
                let mut seen = BTreeSet::new();
                for rule in &subnet.security_group.rules {
                    assert!((100..=4096).contains(&rule.priority), "{}", rule.name);
                    assert!(
                        seen.insert((rule.direction == Direction::Inbound, rule.priority)),
                        "{}: one priority twice",
                        rule.name
                    );
                    assert!(rule.reason.len() <= 140 && !rule.reason.is_empty(), "{}", rule.reason);
                }
            }
        }
    }
}
