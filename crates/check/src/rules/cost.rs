//! Cost, state and disaster recovery.

use lazuli_hcl::Value;
use lazuli_standard::Environment;
use lazuli_standard::data::cost;

use super::PLATFORM;
use crate::rule::{
    Check, Rule,
    Severity::{Error, Warning},
};

const BUDGET: &[&str] =
    &["azurerm_consumption_budget_resource_group", "azurerm_consumption_budget_subscription"];
const STATE: &str = "State Management";

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-CST-001",
        section: "Cost Controls",
        erratum: None,
        severity: Warning,
        title: "Production has a budget",
        why: "Without one the first to notice is whoever pays the invoice.",
        fix: "Add an `azurerm_consumption_budget_resource_group` with notifications at 80 and 100 percent.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_resource_group\" \"rg\" {\n  name = \"rg-notes-prod\"\n}\nresource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"P2v3\"\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_resource_group\" \"rg\" {\n  name = \"rg-notes-prod\"\n}\nresource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"P2v3\"\n}\nresource \"azurerm_consumption_budget_resource_group\" \"b\" {\n  notification {\n    threshold = 80\n  }\n  notification {\n    threshold = 100\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            if !s.is(Environment::Prod) || !s.any(PLATFORM) {
                return;
            }
            // Where the resource group is made elsewhere, so may be its budget.
            let Some(group) = s.all(&["azurerm_resource_group"]).next() else { return };
            if s.any(BUDGET) {
                o.judged();
            } else {
                o.at(group.header, "production has no budget").absent();
            }
        }),
    },
    Rule {
        id: "LZ-CST-002",
        section: "Cost Controls",
        erratum: None,
        severity: Warning,
        title: "A budget tells at 80 and at 100 percent",
        why: "At 80 there is time to act; at 100 there is none.",
        fix: "Add a `notification` for each threshold.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_consumption_budget_resource_group\" \"b\" {\n  notification {\n    threshold = 100\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_consumption_budget_resource_group\" \"b\" {\n  notification {\n    threshold = 80\n  }\n  notification {\n    threshold = 100\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(BUDGET) {
                let blocks = r.body.blocks("notification");
                let all: Vec<Option<f64>> = blocks
                    .iter()
                    .map(|(_, m)| m.get("threshold").and_then(Value::as_number))
                    .collect();
                if all.contains(&None)
                    || r.get("notification")
                        .and_then(Value::as_list)
                        .is_some_and(|l| l.iter().any(Value::is_unknown))
                {
                    o.unknown(r.address.to_string());
                    continue;
                }
                let missing: Vec<String> = cost::BUDGET_ALERTS
                    .iter()
                    .filter(|p| !all.iter().flatten().any(|t| (*t - f64::from(**p)).abs() < 0.5))
                    .map(|p| format!("{p} %"))
                    .collect();
                if missing.is_empty() {
                    o.judged();
                } else {
                    o.at(
                        r.header,
                        format!("this budget does not tell at {}", missing.join(" and ")),
                    )
                    .absent();
                }
            }
        }),
    },
    Rule {
        id: "LZ-IAC-001",
        section: STATE,
        erratum: None,
        severity: Error,
        title: "Terraform's state is in a storage account",
        why: "A state on a laptop is lost with it, locked for nobody, and holds every secret in plain.",
        fix: "Add `backend \"azurerm\" { … }` to the `terraform` block.",
        bad: &[(
            "prod/main.tf",
            "terraform {\n  backend \"local\" {\n    path = \"state\"\n  }\n}\nresource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"P2v3\"\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "terraform {\n  backend \"azurerm\" {\n    key = \"terraform.tfstate\"\n  }\n}\nresource \"azurerm_service_plan\" \"plan\" {\n  sku_name = \"P2v3\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            if !s.any(PLATFORM) {
                return;
            }
            let backend: Vec<_> = s
                .configuration
                .resources
                .iter()
                .filter(|r| r.module.is_empty() && r.kind.starts_with("backend."))
                .collect();
            for b in &backend {
                if matches!(&*b.kind, "backend.azurerm" | "backend.cloud" | "backend.remote") {
                    o.judged();
                } else {
                    o.at(b.header, "the standard keeps the state in an Azure storage account");
                }
            }
            // A root without a backend may be an example or a module tried by itself; it is one to
            // apply when it says which environment it is and configures Terraform.
            if backend.is_empty()
                && s.is(Environment::Prod)
                && let Some(t) = s
                    .configuration
                    .resources
                    .iter()
                    .find(|r| r.module.is_empty() && &*r.kind == "terraform")
            {
                o.at(t.header, "no `backend`: the state stays on the machine that applied")
                    .absent();
            }
        }),
    },
    Rule {
        id: "LZ-IAC-002",
        section: STATE,
        erratum: None,
        severity: Warning,
        title: "The state's storage is encrypted, private and recoverable",
        why: "Whoever reads the state reads every secret in it; whoever loses it loses the infrastructure's memory.",
        fix: "Set `allow_nested_items_to_be_public = false`, `min_tls_version = \"TLS1_2\"` and `https_traffic_only_enabled = true`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_storage_account\" \"state\" {\n  allow_nested_items_to_be_public = true\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_storage_account\" \"state\" {\n  allow_nested_items_to_be_public = false\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(&["azurerm_storage_account"]) {
                super::attribute(
                    o,
                    s,
                    r,
                    &super::Attribute {
                        path: "allow_nested_items_to_be_public",
                        absent: None,
                        message: "blobs may be read by anybody",
                        missing: "",
                        write: Some("false"),
                    },
                    |v| v.as_bool().map(|b| !b),
                );
                super::attribute(
                    o,
                    s,
                    r,
                    &super::Attribute {
                        path: "https_traffic_only_enabled",
                        absent: Some(true),
                        message: "plain HTTP is served",
                        missing: "",
                        write: Some("true"),
                    },
                    Value::as_bool,
                );
                super::attribute(
                    o,
                    s,
                    r,
                    &super::Attribute {
                        path: "min_tls_version",
                        absent: Some(true),
                        message: "the standard's minimum is TLS 1.2",
                        missing: "",
                        write: Some("\"TLS1_2\""),
                    },
                    super::app::tls_ok,
                );
            }
        }),
    },
];
