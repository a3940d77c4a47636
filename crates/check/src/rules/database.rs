//! PostgreSQL: the server, the way to it, pooling, migrations.

use lazuli_hcl::{Span, Value};
use lazuli_standard::{Environment, data::database};

use super::{Attribute, Got, SERVER, SITES, attribute, get, settings};
use crate::project::{Project, TextKind};
use crate::python::Token;
use crate::rule::{
    Check, Rule,
    Severity::{Error, Note, Warning},
};

const STANDARD: &str = "Standard: Flexible Server";
const POOLING: &str = "Connection Pooling";
const CONNECTION: &str = "Connection Configuration";
const MIGRATIONS: &str = "Migrations";
const CONFIGURATION: &[&str] = &["azurerm_postgresql_flexible_server_configuration"];

/// A database URL, wherever it was written, and the name it goes by.
pub(crate) struct Url {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// Every database URL: settings of sites and slots, secrets, exports, Python, pipelines, scripts.
pub(crate) fn urls(p: &Project) -> Vec<Url> {
    let mut out = Vec::new();
    let is = |t: &str| {
        t.contains("postgresql://") || t.contains("postgres://") || t.contains("postgresql+")
    };
    for s in &p.stacks {
        for r in s.all(SITES) {
            for e in settings(r).into_iter().flatten() {
                let text = e.value.known_text();
                if is(&text) {
                    out.push(Url { name: e.key.to_string(), text, span: e.at });
                }
            }
        }
        for r in s.all(&["azurerm_key_vault_secret"]) {
            if let Some(e) = r.body.entry("value") {
                let text = e.value.known_text();
                if is(&text) {
                    out.push(Url {
                        name: r.get("name").map(Value::known_text).unwrap_or_default(),
                        text,
                        span: e.at,
                    });
                }
            }
        }
    }
    for (text, span, kind) in p.texts() {
        if is(&text) {
            let name = match kind {
                TextKind::Shell => text
                    .split('=')
                    .next()
                    .unwrap_or("")
                    .trim()
                    .trim_start_matches("export ")
                    .to_owned(),
                _ => String::new(),
            };
            out.push(Url { name, text, span });
        }
    }
    out
}

fn asyncpg(t: &str) -> bool {
    t.contains("postgresql+asyncpg:") || t.contains("postgres+asyncpg:")
}

fn point(p: &Project, u: &Url, needle: &str) -> Span {
    crate::snippet::within(&p.sources.get(u.span.file).text, &Value::text("", u.span), needle)
}

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-DB-001",
        section: STANDARD,
        erratum: None,
        severity: Warning,
        title: "PostgreSQL is 16 or later",
        why: "One version everywhere; older ones lose support and PgBouncer's newer features.",
        fix: "Set `version = \"16\"`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  version = \"13\"\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  version = \"16\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SERVER) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "version",
                        absent: None,
                        message: "the standard's version is 16",
                        missing: "",
                        // A major version is an upgrade with a plan of its own.
                        write: None,
                    },
                    |v| v.as_number().map(|n| n >= database::VERSION.parse().unwrap_or(16.0)),
                );
            }
        }),
    },
    Rule {
        id: "LZ-DB-002",
        section: STANDARD,
        erratum: None,
        severity: Error,
        title: "Production's database is not burstable",
        why: "A burstable server runs on credits; when they are spent it crawls. It offers neither high availability nor PgBouncer.",
        fix: "Set `sku_name = \"GP_Standard_D4ds_v5\"`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  sku_name = \"B_Standard_B2ms\"\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  sku_name = \"GP_Standard_D4ds_v5\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SERVER).filter(|_| s.is_serious()) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "sku_name",
                        absent: None,
                        message: "a burstable server runs on credits",
                        missing: "",
                        write: None,
                    },
                    |v| v.as_str().map(|t| !t.starts_with("B_")),
                );
            }
        }),
    },
    Rule {
        id: "LZ-DB-003",
        section: STANDARD,
        erratum: None,
        severity: Warning,
        title: "Storage grows by itself",
        why: "A server whose disk is full goes read-only.",
        fix: "Set `auto_grow_enabled = true`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  storage_mb = 131072\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  storage_mb        = 131072\n  auto_grow_enabled = true\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SERVER).filter(|_| s.is_serious()) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "auto_grow_enabled",
                        absent: Some(false),
                        message: "a full disk makes the server read-only",
                        missing: "`auto_grow_enabled` is not set: a full disk makes the server read-only",
                        write: Some("true"),
                    },
                    Value::as_bool,
                );
            }
        }),
    },
    Rule {
        id: "LZ-DB-004",
        section: STANDARD,
        erratum: None,
        severity: Warning,
        title: "Production's database has the standard's storage",
        why: "On Azure the size of the disk also sets its IOPS.",
        fix: "Set `storage_mb = 131072`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  storage_mb = 32768\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  storage_mb = 131072\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SERVER).filter(|_| s.is(Environment::Prod)) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "storage_mb",
                        absent: None,
                        message: "the standard gives production 128 GB",
                        missing: "",
                        write: Some("131072"),
                    },
                    |v| v.as_number().map(|n| n >= f64::from(*database::STORAGE_GB * 1024)),
                );
            }
        }),
    },
    Rule {
        id: "LZ-DB-005",
        section: STANDARD,
        erratum: None,
        severity: Error,
        title: "Production's database has a standby in another zone",
        why: "Without one, a zone's failure is an outage until a restore, and so is every maintenance.",
        fix: "Add `high_availability { mode = \"ZoneRedundant\" }`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  high_availability {\n    mode = \"SameZone\"\n  }\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  high_availability {\n    mode = \"ZoneRedundant\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SERVER).filter(|_| s.is(Environment::Prod)) {
                if r.get("create_mode").and_then(Value::as_str) == Some("Replica") {
                    continue;
                }
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "high_availability.mode",
                        absent: Some(false),
                        message: "the standby is in the same zone",
                        missing: "no `high_availability`: a zone's failure is an outage",
                        write: Some("\"ZoneRedundant\""),
                    },
                    |v| v.as_str().map(|t| t == "ZoneRedundant"),
                );
            }
        }),
    },
    Rule {
        id: "LZ-DB-006",
        section: "Backup & Recovery",
        erratum: None,
        severity: Error,
        title: "Backups are kept for 35 days",
        why: "A corruption found after a week cannot be undone with Azure's default of 7 days.",
        fix: "Set `backup_retention_days = 35`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  backup_retention_days = 7\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  backup_retention_days = 35\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SERVER).filter(|_| !s.is(Environment::Dev)) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "backup_retention_days",
                        absent: if s.is_serious() { Some(false) } else { None },
                        message: "the standard keeps 35 days",
                        missing: "`backup_retention_days` is not set: Azure keeps 7 days",
                        write: Some("35"),
                    },
                    |v| v.as_number().map(|n| n >= f64::from(*database::BACKUP_DAYS)),
                );
            }
        }),
    },
    Rule {
        id: "LZ-DB-007",
        section: "Backup & Recovery",
        erratum: None,
        severity: Error,
        title: "Production's backups are copied to the paired region",
        why: "Full region failure is recovered from them; the choice is made when the server is created and cannot be made later.",
        fix: "Set `geo_redundant_backup_enabled = true`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  sku_name = \"GP_Standard_D4ds_v5\"\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  geo_redundant_backup_enabled = true\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SERVER).filter(|_| s.is(Environment::Prod)) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "geo_redundant_backup_enabled",
                        absent: Some(false),
                        message: "a region's failure loses the database",
                        missing: "`geo_redundant_backup_enabled` is not set: a region's failure loses the database",
                        write: Some("true"),
                    },
                    Value::as_bool,
                );
            }
        }),
    },
    Rule {
        id: "LZ-DB-008",
        section: "Network Access",
        erratum: None,
        severity: Error,
        title: "The database has no public endpoint",
        why: "A database on the internet is one leaked password from being read.",
        fix: "Deploy it into a delegated subnet (`delegated_subnet_id`, `private_dns_zone_id`) with `public_network_access_enabled = false`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  public_network_access_enabled = true\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_subnet\" \"db\" {\n  name = \"db-subnet\"\n}\nresource \"azurerm_postgresql_flexible_server\" \"db\" {\n  delegated_subnet_id           = azurerm_subnet.db.id\n  public_network_access_enabled = false\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SERVER).filter(|_| !s.is(Environment::Dev)) {
                match (get(r, "public_network_access_enabled"), get(r, "delegated_subnet_id")) {
                    (Got::Written(e), Got::Missing(_)) if e.value.as_bool() == Some(true) => {
                        o.entry(e, "`public_network_access_enabled` is true: the database is on the internet");
                    }
                    (Got::Missing(at), Got::Missing(_)) => {
                        o.at(at, "neither `delegated_subnet_id` nor `public_network_access_enabled = false`: the database is on the internet").unset();
                    }
                    _ => o.judged(),
                }
            }
        }),
    },
    Rule {
        id: "LZ-DB-009",
        section: "Network Access",
        erratum: None,
        severity: Error,
        title: "No firewall rule opens the database",
        why: "0.0.0.0 admits every tenant of Azure; a wider range admits the internet.",
        fix: "Remove the rule; connect from inside the VNet (`lazuli run --inside`, Bastion).",
        bad: &[(
            "main.tf",
            "resource \"azurerm_postgresql_flexible_server_firewall_rule\" \"azure\" {\n  start_ip_address = \"0.0.0.0\"\n  end_ip_address   = \"0.0.0.0\"\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_postgresql_flexible_server_firewall_rule\" \"office\" {\n  start_ip_address = \"203.0.113.7\"\n  end_ip_address   = \"203.0.113.7\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(&["azurerm_postgresql_flexible_server_firewall_rule"]) {
                let ip = |k: &str| {
                    r.get(k)
                        .and_then(Value::as_str)
                        .and_then(|t| t.parse::<std::net::Ipv4Addr>().ok())
                };
                let (Some(a), Some(b)) = (ip("start_ip_address"), ip("end_ip_address")) else {
                    continue;
                };
                let size = u64::from(u32::from(b)).saturating_sub(u64::from(u32::from(a)));
                if u32::from(a) == 0 && u32::from(b) == 0 {
                    o.at(r.header, "0.0.0.0 lets every Azure tenant reach the database");
                } else if size > 65_536 {
                    o.at(r.header, format!("this opens the database to {} addresses", size + 1));
                } else if s.is(Environment::Prod) {
                    o.at(r.header, "production's database has no public endpoint to open");
                } else {
                    o.judged();
                }
            }
        }),
    },
    Rule {
        id: "LZ-DB-010",
        section: STANDARD,
        erratum: None,
        severity: Error,
        title: "The database is a flexible server",
        why: "Azure Database for PostgreSQL single server was retired in March 2025.",
        fix: "Move to `azurerm_postgresql_flexible_server`.",
        bad: &[("main.tf", "resource \"azurerm_postgresql_server\" \"db\" {\n  name = \"x\"\n}\n")],
        good: &[(
            "main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  name = \"x\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(&["azurerm_postgresql_server"]) {
                o.at(r.header, "single servers were retired in March 2025");
            }
        }),
    },
    Rule {
        id: "LZ-DB-011",
        section: POOLING,
        erratum: None,
        severity: Warning,
        title: "The built-in PgBouncer is on, as the standard sets it",
        why: "Workers × instances × pool sizes outgrow the server's connections; a pool in transaction mode shares them.",
        fix: "Set the server's configurations `pgbouncer.enabled = true`, `pgbouncer.pool_mode = transaction`, `pgbouncer.default_pool_size = 50`, `pgbouncer.min_pool_size = 10`, `pgbouncer.server_idle_timeout = 600`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  sku_name = \"GP_Standard_D4ds_v5\"\n}\nresource \"azurerm_postgresql_flexible_server_configuration\" \"pgb\" {\n  server_id = azurerm_postgresql_flexible_server.db.id\n  name      = \"pgbouncer.enabled\"\n  value     = \"false\"\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  sku_name = \"GP_Standard_D4ds_v5\"\n}\nresource \"azurerm_postgresql_flexible_server_configuration\" \"pgb\" {\n  server_id = azurerm_postgresql_flexible_server.db.id\n  name      = \"pgbouncer.enabled\"\n  value     = \"true\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(CONFIGURATION) {
                let (Some(n), Some(e)) =
                    (r.get("name").and_then(Value::as_str), r.body.entry("value"))
                else {
                    continue;
                };
                let Some((_, want)) =
                    database::PGBOUNCER.iter().find(|(k, _)| k.eq_ignore_ascii_case(n))
                else {
                    continue;
                };
                let got = e.value.known_text();
                let sized = n.ends_with("_size") || n.ends_with("_timeout");
                if e.value.is_unknown() {
                    o.unknown(r.address.to_string());
                } else if got.eq_ignore_ascii_case(want)
                    || (sized
                        && n.ends_with("default_pool_size")
                        && got.parse::<f64>().is_ok_and(|g| g >= 50.0))
                {
                    o.judged();
                } else if !sized {
                    o.entry(e, format!("`{n}` is {got}: the standard sets {want}"));
                } else {
                    o.entry(e, format!("`{n}` is {got}: the standard sets {want}")).severity = Note;
                }
            }
            if s.is_serious() {
                for r in s.all(SERVER) {
                    // Burstable servers have none to switch on.
                    let Got::Written(e) = get(r, "sku_name") else { continue };
                    if e.value.as_str().is_none_or(|t| t.starts_with("B_")) {
                        continue;
                    }
                    let mut unknown = false;
                    let on = s.attached(r, CONFIGURATION, "server_id").any(|(c, _)| {
                        if let Some((Some(n), _)) =
                            c.get("name").map(|n| (n.as_str(), n.is_unknown()))
                        {
                            n.eq_ignore_ascii_case("pgbouncer.enabled")
                        } else {
                            unknown = true;
                            false
                        }
                    });
                    if on {
                        o.judged();
                    } else if unknown {
                        o.unknown("the name of a server configuration is not known");
                    } else {
                        o.at(r.header, "the built-in PgBouncer is not switched on").absent();
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-DB-012",
        section: POOLING,
        erratum: Some(2),
        severity: Error,
        title: "PgBouncer is asked only of a server that has one",
        why: "The built-in PgBouncer exists on General Purpose and Memory Optimized; on Burstable the setting is refused, and nothing listens on 6432.",
        fix: "Leave pooling to the app in development, or choose a General Purpose SKU.",
        bad: &[(
            "dev/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  sku_name = \"B_Standard_B2ms\"\n}\nresource \"azurerm_postgresql_flexible_server_configuration\" \"pgb\" {\n  server_id = azurerm_postgresql_flexible_server.db.id\n  name      = \"pgbouncer.enabled\"\n  value     = \"true\"\n}\n",
        )],
        good: &[(
            "dev/main.tf",
            "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  sku_name = \"GP_Standard_D2ds_v5\"\n}\nresource \"azurerm_postgresql_flexible_server_configuration\" \"pgb\" {\n  server_id = azurerm_postgresql_flexible_server.db.id\n  name      = \"pgbouncer.enabled\"\n  value     = \"true\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(CONFIGURATION) {
                let pgb = r
                    .get("name")
                    .and_then(Value::as_str)
                    .is_some_and(|n| n.to_ascii_lowercase().starts_with("pgbouncer."));
                if !pgb {
                    continue;
                }
                let Some(Got::Written(e)) =
                    s.target(r.get("server_id")).map(|d| get(d, "sku_name"))
                else {
                    continue;
                };
                if e.value.as_str().is_some_and(|t| t.starts_with("B_")) {
                    o.at(r.header, "a burstable server has no PgBouncer")
                        .label(e.at, "the server's SKU");
                } else {
                    o.judged();
                }
            }
        }),
    },
    Rule {
        id: "LZ-DB-013",
        section: CONNECTION,
        erratum: None,
        severity: Error,
        title: "The server insists on TLS",
        why: "With `require_secure_transport` off, a client that forgets TLS sends its password in clear.",
        fix: "Remove the configuration: `on` is Azure's default.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_postgresql_flexible_server_configuration\" \"tls\" {\n  name  = \"require_secure_transport\"\n  value = \"off\"\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_postgresql_flexible_server_configuration\" \"tls\" {\n  name  = \"require_secure_transport\"\n  value = \"on\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(CONFIGURATION) {
                if r.get("name").and_then(Value::as_str) != Some("require_secure_transport") {
                    continue;
                }
                match r.body.entry("value") {
                    Some(e)
                        if e.value.as_str().is_some_and(|t| t.eq_ignore_ascii_case("off"))
                            || e.value.as_bool() == Some(false) =>
                    {
                        o.entry(e, "the server accepts connections without TLS");
                    }
                    _ => o.judged(),
                }
            }
        }),
    },
    Rule {
        id: "LZ-DB-014",
        section: CONNECTION,
        erratum: Some(3),
        severity: Error,
        title: "asyncpg is told of TLS in its own words",
        why: "`sslmode` is libpq's. SQLAlchemy hands it to asyncpg, which refuses it: the app does not start.",
        fix: "Write `?ssl=require` for asyncpg; keep `sslmode=require` for psycopg and psql.",
        bad: &[(
            ".env",
            "DATABASE_URL=postgresql+asyncpg://app:x@notes-pg.postgres.database.azure.com:6432/notes?sslmode=require\n",
        )],
        good: &[(
            ".env",
            "DATABASE_URL=postgresql+asyncpg://app:x@notes-pg.postgres.database.azure.com:6432/notes?ssl=require\n",
        )],
        check: Check::Project(|p, o| {
            for u in urls(p) {
                if asyncpg(&u.text) && u.text.contains("sslmode=") {
                    let at = point(p, &u, "sslmode=");
                    let whole = p.sources.text(at) == "sslmode=";
                    let f = o.at(at, "asyncpg knows no `sslmode`: it is `ssl=require`");
                    if whole {
                        f.edit(at, "ssl=");
                    }
                } else {
                    o.judged();
                }
            }
        }),
    },
    Rule {
        id: "LZ-DB-015",
        section: CONNECTION,
        erratum: None,
        severity: Error,
        title: "A URL to Azure's database asks for TLS",
        why: "Without it the driver tries TLS and may fall back, or fails against a server that insists.",
        fix: "Append `?ssl=require` (asyncpg) or `?sslmode=require` (psycopg, psql).",
        bad: &[(
            ".env",
            "DATABASE_URL=postgresql+asyncpg://app:x@notes-pg.postgres.database.azure.com:6432/notes\n",
        )],
        good: &[(
            ".env",
            "DATABASE_URL=postgresql+asyncpg://app:x@notes-pg.postgres.database.azure.com:6432/notes?ssl=require\n",
        )],
        check: Check::Project(|p, o| {
            for u in urls(p) {
                if !u.text.contains(".postgres.database.azure.com") {
                    continue;
                }
                let on = [
                    "ssl=require",
                    "ssl=verify",
                    "ssl=true",
                    "sslmode=require",
                    "sslmode=verify",
                    "sslmode=${",
                    "ssl=${",
                ]
                .iter()
                .any(|w| u.text.contains(w));
                // An app may pass it as an argument; a URL built in Python from parts is not judged.
                if on || u.text.contains("ssl") {
                    o.judged();
                } else if p.sources.path(u.span.file).extension().is_none_or(|e| e != "py") {
                    o.at(u.span, "this URL does not ask for TLS");
                }
            }
        }),
    },
    Rule {
        id: "LZ-DB-016",
        section: POOLING,
        erratum: Some(1),
        severity: Warning,
        title: "Pooled connections use PgBouncer's port",
        why: "PgBouncer listens on 6432, on the same host name. 5432 is PostgreSQL itself: the pool is enabled and unused.",
        fix: "Write `:6432` in the app's URL; keep 5432 for migrations and `LISTEN`.",
        bad: &[(
            ".env",
            "DATABASE_URL=postgresql+asyncpg://app:x@notes-pg.postgres.database.azure.com:5432/notes?ssl=require\n",
        )],
        good: &[(
            ".env",
            "DATABASE_URL=postgresql+asyncpg://app:x@notes-pg.postgres.database.azure.com:6432/notes?ssl=require\nMIGRATION_DATABASE_URL=postgresql+asyncpg://app:x@notes-pg.postgres.database.azure.com:5432/notes?ssl=require\n",
        )],
        check: Check::Project(|p, o| {
            let burstable = p.stacks.iter().flat_map(|s| s.all(SERVER)).any(|r| {
                r.get("sku_name").and_then(Value::as_str).is_some_and(|t| t.starts_with("B_"))
            });
            for u in urls(p) {
                let n = u.name.to_ascii_uppercase();
                let direct = ["MIGRAT", "ALEMBIC", "DIRECT", "LISTEN", "ADMIN"]
                    .iter()
                    .any(|w| n.contains(w));
                if direct || burstable || !asyncpg(&u.text) {
                    continue;
                }
                if u.text.contains(".postgres.database.azure.com:5432")
                    || u.text.contains("azure.com/")
                        && u.text.contains(".postgres.database.azure.com/")
                {
                    o.at(
                        point(p, &u, ":5432"),
                        "this is PostgreSQL itself: PgBouncer listens on 6432",
                    );
                } else {
                    o.judged();
                }
            }
        }),
    },
    Rule {
        id: "LZ-DB-017",
        section: POOLING,
        erratum: Some(4),
        severity: Warning,
        title: "asyncpg keeps no prepared statements across a transaction pool",
        why: "In transaction mode the next statement may run on another server connection, where the prepared one does not exist: `prepared statement \"__asyncpg_stmt_1__\" does not exist`, under load only.",
        fix: "Pass `connect_args={\"statement_cache_size\": 0}` (and `prepared_statement_cache_size=0` in the URL) to `create_async_engine`.",
        bad: &[
            (
                "modules/backend/core/db.py",
                "from sqlalchemy.ext.asyncio import create_async_engine\nengine = create_async_engine(url, pool_size=10, max_overflow=5, pool_timeout=30, pool_recycle=1800, pool_pre_ping=True)\n",
            ),
            ("requirements.txt", "asyncpg\n"),
        ],
        good: &[
            (
                "modules/backend/core/db.py",
                "from sqlalchemy.ext.asyncio import create_async_engine\nengine = create_async_engine(url, pool_size=10, max_overflow=5, pool_timeout=30, pool_recycle=1800, pool_pre_ping=True, connect_args={\"statement_cache_size\": 0})\n",
            ),
            ("requirements.txt", "asyncpg\n"),
        ],
        check: Check::Project(|p, o| {
            for (f, c) in engines(p).filter(|(f, _)| is_app(f)) {
                if !(p.fragments || p.requires("asyncpg")) {
                    continue;
                }
                let null_pool = c.mentions("NullPool");
                let elsewhere = f.tokens.iter().any(|(t, _)| matches!(t, Token::Name(n) | Token::Text(n) if n.contains("statement_cache_size")));
                if elsewhere || c.spread() || null_pool {
                    o.judged();
                } else {
                    o.at(
                        c.span,
                        "asyncpg's prepared statements break behind PgBouncer in transaction mode",
                    );
                }
            }
        }),
    },
    Rule {
        id: "LZ-DB-018",
        section: POOLING,
        erratum: None,
        severity: Warning,
        title: "The app checks and recycles its connections",
        why: "Azure closes idle connections silently; one that is not checked before use fails a request.",
        fix: "Pass `pool_pre_ping=True` and `pool_recycle=1800`.",
        bad: &[(
            "app/db.py",
            "engine = create_async_engine(url, connect_args={\"statement_cache_size\": 0})\n",
        )],
        good: &[(
            "app/db.py",
            "engine = create_async_engine(url, pool_pre_ping=True, pool_recycle=1800, connect_args={\"statement_cache_size\": 0})\n",
        )],
        check: Check::Project(|p, o| {
            for (_, c) in engines(p).filter(|(f, _)| is_app(f)) {
                if c.spread() || c.mentions("NullPool") || c.mentions("sqlite") {
                    continue;
                }
                let ping =
                    matches!(c.keyword("pool_pre_ping"), Some((Token::Name(n), _)) if n != "False");
                match (ping, c.number("pool_recycle"), c.keyword("pool_recycle")) {
                    (_, Some((n, at)), _) if n > 1800 => {
                        o.at(
                            at,
                            format!(
                                "connections are recycled after {n} s: the standard's limit is 1800"
                            ),
                        );
                    }
                    (true, _, Some(_)) => o.judged(),
                    (false, ..) => {
                        o.at(
                            c.span,
                            "no `pool_pre_ping`: a connection that Azure closed fails a request",
                        );
                    }
                    (true, _, None) => {
                        o.at(c.span, "no `pool_recycle`: connections live until Azure closes them");
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-DB-019",
        section: POOLING,
        erratum: None,
        severity: Error,
        title: "Pools, workers and instances fit the server",
        why: "Every worker of every instance has its own pool. When their sum passes the server's connections, requests fail exactly when there is most load.",
        fix: "Lower `pool_size`, workers or the auto-scale maximum, or choose a larger SKU.",
        bad: &[
            (
                "prod/main.tf",
                "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  sku_name = \"GP_Standard_D2ds_v5\"\n}\nresource \"azurerm_service_plan\" \"plan\" {\n  sku_name     = \"P3v3\"\n  worker_count = 6\n}\nresource \"azurerm_linux_web_app\" \"backend\" {\n  service_plan_id = azurerm_service_plan.plan.id\n  site_config {\n    app_command_line = \"gunicorn -w 6 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\"\n  }\n}\n",
            ),
            (
                "app/db.py",
                "engine = create_async_engine(url, pool_size=40, max_overflow=10, pool_pre_ping=True, pool_recycle=1800, connect_args={\"statement_cache_size\": 0})\n",
            ),
        ],
        good: &[
            (
                "prod/main.tf",
                "resource \"azurerm_postgresql_flexible_server\" \"db\" {\n  sku_name = \"GP_Standard_D4ds_v5\"\n}\nresource \"azurerm_service_plan\" \"plan\" {\n  sku_name     = \"P2v3\"\n  worker_count = 2\n}\nresource \"azurerm_linux_web_app\" \"backend\" {\n  service_plan_id = azurerm_service_plan.plan.id\n  site_config {\n    app_command_line = \"gunicorn -w 4 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 35 --graceful-timeout 30 main:app\"\n  }\n}\n",
            ),
            (
                "app/db.py",
                "engine = create_async_engine(url, pool_size=10, max_overflow=5, pool_pre_ping=True, pool_recycle=1800, connect_args={\"statement_cache_size\": 0})\n",
            ),
        ],
        check: Check::Project(|p, o| {
            let pool = engines(p).filter(|(f, _)| is_app(f)).find_map(|(_, c)| {
                Some((c.number("pool_size")?, c.number("max_overflow").map_or(10, |n| n.0)))
            });
            let Some(((size, at), overflow)) = pool else { return };
            for s in &p.stacks {
                let Some(server) = s.all(SERVER).next() else { continue };
                let Some(sku) = server.get("sku_name").and_then(Value::as_str) else { continue };
                let Some(known) = Environment::ALL
                    .into_iter()
                    .map(|e| *database::sku(e))
                    .find(|k| sku.ends_with(k.name))
                else {
                    continue;
                };
                let mut total = 0;
                for site in s.all(super::SITE).filter(|r| super::is_backend(r)) {
                    let Got::Written(c) = get(site, "site_config.app_command_line") else {
                        continue;
                    };
                    let Some(w) = crate::snippet::Start::gunicorn(&c.value.known_text())
                        .and_then(|s| s.workers)
                    else {
                        continue;
                    };
                    let plan = super::plan_of(s, site);
                    let scaled = plan.and_then(|p| super::scaling::maximum(s, p));
                    let fixed = plan.and_then(|p| p.get("worker_count")).and_then(Value::as_number);
                    let instances = scaled.or(fixed).unwrap_or(1.0);
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "a number of instances"
                    )]
                    let instances = instances.clamp(1.0, 1000.0) as u32;
                    total += w * instances * (size + overflow);
                }
                if total > known.max_connections {
                    o.at(
                        at,
                        format!(
                            "up to {total} connections from all workers, and the server has {}",
                            known.max_connections
                        ),
                    )
                    .label(
                        server.header,
                        format!("{sku} has {} connections", known.max_connections),
                    );
                } else if total > 0 {
                    o.judged();
                }
            }
        }),
    },
    Rule {
        id: "LZ-DB-020",
        section: MIGRATIONS,
        erratum: None,
        severity: Error,
        title: "The app changes no schema when it starts",
        why: "Every worker of every instance would do it at once, and a failure takes down what serves.",
        fix: "Leave the schema to Alembic, in the pipeline.",
        bad: &[(
            "modules/backend/main.py",
            "from alembic import command\nasync def lifespan(app):\n    command.upgrade(config, \"head\")\n    yield\n",
        )],
        good: &[
            ("modules/backend/main.py", "async def lifespan(app):\n    yield\n"),
            (
                "scripts/migrate.py",
                "from alembic import command\ncommand.upgrade(config, \"head\")\n",
            ),
        ],
        check: Check::Project(|p, o| {
            for f in p.python.iter().filter(|f| starts_the_app(f)) {
                o.judged();
                for c in &f.calls {
                    if c.name == "command.upgrade" || c.name == "alembic.command.upgrade" {
                        o.at(c.span, "migrations run at every start of every worker");
                    } else if c.name.ends_with("metadata.create_all")
                        || (c.name.ends_with(".run_sync") && c.mentions("metadata.create_all"))
                    {
                        o.at(c.span, "the schema is created at start, behind Alembic's back");
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-DB-021",
        section: MIGRATIONS,
        erratum: Some(28),
        severity: Warning,
        title: "A migration leaves the version that still serves working",
        why: "Migrations run before the swap, while the old version serves, and a rollback by swap does not undo them. Dropping or renaming what it uses breaks it at once; only expand-and-contract survives.",
        fix: "Expand first (add), release, and drop in a later migration that says `# lazuli: contract` once no release needs it.",
        bad: &[(
            "alembic/versions/002_drop.py",
            "from alembic import op\ndef upgrade():\n    op.drop_column(\"notes\", \"body\")\ndef downgrade():\n    pass\n",
        )],
        good: &[(
            "alembic/versions/002_add.py",
            "from alembic import op\ndef upgrade():\n    op.add_column(\"notes\", sa.Column(\"text\", sa.Text(), nullable=True))\ndef downgrade():\n    op.drop_column(\"notes\", \"text\")\n",
        )],
        check: Check::Project(|p, o| {
            for f in p.python.iter().filter(|f| is_migration(f)) {
                let text = &p.sources.get(f.file).text;
                o.judged();
                if text.contains("lazuli: contract") {
                    continue;
                }
                for c in f.calls.iter().filter(|c| c.function.as_deref() == Some("upgrade")) {
                    let name = c.name.rsplit('.').next().unwrap_or("");
                    let alembic = c.name.starts_with("op.") || c.name.starts_with("batch_op.");
                    if !alembic {
                        continue;
                    }
                    let false_null =
                        matches!(c.keyword("nullable"), Some((Token::Name(n), _)) if n == "False");
                    let message = match name {
                        "drop_column" | "drop_table" => {
                            "the version that still serves may use what this drops"
                        }
                        "rename_table" => "the version that still serves knows the old name",
                        "alter_column" if c.keyword("new_column_name").is_some() => {
                            "the version that still serves knows the old name"
                        }
                        "alter_column" if c.keyword("type_").is_some() => {
                            "the version that still serves writes the old type"
                        }
                        "alter_column" if false_null => {
                            "the version that still serves may write NULL"
                        }
                        "add_column"
                            if c.arguments.iter().zip(c.arguments.iter().skip(2)).any(
                                |(a, b)| {
                                    a.0 == Token::Name("nullable".into())
                                        && b.0 == Token::Name("False".into())
                                },
                            ) && !c.mentions("server_default") =>
                        {
                            "the version that still serves does not write this column, which must not be NULL"
                        }
                        "execute"
                            if c.arguments
                                .iter()
                                .any(|(t, _)| matches!(t, Token::Text(t) if destructive(t))) =>
                        {
                            "the version that still serves may use what this drops"
                        }
                        _ => continue,
                    };
                    o.at(c.span, message);
                }
            }
        }),
    },
    Rule {
        id: "LZ-DB-022",
        section: "Network Access",
        erratum: None,
        severity: Error,
        title: "A server in a subnet has its private DNS zone",
        why: "Without `private_dns_zone_id` the server's name resolves for nobody in the VNet.",
        fix: "Set `private_dns_zone_id` to a zone that is linked to the VNet.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_subnet\" \"db\" {\n  name = \"db\"\n}\nresource \"azurerm_postgresql_flexible_server\" \"db\" {\n  delegated_subnet_id = azurerm_subnet.db.id\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_subnet\" \"db\" {\n  name = \"db\"\n}\nresource \"azurerm_private_dns_zone\" \"db\" {\n  name = \"privatelink.postgres.database.azure.com\"\n}\nresource \"azurerm_postgresql_flexible_server\" \"db\" {\n  delegated_subnet_id = azurerm_subnet.db.id\n  private_dns_zone_id = azurerm_private_dns_zone.db.id\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SERVER) {
                match (get(r, "delegated_subnet_id"), get(r, "private_dns_zone_id")) {
                    (Got::Written(_), Got::Missing(at)) => {
                        o.at(at, "no `private_dns_zone_id`: nobody in the VNet can resolve the server's name").unset();
                    }
                    (Got::Written(_), _) => o.judged(),
                    _ => {}
                }
            }
        }),
    },
];

fn engines(
    p: &Project,
) -> impl Iterator<Item = (&crate::project::PythonFile, &crate::python::Call)> {
    p.python.iter().flat_map(|f| {
        f.calls.iter().filter(|c| c.name.ends_with("create_async_engine")).map(move |c| (f, c))
    })
}

/// Tests, Alembic's environment and scripts open short-lived engines of their own.
pub(super) fn is_app(f: &crate::project::PythonFile) -> bool {
    let p = f.path.to_string_lossy().replace('\\', "/").to_ascii_lowercase();
    !(p.contains("test")
        || p.contains("alembic")
        || p.contains("migrations/")
        || p.contains("scripts/")
        || p.ends_with("conftest.py"))
}

fn is_migration(f: &crate::project::PythonFile) -> bool {
    let p = f.path.to_string_lossy().replace('\\', "/");
    p.contains("versions/")
        && f.imports.iter().any(|(m, _)| m == "alembic" || m.starts_with("alembic."))
}

fn starts_the_app(f: &crate::project::PythonFile) -> bool {
    let name = f.path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    matches!(name, "main.py" | "app.py" | "asgi.py" | "wsgi.py" | "lifespan.py" | "startup.py")
        && is_app(f)
}

fn destructive(sql: &str) -> bool {
    let s = sql.to_ascii_uppercase();
    ["DROP TABLE", "DROP COLUMN", "RENAME COLUMN", "RENAME TO", "TRUNCATE "]
        .iter()
        .any(|w| s.contains(w))
}
