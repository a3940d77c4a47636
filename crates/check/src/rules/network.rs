//! The network: reachability by walking the rules as Azure does, not by looking for words in them.

use std::collections::HashMap;

use lazuli_hcl::terraform::Resource;
use lazuli_hcl::{Kind, Map, Span, Value};
use lazuli_standard::Environment;
use lazuli_standard::data::{cache, database, network};

use super::{Attribute, Got, REDIS, SERVER, SITES, VAULT, attribute, get};
use crate::project::Stack;
use crate::rule::{
    Check, Rule,
    Severity::{Error, Note, Warning},
};

const NSG: &str = "Network Security Groups";
const VNET: &str = "VNet Architecture";
const SUBNET: &[&str] = &["azurerm_subnet"];
const GROUP: &[&str] = &["azurerm_network_security_group"];
const PEERING: &[&str] = &["azurerm_virtual_network_peering"];
const ENDPOINT: &[&str] = &["azurerm_private_endpoint"];
const ZONE: &[&str] = &["azurerm_private_dns_zone"];
const LINK: &[&str] = &["azurerm_private_dns_zone_virtual_network_link"];
const ASSOCIATION: &[&str] = &["azurerm_subnet_network_security_group_association"];

/// One rule of a network security group.
struct Line<'a> {
    map: &'a Map,
    span: Span,
    priority: f64,
}

/// Whether a packet passes, and by which rule.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Verdict {
    Allowed(Option<Span>),
    Denied(Option<Span>),
    Unknown,
}

/// What a packet is.
struct Packet<'a> {
    source: &'a str,
    destination: &'a str,
    port: u16,
}

fn group_of<'a>(s: &'a Stack, subnet: &'a Resource) -> Option<Result<&'a Resource, ()>> {
    if let Some((a, sure)) = s.attached(subnet, ASSOCIATION, "subnet_id").next() {
        if !sure {
            return Some(Err(()));
        }
        return Some(s.target(a.get("network_security_group_id")).ok_or(()));
    }
    None
}

/// A group's rules, in the order Azure looks at them; `None` when one of them is not known.
fn lines<'a>(s: &'a Stack, group: &'a Resource, inbound: bool) -> Option<Vec<Line<'a>>> {
    let mut out: Vec<(&Map, Span)> =
        group.body.blocks("security_rule").into_iter().map(|(v, m)| (m, v.span)).collect();
    if group.get("security_rule").is_some_and(|v| {
        v.as_list().is_some_and(|l| l.iter().any(|i| matches!(i.kind, Kind::Unknown(_))))
            || v.is_unknown()
    }) {
        return None;
    }
    for r in s.security_rules(group.get("name")) {
        let v = r.get("network_security_group_name")?;
        let name = group.get("name")?;
        // A name that holds something unknown is still the group's when it is the very value that
        // stands in the group.
        let mine = v.refs().iter().any(|x| x.address == group.address)
            || v.equals(name) == Some(true)
            || v.span == name.span;
        if mine {
            if !crate::project::certain(r) {
                return None;
            }
            out.push((&r.body, r.header));
        } else if v.equals(name).is_none() && v.refs().is_empty() {
            return None;
        }
    }
    let mut lines = Vec::new();
    for (map, span) in out {
        let direction = map.get("direction")?.as_str()?;
        if direction.eq_ignore_ascii_case("Inbound") != inbound {
            continue;
        }
        lines.push(Line { map, span, priority: map.get("priority")?.as_number()? });
    }
    lines.sort_by(|a, b| a.priority.total_cmp(&b.priority));
    Some(lines)
}

fn verdict(s: &Stack, group: &Resource, inbound: bool, p: &Packet<'_>) -> Verdict {
    let Some(lines) = lines(s, group, inbound) else { return Verdict::Unknown };
    for l in lines {
        let protocol = l.map.get("protocol").and_then(Value::as_str).unwrap_or("*");
        if !(protocol == "*" || protocol.eq_ignore_ascii_case("tcp")) {
            continue;
        }
        let hit = [
            address(l.map, "source_address_prefix", p.source),
            address(l.map, "destination_address_prefix", p.destination),
            ports(l.map, p.port),
        ];
        if hit.contains(&Some(false)) {
            continue;
        }
        if hit.contains(&None) {
            return Verdict::Unknown;
        }
        return match l.map.get("access").and_then(Value::as_str) {
            Some(a) if a.eq_ignore_ascii_case("Allow") => Verdict::Allowed(Some(l.span)),
            Some(_) => Verdict::Denied(Some(l.span)),
            None => Verdict::Unknown,
        };
    }
    // Azure's own rules at the end of every group.
    let inside = |a: &str| a != "Internet";
    match (inbound, inside(p.source), inside(p.destination)) {
        (_, true, true) | (false, ..) => Verdict::Allowed(None),
        _ => Verdict::Denied(None),
    }
}

/// Whether a packet's address is meant by a rule's prefix or prefixes.
fn address(m: &Map, key: &str, address: &str) -> Option<bool> {
    let plural = format!("{key}es");
    let groups = key.replace("_address_prefix", "_application_security_group_ids");
    if m.get(&groups).is_some() {
        return None;
    }
    let list: Vec<&Value> = match (m.get(key), m.get(&plural)) {
        (Some(v), _) => vec![v],
        (None, Some(v)) => v.as_list()?.iter().collect(),
        (None, None) => return Some(true),
    };
    any(list.into_iter().map(|v| v.as_str().and_then(|t| matches(t, address))))
}

