//! What is rendered, held against the provider's schema, the standard's own linter, the analysis of
//! reachability, and what provisioning creates, for a matrix of manifests.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use lazuli_hcl::terraform::{Configuration, Program, Resource, VariableFile};
use lazuli_hcl::{Kind, Map, Sources, Value, parser};
use lazuli_standard::blueprint::{Direction, SecurityGroup, SecurityRule, Subnet};
use lazuli_standard::{Blueprint, Environment, Manifest, reachability};
use serde_json::Value as Json;

/// Every combination of what a manifest may ask for, with the longest name and the oddest strings.
fn matrix() -> Vec<(String, Manifest)> {
    let mut all = Vec::new();
    for app in ["ab", "notes", "a-b-c-d-e-f-g-h-i"] {
        for cache in ["premium", "managed"] {
            for openai in ["", "openai: { model: gpt-4o, version: \"2024-11-20\" }\n"] {
                for frontend in [
                    "",
                    "frontend: { connect: ['https://t.example.com'] }\n",
                    "frontend: { hosting: app-service }\n",
                ] {
                    for background in [
                        "",
                        "worker: { run: w }\nscheduler: { run: s }\n",
                        "worker: { run: w, webjob: true }\nscheduler: { run: s, webjob: true }\n",
                    ] {
                        for domain in [
                            "",
                            "domain: notes.example.com\nalerts: { oncall: [pagerduty, a@example.com], team: [teams, pagerduty] }\n",
                        ] {
                            let location = if domain.is_empty() { "westeurope" } else { "eastus" };
                            let source = format!(
                                "app: {app}\nlocation: {location}\nbackend: {{ app: modules.backend.main:app, websockets: true, settings: {{ ODD: \"a\\\"b\\\\c${{d}}%{{e}}\\n<<NAME>>'é\\u0007\", for: '1' }} }}\n{background}database: {{ migrate: \"alembic upgrade head # ${{x}} 'y' \\\"z\\\"\" }}\ncache: {cache}\nsecrets: [jwt-secret]\n{openai}{frontend}{domain}"
                            );
                            let manifest =
                                Manifest::parse(&source, "x").unwrap_or_else(|e| panic!("{e}"));
                            all.push((source, manifest));
                        }
                    }
                }
            }
        }
    }
    all
}

/// One environment's configuration, as Terraform would see it.
fn evaluated(files: &lazuli_terraform::Files, environment: Environment) -> Configuration {
    let mut sources = Sources::default();
    let mut parsed = Vec::new();
    let mut variables = None;
    for (path, text) in files {
        let id = sources.add(PathBuf::from(path), text.as_str());
        if path.ends_with(".tfbackend") {
            continue;
        }
        let (body, errors) = parser::parse(id, text);
        assert!(errors.is_empty(), "{path}: {errors:?}");
        if path.ends_with(&format!("{environment}.tfvars")) {
            variables =
                Some(VariableFile { name: environment.to_string(), path: path.into(), body });
        } else if Path::new(&path).extension().is_some_and(|extension| extension == "tf") {
            parsed.push((PathBuf::from(path), id, body, false));
        }
    }
    let variables = variables.unwrap();
    let found = Program::new(parsed).evaluate(Path::new("terraform"), &[&variables], None);
    assert!(found.incomplete.is_empty(), "{:?}", found.incomplete);
    found
}

fn shared(path: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // Beside the project, or beside the main checkout of a second work tree.
    ["../shared", "../../shared"].iter().map(|s| root.join(s).join(path)).find(|p| p.exists())
}

