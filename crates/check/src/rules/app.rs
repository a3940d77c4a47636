//! Compute: sites, slots and plans.

use lazuli_hcl::Value;
use lazuli_standard::{Environment, data::compute};

use super::{
    Attribute, Got, PLAN, SITE, SITES, SLOT, attribute, get, is_backend, is_python, plan_of,
    settings, shown,
};
use crate::rule::{
    Check, Rule,
    Severity::{Error, Note, Warning},
};

const RUNTIME: &str = "Runtime Configuration";
const SKU: &str = "SKU Selection";
const SLOTS: &str = "Deployment Slots";

fn not(b: bool) -> impl Fn(&Value) -> Option<bool> {
    move |v| v.as_bool().map(|x| x != b)
}

/// `1.2` as a number that compares.
pub(crate) fn tls_ok(v: &Value) -> Option<bool> {
    let t = v.as_str().map(str::to_owned).or_else(|| v.as_number().map(|n| n.to_string()))?;
    let n: f64 = t.trim_start_matches("TLS").replace('_', ".").parse().ok()?;
    Some(n >= compute::MIN_TLS.parse().unwrap_or(1.2))
}

/// Whether a SKU is of the Premium v3 generation or later.
fn premium(sku: &str) -> bool {
    let s = sku.to_ascii_lowercase();
    // P1v3, P0v3, P1mv3 and their successors v4; isolated plans are Premium's superset.
    (s.starts_with('p') && (s.ends_with("v3") || s.ends_with("v4")))
        || (s.starts_with('i') && s.ends_with("v2"))
}

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-APP-001",
        section: RUNTIME,
        erratum: None,
        severity: Error,
        title: "A site answers over HTTPS only",
        why: "Azure's default serves plain HTTP as well, so a password or token typed once over http:// is on the wire. HTTPS Only answers 301 instead.",
        fix: "Set `https_only = true` on the site and on every slot.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  https_only = false\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  https_only = true\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "https_only",
                        absent: Some(false),
                        message: "plain HTTP is served as well",
                        missing: "`https_only` is not set: Azure's default serves plain HTTP as well",
                        write: Some("true"),
                    },
                    Value::as_bool,
                );
            }
        }),
    },
    Rule {
        id: "LZ-APP-002",
        section: RUNTIME,
        erratum: None,
        severity: Error,
        title: "A site speaks TLS 1.2 or later",
        why: "TLS 1.0 and 1.1 are broken and withdrawn.",
        fix: "Set `minimum_tls_version = \"1.2\"` in `site_config`, or leave it out: that is Azure's default.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    minimum_tls_version = \"1.0\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    minimum_tls_version = \"1.2\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                for path in
                    ["site_config.minimum_tls_version", "site_config.scm_minimum_tls_version"]
                {
                    attribute(
                        o,
                        s,
                        r,
                        &Attribute {
                            path,
                            absent: Some(true),
                            message: "the standard's minimum is 1.2",
                            missing: "",
                            write: Some("\"1.2\""),
                        },
                        tls_ok,
                    );
                }
            }
        }),
    },
    Rule {
        id: "LZ-APP-003",
        section: RUNTIME,
        erratum: None,
        severity: Warning,
        title: "FTP is off",
        why: "A release comes through the pipeline; FTP is a second way in, with a password.",
        fix: "Set `ftps_state = \"Disabled\"` in `site_config`, or leave it out: that is the provider's default.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    ftps_state = \"AllAllowed\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    ftps_state = \"Disabled\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "site_config.ftps_state",
                        absent: Some(true),
                        message: "FTP is a second way in beside the pipeline",
                        missing: "",
                        write: Some("\"Disabled\""),
                    },
                    |v| v.as_str().map(|t| t == *compute::FTPS_STATE),
                );
            }
        }),
    },
    Rule {
        id: "LZ-APP-004",
        section: "Session Affinity",
        erratum: None,
        severity: Warning,
        title: "ARR affinity is off",
        why: "Session state lives in Redis and PostgreSQL; affinity pins clients to instances, so that scale-out and swaps do not spread the load.",
        fix: "Set `client_affinity_enabled = false`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  client_affinity_enabled = true\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  client_affinity_enabled = false\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "client_affinity_enabled",
                        absent: Some(true),
                        message: "clients stick to instances",
                        missing: "",
                        write: Some("false"),
                    },
                    not(true),
                );
            }
        }),
    },
    Rule {
        id: "LZ-APP-005",
        section: RUNTIME,
        erratum: None,
        severity: Warning,
        title: "Always On is on",
        why: "Without it Azure unloads an idle app, and the next user waits for its start.",
        fix: "Set `always_on = true` in `site_config`, or leave it out: that is the provider's default.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    always_on = false\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    always_on = true\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "site_config.always_on",
                        absent: Some(true),
                        message: "an idle app is unloaded",
                        missing: "",
                        write: Some("true"),
                    },
                    Value::as_bool,
                );
            }
        }),
    },
    Rule {
        id: "LZ-APP-006",
        section: RUNTIME,
        erratum: None,
        severity: Error,
        title: "Remote debugging is off in production",
        why: "A debugger can read every secret of the process and stop it.",
        fix: "Remove `remote_debugging_enabled`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    remote_debugging_enabled = true\n  }\n}\n",
        )],
        good: &[(
            "dev/main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    remote_debugging_enabled = true\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES).filter(|_| !s.is(Environment::Dev)) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "site_config.remote_debugging_enabled",
                        absent: Some(true),
                        message: "a debugger reads every secret of the process",
                        missing: "",
                        write: Some("false"),
                    },
                    not(true),
                );
            }
        }),
    },
    Rule {
        id: "LZ-APP-007",
        section: RUNTIME,
        erratum: None,
        severity: Note,
        title: "The platform is 64-bit",
        why: "A 32-bit worker cannot use the memory that the plan pays for.",
        fix: "Set `use_32_bit_worker = false` in `site_config`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    use_32_bit_worker = true\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    use_32_bit_worker = false\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "site_config.use_32_bit_worker",
                        absent: None,
                        message: "the standard's platform is 64-bit",
                        missing: "",
                        write: Some("false"),
                    },
                    not(true),
                );
            }
        }),
    },
    Rule {
        id: "LZ-APP-008",
        section: "Alerting",
        erratum: None,
        severity: Warning,
        title: "The platform checks the app's health",
        why: "Without a health check path an instance that hangs stays in rotation, and the alert on failing health has nothing to look at.",
        fix: "Set `health_check_path = \"/health\"` and `health_check_eviction_time_in_min` in `site_config`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  https_only = true\n  site_config {\n    always_on = true\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  https_only = true\n  site_config {\n    health_check_path = \"/health\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES).filter(|r| is_backend(r)) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "site_config.health_check_path",
                        absent: Some(false),
                        message: "a path starts with `/`",
                        missing: "no `health_check_path`: an instance that hangs stays in rotation",
                        write: None,
                    },
                    |v| v.as_str().map(|t| t.starts_with('/')),
                );
            }
        }),
    },
    Rule {
        id: "LZ-APP-009",
        section: SKU,
        erratum: Some(11),
        severity: Error,
        title: "Production runs on Premium v3",
        why: "Premium v3 has the capacity the standard counts with, and production is what staging rehearsed. (Slots and auto-scale exist from Standard on, VNet integration from Basic on: these alone would not ask for it.)",
        fix: "Set `sku_name = \"P2v3\"`, or P3v3 for high concurrency.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  os_type  = \"Linux\"\n  sku_name = \"S1\"\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  os_type  = \"Linux\"\n  sku_name = \"P2v3\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(PLAN).filter(|_| s.is(Environment::Prod)) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "sku_name",
                        absent: None,
                        message: "Premium v3 is mandatory for production",
                        missing: "",
                        write: None,
                    },
                    |v| v.as_str().map(|t| premium(t) || serverless(t)),
                );
            }
        }),
    },
    Rule {
        id: "LZ-APP-010",
        section: SKU,
        erratum: None,
        severity: Warning,
        title: "Staging runs on what production runs on",
        why: "A rehearsal on Basic or Standard shows neither production's capacity nor its limits.",
        fix: "Set `sku_name = \"P1v3\"` in staging.",
        bad: &[(
            "staging/main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  os_type  = \"Linux\"\n  sku_name = \"B1\"\n}\n",
        )],
        good: &[(
            "staging/main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  os_type  = \"Linux\"\n  sku_name = \"P1v3\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(PLAN).filter(|_| s.is(Environment::Staging)) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "sku_name",
                        absent: None,
                        message: "the standard's staging is P1v3",
                        missing: "",
                        write: None,
                    },
                    |v| v.as_str().map(|t| premium(t) || serverless(t)),
                );
            }
        }),
    },
    Rule {
        id: "LZ-APP-011",
        section: SKU,
        erratum: None,
        severity: Warning,
        title: "No environment runs on Free or Shared",
        why: "F1 and D1 have a quota of CPU minutes a day and neither Always On nor custom TLS; development's SKU is B1.",
        fix: "Set `sku_name = \"B1\"`.",
        bad: &[(
            "dev/main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  os_type  = \"Linux\"\n  sku_name = \"F1\"\n}\n",
        )],
        good: &[(
            "dev/main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  os_type  = \"Linux\"\n  sku_name = \"B1\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(PLAN).filter(|_| !s.is_serious()) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "sku_name",
                        absent: None,
                        message: "it has a daily quota and no Always On",
                        missing: "",
                        write: Some("\"B1\""),
                    },
                    |v| {
                        v.as_str().map(|t| {
                            !matches!(
                                t.to_ascii_uppercase().as_str(),
                                "F1" | "D1" | "SHARED" | "FREE"
                            )
                        })
                    },
                );
            }
        }),
    },
    Rule {
        id: "LZ-APP-012",
        section: "Standard: App Service on Linux (Python)",
        erratum: None,
        severity: Error,
        title: "Plans run Linux",
        why: "Python on App Service is supported on Linux only.",
        fix: "Set `os_type = \"Linux\"` and use `azurerm_linux_web_app`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  os_type  = \"Windows\"\n  sku_name = \"P1v3\"\n}\nresource \"azurerm_windows_web_app\" \"w\" {\n  service_plan_id = azurerm_service_plan.plan.id\n  site_config {\n    application_stack {\n      python = true\n    }\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  os_type  = \"Linux\"\n  sku_name = \"P1v3\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(&["azurerm_windows_web_app", "azurerm_windows_web_app_slot"]) {
                match get(r, "site_config.application_stack.python") {
                    Got::Written(e) if e.value.as_bool() != Some(false) => {
                        o.entry(e, "Python runs on Linux only: `azurerm_linux_web_app`");
                    }
                    _ => {}
                }
            }
        }),
    },
    Rule {
        id: "LZ-APP-013",
        section: RUNTIME,
        erratum: None,
        severity: Warning,
        title: "The runtime is the standard's Python",
        why: "uvloop, the task tree of asyncio and everything the platform is tested with assume it; older ones lose security support.",
        fix: "Set `python_version = \"3.14\"` in `application_stack`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    application_stack {\n      python_version = \"3.9\"\n    }\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    application_stack {\n      python_version = \"3.14\"\n    }\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "site_config.application_stack.python_version",
                        absent: None,
                        message: "the standard's Python is 3.14",
                        missing: "",
                        // Another Python is a migration, not a change of a word.
                        write: None,
                    },
                    |v| minor(&v.known_text()).map(|m| m >= minor(&compute::PYTHON).unwrap_or(14)),
                );
            }
        }),
    },
    Rule {
        id: "LZ-APP-014",
        section: SLOTS,
        erratum: None,
        severity: Error,
        title: "Production has a staging slot",
        why: "Without a slot a release overwrites what serves, and a rollback is another release.",
        fix: "Add an `azurerm_linux_web_app_slot` named `staging` with the site's settings.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  name = \"notes\"\n  site_config {\n    application_stack {\n      python_version = \"3.14\"\n    }\n  }\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  name = \"notes\"\n  site_config {\n    application_stack {\n      python_version = \"3.14\"\n    }\n  }\n}\nresource \"azurerm_linux_web_app_slot\" \"staging\" {\n  name           = \"staging\"\n  app_service_id = azurerm_linux_web_app.backend.id\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in
                s.all(SITE).filter(|r| s.is(Environment::Prod) && is_backend(r) && is_python(r))
            {
                if s.attached(r, SLOT, "app_service_id").next().is_some() {
                    o.judged();
                } else {
                    o.at(r.header, "production has no staging slot for this site").absent();
                }
            }
        }),
    },
    Rule {
        id: "LZ-APP-015",
        section: SLOTS,
        erratum: None,
        severity: Error,
        title: "Settings of one environment stay in their slot",
        why: "A setting that is not sticky moves with the swap: after it, production talks to staging's database and reports as staging.",
        fix: "Name them in the site's `sticky_settings { app_setting_names = [\"APP_ENV\", \"DATABASE_URL\", …] }`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  app_settings = {\n    APP_ENV = \"production\"\n  }\n  sticky_settings {\n    app_setting_names = [\"LOG_LEVEL\"]\n  }\n}\nresource \"azurerm_linux_web_app_slot\" \"staging\" {\n  app_service_id = azurerm_linux_web_app.backend.id\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  app_settings = {\n    APP_ENV = \"production\"\n  }\n  sticky_settings {\n    app_setting_names = [\"APP_ENV\"]\n  }\n}\nresource \"azurerm_linux_web_app_slot\" \"staging\" {\n  app_service_id = azurerm_linux_web_app.backend.id\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITE) {
                if s.attached(r, SLOT, "app_service_id").next().is_none() {
                    continue;
                }
                let Some(all) = settings(r) else { continue };
                let sticky: Option<Vec<String>> = match get(r, "sticky_settings.app_setting_names")
                {
                    Got::Written(e) => e
                        .value
                        .as_list()
                        .filter(|_| e.value.is_whole())
                        .map(|l| l.iter().map(Value::known_text).collect()),
                    Got::Missing(_) => Some(Vec::new()),
                    Got::Unknown(w) => {
                        o.unknown(w);
                        None
                    }
                };
                let Some(sticky) = sticky else { continue };
                o.judged();
                for e in all.iter().filter(|e| compute::STICKY.contains(&&*e.key)) {
                    if !sticky.iter().any(|x| **x == *e.key) {
                        o.at(
                            e.key_span,
                            format!(
                                "`{}` is not sticky: a swap carries it into the other slot",
                                e.key
                            ),
                        );
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-APP-016",
        section: SLOTS,
        erratum: None,
        severity: Error,
        title: "Slots are swapped by the release, not by themselves",
        why: "Auto swap goes live the moment a deployment ends: before migrations are checked and smoke tests have run.",
        fix: "Remove `auto_swap_slot_name`; swap in the pipeline after the smoke test.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app_slot\" \"staging\" {\n  site_config {\n    auto_swap_slot_name = \"production\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app_slot\" \"staging\" {\n  site_config {\n    always_on = true\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "site_config.auto_swap_slot_name",
                        absent: Some(true),
                        message: "the swap would not wait for smoke tests",
                        missing: "",
                        write: None,
                    },
                    |_| Some(false),
                );
            }
        }),
    },
    Rule {
        id: "LZ-APP-017",
        section: "WebSocket Support",
        erratum: None,
        severity: Error,
        title: "WebSockets are switched on by the name the provider knows",
        why: "The argument is `websockets_enabled`. `websocket_enabled`, as the standard's own example has it, is refused by the provider.",
        fix: "Write `websockets_enabled = true`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    websocket_enabled = true\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  site_config {\n    websockets_enabled = true\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                if let Got::Written(e) = get(r, "site_config.websocket_enabled") {
                    o.at(
                        e.key_span,
                        "the provider has no `websocket_enabled`: it is `websockets_enabled`",
                    )
                    .edit(e.key_span, "websockets_enabled");
                }
            }
        }),
    },
    Rule {
        id: "LZ-APP-018",
        section: "Standard: Terraform with Azure Provider",
        erratum: None,
        severity: Warning,
        title: "Sites and plans use the resource types the provider still has",
        why: "`azurerm_app_service`, `azurerm_app_service_slot` and `azurerm_app_service_plan` were removed in version 4 of the provider.",
        fix: "Move to `azurerm_linux_web_app`, `azurerm_linux_web_app_slot` and `azurerm_service_plan`.",
        bad: &[("main.tf", "resource \"azurerm_app_service\" \"old\" {\n  name = \"x\"\n}\n")],
        good: &[("main.tf", "resource \"azurerm_linux_web_app\" \"new\" {\n  name = \"x\"\n}\n")],
        check: Check::Stack(|s, o| {
            for r in s.all(&[
                "azurerm_app_service",
                "azurerm_app_service_slot",
                "azurerm_app_service_plan",
            ]) {
                o.at(r.header, format!("`{}` was removed from the provider in version 4", r.kind));
            }
        }),
    },
    Rule {
        id: "LZ-APP-019",
        section: "Application Settings",
        erratum: None,
        severity: Warning,
        title: "A deployment's environment is told to the app as it is",
        why: "`APP_ENV` chooses the configuration. Production that says `development` runs with development's defaults.",
        fix: "Set `APP_ENV` to `production` in production, and make it sticky.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  app_settings = {\n    APP_ENV = \"development\"\n  }\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  app_settings = {\n    APP_ENV = \"production\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITE) {
                let (Some(e), Some(env)) =
                    (settings(r).and_then(|m| m.entry("APP_ENV")), s.environment)
                else {
                    continue;
                };
                let Some(said) = e.value.as_str().and_then(crate::project::environment_of) else {
                    continue;
                };
                if said == env {
                    o.judged();
                } else {
                    o.entry(e, format!("`APP_ENV` is {} in {env}", shown(&e.value)));
                }
            }
        }),
    },
    Rule {
        id: "LZ-APP-020",
        section: "Scheduler",
        erratum: Some(25),
        severity: Error,
        title: "The scheduler runs once",
        why: "Two schedulers send every task twice.",
        fix: "Put the scheduler on a plan, or a site with per-site scaling, of exactly one instance.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_linux_web_app\" \"scheduler\" {\n  site_config {\n    app_command_line = \"taskiq scheduler modules.backend.tasks.scheduler:scheduler\"\n    worker_count     = 2\n  }\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_linux_web_app\" \"scheduler\" {\n  site_config {\n    app_command_line = \"taskiq scheduler modules.backend.tasks.scheduler:scheduler\"\n    worker_count     = 1\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITE) {
                let Got::Written(c) = get(r, "site_config.app_command_line") else { continue };
                let t = c.value.known_text();
                if !(t.contains("taskiq scheduler") || t.contains("celery") && t.contains(" beat"))
                {
                    continue;
                }
                match get(r, "site_config.worker_count") {
                    Got::Written(e) => {
                        if e.value.as_number().is_some_and(|n| n > 1.0) {
                            o.entry(e, "the scheduler would run more than once");
                        } else {
                            o.judged();
                        }
                    }
                    _ => {
                        if let Some(Got::Written(e)) = plan_of(s, r).map(|p| get(p, "worker_count"))
                        {
                            if e.value.as_number().is_some_and(|n| n > 1.0) {
                                o.at(r.header, "the scheduler's plan has more than one instance")
                                    .label(e.at, "the plan's instances");
                            } else {
                                o.judged();
                            }
                        }
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-APP-021",
        section: "Scheduler",
        erratum: Some(25),
        severity: Error,
        title: "A scheduler's WebJob is a singleton",
        why: "A continuous WebJob runs on every instance unless its `settings.job` says otherwise.",
        fix: "Write `{ \"is_singleton\": true }` into `settings.job` beside the scheduler's `run.sh`.",
        bad: &[(
            "App_Data/jobs/continuous/scheduler/settings.job",
            "{ \"stopping_wait_time\": 30 }\n",
        )],
        good: &[(
            "App_Data/jobs/continuous/scheduler/settings.job",
            "{ \"is_singleton\": true }\n",
        )],
        check: Check::Project(|p, o| {
            for d in &p.webjobs {
                let path = p.sources.path(d.file).to_string_lossy().to_ascii_lowercase();
                if !(path.contains("schedul") || path.contains("beat")) {
                    continue;
                }
                let e = d.value.as_map().and_then(|m| m.entry("is_singleton"));
                match e {
                    Some(e) if e.value.as_bool() == Some(true) => o.judged(),
                    Some(e) => {
                        o.entry(e, "the scheduler runs on every instance");
                    }
                    None => {
                        o.at(
                            d.value.span,
                            "no `is_singleton`: the scheduler runs on every instance",
                        );
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-APP-023",
        section: "Custom Domain & TLS",
        erratum: None,
        severity: Error,
        title: "A custom domain has its certificate",
        why: "A host name without a certificate answers HTTPS with the platform's own, which every client refuses; with HTTPS Only the site is then unreachable by that name.",
        fix: "Add an `azurerm_app_service_managed_certificate` and an `azurerm_app_service_certificate_binding` for it (or `ssl_state` and `thumbprint`).",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_app_service_custom_hostname_binding\" \"shop\" {\n  hostname            = \"shop.example.com\"\n  app_service_name    = \"shop\"\n  resource_group_name = \"rg\"\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_app_service_custom_hostname_binding\" \"shop\" {\n  hostname            = \"shop.example.com\"\n  app_service_name    = \"shop\"\n  resource_group_name = \"rg\"\n}\nresource \"azurerm_app_service_managed_certificate\" \"shop\" {\n  custom_hostname_binding_id = azurerm_app_service_custom_hostname_binding.shop.id\n}\nresource \"azurerm_app_service_certificate_binding\" \"shop\" {\n  hostname_binding_id = azurerm_app_service_custom_hostname_binding.shop.id\n  certificate_id      = azurerm_app_service_managed_certificate.shop.id\n  ssl_state           = \"SniEnabled\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(&["azurerm_app_service_custom_hostname_binding"]) {
                let own = r.get("ssl_state").is_some() || r.get("thumbprint").is_some();
                let bound = s
                    .attached(
                        r,
                        &["azurerm_app_service_certificate_binding"],
                        "hostname_binding_id",
                    )
                    .next()
                    .is_some();
                if own || bound {
                    o.judged();
                } else {
                    o.at(r.header, "this host name has no certificate").absent();
                }
            }
        }),
    },
    Rule {
        id: "LZ-APP-022",
        section: "Runtime Configuration",
        erratum: None,
        severity: Warning,
        title: "Publishing with a password is off",
        why: "With FTP disabled the credentials still open Kudu. The release authenticates with Entra tokens.",
        fix: "Set `ftp_publish_basic_authentication_enabled = false` and `webdeploy_publish_basic_authentication_enabled = false`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  ftp_publish_basic_authentication_enabled = true\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  ftp_publish_basic_authentication_enabled = false\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                for path in [
                    "ftp_publish_basic_authentication_enabled",
                    "webdeploy_publish_basic_authentication_enabled",
                ] {
                    attribute(
                        o,
                        s,
                        r,
                        &Attribute {
                            path,
                            absent: None,
                            message: "a password opens the site's deployment endpoint",
                            missing: "",
                            write: Some("false"),
                        },
                        not(true),
                    );
                }
            }
        }),
    },
];

fn serverless(sku: &str) -> bool {
    let s = sku.to_ascii_uppercase();
    // Plans of Functions and Logic Apps: no App Service runs there.
    matches!(s.as_str(), "Y1" | "FC1") || s.starts_with("EP") || s.starts_with("WS")
}

/// `3.14` → 14
pub(crate) fn minor(version: &str) -> Option<u32> {
    let (major, rest) = version.trim().split_once('.')?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    match major {
        "3" => digits.parse().ok(),
        "2" => Some(0),
        _ => None,
    }
}