fn any(mut hits: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut unknown = false;
    let hit = hits.any(|h| {
        unknown |= h.is_none();
        h == Some(true)
    });
    if hit {
        Some(true)
    } else if unknown {
        None
    } else {
        Some(false)
    }
}

fn matches(prefix: &str, address: &str) -> Option<bool> {
    match prefix {
        "*" | "0.0.0.0/0" => return Some(true),
        "Internet" => return Some(address == "Internet"),
        "VirtualNetwork" => return Some(address != "Internet" && address != "Storage"),
        _ => {}
    }
    if address == "Internet" {
        // A range of public addresses is some of the internet, not all of it.
        return Some(false);
    }
    if address == "Storage" {
        return Some(
            prefix == "Storage"
                || prefix.starts_with("Storage.")
                || prefix == "AzureCloud"
                || prefix.starts_with("AzureCloud."),
        );
    }
    match (range(prefix), range(address)) {
        (Some((a, la)), Some((b, lb))) => Some(la <= lb && (b & mask(la)) == a),
        (None, _) if prefix.chars().all(|c| c.is_ascii_alphanumeric() || c == '.') => Some(false),
        _ => None,
    }
}

fn range(t: &str) -> Option<(u32, u32)> {
    let (ip, len) = t.split_once('/').unwrap_or((t, "32"));
    let ip: std::net::Ipv4Addr = ip.parse().ok()?;
    let len: u32 = len.parse().ok().filter(|l| *l <= 32)?;
    Some((u32::from(ip) & mask(len), len))
}

fn mask(len: u32) -> u32 {
    if len == 0 { 0 } else { u32::MAX << (32 - len) }
}

fn ports(m: &Map, port: u16) -> Option<bool> {
    let list: Vec<&Value> =
        match (m.get("destination_port_range"), m.get("destination_port_ranges")) {
            (Some(v), _) => vec![v],
            (None, Some(v)) => v.as_list()?.iter().collect(),
            (None, None) => return Some(true),
        };
    any(list.into_iter().map(|v| {
        let t = v.known_text();
        if v.is_unknown() {
            return None;
        }
        if t == "*" {
            return Some(true);
        }
        let (a, b) = t.split_once('-').unwrap_or((&t, &t));
        Some((a.trim().parse::<u16>().ok()?..=b.trim().parse::<u16>().ok()?).contains(&port))
    }))
}

fn prefix(subnet: &Resource) -> Option<String> {
    let v = subnet
        .get("address_prefixes")
        .and_then(Value::as_list)
        .and_then(|l| l.first())
        .or(subnet.get("address_prefix"))?;
    v.as_str().map(str::to_owned)
}

fn delegation(subnet: &Resource) -> Option<String> {
    let (_, d) = subnet.body.block("delegation")?;
    let (_, sd) = d.block("service_delegation")?;
    sd.get("name").map(Value::known_text)
}

/// Subnets by what they are for.
fn app_subnets(s: &Stack) -> impl Iterator<Item = &Resource> {
    s.all(SUBNET).filter(|n| {
        delegation(n).is_some_and(|d| d.eq_ignore_ascii_case(&network::APP_DELEGATION))
            || s.referring(n).any(|r| SITES.contains(&&*r.kind))
    })
}
/// The subnets of the app from which another is to be reached: those of the same virtual network, and where
/// networks are peered those of any.
struct Apps<'a> {
    peered: bool,
    all: Vec<App<'a>>,
    by_network: HashMap<String, Vec<usize>>,
    /// Their network is not known.
    anywhere: Vec<usize>,
}

struct App<'a> {
    subnet: &'a Resource,
    prefix: String,
    group: Option<&'a Resource>,
}

impl<'a> Apps<'a> {
    fn of(s: &'a Stack) -> Self {
        let mut apps = Self {
            peered: s.any(PEERING),
            all: Vec::new(),
            by_network: HashMap::new(),
            anywhere: Vec::new(),
        };
        for subnet in app_subnets(s) {
            let Some(prefix) = prefix(subnet) else { continue };
            match network_of(subnet) {
                Some(network) => apps.by_network.entry(network).or_default().push(apps.all.len()),
                None => apps.anywhere.push(apps.all.len()),
            }
            let group = group_of(s, subnet).and_then(Result::ok);
            apps.all.push(App { subnet, prefix, group });
        }
        apps
    }

    fn near(&self, to: &Resource) -> Vec<&App<'a>> {
        let network = network_of(to).filter(|_| !self.peered);
        let mut found: Vec<usize> = match &network {
            None => (0..self.all.len()).collect(),
            Some(network) => {
                let known = self.by_network.get(network).into_iter().flatten();
                known.chain(&self.anywhere).copied().collect()
            }
        };
        found.sort_unstable();
        let apps = found.into_iter().map(|i| &self.all[i]);
        apps.filter(|app| app.subnet.address != to.address).collect()
    }
}

/// The name of a subnet's virtual network, where it is known.
fn network_of(subnet: &Resource) -> Option<String> {
    subnet.get("virtual_network_name")?.as_str().map(str::to_owned)
}

