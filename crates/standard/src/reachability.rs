//! What reaches what by the security rules: proven by trying every pair of places with every port,
//! Azure's default rules included. The subnets are the standard's four, in its order.

use std::collections::BTreeSet;

use crate::blueprint::{Direction, SecurityRule, Subnet};

/// Somewhere a connection begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A subnet, by its index.
    Subnet(usize),
    /// Anywhere outside.
    Internet,
    /// Azure Storage, which is part of the internet to a rule that says `Internet`.
    Storage,
}

const NAMES: [&str; 4] = ["app", "pe", "db", "mgmt"];

fn name(place: Place) -> &'static str {
    match place {
        Place::Subnet(at) => NAMES.get(at).copied().unwrap_or("another subnet"),
        Place::Internet => "internet",
        Place::Storage => "storage",
    }
}

/// Whether a prefix or service tag of a rule means a place.
fn means(tag: &str, place: Place, subnets: &[Subnet]) -> bool {
    match (tag, place) {
        ("*", _)
        | ("VirtualNetwork", Place::Subnet(_))
        | ("Internet", Place::Internet | Place::Storage)
        | ("Storage", Place::Storage) => true,
        (prefix, Place::Subnet(at)) => subnets[at].prefix == prefix,
        _ => false,
    }
}

/// Azure's default rules, after all others: the VNet talks to itself, and out to the internet
/// (<https://learn.microsoft.com/azure/virtual-network/network-security-groups-overview#default-security-rules>).
fn default_rules(direction: Direction) -> Vec<SecurityRule> {
    let rule = |priority, name: &str, allow, from: &str, to: &str| SecurityRule {
        name: name.to_owned(),
        priority,
        direction,
        allow,
        protocol: "*".to_owned(),
        sources: vec![from.to_owned()],
        destinations: vec![to.to_owned()],
        ports: Vec::new(),
        reason: String::new(),
    };
    vec![
        rule(65_000, "AllowVnet", true, "VirtualNetwork", "VirtualNetwork"),
        rule(65_001, "AllowInternet", direction == Direction::Outbound, "*", "Internet"),
        rule(65_500, "DenyAll", false, "*", "*"),
    ]
}

/// What a security group decides about one connection, and by which rule.
fn decision(
    subnets: &[Subnet],
    group: usize,
    direction: Direction,
    from: Place,
    to: Place,
    port: u16,
) -> (bool, String) {
    let mut rules = subnets[group].security_group.rules.clone();
    rules.extend(default_rules(direction));
    rules.retain(|r| r.direction == direction);
    rules.sort_by_key(|r| r.priority);
    let first = rules.iter().find(|r| {
        r.sources.iter().any(|s| means(s, from, subnets))
            && r.destinations.iter().any(|d| means(d, to, subnets))
            && (r.ports.is_empty() || r.ports.contains(&port))
            && matches!(&*r.protocol, "*" | "Tcp")
    });
    let group = &subnets[group].security_group.name;
    // The last default rule matches everything.
    first.map_or((false, group.clone()), |r| (r.allow, format!("{group}/{}", r.name)))
}

/// Whether a TCP connection can be opened: out of one group, into the other.
/// # Errors
/// The rule that denies it.
pub fn open(subnets: &[Subnet], from: Place, to: Place, port: u16) -> Result<String, String> {
    let mut path = Vec::new();
    if let Place::Subnet(at) = from {
        let (allow, by) = decision(subnets, at, Direction::Outbound, from, to, port);
        if !allow {
            return Err(by);
        }
        path.push(by);
    }
    if let Place::Subnet(at) = to {
        let (allow, by) = decision(subnets, at, Direction::Inbound, from, to, port);
        if !allow {
            return Err(by);
        }
        path.push(by);
    }
    Ok(path.join(" and "))
}

/// Every open path: from, to, port, and what opened it. The ports are all that any rule names,
/// and one that none does.
pub fn paths(subnets: &[Subnet]) -> BTreeSet<(&'static str, &'static str, u16, String)> {
    let mut ports: BTreeSet<u16> = subnets
        .iter()
        .flat_map(|s| &s.security_group.rules)
        .flat_map(|r| r.ports.clone())
        .collect();
    ports.extend([22, 80]);
    let mut places: Vec<Place> = (0..subnets.len()).map(Place::Subnet).collect();
    places.extend([Place::Internet, Place::Storage]);
    let mut paths = BTreeSet::new();
    for from in &places {
        for to in &places {
            if !matches!((from, to), (Place::Subnet(_), _) | (_, Place::Subnet(_))) {
                continue;
            }
            for port in &ports {
                if let Ok(by) = open(subnets, *from, *to, *port) {
                    paths.insert((name(*from), name(*to), *port, by));
                }
            }
        }
    }
    paths
}
