//! Application Insights, logs, metrics and alerts.

use lazuli_hcl::terraform::Resource;
use lazuli_hcl::{Map, Value};
use lazuli_standard::Environment;
use lazuli_standard::data::{self, monitoring};

use super::{Attribute, Got, REDIS, SERVER, SITE, SITES, attribute, get, is_backend, settings};
use crate::project::Stack;
use crate::rule::{
    Check, Rule,
    Severity::{Error, Note, Warning},
};

const INSIGHTS: &[&str] = &["azurerm_application_insights"];
const METRIC: &[&str] = &["azurerm_monitor_metric_alert"];
const QUERY: &[&str] = &[
    "azurerm_monitor_scheduled_query_rules_alert_v2",
    "azurerm_monitor_scheduled_query_rules_alert",
];
const STANDARD: &str = "Standard: Application Insights (workspace-based)";
const METRICS: &str = "Key Metrics to Track";
const ALERTING: &str = "Alerting";
const TRACING: &str = "Distributed Tracing: OpenTelemetry";

/// An alert's criterion: its metric and threshold.
fn criteria(r: &Resource) -> Vec<(String, Option<f64>, &Map)> {
    r.body
        .blocks("criteria")
        .into_iter()
        .map(|(_, m)| {
            (
                m.get("metric_name").map(Value::known_text).unwrap_or_default(),
                m.get("threshold").and_then(Value::as_number),
                m,
            )
        })
        .collect()
}

/// Looks for an alert on one of some metrics, or a query that mentions one of some words.
fn alerted(s: &Stack, metrics: &[&str], words: &[&str]) -> Option<bool> {
    let mut unknown = false;
    for r in s.all(METRIC) {
        for (m, ..) in criteria(r) {
            unknown |= m.contains('…');
            if metrics.iter().any(|x| x.eq_ignore_ascii_case(&m)) {
                return Some(true);
            }
        }
        unknown |= r.get("dynamic_criteria").is_some() && criteria(r).is_empty();
    }
    for r in s.all(QUERY) {
        let q = criteria(r)
            .iter()
            .filter_map(|(.., m)| m.get("query").map(Value::known_text))
            .chain(r.get("query").map(Value::known_text))
            .collect::<String>()
            .to_ascii_lowercase();
        unknown |= q.contains('…') && q.len() < 20;
        if words.iter().any(|w| q.contains(w)) {
            return Some(true);
        }
    }
    if unknown { None } else { Some(false) }
}

/// How many connections the server has that an alert watches.
fn connections(s: &Stack, alert: &Resource) -> Option<f64> {
    let scopes = alert.get("scopes")?;
    let server = s.all(SERVER).find(|r| scopes.refs().iter().any(|x| x.address == r.address))?;
    let sku = server.get("sku_name")?.as_str()?;
    let known = Environment::ALL.into_iter().map(|e| *data::database::sku(e));
    known.into_iter().find(|k| sku.ends_with(k.name)).map(|k| f64::from(k.max_connections))
}

/// One line of the standard's tables.
struct Line {
    what: &'static str,
    metrics: &'static [&'static str],
    words: &'static [&'static str],
    /// The kind of resource without which there is nothing to watch.
    of: &'static [&'static str],
}

const LINES: [Line; 7] = [
    Line {
        what: "errors (5xx)",
        metrics: &["Http5xx"],
        words: &["5xx", "resultcode", "success == false", "success==false", "http5", "scstatus"],
        of: SITE,
    },
    Line {
        what: "failing health checks",
        metrics: &["HealthCheckStatus"],
        words: &["healthcheck"],
        of: SITE,
    },
    Line {
        what: "response time",
        metrics: &["HttpResponseTime", "AverageResponseTime", "requests/duration"],
        words: &["percentile", "duration"],
        of: SITE,
    },
    Line {
        what: "CPU",
        metrics: &["CpuPercentage"],
        words: &["cpupercentage"],
        of: &["azurerm_service_plan"],
    },
    Line {
        what: "memory",
        metrics: &["MemoryPercentage"],
        words: &["memorypercentage"],
        of: &["azurerm_service_plan"],
    },
    Line {
        what: "database connections",
        metrics: &["active_connections", "connections_failed"],
        words: &["active_connections"],
        of: SERVER,
    },
    Line {
        what: "Redis memory",
        metrics: &["usedmemorypercentage", "allusedmemorypercentage"],
        words: &["usedmemorypercentage"],
        of: REDIS,
    },
];