fn db_subnets(s: &Stack) -> impl Iterator<Item = &Resource> {
    s.all(SUBNET)
        .filter(|n| delegation(n).is_some_and(|d| d.eq_ignore_ascii_case(&network::DB_DELEGATION)))
}
fn pe_subnets(s: &Stack) -> impl Iterator<Item = &Resource> {
    s.all(SUBNET).filter(|n| s.referring(n).any(|r| ENDPOINT.contains(&&*r.kind)))
}

const NET: &str = r#"resource "azurerm_subnet" "app" {
  name             = "app-subnet"
  address_prefixes = ["10.0.1.0/24"]
  delegation {
    name = "app"
    service_delegation {
      name = "Microsoft.Web/serverFarms"
    }
  }
}
resource "azurerm_subnet" "db" {
  name             = "db-subnet"
  address_prefixes = ["10.0.3.0/24"]
  delegation {
    name = "db"
    service_delegation {
      name = "Microsoft.DBforPostgreSQL/flexibleServers"
    }
  }
}
resource "azurerm_subnet_network_security_group_association" "db" {
  subnet_id                 = azurerm_subnet.db.id
  network_security_group_id = azurerm_network_security_group.db.id
}
"#;

const DB_ONLY_5432: &str = r#"resource "azurerm_network_security_group" "db" {
  name = "db-nsg"
  security_rule {
    name                       = "AllowFromApp"
    priority                   = 100
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "Tcp"
    source_port_range          = "*"
    destination_port_range     = "5432"
    source_address_prefix      = "10.0.1.0/24"
    destination_address_prefix = "10.0.3.0/24"
  }
  security_rule {
    name                       = "DenyAll"
    priority                   = 4096
    direction                  = "Inbound"
    access                     = "Deny"
    protocol                   = "*"
    source_port_range          = "*"
    destination_port_range     = "*"
    source_address_prefix      = "*"
    destination_address_prefix = "*"
  }
}
"#;

const DB_BOTH: &str = r#"resource "azurerm_network_security_group" "db" {
  name = "db-nsg"
  security_rule {
    name                       = "AllowFromApp"
    priority                   = 100
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "Tcp"
    source_port_range          = "*"
    destination_port_ranges    = ["5432", "6432"]
    source_address_prefixes    = ["10.0.1.0/24", "10.0.3.0/24"]
    destination_address_prefix = "10.0.3.0/24"
  }
  security_rule {
    name                       = "DenyAll"
    priority                   = 4096
    direction                  = "Inbound"
    access                     = "Deny"
    protocol                   = "*"
    source_port_range          = "*"
    destination_port_range     = "*"
    source_address_prefix      = "*"
    destination_address_prefix = "*"
  }
}
"#;

