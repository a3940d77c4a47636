//! Auto-scale and numbers of instances.

use std::collections::HashSet;

use lazuli_hcl::terraform::Resource;
use lazuli_hcl::{Map, Value};
use lazuli_standard::{Environment, data::scaling};

use super::{Got, PLAN, SITE, get, is_backend};
use crate::project::Stack;
use crate::rule::{
    Check, Rule,
    Severity::{Error, Note, Warning},
};

const SECTION: &str = "Auto-Scale Rules";
const SETTING: &[&str] = &["azurerm_monitor_autoscale_setting"];

/// The most instances auto-scale may give a plan.
pub(crate) fn maximum(s: &Stack, plan: &Resource) -> Option<f64> {
    s.attached(plan, SETTING, "target_resource_id")
        .find_map(|(a, sure)| sure.then_some(a))
        .and_then(|a| {
            profiles(a)
                .filter_map(|p| p.block("capacity")?.1.get("maximum")?.as_number())
                .reduce(f64::max)
        })
}

/// Whether a setting scales an App Service plan, and not virtual machines or an API gateway. One
/// that does not say is taken for a plan's unless its own metrics are another service's.
fn of_a_plan(r: &Resource) -> bool {
    let Some(target) = r.get("target_resource_id") else { return false };
    let refs = target.refs();
    if !refs.is_empty() {
        return refs.iter().any(|x| x.kind.ends_with("service_plan") || x.kind.is_empty());
    }
    if let Some(id) = target.as_str() {
        return id.to_ascii_lowercase().contains("/serverfarms/");
    }
    !profiles(r).flat_map(triggers).any(|t| {
        let foreign = t
            .trigger
            .get("metric_namespace")
            .and_then(Value::as_str)
            .is_some_and(|n| !n.to_ascii_lowercase().starts_with("microsoft.web"));
        // A virtual machine's metric; a plan's is `CpuPercentage`.
        foreign || t.metric() == "Percentage CPU"
    })
}

fn profiles(r: &Resource) -> impl Iterator<Item = &Map> {
    r.body.blocks("profile").into_iter().map(|(_, m)| m)
}

/// A rule of a profile: metric, whether out, threshold, change.
struct Trigger<'a> {
    trigger: &'a Map,
    action: &'a Map,
    at: lazuli_hcl::Span,
}

fn triggers(p: &Map) -> impl Iterator<Item = Trigger<'_>> {
    p.blocks("rule").into_iter().filter_map(|(v, m)| {
        Some(Trigger {
            trigger: m.block("metric_trigger")?.1,
            action: m.block("scale_action")?.1,
            at: v.span,
        })
    })
}

impl Trigger<'_> {
    fn out(&self) -> bool {
        self.action.get("direction").and_then(Value::as_str) == Some("Increase")
    }
    fn metric(&self) -> String {
        self.trigger.get("metric_name").map(Value::known_text).unwrap_or_default()
    }
    fn threshold(&self) -> Option<f64> {
        self.trigger.get("threshold")?.as_number()
    }
}

/// `PT5M` in minutes.
pub(crate) fn minutes(v: &Value) -> Option<f64> {
    let t = v.as_str()?.strip_prefix("PT")?;
    let (n, unit) = t.split_at(t.len().checked_sub(1)?);
    let n: f64 = n.parse().ok()?;
    match unit {
        "M" => Some(n),
        "H" => Some(n * 60.0),
        "S" => Some(n / 60.0),
        _ => None,
    }
}