fn schema() -> Option<Json> {
    let path = shared("clients/azurerm-5.2.0-schema.json.gz")?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

/// Terraform's own, and those of the provider that has no schema here.
const META: [&str; 6] = ["count", "for_each", "depends_on", "lifecycle", "provider", "timeouts"];

fn judge(schema: &Json, block: &Json, map: &Map, at: &str, problems: &mut BTreeSet<String>) {
    let attributes = &block["attributes"];
    let blocks = &block["block_types"];
    for entry in map {
        let name = &*entry.key;
        if META.contains(&name) && attributes.get(name).is_none() {
            continue;
        }
        let place = format!("{at}.{name}");
        if let Some(attribute) = attributes.get(name) {
            if attribute["optional"] != true && attribute["required"] != true {
                problems.insert(format!("{place} is Azure's to say"));
            }
            if attribute["deprecated"] == true {
                problems.insert(format!("{place} is deprecated"));
            }
            typed(&attribute["type"], &entry.value, &place, problems);
            references(schema, &entry.value, &place, problems);
        } else if let Some(inner) = blocks.get(name) {
            let items = map.blocks(name);
            if items.is_empty() {
                problems.insert(format!("{place} is no block"));
            }
            let most = inner["max_items"].as_u64().unwrap_or(u64::MAX);
            if items.len() as u64 > most {
                problems.insert(format!("{place} stands {} times", items.len()));
            }
            for (_, item) in items {
                judge(schema, &inner["block"], item, &place, problems);
            }
        } else {
            problems.insert(format!("{place} does not exist"));
        }
    }
    for (name, attribute) in attributes.as_object().into_iter().flatten() {
        if attribute["required"] == true && map.get(name).is_none() {
            problems.insert(format!("{at}.{name} is missing"));
        }
    }
    for (name, inner) in blocks.as_object().into_iter().flatten() {
        if inner["min_items"].as_u64().unwrap_or(0) > map.blocks(name).len() as u64 {
            problems.insert(format!("{at}.{name} is missing"));
        }
    }
}

/// Whether a value has a type, as far as it is known.
fn typed(kind: &Json, value: &Value, at: &str, problems: &mut BTreeSet<String>) {
    let wrong = match (kind, &value.kind) {
        (_, Kind::Unknown(_) | Kind::Ref(_) | Kind::Null) => false,
        (Json::String(kind), _) => match kind.as_str() {
            "string" => matches!(value.kind, Kind::List(_) | Kind::Map(_)),
            "number" => value.as_number().is_none() && !matches!(value.kind, Kind::Partial(_)),
            "bool" => value.as_bool().is_none(),
            _ => false,
        },
        (Json::Array(kind), Kind::List(items)) => {
            for item in &**items {
                typed(&kind[1], item, at, problems);
            }
            !matches!(kind[0].as_str(), Some("list" | "set"))
        }
        (Json::Array(kind), Kind::Map(map)) => {
            match (kind[0].as_str(), &kind[1]) {
                (Some("map"), inner) => {
                    for entry in &**map {
                        typed(inner, &entry.value, at, problems);
                    }
                    false
                }
                (Some("object"), Json::Object(fields)) => {
                    for entry in &**map {
                        match fields.get(&*entry.key) {
                            Some(kind) => typed(kind, &entry.value, at, problems),
                            None => {
                                problems.insert(format!("{at}.{} does not exist", entry.key));
                            }
                        }
                    }
                    false
                }
                // One block where the schema has a set of objects.
                (Some("list" | "set"), inner) => {
                    typed(inner, value, at, problems);
                    false
                }
                _ => true,
            }
        }
        (Json::Array(_), _) => true,
        _ => false,
    };
    if wrong {
        problems.insert(format!("{at} is not {kind}"));
    }
}

/// Every attribute that is read of another resource exists.
fn references(schema: &Json, value: &Value, at: &str, problems: &mut BTreeSet<String>) {
    for r in value.refs() {
        let data = r.address.contains("data.");
        let kinds = &schema[if data { "data_source_schemas" } else { "resource_schemas" }];
        let kind = r.kind.trim_start_matches("data.");
        if kind.starts_with("azapi_") {
            continue;
        }
        let block = &kinds[kind]["block"];
        let first = r.attribute.split(['.', '[']).next().unwrap_or_default();
        let known = first.is_empty()
            || block["attributes"].get(first).is_some()
            || block["block_types"].get(first).is_some();
        if !known {
            problems.insert(format!("{at} reads {}.{}, which does not exist", r.kind, r.attribute));
        }
    }
}

#[test]
fn every_resource_block_and_argument_exists_in_the_provider() {
    let Some(schema) = schema() else {
        eprintln!("SKIPPED: the provider's schema is in ../shared, which is not there");
        return;
    };
    let mut problems = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    for (_, manifest) in matrix() {
        let files = lazuli_terraform::render(&manifest, &Environment::ALL);
        for environment in Environment::ALL {
            for r in &evaluated(&files, environment).resources {
                let (kind, of) = match r.kind.strip_prefix("data.") {
                    Some(kind) => (kind, "data_source_schemas"),
                    None => (&*r.kind, "resource_schemas"),
                };
                if r.kind.starts_with("azapi_") {
                    let fields = ["type", "name", "parent_id", "body", "depends_on"];
                    for entry in &r.body {
                        assert!(fields.contains(&&*entry.key), "{}.{}", r.address, entry.key);
                    }
                    continue;
                }
                let block = if &*r.kind == "provider.azurerm" {
                    &schema["provider_schema"]["block"]
                } else if kind.starts_with("azurerm_") {
                    &schema[of][kind]["block"]
                } else {
                    continue;
                };
                if block.is_null() {
                    problems.insert(format!("{} does not exist", r.kind));
                    continue;
                }
                kinds.insert(r.kind.to_string());
                judge(&schema, block, &r.body, &r.kind, &mut problems);
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(kinds.len() > 30, "only {kinds:?} were judged");
}

/// The validator sees what is wrong: without this the test above could not fail.
#[test]
fn the_validator_finds_what_does_not_exist() {
    let Some(schema) = schema() else { return };
    let (_, manifest) = &matrix()[0];
    for (from, to, expected) in [
        ("https_only", "https_onlyy", "azurerm_linux_web_app.https_onlyy does not exist"),
        ("always_on", "always_of", "azurerm_linux_web_app.site_config.always_of does not exist"),
        ("  os_type ", "  os_tyqe ", "azurerm_service_plan.os_type is missing"),
    ] {
        let mut files = lazuli_terraform::render(manifest, &Environment::ALL);
        let text = files.get_mut("terraform/app_service.tf").unwrap();
        *text = text.replace(from, to);
        let mut problems = BTreeSet::new();
        for r in &evaluated(&files, Environment::Prod).resources {
            if r.kind.starts_with("azurerm_") {
                let block = &schema["resource_schemas"][&*r.kind]["block"];
                judge(&schema, block, &r.body, &r.kind, &mut problems);
            }
        }
        assert!(problems.contains(expected), "{problems:?}");
    }
}

/// Everything that is rendered of a manifest, as a team has it in its repository.
fn everything(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut files = lazuli_terraform::render(manifest, &Environment::ALL);
    files.extend(lazuli_pipelines::render(manifest, &Environment::ALL, "infrastructure"));
    files.extend(lazuli_pipelines::static_web_app::render(manifest, &Environment::ALL));
    files
}

#[test]
fn the_standards_own_linter_finds_nothing() {
    let mut found = BTreeMap::new();
    // The whole matrix takes a minute without optimisation; a fifth meets every option.
    let step = if std::env::var("LAZULI_SLOW_TESTS").is_ok_and(|v| v == "1") { 1 } else { 5 };
    for (source, manifest) in matrix().into_iter().step_by(step) {
        let inputs = everything(&manifest)
            .into_iter()
            .map(|(path, text)| lazuli_check::Input {
                path: PathBuf::from("infrastructure").join(path),
                bytes: Ok(text.into_bytes()),
            })
            .collect();
        let report = lazuli_check::check(
            inputs,
            &lazuli_check::Options::default(),
            &lazuli_check::Config::default(),
            &std::collections::HashSet::new(),
        );
        for finding in report.active() {
            let key = format!("{} {}", finding.rule.id, finding.message);
            found.entry(key).or_insert_with(|| source.clone());
        }
    }
    // For those who have one: the note is the standard's own answer to `cache: premium`.
    found.retain(|key, _| !key.starts_with("LZ-RED-006"));
    assert!(found.is_empty(), "{found:#?}");
}

/// The rules of a configuration, as the analysis takes them.
fn subnets(found: &Configuration) -> Vec<Subnet> {
    let of = |kind: &str, name: &str| -> Resource {
        found.resources.iter().find(|r| &*r.kind == kind && &*r.name == name).unwrap().clone()
    };
    let texts = |map: &Map, one: &str, many: &str| -> Vec<String> {
        match (map.get(one), map.get(many)) {
            (Some(v), _) => vec![v.known_text()],
            (None, Some(v)) => v.as_list().unwrap().iter().map(Value::known_text).collect(),
            (None, None) => Vec::new(),
        }
    };
    ["app", "pe", "db", "mgmt"]
        .into_iter()
        .map(|label| {
            let subnet = of("azurerm_subnet", label);
            let group = of("azurerm_network_security_group", label);
            // Both ends of the association are these two.
            let association = of("azurerm_subnet_network_security_group_association", label);
            for (attribute, kind) in [
                ("subnet_id", "azurerm_subnet"),
                ("network_security_group_id", "azurerm_network_security_group"),
            ] {
                let r = association.get(attribute).unwrap().as_ref().unwrap().clone();
                assert_eq!(&*r.address, format!("{kind}.{label}"), "{attribute}");
            }
            let rules = group
                .body
                .blocks("security_rule")
                .into_iter()
                .map(|(_, m)| {
                    let text = |k: &str| m.get(k).unwrap().known_text();
                    let ports = texts(m, "destination_port_range", "destination_port_ranges");
                    SecurityRule {
                        name: text("name"),
                        priority: text("priority").parse().unwrap(),
                        direction: if text("direction") == "Inbound" {
                            Direction::Inbound
                        } else {
                            Direction::Outbound
                        },
                        allow: text("access") == "Allow",
                        protocol: text("protocol"),
                        sources: texts(m, "source_address_prefix", "source_address_prefixes"),
                        destinations: texts(
                            m,
                            "destination_address_prefix",
                            "destination_address_prefixes",
                        ),
                        ports: ports
                            .iter()
                            .filter(|p| *p != "*")
                            .map(|p| p.parse().unwrap())
                            .collect(),
                        reason: text("description"),
                    }
                })
                .collect();
            Subnet {
                name: subnet.get("name").unwrap().known_text(),
                prefix: subnet.get("address_prefixes").unwrap().as_list().unwrap()[0].known_text(),
                delegation: None,
                private_endpoint_policies: subnet
                    .get("private_endpoint_network_policies")
                    .is_some_and(|v| v.known_text() == "Enabled"),
                security_group: SecurityGroup {
                    name: group.get("name").unwrap().known_text(),
                    rules,
                },
            }
        })
        .collect()
}

#[test]
fn what_the_rendered_rules_open_is_what_must_be_reachable_and_nothing_else() {
    for (_, manifest) in matrix().into_iter().step_by(7) {
        let files = lazuli_terraform::render(&manifest, &Environment::ALL);
        for environment in Environment::ALL {
            let blueprint = Blueprint::new(&manifest, environment);
            let subnets = subnets(&evaluated(&files, environment));
            assert!(subnets[1].private_endpoint_policies, "or the group does not hold");
            let open: BTreeSet<_> =
                reachability::paths(&subnets).into_iter().map(|(f, t, p, _)| (f, t, p)).collect();
            let cache = blueprint.cache.port;
            let expected = BTreeSet::from([
                ("app", "db", 5432),
                ("app", "db", 6432),
                ("app", "internet", 443),
                ("app", "pe", 443),
                ("app", "pe", cache),
                ("app", "storage", 443),
                ("db", "db", 5432),
                ("db", "db", 6432),
                ("db", "storage", 443),
            ]);
            assert_eq!(open, expected, "{environment}");
        }
    }
}

#[test]
fn a_rule_that_is_broken_names_the_path_it_opens() {
    let (_, manifest) = &matrix()[0];
    let mut files = lazuli_terraform::render(manifest, &Environment::ALL);
    let good = reachability::paths(&subnets(&evaluated(&files, Environment::Prod)));
    let text = files.get_mut("terraform/networking.tf").unwrap();
    let at = text.find("\"Key Vault and Redis, for the app alone\"").unwrap();
    let broken = text[at..].replacen("\"10.0.1.0/24\"", "\"*\"", 1);
    text.replace_range(at.., &broken);
    let now = reachability::paths(&subnets(&evaluated(&files, Environment::Prod)));
    let opened: Vec<_> = now.difference(&good).collect();
    assert!(
        opened.contains(&&("internet", "pe", 443, "pe-nsg/AllowFromApp".to_owned())),
        "{opened:?}"
    );
}

#[test]
fn rendering_twice_gives_the_same_bytes_and_formatting_changes_none() {
    for (_, manifest) in matrix() {
        let files = lazuli_terraform::render(&manifest, &Environment::ALL);
        assert_eq!(files, lazuli_terraform::render(&manifest, &Environment::ALL));
        for (path, text) in &files {
            assert_eq!(lazuli_terraform::format(text), *text, "{path}");
            assert!(text.starts_with(lazuli_terraform::HEADER), "{path}");
        }
    }
}

/// The standard's module structure, file for file.
#[test]
fn the_files_are_the_standards() {
    let (_, manifest) = &matrix()[0];
    let files = lazuli_terraform::render(manifest, &Environment::ALL);
    for name in [
        "main",
        "variables",
        "outputs",
        "app_service",
        "postgresql",
        "redis",
        "keyvault",
        "networking",
        "dns",
        "monitoring",
        "identity",
    ] {
        assert!(files.contains_key(&format!("terraform/{name}.tf")), "{name}");
    }
    for environment in ["dev", "staging", "prod"] {
        assert!(files.contains_key(&format!("terraform/environments/{environment}.tfvars")));
    }
}

/// Writes a sample for tools of other languages (`terraform fmt`, Checkov, JSON schemas):
/// `LAZULI_RENDER_SAMPLES=DIR` names where.
#[test]
fn samples_for_other_tools() {
    let Some(out) = std::env::var_os("LAZULI_RENDER_SAMPLES") else { return };
    for (number, (_, manifest)) in matrix().into_iter().enumerate() {
        for (path, text) in everything(&manifest) {
            let path = Path::new(&out).join(format!("{number:03}")).join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }
}

/// A thousand manifests in a second, on one core; measured with optimisation (`--release`), and here
/// only held to what cannot be missed without it.
#[test]
fn rendering_is_fast() {
    let all = matrix();
    let began = std::time::Instant::now();
    let mut bytes = 0;
    for (_, manifest) in all.iter().cycle().take(1_000) {
        bytes += everything(manifest).values().map(String::len).sum::<usize>();
    }
    let took = began.elapsed();
    println!("1,000 manifests, {bytes} bytes in {took:?}");
    let limit = if cfg!(debug_assertions) { 60 } else { 1 };
    assert!(took.as_secs() < limit, "{took:?}");
}
