//! The rules and their examples speak of resources and arguments that the provider has. The oracle is
//! the provider's own schema (`terraform providers schema -json`), which lies beside the repository in
//! `../shared`; without it the tests say that they are skipped.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::single_match_else,
    clippy::case_sensitive_file_extension_comparisons
)]

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::process::Command;

use lazuli_check::{Config, Input, Options, check, rules};
use lazuli_hcl::{Map, Value};
use serde_json::Value as Json;

/// Rules whose failing example names, on purpose, what the provider does not have.
const WRONG_ON_PURPOSE: [&str; 3] = ["LZ-APP-017", "LZ-APP-018", "LZ-DB-010"];

/// Types of services that the standard does not use, which the excerpt of the schema leaves out, and of
/// earlier versions of the provider, which repositories still have.
const OUTSIDE: [&str; 13] = [
    "azurerm_ai_services",
    "azurerm_bastion",
    "azurerm_container_app",
    "azurerm_container_app_environment",
    "azurerm_cosmosdb_account",
    "azurerm_function_app",
    "azurerm_kubernetes_cluster",
    "azurerm_linux_virtual_machine",
    "azurerm_postgresql_server",
    "azurerm_servicebus_namespace",
    "azurerm_static_site",
    "azurerm_virtual_machine",
    "azurerm_windows_virtual_machine",
];

fn schema() -> Option<Json> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let Some(path) = ["../shared", "../../shared"]
        .iter()
        .map(|p| root.join(p).join("clients/azurerm-5.2.0-schema.json.gz"))
        .find(|p| p.exists())
    else {
        eprintln!("SKIPPED: the provider's schema is not in ../shared/clients");
        return None;
    };
    let out = Command::new("gzip").arg("-dc").arg(path).output().unwrap();
    let all: Json = serde_json::from_slice(&out.stdout).unwrap();
    // Either as the provider prints it, or its resource types alone.
    let provider = all
        .get("provider_schemas")
        .and_then(Json::as_object)
        .and_then(|m| m.values().next())
        .unwrap_or(&all);
    Some(provider.get("resource_schemas").unwrap_or(provider).clone())
}

fn held(kind: &str, map: &Map, block: &Json, path: &str, out: &mut BTreeSet<String>) {
    for e in map {
        let here = format!("{path}.{}", e.key);
        if block["attributes"].get(&*e.key).is_some() {
            continue;
        }
        let inner = &block["block_types"][&*e.key]["block"];
        if inner.is_null() {
            out.insert(format!("{kind}{here}"));
            continue;
        }
        for m in e.value.as_list().into_iter().flatten().filter_map(Value::as_map) {
            held(kind, m, inner, &here, out);
        }
    }
}

#[test]
fn examples_are_written_for_the_provider() {
    let Some(schema) = schema() else { return };
    let mut wrong = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    for rule in rules::all() {
        for (which, example) in [("bad", rule.bad), ("good", rule.good)] {
            if which == "bad" && WRONG_ON_PURPOSE.contains(&rule.id) {
                continue;
            }
            let inputs = example
                .iter()
                .map(|(p, t)| Input { path: p.into(), bytes: Ok(t.as_bytes().to_vec()) })
                .collect();
            let report = check(inputs, &Options::default(), &Config::default(), &HashSet::new());
            for r in report.project.stacks.iter().flat_map(|s| &s.configuration.resources) {
                if !r.kind.starts_with("azurerm_") || OUTSIDE.contains(&&*r.kind) {
                    continue;
                }
                let Some(s) = schema.get(&*r.kind) else {
                    wrong.insert(format!("{} {which}: no resource type {}", rule.id, r.kind));
                    continue;
                };
                kinds.insert(r.kind.to_string());
                let mut out = BTreeSet::new();
                held(&r.kind, &r.body, &s["block"], "", &mut out);
                wrong.extend(out.into_iter().map(|o| format!("{} {which}: {o}", rule.id)));
            }
        }
    }
    println!("{} resource types", kinds.len());
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

/// Whether any resource type has this path of blocks and an argument.
fn exists(schema: &Json, path: &str) -> bool {
    schema.as_object().unwrap().values().any(|s| {
        let mut block = &s["block"];
        let mut parts = path.split('.').peekable();
        while let Some(p) = parts.next() {
            if parts.peek().is_none() {
                return block["attributes"].get(p).is_some()
                    || block["block_types"].get(p).is_some();
            }
            block = &block["block_types"][p]["block"];
        }
        false
    })
}

/// Every `site_config.minimum_tls_version` that a rule's source names is one the provider has, and so
/// is every resource type.
#[test]
fn rules_look_at_what_the_provider_has() {
    // Names of earlier versions of the provider, which repositories still use, and which rules
    // therefore read beside the new ones.
    // And `client_secret` is a provider's, `metadata.create_all` SQLAlchemy's.
    const OLD: [&str; 6] = [
        "enable_rbac_authorization",
        "azurerm_app_service",
        "site_config.websocket_enabled",
        "site_config.application_stack.docker_image",
        "client_secret",
        "metadata.create_all",
    ];
    let Some(schema) = schema() else { return };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules");
    let (mut wrong, mut seen) = (BTreeSet::new(), 0);
    for file in std::fs::read_dir(dir).unwrap().flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap();
        for line in text.lines() {
            // Examples are held by the other test.
            if line.contains("\\n") || line.trim_start().starts_with("//") {
                continue;
            }
            for literal in line.split('"').skip(1).step_by(2) {
                let word = |p: &str| {
                    !p.is_empty()
                        && p.bytes()
                            .all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
                };
                if OLD.iter().any(|o| literal.starts_with(o)) {
                    continue;
                }
                let path =
                    literal.contains('.') && literal.split('.').all(word) && literal.contains('_');
                let named = line.contains("path: \"") || line.contains("get(r, \"");
                if path || named && word(literal) {
                    // `data.azurerm_…`, `provider.azurerm`, file names.
                    if ["data.", "provider.", "backend.", "azure_pipelines", "azure."]
                        .iter()
                        .any(|p| literal.starts_with(p))
                    {
                        continue;
                    }
                    seen += 1;
                    if !exists(&schema, literal) {
                        wrong.insert(format!("{}: argument {literal}", file.file_name().display()));
                    }
                } else if !OUTSIDE.contains(&literal)
                    && literal.starts_with("azurerm_")
                    && word(literal)
                    && !literal.ends_with('_')
                {
                    seen += 1;
                    if schema.get(literal).is_none() {
                        wrong.insert(format!(
                            "{}: resource type {literal}",
                            file.file_name().display()
                        ));
                    }
                }
            }
        }
    }
    assert!(seen > 80, "{seen} names");
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}
