//! `networking.tf`, `dns.tf`.

use std::fmt::Write as _;

use lazuli_standard::blueprint::{Direction, EndpointTarget, SecurityRule, Subnet};
use lazuli_standard::data::network;

use crate::Source;
use crate::hcl::{fill, list, quote};

/// `app-subnet` → `app`.
pub(crate) fn label(subnet: &Subnet) -> String {
    subnet.name.trim_end_matches("-subnet").replace('-', "_")
}

pub(crate) fn networking(source: &Source<'_>) -> String {
    let b = &source.prod;
    let mut out = fill(
        r#"
resource "azurerm_virtual_network" "main" {
  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  address_space = <<SPACE>>
  tags = local.tags
}
"#,
        &[
            ("NAME", &source.name(&b.network.name)),
            ("SPACE", &list([b.network.address_space.as_str()])),
        ],
    );
    for s in &b.network.subnets {
        subnet(&mut out, s);
    }
    for endpoint in &b.private_endpoints {
        let (what, target) = match endpoint.target {
            EndpointTarget::Vault => ("key_vault", "azurerm_key_vault.main.id".to_owned()),
            EndpointTarget::Cache => ("redis", format!("{}.id", crate::data::cache(source))),
            EndpointTarget::OpenAi => ("openai", "azurerm_cognitive_account.openai.id".to_owned()),
        };
        out.push_str(&fill(
            r#"
resource "azurerm_private_endpoint" "<<WHAT>>" {
  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  subnet_id = azurerm_subnet.pe.id
  tags = local.tags

  private_service_connection {
    name = <<NAME>>
    private_connection_resource_id = <<TARGET>>
    subresource_names = [<<GROUP>>]
    is_manual_connection = false
  }

  private_dns_zone_group {
    name = "default"
    private_dns_zone_ids = [azurerm_private_dns_zone.<<WHAT>>.id]
  }
}
"#,
            &[
                ("WHAT", what),
                ("NAME", &source.name(&endpoint.name)),
                ("TARGET", &target),
                ("GROUP", &quote(&endpoint.group)),
            ],
        ));
    }
    out
}

fn subnet(out: &mut String, subnet: &Subnet) {
    let label = label(subnet);
    let delegation = match subnet.delegation.as_deref() {
        None => String::new(),
        Some(service) => {
            let action = if service == *network::APP_DELEGATION {
                "Microsoft.Network/virtualNetworks/subnets/action"
            } else {
                "Microsoft.Network/virtualNetworks/subnets/join/action"
            };
            fill(
                r#"
  delegation {
    name = "delegation"

    service_delegation {
      name = <<SERVICE>>
      actions = [<<ACTION>>]
    }
  }
"#,
                &[("SERVICE", &quote(service)), ("ACTION", &quote(action))],
            )
        }
    };
    let policies = if subnet.private_endpoint_policies {
        "# Or the group below would not hold for private endpoints.\n  private_endpoint_network_policies = \"Enabled\"\n"
    } else {
        ""
    };
    let mut rules = String::new();
    for r in &subnet.security_group.rules {
        rule(&mut rules, r);
    }
    out.push_str(&fill(
        r#"
resource "azurerm_subnet" "<<LABEL>>" {
  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  virtual_network_name = azurerm_virtual_network.main.name
  address_prefixes = <<PREFIX>>
  <<POLICIES>>
<<DELEGATION>>
}

resource "azurerm_network_security_group" "<<LABEL>>" {
  name = <<GROUP>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  tags = local.tags
<<RULES>>
}

resource "azurerm_subnet_network_security_group_association" "<<LABEL>>" {
  subnet_id = azurerm_subnet.<<LABEL>>.id
  network_security_group_id = azurerm_network_security_group.<<LABEL>>.id
}
"#,
        &[
            ("LABEL", &label),
            ("NAME", &quote(&subnet.name)),
            ("PREFIX", &list([subnet.prefix.as_str()])),
            ("POLICIES", policies),
            ("DELEGATION", &delegation),
            ("GROUP", &quote(&subnet.security_group.name)),
            ("RULES", &rules),
        ],
    ));
}

fn rule(out: &mut String, rule: &SecurityRule) {
    let prefixes = |one: &str, many: &str, values: &[String]| match values {
        [value] => format!("    {one} = {}\n", quote(value)),
        values => format!("    {many} = {}\n", list(values.iter().map(String::as_str))),
    };
    let ports: Vec<String> = if rule.ports.is_empty() {
        vec!["*".to_owned()]
    } else {
        rule.ports.iter().map(u16::to_string).collect()
    };
    let direction = match rule.direction {
        Direction::Inbound => "Inbound",
        Direction::Outbound => "Outbound",
    };
    let description: String = rule.reason.chars().take(140).collect();
    let _ = write!(
        out,
        "\n  security_rule {{\n    name = {}\n    description = {}\n    priority = {}\n    direction = {}\n    access = {}\n    protocol = {}\n    source_port_range = \"*\"\n{}{}{}  }}\n",
        quote(&rule.name),
        quote(&description),
        rule.priority,
        quote(direction),
        quote(if rule.allow { "Allow" } else { "Deny" }),
        quote(&rule.protocol),
        prefixes("source_address_prefix", "source_address_prefixes", &rule.sources),
        prefixes("destination_address_prefix", "destination_address_prefixes", &rule.destinations),
        prefixes("destination_port_range", "destination_port_ranges", &ports),
    );
}

/// What a zone is called here, by its link: `link-kv`.
fn zone(link: &str) -> &'static str {
    match link {
        "link-kv" => "key_vault",
        "link-redis" => "redis",
        "link-openai" => "openai",
        _ => "postgresql",
    }
}

pub(crate) fn dns(source: &Source<'_>) -> String {
    let mut out = String::from(
        "# Inside the VNet the names of vault, cache and database are their private addresses.\n",
    );
    for z in &source.prod.dns_zones {
        out.push_str(&fill(
            r#"
resource "azurerm_private_dns_zone" "<<WHAT>>" {
  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  tags = local.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "<<WHAT>>" {
  name = <<LINK>>
  private_dns_zone_id = azurerm_private_dns_zone.<<WHAT>>.id
  virtual_network_id = azurerm_virtual_network.main.id
  registration_enabled = false
  tags = local.tags
}
"#,
            &[("WHAT", zone(&z.link)), ("NAME", &quote(&z.name)), ("LINK", &quote(&z.link))],
        ));
    }
    out
}
