//! Redis.

use lazuli_hcl::Value;
use lazuli_standard::Environment;
use lazuli_standard::data::cache;

use super::{Attribute, REDIS, SITES, attribute, settings};
use crate::project::Project;
use crate::rule::{
    Check, Rule,
    Severity::{Error, Note, Warning},
};
use crate::snippet::within;

const STANDARD: &str = "Standard: Azure Cache for Redis (Premium)";

/// Every Redis URL or host with its place.
fn urls(p: &Project) -> Vec<(String, lazuli_hcl::Span)> {
    let is = |t: &str| t.contains(".redis.cache.windows.net") || t.contains(".redis.azure.net");
    let mut out = Vec::new();
    for s in &p.stacks {
        for r in s.all(SITES) {
            for e in settings(r).into_iter().flatten() {
                let t = e.value.known_text();
                if is(&t)
                    || t.starts_with("redis://")
                        && e.value.refs().iter().any(|r| &*r.kind == "azurerm_redis_cache")
                {
                    out.push((t, e.at));
                }
            }
        }
        for r in s.all(&["azurerm_key_vault_secret"]) {
            if let Some(e) = r.body.entry("value") {
                let t = e.value.known_text();
                if is(&t)
                    || t.starts_with("redis://")
                        && e.value.refs().iter().any(|r| &*r.kind == "azurerm_redis_cache")
                {
                    out.push((t, e.at));
                }
            }
        }
    }
    out.extend(p.texts().into_iter().filter(|(t, ..)| is(t)).map(|(t, s, _)| (t, s)));
    out
}

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-RED-001",
        section: STANDARD,
        erratum: None,
        severity: Error,
        title: "Staging and production have a Premium cache",
        why: "Only Premium has private endpoints, persistence and clustering; Basic has no replica and loses everything at each maintenance.",
        fix: "Set `sku_name = \"Premium\"`, `family = \"P\"`, `capacity = 1`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  sku_name = \"Basic\"\n  family   = \"C\"\n  capacity = 1\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  sku_name = \"Premium\"\n  family   = \"P\"\n  capacity = 1\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(REDIS).filter(|_| s.is_serious()) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "sku_name",
                        absent: None,
                        message: "the standard's cache is Premium",
                        missing: "",
                        write: None,
                    },
                    |v| v.as_str().map(|t| t == cache::premium(Environment::Prod).value.0),
                );
            }
        }),
    },
    Rule {
        id: "LZ-RED-002",
        section: STANDARD,
        erratum: None,
        severity: Error,
        title: "The port without TLS is closed",
        why: "On 6379 the password and everything cached travel in clear.",
        fix: "Set `non_ssl_port_enabled = false`, or leave it out.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  non_ssl_port_enabled = true\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  non_ssl_port_enabled = false\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(REDIS) {
                for path in ["non_ssl_port_enabled", "enable_non_ssl_port"] {
                    attribute(
                        o,
                        s,
                        r,
                        &Attribute {
                            path,
                            absent: Some(true),
                            message: "port 6379 takes passwords in clear",
                            missing: "",
                            write: Some("false"),
                        },
                        |v| v.as_bool().map(|b| !b),
                    );
                }
            }
        }),
    },
    Rule {
        id: "LZ-RED-003",
        section: STANDARD,
        erratum: None,
        severity: Warning,
        title: "The cache speaks TLS 1.2",
        why: "TLS 1.0 and 1.1 are broken and withdrawn.",
        fix: "Set `minimum_tls_version = \"1.2\"`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  minimum_tls_version = \"1.0\"\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  minimum_tls_version = \"1.2\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(REDIS) {
                // The provider's default was 1.0 until version 4; what is not written is not judged.
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "minimum_tls_version",
                        absent: None,
                        message: "the standard's minimum is 1.2",
                        missing: "",
                        write: Some("\"1.2\""),
                    },
                    super::app::tls_ok,
                );
            }
        }),
    },
    Rule {
        id: "LZ-RED-004",
        section: "Network Access",
        erratum: None,
        severity: Error,
        title: "The cache has no public endpoint",
        why: "Sessions and rate limits are in it; a leaked key would be enough from anywhere.",
        fix: "Set `public_network_access_enabled = false` and add a private endpoint.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  public_network_access_enabled = true\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  public_network_access_enabled = false\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s
                .all(&["azurerm_redis_cache", "azurerm_managed_redis"])
                .filter(|_| !s.is(Environment::Dev))
            {
                if &*r.kind == "azurerm_managed_redis" {
                    attribute(
                        o,
                        s,
                        r,
                        &Attribute {
                            path: "public_network_access",
                            absent: if s.is_serious() { Some(false) } else { None },
                            message: "the cache is on the internet",
                            missing: "`public_network_access` is not set: the cache is on the internet",
                            // Without a private endpoint nobody would reach it.
                            write: super::has_endpoint(s, r).then_some("\"Disabled\""),
                        },
                        |v| v.as_str().map(|t| t == "Disabled"),
                    );
                } else {
                    attribute(
                        o,
                        s,
                        r,
                        &Attribute {
                            path: "public_network_access_enabled",
                            absent: if s.is_serious() { Some(false) } else { None },
                            message: "the cache is on the internet",
                            missing: "`public_network_access_enabled` is not set: the cache is on the internet",
                            // Without a private endpoint nobody would reach it.
                            write: super::has_endpoint(s, r).then_some("false"),
                        },
                        |v| v.as_bool().map(|b| !b),
                    );
                }
            }
        }),
    },
    Rule {
        id: "LZ-RED-005",
        section: "Connection",
        erratum: None,
        severity: Error,
        title: "Clients reach the cache over TLS",
        why: "`redis://` speaks in clear, and port 6379 is closed.",
        fix: "Write `rediss://…:6380` (10000 on Managed Redis).",
        bad: &[(".env", "REDIS_URL=redis://:x@notes-redis.redis.cache.windows.net:6379/0\n")],
        good: &[(".env", "REDIS_URL=rediss://:x@notes-redis.redis.cache.windows.net:6380/0\n")],
        check: Check::Project(|p, o| {
            for (t, at) in urls(p) {
                let text = &p.sources.get(at.file).text;
                if t.contains("redis://") && !t.contains("rediss://") {
                    o.at(
                        within(text, &Value::text("", at), "redis://"),
                        "`redis://` speaks in clear: it is `rediss://`",
                    );
                } else if t.contains(".redis.cache.windows.net:6379") {
                    o.at(
                        within(text, &Value::text("", at), ":6379"),
                        "6379 is the port without TLS: it is 6380",
                    );
                } else {
                    o.judged();
                }
            }
        }),
    },
    Rule {
        id: "LZ-RED-006",
        section: STANDARD,
        erratum: Some(7),
        severity: Note,
        title: "A new cache is Azure Managed Redis",
        why: "Azure Cache for Redis takes no new instances since 2026-10-01 and retires on 2028-09-30. An existing one may stay until then.",
        fix: "For a new deployment use `azurerm_managed_redis` (port 10000, one logical database: key prefixes instead of database numbers).",
        bad: &[(
            "main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  sku_name = \"Premium\"\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_managed_redis\" \"redis\" {\n  sku_name = \"Balanced_B5\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(REDIS) {
                o.at(r.header, "Azure Cache for Redis takes no new instances since 2026-10-01, and retires on 2028-09-30");
            }
        }),
    },
    Rule {
        id: "LZ-RED-007",
        section: STANDARD,
        erratum: None,
        severity: Note,
        title: "Clustering is off until 50 GB ask for it",
        why: "A cluster has no database numbers and forbids commands over several keys; the standard's five databases need one shard.",
        fix: "Remove `shard_count`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  sku_name    = \"Premium\"\n  shard_count = 3\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  sku_name = \"Premium\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(REDIS) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "shard_count",
                        absent: Some(true),
                        message: "a cluster has one logical database",
                        missing: "",
                        write: None,
                    },
                    |v| v.as_number().map(|n| n <= 1.0),
                );
            }
        }),
    },
    Rule {
        id: "LZ-RED-008",
        section: "Use Cases",
        erratum: Some(7),
        severity: Error,
        title: "Managed Redis is used with one database",
        why: "Azure Managed Redis has database 0 alone; `SELECT 2` fails.",
        fix: "Use key prefixes where the standard uses database numbers.",
        bad: &[(".env", "BROKER_URL=rediss://:x@notes.westeurope.redis.azure.net:10000/2\n")],
        good: &[(".env", "BROKER_URL=rediss://:x@notes.westeurope.redis.azure.net:10000/0\n")],
        check: Check::Project(|p, o| {
            for (t, at) in urls(p).into_iter().filter(|(t, _)| t.contains(".redis.azure.net")) {
                let db =
                    t.split(".redis.azure.net").nth(1).and_then(|r| r.split_once('/')).map(
                        |(_, d)| d.chars().take_while(char::is_ascii_digit).collect::<String>(),
                    );
                match db.as_deref() {
                    None | Some("" | "0") => o.judged(),
                    Some(n) => {
                        o.at(at, format!("database {n} does not exist on Managed Redis"));
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-RED-009",
        section: STANDARD,
        erratum: None,
        severity: Note,
        title: "Redis is version 6 or later",
        why: "Older versions are out of support.",
        fix: "Set `redis_version = \"6\"`; Managed Redis has 7.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  redis_version = \"4\"\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  redis_version = \"6\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(REDIS) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "redis_version",
                        absent: Some(true),
                        message: "it is out of support",
                        missing: "",
                        write: Some("\"6\""),
                    },
                    |v| v.as_number().map(|n| n >= cache::VERSION.parse().unwrap_or(6.0)),
                );
            }
        }),
    },
    Rule {
        id: "LZ-RED-010",
        section: STANDARD,
        erratum: None,
        severity: Error,
        title: "Clients of the cache authenticate",
        why: "With authentication off, whoever reaches the port reads every session.",
        fix: "Remove `authentication_enabled = false`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  redis_configuration {\n    authentication_enabled = false\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_redis_cache\" \"redis\" {\n  redis_configuration {\n    maxmemory_policy = \"allkeys-lru\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(REDIS) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "redis_configuration.authentication_enabled",
                        absent: Some(true),
                        message: "whoever reaches the port reads every session",
                        missing: "",
                        write: Some("true"),
                    },
                    Value::as_bool,
                );
            }
        }),
    },
];
