//! Cost, state and disaster recovery.

use lazuli_hcl::{Span, Value};
use lazuli_standard::Environment;
use lazuli_standard::data::cost;

use super::{PLATFORM, pipelines};
use crate::project::Pipeline;
use crate::rule::{
    Check, Rule,
    Severity::{Error, Warning},
};

const BUDGET: &[&str] =
    &["azurerm_consumption_budget_resource_group", "azurerm_consumption_budget_subscription"];
const STATE: &str = "State Management";

/// The services that the standard defines in Terraform, as the command line groups them.
const GROUPS: [&str; 11] = [
    "webapp",
    "appservice",
    "postgres",
    "redis",
    "redisenterprise",
    "keyvault",
    "network",
    "staticwebapp",
    "functionapp",
    "monitor",
    "cognitiveservices",
];

/// The command of a line that makes a resource: `az postgres flexible-server create`.
fn makes(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().skip_while(|w| *w != "az").collect();
    let command: Vec<&str> = words.into_iter().take_while(|w| !w.starts_with('-')).collect();
    let (group, last) = (command.get(1)?, command.last()?);
    // Secrets and keys are content, and deployments are releases.
    let content = ["secret", "key", "certificate", "deploy", "deployment"];
    let resource = *last == "create" && !command.iter().any(|w| content.contains(w))
        || command.starts_with(&["az", "webapp", "deployment", "slot", "create"])
        || command.starts_with(&["az", "webapp", "up"]);
    (GROUPS.contains(group) && resource).then(|| command.join(" "))
}

/// Whether the pipeline also deletes what a command makes.
fn deleted(p: &Pipeline, made: &str) -> bool {
    let delete = made.replace(" create", " delete");
    pipelines::scripts(p).any(|(_, _, v, _)| v.known_text().contains(&delete))
}

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
    Rule {
        id: "LZ-IAC-003",
        section: STATE,
        erratum: None,
        severity: Error,
        title: "Terraform's state is locked while it is written",
        why: "Two applies at once each write what they know: the state then describes neither, and resources are made twice or forgotten.",
        fix: "Remove `-lock=false`; `-lock-timeout=5m` waits for the other one.",
        bad: &[(
            "azure-pipelines/infra.yml",
            "trigger: [main]\nsteps:\n  - script: terraform apply -lock=false tfplan\n",
        )],
        good: &[(
            "azure-pipelines/infra.yml",
            "trigger: [main]\nsteps:\n  - script: terraform apply -lock-timeout=5m tfplan\n",
        )],
        check: Check::Pipeline(|p, o| {
            for (_, s) in pipelines::steps(p) {
                let written = match s.script() {
                    Some((v, _)) => Some(v),
                    None => s.input("commandOptions"),
                };
                let Some(v) = written else { continue };
                // A plan alone writes nothing; planning without the lock is how pull requests do not wait.
                let writes = |t: &str| {
                    t.contains("-lock=false")
                        && !t.contains("terraform plan")
                        && s.input("command").is_none_or(|c| c.as_str() != Some("plan"))
                };
                let mut broken = false;
                for l in p.lines(v).iter().filter(|l| writes(l.text)) {
                    broken = true;
                    let at = l.text.find("-lock=false").unwrap_or(0);
                    let start = l.span.start as usize + at;
                    let flag = Span::new(l.span.file, start, start + "-lock=false".len());
                    let f = o.at(flag, "the state is written without its lock");
                    if l.text[..at].ends_with(' ') {
                        f.edit(Span { start: flag.start - 1, ..flag }, "");
                    }
                }
                if !broken && v.known_text().contains("terraform") {
                    o.judged();
                }
            }
        }),
    },
    Rule {
        id: "LZ-IAC-004",
        section: "Standard: Terraform with Azure Provider",
        erratum: None,
        severity: Warning,
        title: "Terraform makes the resources, and no script beside it",
        why: "What a script makes is in no plan: nobody reviews it, no other environment gets it, and a new region comes up without it.",
        fix: "Define it in Terraform. What a script also deletes again, as a restore for a test, may stay.",
        bad: &[(
            "azure-pipelines/cd.yml",
            "trigger: [main]\nsteps:\n  - script: az webapp create --name notes --plan plan --resource-group rg\n",
        )],
        good: &[(
            "azure-pipelines/cd.yml",
            "trigger: [main]\nsteps:\n  - script: az webapp restart --name notes --resource-group rg\n",
        )],
        check: Check::Pipeline(|p, o| {
            for (_, _, v, _) in pipelines::scripts(p) {
                let whole = v.known_text();
                for l in p.lines(v) {
                    let Some(made) = makes(l.text) else { continue };
                    // For a while only, and taken away again by the same pipeline.
                    if made != "az webapp up" && deleted(p, &made) {
                        o.judged();
                        continue;
                    }
                    o.at(
                        l.span,
                        format!("`{made}` makes a resource that no plan of Terraform's knows"),
                    );
                }
                if whole.contains("az ") {
                    o.judged();
                }
            }
        }),
    },
];