const APP: &str = "resource \"azurerm_linux_web_app\" \"backend\" {\n  name = \"notes\"\n}\n";

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-MON-001",
        section: STANDARD,
        erratum: None,
        severity: Warning,
        title: "Application Insights is workspace-based",
        why: "Classic resources were retired in February 2024; logs and telemetry belong in one workspace.",
        fix: "Set `workspace_id` to the Log Analytics workspace.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_application_insights\" \"ai\" {\n  application_type = \"web\"\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_application_insights\" \"ai\" {\n  application_type = \"web\"\n  workspace_id     = azurerm_log_analytics_workspace.law.id\n}\nresource \"azurerm_log_analytics_workspace\" \"law\" {\n  retention_in_days = 90\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(INSIGHTS) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "workspace_id",
                        absent: Some(false),
                        message: "",
                        missing: "no `workspace_id`: classic Application Insights is retired",
                        write: None,
                    },
                    |_| Some(true),
                );
            }
        }),
    },
    Rule {
        id: "LZ-MON-002",
        section: STANDARD,
        erratum: None,
        severity: Warning,
        title: "Telemetry is kept for 90 days",
        why: "An incident is compared with the month before; shorter retention has forgotten it.",
        fix: "Set `retention_in_days = 90`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_log_analytics_workspace\" \"law\" {\n  retention_in_days = 30\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_log_analytics_workspace\" \"law\" {\n  retention_in_days = 90\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s
                .all(&["azurerm_application_insights", "azurerm_log_analytics_workspace"])
                .filter(|_| !s.is(Environment::Dev))
            {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "retention_in_days",
                        absent: None,
                        message: "the standard keeps 90 days",
                        missing: "",
                        write: Some("90"),
                    },
                    |v| v.as_number().map(|n| n >= f64::from(*monitoring::RETENTION_DAYS)),
                );
            }
        }),
    },
    Rule {
        id: "LZ-MON-003",
        section: "Integration with structlog",
        erratum: Some(14),
        severity: Warning,
        title: "A site's logs go to the workspace",
        why: "Container output reaches Log Analytics (`AppServiceConsoleLogs`) by a diagnostic setting, and by nothing else: Application Insights does not collect stdout.",
        fix: "Add an `azurerm_monitor_diagnostic_setting` for the site with AppServiceConsoleLogs, AppServiceHTTPLogs, AppServiceAppLogs and AppServicePlatformLogs.",
        bad: &[("prod/main.tf", APP)],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  name = \"notes\"\n}\nresource \"azurerm_monitor_diagnostic_setting\" \"backend\" {\n  target_resource_id = azurerm_linux_web_app.backend.id\n  enabled_log {\n    category = \"AppServiceConsoleLogs\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITE).filter(|_| s.is_serious()) {
                let found: Vec<&Resource> = s
                    .attached(r, &["azurerm_monitor_diagnostic_setting"], "target_resource_id")
                    .map(|(d, _)| d)
                    .collect();
                if found.is_empty() {
                    o.at(r.header, "no diagnostic setting: what the app prints is lost").absent();
                    continue;
                }
                let console = found.iter().any(|d| {
                    let logs = d.body.blocks("enabled_log");
                    logs.is_empty()
                        && d.get("enabled_log").is_none_or(Value::is_unknown)
                        && d.get("log").is_some()
                        || logs.iter().any(|(_, m)| {
                            m.get("category").is_none_or(|c| {
                                c.as_str().is_none_or(|t| t == "AppServiceConsoleLogs")
                            }) || m.get("category_group").is_some()
                        })
                        || d.get("enabled_log")
                            .and_then(Value::as_list)
                            .is_some_and(|l| l.iter().any(Value::is_unknown))
                });
                if console {
                    o.judged();
                } else {
                    o.at(
                        found[0].header,
                        "AppServiceConsoleLogs is not collected: what the app prints is lost",
                    );
                }
            }
        }),
    },
    Rule {
        id: "LZ-MON-004",
        section: METRICS,
        erratum: None,
        severity: Warning,
        title: "Every metric of the standard's tables has an alert in production",
        why: "What is not alerted on is noticed by users.",
        fix: "Add an `azurerm_monitor_metric_alert` (or a query alert) for each.",
        bad: &[("prod/main.tf", APP)],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_linux_web_app\" \"backend\" {\n  name = \"notes\"\n}\nresource \"azurerm_monitor_metric_alert\" \"e\" {\n  scopes = [azurerm_linux_web_app.backend.id]\n  criteria {\n    metric_name = \"Http5xx\"\n  }\n  action {\n    action_group_id = \"x\"\n  }\n}\nresource \"azurerm_monitor_metric_alert\" \"h\" {\n  scopes = [azurerm_linux_web_app.backend.id]\n  criteria {\n    metric_name = \"HealthCheckStatus\"\n  }\n  action {\n    action_group_id = \"x\"\n  }\n}\nresource \"azurerm_monitor_metric_alert\" \"t\" {\n  scopes = [azurerm_linux_web_app.backend.id]\n  criteria {\n    metric_name = \"HttpResponseTime\"\n    threshold   = 5\n  }\n  action {\n    action_group_id = \"x\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            if !s.is(Environment::Prod) {
                return;
            }
            // One finding a resource: the remedy is one file of alerts.
            let mut missing: Vec<(lazuli_hcl::Span, Vec<&str>)> = Vec::new();
            for l in &LINES {
                let Some(first) = s.all(l.of).find(|r| !SITE.contains(&&*r.kind) || is_backend(r))
                else {
                    continue;
                };
                match alerted(s, l.metrics, l.words) {
                    Some(true) => o.judged(),
                    Some(false) => match missing.iter_mut().find(|(at, _)| *at == first.header) {
                        Some((_, what)) => what.push(l.what),
                        None => missing.push((first.header, vec![l.what])),
                    },
                    None => o.unknown("an alert's metric is not known"),
                }
            }
            for (at, what) in missing {
                o.at(at, format!("production has no alert on {}", what.join(", "))).absent();
            }
        }),
    },
    Rule {
        id: "LZ-MON-005",
        section: METRICS,
        erratum: None,
        severity: Warning,
        title: "Alerts have the standard's thresholds",
        why: "A threshold above the standard's tells of the outage after the users do.",
        fix: "CPU 80 %, memory 85 %, Redis memory 80 %, response time 5 s, database connections 90 % of what the SKU has.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_monitor_metric_alert\" \"cpu\" {\n  criteria {\n    metric_name = \"CpuPercentage\"\n    operator    = \"GreaterThan\"\n    threshold   = 95\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_monitor_metric_alert\" \"cpu\" {\n  criteria {\n    metric_name = \"CpuPercentage\"\n    operator    = \"GreaterThan\"\n    threshold   = 80\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(METRIC) {
                for (m, threshold, map) in criteria(r) {
                    #[expect(clippy::cast_precision_loss, reason = "seconds")]
                    let limit = match m.to_ascii_lowercase().as_str() {
                        "cpupercentage" => *monitoring::CPU,
                        "memorypercentage" => *monitoring::MEMORY,
                        "usedmemorypercentage" | "allusedmemorypercentage" => {
                            *monitoring::CACHE_MEMORY
                        }
                        "httpresponsetime" | "averageresponsetime" => {
                            monitoring::RESPONSE_P95.as_secs() as f64
                        }
                        "active_connections" => match connections(s, r) {
                            Some(n) => n * 0.9,
                            None => continue,
                        },
                        _ => continue,
                    };
                    let (Some(t), Some(e)) = (threshold, map.entry("threshold")) else { continue };
                    let below = map
                        .get("operator")
                        .and_then(Value::as_str)
                        .is_some_and(|o| o.starts_with("Less"));
                    if !below && t > limit {
                        o.entry(e, format!("{m} above {t}: the standard's threshold is {limit}"));
                    } else {
                        o.judged();
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-MON-006",
        section: ALERTING,
        erratum: None,
        severity: Error,
        title: "An alert tells somebody",
        why: "Without an action group it turns red in a portal nobody watches.",
        fix: "Add `action { action_group_id = … }`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_monitor_metric_alert\" \"cpu\" {\n  criteria {\n    metric_name = \"CpuPercentage\"\n    threshold   = 80\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_monitor_metric_alert\" \"cpu\" {\n  criteria {\n    metric_name = \"CpuPercentage\"\n    threshold   = 80\n  }\n  action {\n    action_group_id = azurerm_monitor_action_group.oncall.id\n  }\n}\nresource \"azurerm_monitor_action_group\" \"oncall\" {\n  short_name = \"oncall\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(METRIC).chain(s.all(QUERY)) {
                let off = r.get("enabled").and_then(Value::as_bool) == Some(false);
                if r.get("action").is_some() || off {
                    o.judged();
                } else {
                    o.at(r.header, "this alert tells nobody: it has no `action`").unset();
                }
            }
        }),
    },
    Rule {
        id: "LZ-MON-007",
        section: ALERTING,
        erratum: None,
        severity: Note,
        title: "Alerts have the standard's severity",
        why: "The severity decides who is woken: 0 for an app that is down, 1 for errors and connections.",
        fix: "Set `severity = 0` for health, `1` for 5xx and database connections.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_monitor_metric_alert\" \"down\" {\n  severity = 3\n  criteria {\n    metric_name = \"HealthCheckStatus\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_monitor_metric_alert\" \"down\" {\n  severity = 0\n  criteria {\n    metric_name = \"HealthCheckStatus\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(METRIC) {
                let Some(e) = r.body.entry("severity") else { continue };
                for (m, ..) in criteria(r) {
                    let want = match m.as_str() {
                        "HealthCheckStatus" => 0.0,
                        "Http5xx" => 1.0,
                        _ => continue,
                    };
                    match e.value.as_number() {
                        // Warnings below the alert's threshold may be milder.
                        Some(n) if n > want + 1.0 => {
                            o.entry(e, format!("severity {n} for {m}: the standard's is {want}"));
                        }
                        _ => o.judged(),
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-MON-008",
        section: STANDARD,
        erratum: None,
        severity: Warning,
        title: "A site is told where its telemetry goes",
        why: "Without `APPLICATIONINSIGHTS_CONNECTION_STRING` the exporter is silent.",
        fix: "Set it from `azurerm_application_insights.….connection_string`, and make it sticky.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_application_insights\" \"ai\" {\n  workspace_id = \"x\"\n}\nresource \"azurerm_linux_web_app\" \"backend\" {\n  app_settings = {\n    APP_ENV = \"production\"\n  }\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_application_insights\" \"ai\" {\n  workspace_id = \"x\"\n}\nresource \"azurerm_linux_web_app\" \"backend\" {\n  app_settings = {\n    APPLICATIONINSIGHTS_CONNECTION_STRING = azurerm_application_insights.ai.connection_string\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITE).filter(|r| s.is_serious() && is_backend(r) && s.any(INSIGHTS)) {
                let Some(m) = settings(r) else { continue };
                let set = m.iter().any(|e| {
                    e.key.starts_with("APPLICATIONINSIGHTS_CONNECTION")
                        || e.key.starts_with("APPINSIGHTS_")
                });
                if set || m.open.is_some() {
                    o.judged();
                } else {
                    let at = r.body.entry("app_settings").map_or(r.header, |e| e.key_span);
                    o.at(at, "no `APPLICATIONINSIGHTS_CONNECTION_STRING`: the app's telemetry goes nowhere").absent();
                }
            }
        }),
    },
    Rule {
        id: "LZ-MON-009",
        section: TRACING,
        erratum: None,
        severity: Error,
        title: "No OpenCensus",
        why: "It is deprecated and archived; Azure Monitor's exporter for it is out of support.",
        fix: "Require `azure-monitor-opentelemetry-exporter` and the `opentelemetry-instrumentation-*` packages.",
        bad: &[
            ("requirements.txt", "opencensus-ext-azure==1.1.13\n"),
            ("app/obs.py", "from opencensus.ext.azure.trace_exporter import AzureExporter\n"),
        ],
        good: &[("requirements.txt", "azure-monitor-opentelemetry-exporter>=1.0.0b21\n")],
        check: Check::Project(|p, o| {
            for r in p.requirements.iter().flat_map(|(_, r)| r) {
                o.judged();
                if r.name == "opencensus" || r.name.starts_with("opencensus-") {
                    o.at(r.span, format!("`{}` is deprecated: OpenTelemetry replaces it", r.name));
                }
            }
            for (m, at) in p.python.iter().flat_map(|f| &f.imports) {
                if m == "opencensus" || m.starts_with("opencensus.") {
                    o.at(*at, "OpenCensus is deprecated: OpenTelemetry replaces it");
                }
            }
        }),
    },
    Rule {
        id: "LZ-MON-010",
        section: TRACING,
        erratum: Some(13),
        severity: Error,
        title: "The exporter's package has its right name",
        why: "There is no `opentelemetry-exporter-azuremonitor` that works: the package is `azure-monitor-opentelemetry-exporter`.",
        fix: "Write `azure-monitor-opentelemetry-exporter>=1.0.0b21`.",
        bad: &[("requirements.txt", "opentelemetry-exporter-azuremonitor>=1.0.0b21\n")],
        good: &[("requirements.txt", "azure-monitor-opentelemetry-exporter>=1.0.0b21\n")],
        check: Check::Project(|p, o| {
            for r in p.requirements.iter().flat_map(|(_, r)| r) {
                o.judged();
                if r.name == "opentelemetry-exporter-azuremonitor" {
                    o.at(r.span, "the package is `azure-monitor-opentelemetry-exporter`")
                        .edit(r.span, "azure-monitor-opentelemetry-exporter");
                }
            }
        }),
    },
    Rule {
        id: "LZ-MON-011",
        section: "Production Debugging with py-spy",
        erratum: Some(24),
        severity: Warning,
        title: "A debugger is given one process",
        why: "`pgrep -f gunicorn` prints the master and every worker: py-spy and asyncio want one PID, and fail.",
        fix: "Pick a worker: `pgrep -n -f gunicorn` gives the newest.",
        bad: &[("scripts/debug.sh", "py-spy dump --pid $(pgrep -f gunicorn)\n")],
        good: &[("scripts/debug.sh", "py-spy dump --pid \"$(pgrep -n -f gunicorn)\"\n")],
        check: Check::Project(|p, o| {
            for (t, at, _) in p.texts() {
                let Some(n) = t.find("$(pgrep -f ") else { continue };
                if t.contains("py-spy") || t.contains("pstree") || t.contains("--pid") {
                    let text = &p.sources.get(at.file).text;
                    let _ = n;
                    o.at(
                        crate::snippet::within(text, &Value::text("", at), "$(pgrep -f gunicorn)"),
                        "`pgrep -f` prints the master and every worker: one PID is wanted",
                    );
                }
            }
        }),
    },
    Rule {
        id: "LZ-MON-012",
        section: STANDARD,
        erratum: None,
        severity: Note,
        title: "Sampling is above zero",
        why: "Read as it stands 0 % keeps nothing; read as \"not set\" it keeps everything. Neither is what was meant.",
        fix: "Leave `sampling_percentage` out, or above zero; the SDK samples to 5 events a second.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_application_insights\" \"ai\" {\n  workspace_id        = \"x\"\n  sampling_percentage = 0\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_application_insights\" \"ai\" {\n  workspace_id        = \"x\"\n  sampling_percentage = 50\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(INSIGHTS) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "sampling_percentage",
                        absent: Some(true),
                        message: "that keeps nothing, or everything where it is read as not set",
                        missing: "",
                        write: None,
                    },
                    |v| v.as_number().map(|n| n > 0.0),
                );
            }
        }),
    },
    Rule {
        id: "LZ-MON-013",
        section: ALERTING,
        erratum: None,
        severity: Note,
        title: "Health failures are noticed after three checks",
        why: "The standard alerts on three consecutive failures; an eviction time of many minutes keeps a dead instance in rotation.",
        fix: "Set `health_check_eviction_time_in_min` between 2 and 5.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  site_config {\n    health_check_path                 = \"/health\"\n    health_check_eviction_time_in_min = 10\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  site_config {\n    health_check_path                 = \"/health\"\n    health_check_eviction_time_in_min = 3\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                if let Got::Written(e) = get(r, "site_config.health_check_eviction_time_in_min") {
                    match e.value.as_number() {
                        Some(n) if n > 5.0 => {
                            o.entry(e, format!("a dead instance serves for {n} minutes"));
                        }
                        _ => o.judged(),
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-MON-014",
        section: ALERTING,
        erratum: None,
        severity: Warning,
        title: "An alert is switched on",
        why: "One that is switched off for a night stays so.",
        fix: "Remove `enabled = false`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_monitor_metric_alert\" \"cpu\" {\n  enabled = false\n  criteria {\n    metric_name = \"CpuPercentage\"\n  }\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_monitor_metric_alert\" \"cpu\" {\n  enabled = true\n  criteria {\n    metric_name = \"CpuPercentage\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(METRIC).chain(s.all(QUERY)).filter(|_| s.is(Environment::Prod)) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "enabled",
                        absent: Some(true),
                        message: "this alert is off in production",
                        missing: "",
                        write: Some("true"),
                    },
                    Value::as_bool,
                );
            }
        }),
    },
    Rule {
        id: "LZ-MON-015",
        section: ALERTING,
        erratum: None,
        severity: Error,
        title: "An action group reaches somebody",
        why: "An alert that calls a group without a receiver has told nobody; the portal says \"fired\" all the same.",
        fix: "Add a `webhook_receiver` (PagerDuty, Teams), an `email_receiver` or another.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_monitor_action_group\" \"oncall\" {\n  short_name = \"oncall\"\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_monitor_action_group\" \"oncall\" {\n  short_name = \"oncall\"\n  webhook_receiver {\n    name        = \"pager\"\n    service_uri = var.pager\n  }\n}\nvariable \"pager\" {}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(&["azurerm_monitor_action_group"]) {
                let off = r.get("enabled").and_then(Value::as_bool) == Some(false);
                let received = r.body.iter().any(|e| e.key.ends_with("_receiver"));
                // What a `dynamic` makes of its variable's default says nothing of the addresses, which
                // are secrets and come from outside.
                let from_outside = s.text(r.span).contains("_receiver\"");
                if received || off || r.body.open.is_some() {
                    o.judged();
                } else if from_outside {
                    o.unknown(format!("{}: its receivers come from a variable", r.address));
                } else {
                    o.at(r.header, "this group has no receiver: its alerts reach nobody").unset();
                }
            }
        }),
    },
    Rule {
        id: "LZ-MON-016",
        section: ALERTING,
        erratum: None,
        severity: Note,
        title: "Errors and failing health checks are seen within minutes",
        why: "The standard looks at five minutes. An average over an hour has diluted ten minutes of outage, and tells when it is over.",
        fix: "Set `window_size = \"PT5M\"`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_monitor_metric_alert\" \"errors\" {\n  window_size = \"PT1H\"\n  criteria {\n    metric_name = \"Http5xx\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_monitor_metric_alert\" \"errors\" {\n  window_size = \"PT5M\"\n  criteria {\n    metric_name = \"Http5xx\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(METRIC) {
                let Some(e) = r.body.entry("window_size") else { continue };
                if !criteria(r)
                    .iter()
                    .any(|(m, ..)| matches!(m.as_str(), "Http5xx" | "HealthCheckStatus"))
                {
                    continue;
                }
                match super::scaling::minutes(&e.value) {
                    // Azure's next window after five minutes is fifteen.
                    Some(n) if n > 15.0 => {
                        o.entry(e, format!("a window of {n} minutes: the standard looks at five"));
                    }
                    Some(_) => o.judged(),
                    None => o.unknown(format!("{}.window_size", r.address)),
                }
            }
        }),
    },
];
