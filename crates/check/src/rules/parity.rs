//! Parity between environments: the same architecture on cheaper SKUs.

use std::collections::{BTreeMap, BTreeSet};

use lazuli_hcl::Value;
use lazuli_standard::Environment;

use super::{SERVER, SITE, settings};
use crate::project::Stack;
use crate::rule::{
    Check, Rule,
    Severity::{Note, Warning},
};

const SECTION: &str = "Environment Configuration";

/// What the standard's table lets differ: slots, scaling, alerts, network, budgets and domains.
const MAY_DIFFER: [&str; 12] = [
    "azurerm_linux_web_app_slot",
    "azurerm_monitor_",
    "azurerm_private_",
    "azurerm_virtual_network",
    "azurerm_subnet",
    "azurerm_network_",
    "azurerm_consumption_",
    "azurerm_app_service_",
    "azurerm_dns_",
    "azurerm_role_assignment",
    "azurerm_postgresql_flexible_server_",
    "azurerm_bastion",
];

/// What each architecture is made of.
const ARCHITECTURE: [&str; 7] = [
    "azurerm_linux_web_app",
    "azurerm_postgresql_flexible_server",
    "azurerm_redis_cache",
    "azurerm_managed_redis",
    "azurerm_key_vault",
    "azurerm_application_insights",
    "azurerm_static_web_app",
];

/// How many stacks of one environment are still its regions or tenants. More are a module's
/// examples, which nobody compares.
const MOST_ALIKE: usize = 4;

/// Stacks of one root, several environments.
fn families(p: &crate::project::Project) -> Vec<Vec<&Stack>> {
    let mut by: BTreeMap<&std::path::Path, Vec<&Stack>> = BTreeMap::new();
    for s in p.stacks.iter().filter(|s| s.environment.is_some()) {
        by.entry(&s.root).or_default().push(s);
    }
    by.into_values()
        .filter(|f| {
            let mut counts: BTreeMap<_, usize> = BTreeMap::new();
            for s in f {
                *counts.entry(s.environment).or_default() += 1;
            }
            counts.len() > 1 && counts.values().all(|n| *n <= MOST_ALIKE)
        })
        .collect()
}