const GOOD: &str = "resource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"P2v3\"\n}\nresource \"azurerm_monitor_autoscale_setting\" \"scale\" {\n  target_resource_id = azurerm_service_plan.plan.id\n  profile {\n    name = \"default\"\n    capacity {\n      default = 2\n      minimum = 2\n      maximum = 6\n    }\n    rule {\n      metric_trigger {\n        metric_name        = \"CpuPercentage\"\n        metric_resource_id = azurerm_service_plan.plan.id\n        operator           = \"GreaterThan\"\n        threshold          = 70\n        time_window        = \"PT10M\"\n      }\n      scale_action {\n        direction = \"Increase\"\n        type      = \"ChangeCount\"\n        value     = \"1\"\n        cooldown  = \"PT5M\"\n      }\n    }\n    rule {\n      metric_trigger {\n        metric_name        = \"CpuPercentage\"\n        metric_resource_id = azurerm_service_plan.plan.id\n        operator           = \"LessThan\"\n        threshold          = 30\n        time_window        = \"PT10M\"\n      }\n      scale_action {\n        direction = \"Decrease\"\n        type      = \"ChangeCount\"\n        value     = \"1\"\n        cooldown  = \"PT5M\"\n      }\n    }\n  }\n}\n";

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-SCL-001",
        section: SECTION,
        erratum: None,
        severity: Warning,
        title: "Production's backend scales by itself",
        why: "A fixed number of instances is either too few at noon or too many at night.",
        fix: "Add an `azurerm_monitor_autoscale_setting` for the plan: CPU out above 70 %, in below 30 %, 2 to 6 instances.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"P2v3\"\n}\nresource \"azurerm_linux_web_app\" \"backend\" {\n  service_plan_id = azurerm_service_plan.plan.id\n}\n",
        )],
        good: &[("prod/main.tf", GOOD)],
        check: Check::Stack(|s, o| {
            if !s.is(Environment::Prod) {
                return;
            }
            // Once for all plans: a search a plan is quadratic.
            let backends: HashSet<&str> = s
                .all(SITE)
                .filter(|r| is_backend(r))
                .filter_map(|r| super::plan_of(s, r))
                .map(|p| &*p.address)
                .collect();
            for plan in s.all(PLAN) {
                let backend = backends.contains(&*plan.address);
                if s.attached(plan, SETTING, "target_resource_id").next().is_some()
                    || plan.get("premium_plan_auto_scale_enabled").and_then(Value::as_bool)
                        == Some(true)
                {
                    o.judged();
                } else if backend {
                    o.at(plan.header, "no auto-scale for the backend's plan").absent();
                }
            }
        }),
    },
    Rule {
        id: "LZ-SCL-002",
        section: SECTION,
        erratum: None,
        severity: Error,
        title: "Production never runs on one instance",
        why: "One instance is down whenever Azure patches it.",
        fix: "Set the profile's `minimum = 2`, or the plan's `worker_count = 2` where nothing scales it.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"P2v3\"\n}\nresource \"azurerm_monitor_autoscale_setting\" \"scale\" {\n  target_resource_id = azurerm_service_plan.plan.id\n  profile {\n    name = \"default\"\n    capacity {\n      default = 2\n      minimum = 1\n      maximum = 6\n    }\n    rule {\n      metric_trigger {\n        metric_name        = \"CpuPercentage\"\n        metric_resource_id = azurerm_service_plan.plan.id\n        operator           = \"GreaterThan\"\n        threshold          = 70\n        time_window        = \"PT10M\"\n      }\n      scale_action {\n        direction = \"Increase\"\n        type      = \"ChangeCount\"\n        value     = \"1\"\n        cooldown  = \"PT5M\"\n      }\n    }\n  }\n}\n",
        )],
        good: &[("prod/main.tf", GOOD)],
        check: Check::Stack(|s, o| {
            if !s.is(Environment::Prod) {
                return;
            }
            for r in s.all(SETTING).filter(|r| of_a_plan(r)) {
                for p in profiles(r) {
                    let Some(e) = p.block("capacity").and_then(|(_, c)| c.entry("minimum")) else {
                        continue;
                    };
                    match e.value.as_number() {
                        Some(n) if n < f64::from(scaling::LIMITS.0) => {
                            o.entry(
                                e,
                                format!(
                                    "a minimum of {n}: the standard's is {}",
                                    scaling::LIMITS.0
                                ),
                            );
                        }
                        _ => o.judged(),
                    }
                }
            }
            for plan in s.all(PLAN) {
                let Some(e) = plan.body.entry("worker_count") else { continue };
                let scaled = s.attached(plan, SETTING, "target_resource_id").next().is_some();
                let backend = s
                    .all(SITE)
                    .filter(|r| is_backend(r))
                    .any(|r| super::plan_of(s, r).is_some_and(|p| p.address == plan.address));
                if backend && !scaled && e.value.as_number().is_some_and(|n| n < 2.0) {
                    o.entry(e, "one instance in production");
                }
            }
        }),
    },
    Rule {
        id: "LZ-SCL-003",
        section: SECTION,
        erratum: None,
        severity: Warning,
        title: "Auto-scale has a ceiling",
        why: "The maximum is the cost ceiling, and what the database's connections are counted with.",
        fix: "Set the profile's `maximum = 6`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"P2v3\"\n}\nresource \"azurerm_monitor_autoscale_setting\" \"scale\" {\n  target_resource_id = azurerm_service_plan.plan.id\n  profile {\n    name = \"default\"\n    capacity {\n      default = 2\n      minimum = 2\n      maximum = 30\n    }\n    rule {\n      metric_trigger {\n        metric_name        = \"CpuPercentage\"\n        metric_resource_id = azurerm_service_plan.plan.id\n        operator           = \"GreaterThan\"\n        threshold          = 70\n        time_window        = \"PT10M\"\n      }\n      scale_action {\n        direction = \"Increase\"\n        type      = \"ChangeCount\"\n        value     = \"1\"\n        cooldown  = \"PT5M\"\n      }\n    }\n  }\n}\n",
        )],
        good: &[("prod/main.tf", GOOD)],
        check: Check::Stack(|s, o| {
            for r in s.all(SETTING).filter(|r| of_a_plan(r)) {
                for p in profiles(r) {
                    let Some(e) = p.block("capacity").and_then(|(_, c)| c.entry("maximum")) else {
                        continue;
                    };
                    match e.value.as_number() {
                        Some(n) if n > f64::from(scaling::LIMITS.1) => {
                            o.entry(
                                e,
                                format!(
                                    "a maximum of {n}: the standard's ceiling is {}",
                                    scaling::LIMITS.1
                                ),
                            );
                        }
                        _ => o.judged(),
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-SCL-004",
        section: SECTION,
        erratum: None,
        severity: Warning,
        title: "What scales out also scales in",
        why: "Without the opposite rule the plan stays at its maximum, and costs it.",
        fix: "Add a rule with `direction = \"Decrease\"` for the same metric.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"P2v3\"\n}\nresource \"azurerm_monitor_autoscale_setting\" \"scale\" {\n  target_resource_id = azurerm_service_plan.plan.id\n  profile {\n    name = \"default\"\n    capacity {\n      default = 2\n      minimum = 2\n      maximum = 6\n    }\n    rule {\n      metric_trigger {\n        metric_name        = \"CpuPercentage\"\n        metric_resource_id = azurerm_service_plan.plan.id\n        operator           = \"GreaterThan\"\n        threshold          = 70\n        time_window        = \"PT10M\"\n      }\n      scale_action {\n        direction = \"Increase\"\n        type      = \"ChangeCount\"\n        value     = \"1\"\n        cooldown  = \"PT5M\"\n      }\n    }\n  }\n}\n",
        )],
        good: &[("prod/main.tf", GOOD)],
        check: Check::Stack(|s, o| {
            for r in s.all(SETTING).filter(|r| of_a_plan(r)) {
                for p in profiles(r) {
                    let all: Vec<Trigger<'_>> = triggers(p).collect();
                    if p.get("rule")
                        .and_then(Value::as_list)
                        .is_none_or(|l| l.iter().any(Value::is_unknown))
                    {
                        continue;
                    }
                    for t in all.iter().filter(|t| t.out()) {
                        if all.iter().any(|x| !x.out() && x.metric() == t.metric()) {
                            o.judged();
                        } else {
                            o.at(
                                t.at,
                                format!(
                                    "nothing scales in on {}: the plan stays at its maximum",
                                    t.metric()
                                ),
                            )
                            .absent();
                        }
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-SCL-005",
        section: SECTION,
        erratum: Some(23),
        severity: Error,
        title: "Scaling in does not cause scaling out",
        why: "With n instances at the lower threshold, n−1 carry n/(n−1) of the load each. When that passes the upper threshold the plan flaps.",
        fix: "Keep the thresholds apart: out above 70 %, in below 30 %.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"P2v3\"\n}\nresource \"azurerm_monitor_autoscale_setting\" \"scale\" {\n  target_resource_id = azurerm_service_plan.plan.id\n  profile {\n    name = \"default\"\n    capacity {\n      default = 2\n      minimum = 2\n      maximum = 6\n    }\n    rule {\n      metric_trigger {\n        metric_name        = \"CpuPercentage\"\n        metric_resource_id = azurerm_service_plan.plan.id\n        operator           = \"GreaterThan\"\n        threshold          = 70\n        time_window        = \"PT10M\"\n      }\n      scale_action {\n        direction = \"Increase\"\n        type      = \"ChangeCount\"\n        value     = \"1\"\n        cooldown  = \"PT5M\"\n      }\n    }\n    rule {\n      metric_trigger {\n        metric_name        = \"CpuPercentage\"\n        metric_resource_id = azurerm_service_plan.plan.id\n        operator           = \"LessThan\"\n        threshold          = 60\n        time_window        = \"PT10M\"\n      }\n      scale_action {\n        direction = \"Decrease\"\n        type      = \"ChangeCount\"\n        value     = \"1\"\n        cooldown  = \"PT5M\"\n      }\n    }\n  }\n}\n",
        )],
        good: &[("prod/main.tf", GOOD)],
        check: Check::Stack(|s, o| {
            for r in s.all(SETTING).filter(|r| of_a_plan(r)) {
                for p in profiles(r) {
                    let minimum = p
                        .block("capacity")
                        .and_then(|(_, c)| c.get("minimum")?.as_number())
                        .unwrap_or(1.0)
                        .max(1.0);
                    let all: Vec<Trigger<'_>> = triggers(p).collect();
                    for i in all.iter().filter(|t| !t.out()) {
                        for x in all.iter().filter(|t| t.out() && t.metric() == i.metric()) {
                            let (Some(low), Some(high)) = (i.threshold(), x.threshold()) else {
                                continue;
                            };
                            let step = i
                                .action
                                .get("value")
                                .and_then(Value::as_number)
                                .unwrap_or(1.0)
                                .max(1.0);
                            let after = low * (minimum + step) / minimum;
                            if after > high {
                                let at = i.trigger.entry("threshold").map_or(i.at, |e| e.at);
                                o.at(at, format!("scaling in from {} to {minimum} at {low} leaves {after:.0} on each, above the {high} that scale out", minimum + step)).label(x.at, "which scales out");
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
        id: "LZ-SCL-006",
        section: SECTION,
        erratum: None,
        severity: Note,
        title: "A change settles before the next",
        why: "A new instance takes minutes to share the load; without the cooldown its start is mistaken for more load.",
        fix: "Set `cooldown = \"PT5M\"` and `time_window = \"PT10M\"`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"P2v3\"\n}\nresource \"azurerm_monitor_autoscale_setting\" \"scale\" {\n  target_resource_id = azurerm_service_plan.plan.id\n  profile {\n    name = \"default\"\n    capacity {\n      default = 2\n      minimum = 2\n      maximum = 6\n    }\n    rule {\n      metric_trigger {\n        metric_name        = \"CpuPercentage\"\n        metric_resource_id = azurerm_service_plan.plan.id\n        operator           = \"GreaterThan\"\n        threshold          = 70\n        time_window        = \"PT10M\"\n      }\n      scale_action {\n        direction = \"Increase\"\n        type      = \"ChangeCount\"\n        value     = \"1\"\n        cooldown  = \"PT1M\"\n      }\n    }\n  }\n}\n",
        )],
        good: &[("prod/main.tf", GOOD)],
        check: Check::Stack(|s, o| {
            for r in s.all(SETTING).filter(|r| of_a_plan(r)) {
                for t in profiles(r).flat_map(triggers) {
                    for (m, k, want) in [
                        (t.action, "cooldown", scaling::COOLDOWN),
                        (t.trigger, "time_window", scaling::WINDOW),
                    ] {
                        let Some(e) = m.entry(k) else { continue };
                        #[expect(clippy::cast_precision_loss, reason = "minutes")]
                        let want = (want.as_secs() / 60) as f64;
                        match minutes(&e.value) {
                            Some(n) if n < want => {
                                o.entry(e, format!("`{k}` of {n} min: the standard's is {want}"));
                            }
                            _ => o.judged(),
                        }
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-SCL-007",
        section: SECTION,
        erratum: Some(22),
        severity: Error,
        title: "Requests are counted where there is such a metric",
        why: "A plan has no request metric: `Requests` belongs to the site. A rule that names the plan never fires.",
        fix: "Set `metric_resource_id` to the site and `metric_name = \"Requests\"`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"P2v3\"\n}\nresource \"azurerm_monitor_autoscale_setting\" \"scale\" {\n  target_resource_id = azurerm_service_plan.plan.id\n  profile {\n    name = \"default\"\n    capacity {\n      default = 2\n      minimum = 2\n      maximum = 6\n    }\n    rule {\n      metric_trigger {\n        metric_name        = \"Requests\"\n        metric_resource_id = azurerm_service_plan.plan.id\n        operator           = \"GreaterThan\"\n        threshold          = 70\n        time_window        = \"PT10M\"\n      }\n      scale_action {\n        direction = \"Increase\"\n        type      = \"ChangeCount\"\n        value     = \"1\"\n        cooldown  = \"PT5M\"\n      }\n    }\n  }\n}\n",
        )],
        good: &[("prod/main.tf", GOOD)],
        check: Check::Stack(|s, o| {
            for r in s.all(SETTING).filter(|r| of_a_plan(r)) {
                for t in profiles(r).flat_map(triggers) {
                    let Some(e) = t.trigger.entry("metric_resource_id") else { continue };
                    let plan = e.value.refs().iter().any(|x| &*x.kind == "azurerm_service_plan");
                    if plan
                        && matches!(
                            t.metric().as_str(),
                            "Requests" | "RequestCount" | "Http5xx" | "HttpResponseTime"
                        )
                    {
                        o.entry(e, format!("a plan has no metric `{}`: name the site", t.metric()));
                    } else {
                        o.judged();
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-SCL-008",
        section: "SKU Selection",
        erratum: None,
        severity: Error,
        title: "Auto-scale is asked only of a plan that can",
        why: "Basic plans do not scale by themselves: Azure refuses the setting.",
        fix: "Remove the setting in development, or choose Premium v3.",
        bad: &[(
            "dev/main.tf",
            "resource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"B1\"\n}\nresource \"azurerm_monitor_autoscale_setting\" \"scale\" {\n  target_resource_id = azurerm_service_plan.plan.id\n}\n",
        )],
        good: &[("prod/main.tf", GOOD)],
        check: Check::Stack(|s, o| {
            for r in s.all(SETTING).filter(|r| of_a_plan(r)) {
                let Some(Got::Written(e)) =
                    s.target(r.get("target_resource_id")).map(|p| get(p, "sku_name"))
                else {
                    continue;
                };
                if e.value.as_str().is_some_and(|t| t.starts_with(['B', 'F', 'D'])) {
                    o.at(
                        r.header,
                        format!("a {} plan does not scale by itself", e.value.known_text()),
                    )
                    .label(e.at, "the plan's SKU");
                } else {
                    o.judged();
                }
            }
        }),
    },
];