const DB_OPEN: &str = r#"resource "azurerm_network_security_group" "db" {
  name = "db-nsg"
  security_rule {
    name                       = "any"
    priority                   = 100
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "*"
    source_port_range          = "*"
    destination_port_range     = "*"
    source_address_prefix      = "*"
    destination_address_prefix = "*"
  }
}
"#;

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-NET-001",
        section: "Network Access",
        erratum: None,
        severity: Error,
        title: "A site is integrated with the VNet",
        why: "Without integration its traffic to database, cache and vault leaves through the internet, where they have no endpoint.",
        fix: "Set `virtual_network_subnet_id` to the app subnet.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  https_only = true\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_subnet\" \"app\" {\n  name = \"app-subnet\"\n}\nresource \"azurerm_linux_web_app\" \"app\" {\n  virtual_network_subnet_id = azurerm_subnet.app.id\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES).filter(|_| s.is_serious()) {
                let swift = s
                    .all(&[
                        "azurerm_app_service_virtual_network_swift_connection",
                        "azurerm_app_service_slot_virtual_network_swift_connection",
                    ])
                    .next()
                    .is_some();
                if swift {
                    o.judged();
                    continue;
                }
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "virtual_network_subnet_id",
                        absent: Some(false),
                        message: "",
                        missing: "no `virtual_network_subnet_id`: the site cannot reach private endpoints",
                        write: None,
                    },
                    |_| Some(true),
                );
            }
        }),
    },
    Rule {
        id: "LZ-NET-002",
        section: "Outbound Traffic",
        erratum: None,
        severity: Warning,
        title: "All outbound traffic goes through the VNet",
        why: "Otherwise only private addresses do: NSG rules do not see the rest, and it leaves by a path nobody controls.",
        fix: "Set `vnet_route_all_enabled = true` in `site_config`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  virtual_network_subnet_id = \"/subscriptions/x/subnets/app\"\n  site_config {\n    vnet_route_all_enabled = false\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  virtual_network_subnet_id = \"/subscriptions/x/subnets/app\"\n  site_config {\n    vnet_route_all_enabled = true\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                if matches!(get(r, "virtual_network_subnet_id"), Got::Missing(_)) {
                    continue;
                }
                // In a setting of its own, as it was done before the attribute existed.
                if super::settings(r).is_some_and(|m| {
                    m.get("WEBSITE_VNET_ROUTE_ALL").is_some_and(|v| v.known_text() == "1")
                }) {
                    o.judged();
                    continue;
                }
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "site_config.vnet_route_all_enabled",
                        absent: Some(false),
                        message: "public addresses are reached past the VNet",
                        missing: "`vnet_route_all_enabled` is not set: public addresses are reached past the VNet",
                        write: Some("true"),
                    },
                    Value::as_bool,
                );
            }
        }),
    },
    Rule {
        id: "LZ-NET-003",
        section: VNET,
        erratum: None,
        severity: Error,
        title: "Subnets are delegated to what lives in them",
        why: "Azure refuses the integration otherwise, after minutes of apply.",
        fix: "Add a `delegation` to `Microsoft.Web/serverFarms` or `Microsoft.DBforPostgreSQL/flexibleServers`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_subnet\" \"app\" {\n  name = \"app-subnet\"\n}\nresource \"azurerm_linux_web_app\" \"app\" {\n  virtual_network_subnet_id = azurerm_subnet.app.id\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_subnet\" \"app\" {\n  name = \"app-subnet\"\n  delegation {\n    name = \"app\"\n    service_delegation {\n      name = \"Microsoft.Web/serverFarms\"\n    }\n  }\n}\nresource \"azurerm_linux_web_app\" \"app\" {\n  virtual_network_subnet_id = azurerm_subnet.app.id\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for (kinds, key, want) in [
                (SITES, "virtual_network_subnet_id", *network::APP_DELEGATION),
                (SERVER, "delegated_subnet_id", *network::DB_DELEGATION),
            ] {
                for r in s.all(kinds) {
                    let Some(n) = s.target(r.get(key)).filter(|n| &*n.kind == "azurerm_subnet")
                    else {
                        continue;
                    };
                    match (n.get("delegation").is_some(), delegation(n)) {
                        (_, Some(d)) if d.eq_ignore_ascii_case(want) || d.contains('…') => {
                            o.judged();
                        }
                        (_, Some(d)) => {
                            o.at(
                                n.header,
                                format!(
                                    "this subnet is delegated to {d}; {} needs {want}",
                                    r.address
                                ),
                            )
                            .label(r.header, "which lives in it");
                        }
                        (false, None) => {
                            o.at(n.header, format!("this subnet is not delegated to {want}"))
                                .unset()
                                .label(r.header, "which lives in it");
                        }
                        _ => {}
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-NET-004",
        section: VNET,
        erratum: None,
        severity: Warning,
        title: "What has no public endpoint has a private one",
        why: "Otherwise nobody reaches it, the app included.",
        fix: "Add an `azurerm_private_endpoint` in the private-endpoint subnet.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_key_vault\" \"kv\" {\n  public_network_access_enabled = false\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_key_vault\" \"kv\" {\n  public_network_access_enabled = false\n}\nresource \"azurerm_private_endpoint\" \"kv\" {\n  private_service_connection {\n    private_connection_resource_id = azurerm_key_vault.kv.id\n    subresource_names              = [\"vault\"]\n  }\n  private_dns_zone_group {\n    name = \"kv\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(VAULT).chain(s.all(REDIS)).chain(s.all(&["azurerm_managed_redis"])) {
                let closed = matches!(get(r, "public_network_access_enabled"), Got::Written(e) if e.value.as_bool() == Some(false))
                    || matches!(get(r, "public_network_access"), Got::Written(e) if e.value.as_str() == Some("Disabled"));
                if !closed {
                    continue;
                }
                // Premium caches may live in a subnet themselves.
                if r.get("subnet_id").is_some() {
                    o.judged();
                    continue;
                }
                let mut unknown = false;
                let has = s.all(ENDPOINT).any(|e| {
                    if let Got::Written(x) =
                        get(e, "private_service_connection.private_connection_resource_id")
                    {
                        let refs = x.value.refs();
                        unknown |= refs.is_empty();
                        refs.iter().any(|f| f.address == r.address || f.address.ends_with("[*]"))
                    } else {
                        unknown = true;
                        false
                    }
                });
                if has {
                    o.judged();
                } else if unknown {
                    o.unknown(format!("a private endpoint's target is not known ({})", r.address));
                } else {
                    o.at(
                        r.header,
                        "it has neither a public nor a private endpoint: nobody reaches it",
                    )
                    .absent();
                }
            }
        }),
    },
    Rule {
        id: "LZ-NET-005",
        section: "DNS",
        erratum: None,
        severity: Error,
        title: "A private endpoint registers its name in the right zone",
        why: "Without the record, or in another zone, the service's name still resolves to its public address.",
        fix: "Add a `private_dns_zone_group` with the zone of the standard's table.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_key_vault\" \"kv\" {\n  name = \"notes-kv\"\n}\nresource \"azurerm_private_endpoint\" \"kv\" {\n  private_service_connection {\n    private_connection_resource_id = azurerm_key_vault.kv.id\n    subresource_names              = [\"vault\"]\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_key_vault\" \"kv\" {\n  name = \"notes-kv\"\n}\nresource \"azurerm_virtual_network\" \"v\" {\n  name = \"notes-vnet\"\n}\nresource \"azurerm_private_dns_zone\" \"kv\" {\n  name = \"privatelink.vaultcore.azure.net\"\n}\nresource \"azurerm_private_dns_zone_virtual_network_link\" \"kv\" {\n  private_dns_zone_id = azurerm_private_dns_zone.kv.id\n  virtual_network_id    = azurerm_virtual_network.v.id\n}\nresource \"azurerm_private_endpoint\" \"kv\" {\n  private_service_connection {\n    private_connection_resource_id = azurerm_key_vault.kv.id\n    subresource_names              = [\"vault\"]\n  }\n  private_dns_zone_group {\n    name                 = \"kv\"\n    private_dns_zone_ids = [azurerm_private_dns_zone.kv.id]\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for e in s.all(ENDPOINT) {
                let sub = match get(e, "private_service_connection.subresource_names") {
                    Got::Written(x) => {
                        x.value.as_list().and_then(|l| l.first()).map(Value::known_text)
                    }
                    _ => None,
                };
                let want = match sub.as_deref() {
                    Some("vault") => *network::VAULT_ZONE,
                    Some("redisCache") => *network::REDIS_ZONE,
                    Some("redisEnterprise") => *network::MANAGED_REDIS_ZONE,
                    Some("postgresqlServer") => *network::POSTGRES_ZONE,
                    Some("sites") => "privatelink.azurewebsites.net",
                    _ => {
                        continue;
                    }
                };
                match get(e, "private_dns_zone_group.private_dns_zone_ids") {
                    Got::Missing(at) if at == e.header => {
                        o.at(e.header, format!("no `private_dns_zone_group`: the name does not resolve to the private address ({want})")).unset();
                    }
                    Got::Written(x) => {
                        for z in x.value.refs().iter().filter_map(|r| s.find(&r.address)) {
                            match z.get("name").and_then(Value::as_str) {
                                Some(n) if n != want => {
                                    o.at(x.at, format!("the zone is {n}: names of this service are looked up in {want}")).label(z.header, "the zone");
                                }
                                _ => o.judged(),
                            }
                        }
                    }
                    _ => {}
                }
            }
        }),
    },
    Rule {
        id: "LZ-NET-006",
        section: "DNS",
        erratum: None,
        severity: Error,
        title: "Every private DNS zone is linked to the VNet",
        why: "A zone that is not linked answers nobody.",
        fix: "Add an `azurerm_private_dns_zone_virtual_network_link`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_private_dns_zone\" \"kv\" {\n  name = \"privatelink.vaultcore.azure.net\"\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_private_dns_zone\" \"kv\" {\n  name = \"privatelink.vaultcore.azure.net\"\n}\nresource \"azurerm_private_dns_zone_virtual_network_link\" \"kv\" {\n  private_dns_zone_id = azurerm_private_dns_zone.kv.id\n}\n",
        )],
        check: Check::Stack(|s, o| {
            // By name, because the name of a zone is what a link holds; once for all zones.
            let mut linked: std::collections::HashSet<String> = std::collections::HashSet::new();
            let mut addresses: std::collections::HashSet<String> = std::collections::HashSet::new();
            let mut unknown = false;
            for l in s.all(LINK) {
                let Some(v) = l.get("private_dns_zone_name").or(l.get("private_dns_zone_id"))
                else {
                    unknown = true;
                    continue;
                };
                match v.as_str() {
                    Some(t) => {
                        linked.insert(t.to_owned());
                    }
                    None if v.refs().is_empty() => unknown = true,
                    None => addresses.extend(v.refs().iter().map(|r| r.address.to_string())),
                }
            }
            for z in s.all(ZONE) {
                let name = z.get("name").and_then(Value::as_str);
                let hit =
                    name.is_some_and(|n| linked.contains(n)) || addresses.contains(&*z.address);
                if hit {
                    o.judged();
                } else if unknown || name.is_none() {
                    o.unknown(format!("{}: a link's zone is not known", z.address));
                } else {
                    o.at(z.header, "this zone is linked to no VNet: it answers nobody").absent();
                }
            }
        }),
    },
    Rule {
        id: "LZ-NET-007",
        section: NSG,
        erratum: Some(1),
        severity: Error,
        title: "The app reaches the database on both of its ports",
        why: "PgBouncer listens on 6432, PostgreSQL on 5432. A group that opens only 5432 leaves the pool unreachable; one that opens neither, the database.",
        fix: "Allow 5432 and 6432 from the app subnet.",
        bad: &[("main.tf", NET), ("nsg.tf", DB_ONLY_5432)],
        good: &[("main.tf", NET), ("nsg.tf", DB_BOTH)],
        check: Check::Stack(|s, o| {
            // Without PgBouncer nothing listens on 6432.
            let burstable = s.all(SERVER).any(|r| {
                r.get("sku_name").and_then(Value::as_str).is_some_and(|t| t.starts_with("B_"))
            });
            let apps = Apps::of(s);
            for db in db_subnets(s) {
                let Some(to) = prefix(db) else { continue };
                let its_group = group_of(s, db).and_then(Result::ok);
                for app in apps.near(db) {
                    let from = &app.prefix;
                    for port in [*database::PORT, *database::POOLED_PORT] {
                        if port == *database::POOLED_PORT && burstable {
                            continue;
                        }
                        let p = Packet { source: from, destination: &to, port };
                        for (group, inbound) in [(its_group, true), (app.group, false)] {
                            let Some(g) = group else { continue };
                            match verdict(s, g, inbound, &p) {
                                Verdict::Denied(by) => {
                                    let what = if port == *database::PORT {
                                        "PostgreSQL"
                                    } else {
                                        "PgBouncer"
                                    };
                                    let f = o.at(
                                        by.unwrap_or(g.header),
                                        format!(
                                            "the app ({from}) does not reach {what} ({to}:{port})"
                                        ),
                                    );
                                    f.label(g.header, "in this group");
                                }
                                Verdict::Allowed(_) => o.judged(),
                                Verdict::Unknown => {
                                    o.unknown(format!("{}: a rule is not fully known", g.address));
                                }
                            }
                        }
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-NET-008",
        section: NSG,
        erratum: Some(5),
        severity: Error,
        title: "A highly available server reaches its standby and the storage of its log",
        why: "High availability needs 5432 and 6432 *within* the subnet, and outbound access to the `Storage` tag for WAL archiving. A deny-all group without them makes the failover, and then the server, fail.",
        fix: "Allow 5432 and 6432 from the db subnet to itself, and outbound 443 to `Storage`.",
        bad: &[
            ("main.tf", NET),
            ("nsg.tf", DB_ONLY_5432),
            (
                "db.tf",
                "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  delegated_subnet_id = azurerm_subnet.db.id\n  private_dns_zone_id = \"/subscriptions/x/zone\"\n  high_availability {\n    mode = \"ZoneRedundant\"\n  }\n}\n",
            ),
        ],
        good: &[
            ("main.tf", NET),
            ("nsg.tf", DB_BOTH),
            (
                "db.tf",
                "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  delegated_subnet_id = azurerm_subnet.db.id\n  private_dns_zone_id = \"/subscriptions/x/zone\"\n  high_availability {\n    mode = \"ZoneRedundant\"\n  }\n}\n",
            ),
        ],
        check: Check::Stack(|s, o| {
            for r in s.all(SERVER).filter(|r| r.get("high_availability").is_some()) {
                let Some(n) = s.target(r.get("delegated_subnet_id")) else { continue };
                let (Some(net), Some(Ok(g))) = (prefix(n), group_of(s, n)) else { continue };
                let mut check =
                    |inbound: bool, source: &str, destination: &str, port: u16, what: &str| {
                        match verdict(s, g, inbound, &Packet { source, destination, port }) {
                            Verdict::Denied(by) => {
                                o.at(
                                    by.unwrap_or(g.header),
                                    format!("the server does not reach {what}"),
                                )
                                .label(g.header, "in this group");
                            }
                            Verdict::Allowed(_) => o.judged(),
                            Verdict::Unknown => {
                                o.unknown(format!("{}: a rule is not fully known", g.address));
                            }
                        }
                    };
                check(true, &net, &net, *database::PORT, "its standby (5432 within the subnet)");
                check(
                    true,
                    &net,
                    &net,
                    *database::POOLED_PORT,
                    "its standby's PgBouncer (6432 within the subnet)",
                );
                check(
                    false,
                    &net,
                    &net,
                    *database::PORT,
                    "its standby (outbound 5432 within the subnet)",
                );
                check(
                    false,
                    &net,
                    "Storage",
                    443,
                    "Storage, where its log is archived (outbound 443)",
                );
            }
        }),
    },
    Rule {
        id: "LZ-NET-009",
        section: NSG,
        erratum: None,
        severity: Error,
        title: "The internet reaches neither database nor private endpoints",
        why: "A group on these subnets lets in the app and nobody else.",
        fix: "Allow the app subnet, and deny the rest.",
        bad: &[("main.tf", NET), ("nsg.tf", DB_OPEN)],
        good: &[("main.tf", NET), ("nsg.tf", DB_BOTH)],
        check: Check::Stack(|s, o| {
            for n in db_subnets(s).chain(pe_subnets(s)) {
                let (Some(to), Some(Ok(g))) = (prefix(n), group_of(s, n)) else { continue };
                for port in [22, 443, *database::PORT, *database::POOLED_PORT, *cache::PORT] {
                    match verdict(
                        s,
                        g,
                        true,
                        &Packet { source: "Internet", destination: &to, port },
                    ) {
                        Verdict::Allowed(by) => {
                            o.at(
                                by.unwrap_or(g.header),
                                format!("this rule lets the internet into {to}"),
                            )
                            .label(n.header, "the subnet");
                        }
                        Verdict::Denied(_) => o.judged(),
                        Verdict::Unknown => {
                            o.unknown(format!("{}: a rule is not fully known", g.address));
                        }
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-NET-010",
        section: NSG,
        erratum: Some(6),
        severity: Warning,
        title: "A group on the private-endpoint subnet is in force",
        why: "Azure applies NSGs to private endpoints only where the subnet's `private_endpoint_network_policies` is enabled; otherwise the group is there for show.",
        fix: "Set `private_endpoint_network_policies = \"Enabled\"` (or `NetworkSecurityGroupEnabled`) on the subnet.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_subnet\" \"pe\" {\n  name             = \"pe-subnet\"\n  address_prefixes = [\"10.0.2.0/24\"]\n}\nresource \"azurerm_network_security_group\" \"pe\" {\n  name = \"pe-nsg\"\n}\nresource \"azurerm_subnet_network_security_group_association\" \"pe\" {\n  subnet_id                 = azurerm_subnet.pe.id\n  network_security_group_id = azurerm_network_security_group.pe.id\n}\nresource \"azurerm_private_endpoint\" \"kv\" {\n  subnet_id = azurerm_subnet.pe.id\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_subnet\" \"pe\" {\n  name                              = \"pe-subnet\"\n  address_prefixes                  = [\"10.0.2.0/24\"]\n  private_endpoint_network_policies = \"Enabled\"\n}\nresource \"azurerm_network_security_group\" \"pe\" {\n  name = \"pe-nsg\"\n}\nresource \"azurerm_subnet_network_security_group_association\" \"pe\" {\n  subnet_id                 = azurerm_subnet.pe.id\n  network_security_group_id = azurerm_network_security_group.pe.id\n}\nresource \"azurerm_private_endpoint\" \"kv\" {\n  subnet_id = azurerm_subnet.pe.id\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for n in pe_subnets(s) {
                if group_of(s, n).is_none() {
                    continue;
                }
                attribute(
                    o,
                    s,
                    n,
                    &Attribute {
                        path: "private_endpoint_network_policies",
                        absent: Some(false),
                        message: "the subnet's group does not apply to its private endpoints",
                        missing: "no `private_endpoint_network_policies`: the subnet's group does not apply to its private endpoints",
                        write: Some("\"Enabled\""),
                    },
                    |v| v.as_str().map(|t| t == "Enabled" || t == "NetworkSecurityGroupEnabled"),
                );
            }
        }),
    },
    Rule {
        id: "LZ-NET-011",
        section: NSG,
        erratum: None,
        severity: Warning,
        title: "Every subnet of the standard has its group",
        why: "Without one, everything in the VNet reaches everything.",
        fix: "Add an `azurerm_network_security_group` and its association.",
        bad: &[("prod/main.tf", NET)],
        good: &[
            ("prod/main.tf", NET),
            ("prod/nsg.tf", DB_BOTH),
            (
                "prod/app.tf",
                "resource \"azurerm_network_security_group\" \"app\" {\n  name = \"app-nsg\"\n}\nresource \"azurerm_subnet_network_security_group_association\" \"app\" {\n  subnet_id                 = azurerm_subnet.app.id\n  network_security_group_id = azurerm_network_security_group.app.id\n}\n",
            ),
        ],
        check: Check::Stack(|s, o| {
            let mut seen = std::collections::HashSet::new();
            for n in
                app_subnets(s).chain(db_subnets(s)).chain(pe_subnets(s)).filter(|_| s.is_serious())
            {
                if !seen.insert(n.address.clone()) {
                    continue;
                }
                if group_of(s, n).is_some() {
                    o.judged();
                } else {
                    o.at(n.header, "this subnet has no network security group").absent();
                }
            }
        }),
    },
    Rule {
        id: "LZ-NET-012",
        section: NSG,
        erratum: None,
        severity: Error,
        title: "The app reaches its private endpoints",
        why: "Key Vault answers on 443 and Redis on 6380; a group that denies either takes the app down at its next start.",
        fix: "Allow 443 and 6380 (10000 on Managed Redis) from the app subnet to the private-endpoint subnet.",
        bad: &[
            ("main.tf", NET),
            (
                "pe.tf",
                "resource \"azurerm_subnet\" \"pe\" {\n  address_prefixes                  = [\"10.0.2.0/24\"]\n  private_endpoint_network_policies = \"Enabled\"\n}\nresource \"azurerm_private_endpoint\" \"kv\" {\n  subnet_id = azurerm_subnet.pe.id\n}\nresource \"azurerm_network_security_group\" \"pe\" {\n  name = \"pe-nsg\"\n  security_rule {\n    priority                   = 200\n    direction                  = \"Inbound\"\n    access                     = \"Deny\"\n    protocol                   = \"*\"\n    destination_port_range     = \"*\"\n    source_address_prefix      = \"*\"\n    destination_address_prefix = \"*\"\n  }\n}\nresource \"azurerm_subnet_network_security_group_association\" \"pe\" {\n  subnet_id                 = azurerm_subnet.pe.id\n  network_security_group_id = azurerm_network_security_group.pe.id\n}\n",
            ),
        ],
        good: &[
            ("main.tf", NET),
            (
                "pe.tf",
                "resource \"azurerm_subnet\" \"pe\" {\n  address_prefixes                  = [\"10.0.2.0/24\"]\n  private_endpoint_network_policies = \"Enabled\"\n}\nresource \"azurerm_private_endpoint\" \"kv\" {\n  subnet_id = azurerm_subnet.pe.id\n}\nresource \"azurerm_network_security_group\" \"pe\" {\n  name = \"pe-nsg\"\n  security_rule {\n    priority                   = 100\n    direction                  = \"Inbound\"\n    access                     = \"Allow\"\n    protocol                   = \"Tcp\"\n    destination_port_ranges    = [\"443\", \"6380\"]\n    source_address_prefix      = \"10.0.1.0/24\"\n    destination_address_prefix = \"10.0.2.0/24\"\n  }\n}\nresource \"azurerm_subnet_network_security_group_association\" \"pe\" {\n  subnet_id                 = azurerm_subnet.pe.id\n  network_security_group_id = azurerm_network_security_group.pe.id\n}\n",
            ),
        ],
        check: Check::Stack(|s, o| {
            let apps = Apps::of(s);
            for pe in pe_subnets(s) {
                let Some(to) = prefix(pe) else { continue };
                let mut wanted = vec![443];
                if s.any(REDIS) {
                    wanted.push(*cache::PORT);
                }
                if s.any(&["azurerm_managed_redis"]) {
                    wanted.push(*cache::MANAGED_PORT);
                }
                let its_group = group_of(s, pe).and_then(Result::ok);
                for app in apps.near(pe) {
                    let from = &app.prefix;
                    for &port in &wanted {
                        for (group, inbound) in [(its_group, true), (app.group, false)] {
                            let Some(g) = group else { continue };
                            let packet = Packet { source: from, destination: &to, port };
                            match verdict(s, g, inbound, &packet) {
                                Verdict::Denied(by) => {
                                    o.at(by.unwrap_or(g.header), format!("the app ({from}) does not reach its private endpoints ({to}:{port})")).label(g.header, "in this group");
                                }
                                Verdict::Allowed(_) => o.judged(),
                                Verdict::Unknown => {
                                    o.unknown(format!("{}: a rule is not fully known", g.address));
                                }
                            }
                        }
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-NET-013",
        section: NSG,
        erratum: None,
        severity: Error,
        title: "No group opens administration to the internet",
        why: "SSH and RDP are found by scanners within minutes. Bastion is the way in.",
        fix: "Remove the rule; use Bastion in the mgmt subnet.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_network_security_group\" \"mgmt\" {\n  name = \"mgmt-nsg\"\n  security_rule {\n    name                       = \"ssh\"\n    priority                   = 100\n    direction                  = \"Inbound\"\n    access                     = \"Allow\"\n    protocol                   = \"Tcp\"\n    destination_port_range     = \"22\"\n    source_address_prefix      = \"*\"\n    destination_address_prefix = \"*\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_network_security_group\" \"mgmt\" {\n  name = \"mgmt-nsg\"\n  security_rule {\n    name                       = \"ssh\"\n    priority                   = 100\n    direction                  = \"Inbound\"\n    access                     = \"Allow\"\n    protocol                   = \"Tcp\"\n    destination_port_range     = \"22\"\n    source_address_prefix      = \"10.0.4.0/24\"\n    destination_address_prefix = \"*\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for g in s.all(GROUP) {
                for port in [22, 3389] {
                    match verdict(
                        s,
                        g,
                        true,
                        &Packet { source: "Internet", destination: "10.255.255.254/32", port },
                    ) {
                        Verdict::Allowed(Some(by)) => {
                            o.at(by, format!("the internet reaches port {port}"));
                        }
                        Verdict::Unknown => {
                            o.unknown(format!("{}: a rule is not fully known", g.address));
                        }
                        _ => o.judged(),
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-NET-014",
        section: NSG,
        erratum: None,
        severity: Note,
        title: "The app reaches the internet on 443 alone",
        why: "External APIs speak HTTPS. Everything else that leaves is a surprise.",
        fix: "Allow outbound 443 to `Internet`, then deny all outbound.",
        bad: &[
            ("prod/main.tf", NET),
            (
                "prod/app.tf",
                "resource \"azurerm_network_security_group\" \"app\" {\n  name = \"app-nsg\"\n}\nresource \"azurerm_subnet_network_security_group_association\" \"app\" {\n  subnet_id                 = azurerm_subnet.app.id\n  network_security_group_id = azurerm_network_security_group.app.id\n}\n",
            ),
        ],
        good: &[
            ("prod/main.tf", NET),
            (
                "prod/app.tf",
                "resource \"azurerm_network_security_group\" \"app\" {\n  name = \"app-nsg\"\n  security_rule {\n    priority                   = 100\n    direction                  = \"Outbound\"\n    access                     = \"Allow\"\n    protocol                   = \"Tcp\"\n    destination_port_range     = \"443\"\n    source_address_prefix      = \"10.0.1.0/24\"\n    destination_address_prefix = \"Internet\"\n  }\n  security_rule {\n    priority                   = 200\n    direction                  = \"Outbound\"\n    access                     = \"Allow\"\n    protocol                   = \"Tcp\"\n    destination_port_ranges    = [\"443\", \"5432\", \"6432\", \"6380\"]\n    source_address_prefix      = \"10.0.1.0/24\"\n    destination_address_prefix = \"VirtualNetwork\"\n  }\n  security_rule {\n    priority                   = 4096\n    direction                  = \"Outbound\"\n    access                     = \"Deny\"\n    protocol                   = \"*\"\n    destination_port_range     = \"*\"\n    source_address_prefix      = \"*\"\n    destination_address_prefix = \"*\"\n  }\n}\nresource \"azurerm_subnet_network_security_group_association\" \"app\" {\n  subnet_id                 = azurerm_subnet.app.id\n  network_security_group_id = azurerm_network_security_group.app.id\n}\n",
            ),
        ],
        check: Check::Stack(|s, o| {
            for app in app_subnets(s).filter(|_| s.is(Environment::Prod)) {
                let (Some(from), Some(Ok(g))) = (prefix(app), group_of(s, app)) else { continue };
                match verdict(
                    s,
                    g,
                    false,
                    &Packet { source: &from, destination: "Internet", port: 8443 },
                ) {
                    Verdict::Allowed(by) => {
                        o.at(by.unwrap_or(g.header), "the app reaches every port of the internet");
                    }
                    Verdict::Denied(_) => o.judged(),
                    Verdict::Unknown => {
                        o.unknown(format!("{}: a rule is not fully known", g.address));
                    }
                }
            }
        }),
    },
];