const MAIN: &str = "variable \"environment\" {}\nvariable \"cache\" {\n  default = true\n}\nvariable \"py\" {\n  default = \"3.14\"\n}\nresource \"azurerm_redis_cache\" \"redis\" {\n  count = var.cache ? 1 : 0\n  name  = \"notes-redis\"\n}\nresource \"azurerm_linux_web_app\" \"app\" {\n  app_settings = merge({ APP_ENV = \"x\" }, var.cache ? { REDIS_URL = \"@Microsoft.KeyVault(VaultName=notes-kv;SecretName=notes-redis-url)\" } : {})\n  site_config {\n    application_stack {\n      python_version = var.py\n    }\n  }\n}\n";

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-PAR-001",
        section: SECTION,
        erratum: None,
        severity: Warning,
        title: "Every environment has the same services",
        why: "What exists in production only is tried out in production only.",
        fix: "Keep the service in every environment, on a cheaper SKU.",
        bad: &[
            ("main.tf", MAIN),
            ("dev.tfvars", "environment = \"dev\"\ncache = false\n"),
            ("prod.tfvars", "environment = \"prod\"\n"),
        ],
        good: &[
            ("main.tf", MAIN),
            ("dev.tfvars", "environment = \"dev\"\n"),
            ("prod.tfvars", "environment = \"prod\"\n"),
        ],
        check: Check::Project(|p, o| {
            for family in families(p) {
                if family.iter().any(|s| s.partial) {
                    continue;
                }
                for kind in ARCHITECTURE {
                    debug_assert!(!MAY_DIFFER.contains(&kind));
                    let having: Vec<&&Stack> = family.iter().filter(|s| s.any(&[kind])).collect();
                    if having.is_empty() {
                        continue;
                    }
                    o.judged();
                    for s in family.iter().filter(|s| !s.any(&[kind])) {
                        // Another stack of the same environment may be the one that has it.
                        if having.iter().any(|h| h.environment == s.environment) {
                            continue;
                        }
                        let kinds = [kind];
                        let (Some(r), Some(a), Some(b)) =
                            (having[0].all(&kinds).next(), having[0].environment, s.environment)
                        else {
                            continue;
                        };
                        o.at(r.header, format!("{a} has {kind}, {b} has none"));
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-PAR-002",
        section: SECTION,
        erratum: None,
        severity: Warning,
        title: "Every environment has the same settings",
        why: "A setting that is missing somewhere makes the app behave differently there.",
        fix: "Set it everywhere, with a value of its own.",
        bad: &[
            ("main.tf", MAIN),
            ("dev.tfvars", "environment = \"dev\"\ncache = false\n"),
            ("prod.tfvars", "environment = \"prod\"\n"),
        ],
        good: &[
            ("main.tf", MAIN),
            ("dev.tfvars", "environment = \"dev\"\n"),
            ("prod.tfvars", "environment = \"prod\"\n"),
        ],
        check: Check::Project(|p, o| {
            for family in families(p) {
                let mut all: BTreeMap<&str, Vec<(&Stack, BTreeSet<&str>, lazuli_hcl::Span)>> =
                    BTreeMap::new();
                for s in &family {
                    for r in s.all(SITE) {
                        if let Some(m) = settings(r).filter(|m| m.open.is_none()) {
                            let at = r.body.entry("app_settings").map_or(r.header, |e| e.key_span);
                            all.entry(&r.address).or_default().push((
                                s,
                                m.iter().filter(|e| !e.value.is_null()).map(|e| &*e.key).collect(),
                                at,
                            ));
                        }
                    }
                }
                for (_, sets) in all.into_iter().filter(|(_, v)| v.len() > 1) {
                    let union: BTreeSet<&str> =
                        sets.iter().flat_map(|s| s.1.iter().copied()).collect();
                    o.judged();
                    for (s, keys, at) in &sets {
                        // The pool's own settings differ by erratum 2; telemetry by the table.
                        let missing: Vec<&str> = union
                            .difference(keys)
                            .copied()
                            .filter(|k| {
                                !k.starts_with("APPLICATIONINSIGHTS") && !k.starts_with("WEBSITE_")
                            })
                            .collect();
                        if let (false, Some(e)) = (missing.is_empty(), s.environment) {
                            o.at(
                                *at,
                                format!(
                                    "{e} lacks {}, which other environments have",
                                    missing.join(", ")
                                ),
                            );
                        }
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-PAR-003",
        section: SECTION,
        erratum: None,
        severity: Warning,
        title: "Every environment has the same versions",
        why: "The same code runs on the same Python and the same PostgreSQL, or staging proves nothing.",
        fix: "Set one version for all.",
        bad: &[
            ("main.tf", MAIN),
            ("dev.tfvars", "environment = \"dev\"\npy = \"3.12\"\n"),
            ("prod.tfvars", "environment = \"prod\"\n"),
        ],
        good: &[
            ("main.tf", MAIN),
            ("dev.tfvars", "environment = \"dev\"\n"),
            ("prod.tfvars", "environment = \"prod\"\n"),
        ],
        check: Check::Project(|p, o| {
            for family in families(p) {
                for (kinds, path) in
                    [(SITE, "site_config.application_stack.python_version"), (SERVER, "version")]
                {
                    let mut seen: BTreeMap<&str, (String, &Stack)> = BTreeMap::new();
                    for s in &family {
                        for r in s.all(kinds) {
                            let super::Got::Written(e) = super::get(r, path) else { continue };
                            let Some(v) = e
                                .value
                                .as_str()
                                .map(str::to_owned)
                                .or_else(|| e.value.as_number().map(|n| n.to_string()))
                            else {
                                continue;
                            };
                            match seen.get(&*r.address) {
                                Some((other, from)) if *other != v => {
                                    if let (Some(a), Some(b)) = (from.environment, s.environment)
                                        && a != b
                                    {
                                        o.value(
                                            e.at,
                                            &Value::clone(&e.value),
                                            format!("{b} runs {v}, {a} runs {other}"),
                                        );
                                    }
                                }
                                Some(_) => o.judged(),
                                None => {
                                    seen.insert(&r.address, (v, s));
                                }
                            }
                        }
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-PAR-004",
        section: SECTION,
        erratum: None,
        severity: Note,
        title: "Only production pays for a standby",
        why: "A standby doubles the database's price; development and staging can wait for a restore.",
        fix: "Make `high_availability` a `dynamic` block that production alone has.",
        bad: &[(
            "dev/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  high_availability {\n    mode = \"ZoneRedundant\"\n  }\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  high_availability {\n    mode = \"ZoneRedundant\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            let Some(environment) = s.environment.filter(|e| *e != Environment::Prod) else {
                return;
            };
            for r in s.all(SERVER) {
                match super::get(r, "high_availability.mode") {
                    super::Got::Written(e)
                        if matches!(e.value.as_str(), Some("ZoneRedundant" | "SameZone")) =>
                    {
                        o.entry(e, format!("a standby in {environment}: the standard has one in production only"));
                    }
                    super::Got::Unknown(_) => {}
                    _ => o.judged(),
                }
            }
        }),
    },
];
