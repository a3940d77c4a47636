//! What `lazuli provision` creates and what the rendered Terraform describes: the same resources
//! with the same properties, from one blueprint.

#![allow(clippy::unwrap_used)]

mod access;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lazuli_hcl::terraform::{Configuration, Program, VariableFile};
use lazuli_hcl::{Map, Sources, Value, parser};
use lazuli_release::provision::{Action, Plan, SettingValue, Tenancy, plan};
use lazuli_standard::{Blueprint, Environment, Manifest};
use serde_json::Value as Json;

fn evaluated(manifest: &Manifest, environment: Environment) -> (Configuration, Sources) {
    let mut sources = Sources::default();
    let mut parsed = Vec::new();
    let mut variables = None;
    for (path, text) in lazuli_terraform::render(manifest, &Environment::ALL) {
        let id = sources.add(PathBuf::from(&path), text.as_str());
        let (body, _) = parser::parse(id, &text);
        if path.ends_with(&format!("{environment}.tfvars")) {
            let name = environment.to_string();
            variables = Some(VariableFile { name, path: path.into(), body });
        } else if Path::new(&path).extension().is_some_and(|extension| extension == "tf") {
            parsed.push((PathBuf::from(path), id, body, false));
        }
    }
    let found = Program::new(parsed).evaluate(Path::new("terraform"), &[&variables.unwrap()], None);
    (found, sources)
}

fn planned(blueprint: &Blueprint) -> Plan {
    let tenancy = Tenancy {
        subscription: "sub".to_owned(),
        tenant: "tenant".to_owned(),
        month: "2026-11".to_owned(),
    };
    plan(blueprint, &tenancy).unwrap()
}

/// Terraform's type → Azure's, and where properties stand in each: `attribute` in a block of a
/// block is `block.block.attribute`.
const SAME: &[(&str, &str, &[(&str, &str)])] = &[
    ("azurerm_resource_group", "resourceGroups", &[("location", "/location"), ("tags", "/tags")]),
    (
        "azurerm_virtual_network",
        "virtualNetworks",
        &[
            ("location", "/location"),
            ("address_space.0", "/properties/addressSpace/addressPrefixes/0"),
            ("tags", "/tags"),
        ],
    ),
    (
        "azurerm_network_security_group",
        "networkSecurityGroups",
        &[("location", "/location"), ("tags", "/tags")],
    ),
    ("azurerm_private_dns_zone", "privateDnsZones", &[("tags", "/tags")]),
    (
        "azurerm_private_dns_zone_virtual_network_link",
        "virtualNetworkLinks",
        &[("registration_enabled", "/properties/registrationEnabled")],
    ),
    (
        "azurerm_private_endpoint",
        "privateEndpoints",
        &[
            (
                "private_service_connection.subresource_names.0",
                "/properties/privateLinkServiceConnections/0/properties/groupIds/0",
            ),
            ("private_service_connection.name", "/properties/privateLinkServiceConnections/0/name"),
        ],
    ),
    (
        "azurerm_key_vault",
        "vaults",
        &[
            ("sku_name", "/properties/sku/name"),
            ("rbac_authorization_enabled", "/properties/enableRbacAuthorization"),
            ("soft_delete_retention_days", "/properties/softDeleteRetentionInDays"),
            ("purge_protection_enabled", "/properties/enablePurgeProtection"),
            ("public_network_access_enabled", "/properties/publicNetworkAccess"),
            ("network_acls.bypass", "/properties/networkAcls/bypass"),
            ("network_acls.default_action", "/properties/networkAcls/defaultAction"),
        ],
    ),
    (
        "azurerm_postgresql_flexible_server",
        "flexibleServers",
        &[
            ("version", "/properties/version"),
            ("administrator_login", "/properties/administratorLogin"),
            ("auto_grow_enabled", "/properties/storage/autoGrow"),
            ("backup_retention_days", "/properties/backup/backupRetentionDays"),
            ("geo_redundant_backup_enabled", "/properties/backup/geoRedundantBackup"),
            ("public_network_access_enabled", "/properties/network/publicNetworkAccess"),
            ("high_availability.mode", "/properties/highAvailability/mode"),
        ],
    ),
    (
        "azurerm_postgresql_flexible_server_database",
        "databases",
        &[("charset", "/properties/charset"), ("collation", "/properties/collation")],
    ),
    ("azurerm_postgresql_flexible_server_configuration", "configurations", &[("value", "")]),
    (
        "azurerm_redis_cache",
        "redis",
        &[
            ("sku_name", "/properties/sku/name"),
            ("family", "/properties/sku/family"),
            ("capacity", "/properties/sku/capacity"),
            ("redis_version", "/properties/redisVersion"),
            ("minimum_tls_version", "/properties/minimumTlsVersion"),
            ("non_ssl_port_enabled", "/properties/enableNonSslPort"),
            ("public_network_access_enabled", "/properties/publicNetworkAccess"),
        ],
    ),
    (
        "azurerm_managed_redis",
        "redisEnterprise",
        &[("sku_name", "/sku/name"), ("public_network_access", "/properties/publicNetworkAccess")],
    ),
    (
        "azurerm_service_plan",
        "serverfarms",
        &[
            ("sku_name", "/sku/name"),
            ("worker_count", "/sku/capacity"),
            ("per_site_scaling_enabled", "/properties/perSiteScaling"),
        ],
    ),
    ("azurerm_linux_web_app", "sites", SITE),
    ("azurerm_linux_web_app_slot", "slots", SITE),
    (
        "azurerm_log_analytics_workspace",
        "workspaces",
        &[("sku", "/properties/sku/name"), ("retention_in_days", "/properties/retentionInDays")],
    ),
    (
        "azurerm_application_insights",
        "components",
        &[
            ("application_type", "/properties/Application_Type"),
            ("retention_in_days", "/properties/RetentionInDays"),
        ],
    ),
    ("azurerm_monitor_diagnostic_setting", "diagnosticSettings", &[]),
    (
        "azurerm_monitor_action_group",
        "actionGroups",
        &[
            ("short_name", "/properties/groupShortName"),
            ("email_receiver.email_address", "/properties/emailReceivers/0/emailAddress"),
            ("arm_role_receiver.role_id", "/properties/armRoleReceivers/0/roleId"),
        ],
    ),
    (
        "azurerm_monitor_metric_alert",
        "metricAlerts",
        &[
            ("severity", "/properties/severity"),
            ("frequency", "/properties/evaluationFrequency"),
            ("window_size", "/properties/windowSize"),
            ("auto_mitigate", "/properties/autoMitigate"),
            ("criteria.metric_name", "/properties/criteria/allOf/0/metricName"),
            ("criteria.metric_namespace", "/properties/criteria/allOf/0/metricNamespace"),
            ("criteria.operator", "/properties/criteria/allOf/0/operator"),
            ("criteria.aggregation", "/properties/criteria/allOf/0/timeAggregation"),
            ("criteria.threshold", "/properties/criteria/allOf/0/threshold"),
        ],
    ),
    (
        "azurerm_monitor_scheduled_query_rules_alert_v2",
        "scheduledQueryRules",
        &[
            ("severity", "/properties/severity"),
            ("description", "/properties/description"),
            ("evaluation_frequency", "/properties/evaluationFrequency"),
            ("window_duration", "/properties/windowSize"),
            ("auto_mitigation_enabled", "/properties/autoMitigate"),
            ("criteria.query", "/properties/criteria/allOf/0/query"),
            ("criteria.operator", "/properties/criteria/allOf/0/operator"),
            ("criteria.threshold", "/properties/criteria/allOf/0/threshold"),
            ("criteria.time_aggregation_method", "/properties/criteria/allOf/0/timeAggregation"),
        ],
    ),
    (
        "azurerm_monitor_autoscale_setting",
        "autoscaleSettings",
        &[
            ("profile.capacity.minimum", "/properties/profiles/0/capacity/minimum"),
            ("profile.capacity.maximum", "/properties/profiles/0/capacity/maximum"),
            ("profile.capacity.default", "/properties/profiles/0/capacity/default"),
        ],
    ),
    (
        "azurerm_consumption_budget_resource_group",
        "budgets",
        &[("amount", "/properties/amount"), ("time_grain", "/properties/timeGrain")],
    ),
    (
        "azurerm_cognitive_account",
        "accounts",
        &[
            ("kind", "/kind"),
            ("sku_name", "/sku/name"),
            ("custom_subdomain_name", "/properties/customSubDomainName"),
            ("public_network_access_enabled", "/properties/publicNetworkAccess"),
        ],
    ),
    (
        "azurerm_cognitive_deployment",
        "deployments",
        &[
            ("model.name", "/properties/model/name"),
            ("model.version", "/properties/model/version"),
            ("sku.capacity", "/sku/capacity"),
            ("version_upgrade_option", "/properties/versionUpgradeOption"),
        ],
    ),
    (
        "azurerm_static_web_app",
        "staticSites",
        &[
            ("location", "/location"),
            ("sku_tier", "/sku/tier"),
            ("configuration_file_changes_enabled", "/properties/allowConfigFileUpdates"),
            ("preview_environments_enabled", "/properties/stagingEnvironmentPolicy"),
        ],
    ),
    ("azapi_resource", "linkedBackends", &[]),
    ("azapi_update_resource", "config", &[]),
];

const SITE: &[(&str, &str)] = &[
    ("https_only", "/properties/httpsOnly"),
    ("client_affinity_enabled", "/properties/clientAffinityEnabled"),
    ("identity.type", "/identity/type"),
    ("site_config.app_command_line", "/properties/siteConfig/appCommandLine"),
    ("site_config.always_on", "/properties/siteConfig/alwaysOn"),
    ("site_config.ftps_state", "/properties/siteConfig/ftpsState"),
    ("site_config.minimum_tls_version", "/properties/siteConfig/minTlsVersion"),
    ("site_config.scm_minimum_tls_version", "/properties/siteConfig/scmMinTlsVersion"),
    ("site_config.remote_debugging_enabled", "/properties/siteConfig/remoteDebuggingEnabled"),
    ("site_config.use_32_bit_worker", "/properties/siteConfig/use32BitWorkerProcess"),
    ("site_config.websockets_enabled", "/properties/siteConfig/webSocketsEnabled"),
    ("site_config.vnet_route_all_enabled", "/properties/siteConfig/vnetRouteAllEnabled"),
    ("site_config.health_check_path", "/properties/siteConfig/healthCheckPath"),
    ("site_config.worker_count", "/properties/siteConfig/numberOfWorkers"),
    ("tags", "/tags"),
];

/// Terraform's alone, each with its reason; their counterparts are not separate resources in Azure.
const TERRAFORMS: &[&str] = &[
    "azurerm_subnet", // compared below, inside the network
    "azurerm_subnet_network_security_group_association", // a property of the subnet
    "azurerm_role_assignment", // compared in `access`
    "azurerm_key_vault_secret", // the same
    "azurerm_static_web_app_custom_domain", // needs DNS records, which are nobody's here
    "azurerm_app_service_custom_hostname_binding", // the same
    "azurerm_app_service_managed_certificate", // the same
    "azurerm_app_service_certificate_binding", // the same
];

/// A value at `block.attribute` or `list.0`.
fn at(map: &Map, path: &str) -> Option<Value> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    if rest.is_empty() {
        return map.get(first).cloned();
    }
    if let Ok(index) = rest.parse::<usize>() {
        return map.get(first)?.as_list()?.get(index).cloned();
    }
    at(map.block(first)?.1, rest)
}

/// Both sides in one spelling: Azure says `Enabled`, Terraform `true`; PT5M is PT5M.
fn plain(value: &Value) -> String {
    if let Some(map) = value.as_map() {
        let entries: BTreeSet<String> =
            map.iter().map(|e| format!("{}={}", e.key, e.value.known_text())).collect();
        return format!("{entries:?}");
    }
    value.known_text().trim().to_owned()
}

fn json(value: &Json) -> String {
    match value {
        Json::String(s) if s == "Enabled" => "true".to_owned(),
        Json::String(s) if s == "Disabled" => "false".to_owned(),
        Json::String(s) => s.trim().to_owned(),
        Json::Object(o) => {
            let entries: BTreeSet<String> =
                o.iter().map(|(k, v)| format!("{k}={}", json(v))).collect();
            format!("{entries:?}")
        }
        Json::Number(n) => n.as_f64().unwrap().to_string(),
        other => other.to_string(),
    }
}

fn manifests() -> Vec<Manifest> {
    let base = "location: westeurope\nbackend: { app: a:b, websockets: true, settings: { X: \"y${z}\" } }\ndatabase: { migrate: m }\nsecrets: [jwt-secret]\n";
    [
        "app: notes\ncache: premium\nworker: { run: w }\nscheduler: { run: s }\n",
        "app: notes\ncache: managed\nalerts: { oncall: [a@example.com], team: [b@example.com] }\n",
        "app: notes\ncache: managed\nfrontend: {}\nopenai: { model: gpt-4o, version: \"1.0\" }\nbudget: { prod: 77 }\naccess: { ci-cd: 11111111-2222-4333-8444-555555555555, break-glass: AAAAAAAA-bbbb-4ccc-8ddd-eeeeeeeeeeee }\n",
    ]
    .map(|more| Manifest::parse(&format!("{more}{base}"), "x").unwrap_or_else(|e| panic!("{e}")))
    .into()
}

#[test]
fn the_same_resources_with_the_same_properties() {
    let mut compared = 0;
    for manifest in manifests() {
        for environment in Environment::ALL {
            compared += compare(&manifest, environment);
        }
    }
    assert!(compared > 2_000, "only {compared} properties were compared");
}

fn compare(manifest: &Manifest, environment: Environment) -> usize {
    let blueprint = Blueprint::new(manifest, environment);
    let plan = planned(&blueprint);
    let (found, _) = evaluated(manifest, environment);
    let mut compared = 0;
    let mut problems = Vec::new();

    // Azure's side: (type, name) → body.
    let mut publishing: BTreeMap<(String, String), Json> = BTreeMap::new();
    let mut bodies: BTreeMap<(String, String), Json> = BTreeMap::new();
    let mut settings: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut sticky = Vec::new();
    let (mut zone_groups, mut cache_databases) = (0, Vec::new());
    for step in &plan.steps {
        let parts: Vec<&str> = step.id.as_str().split('/').collect();
        let [.., kind, name] = parts[..] else { panic!("{}", step.id.as_str()) };
        let mut keep = |body: Json| {
            bodies.insert((kind.to_owned(), name.to_owned()), body);
        };
        match &step.action {
            Action::Put { body, .. } if kind == "privateDnsZoneGroups" => {
                let _ = body;
                zone_groups += 1;
            }
            Action::Put { body, .. } if kind == "databases" && name == "default" => {
                cache_databases.push(body.clone());
            }
            Action::Put { body, .. } if name == "slotConfigNames" => {
                sticky = body["properties"]["appSettingNames"].as_array().unwrap().clone();
            }
            Action::Put { body, .. } if kind == "basicPublishingCredentialsPolicies" => {
                let who = parts[8..parts.len() - 2].join("/");
                publishing.insert((who, name.to_owned()), body["properties"]["allow"].clone());
            }
            // Every site's diagnostic setting has one name.
            Action::Put { body, .. } if kind == "diagnosticSettings" => {
                bodies.insert((kind.to_owned(), parts[8].to_owned()), body.clone());
            }
            Action::Put { body, .. }
            | Action::Merge(body)
            | Action::Site(body)
            | Action::Vault(body)
            | Action::Server(body) => keep(body.clone()),
            Action::Parameter(value) => keep(Json::String(value.clone())),
            // Compared in `access`.
            Action::DatabaseSecrets(_)
            | Action::GeneratedSecret { .. }
            | Action::CacheSecret { .. }
            | Action::Role { .. } => {}
            Action::Settings(values) => {
                let who = parts[8..parts.len() - 2].join("/");
                let values = values
                    .iter()
                    .map(|(name, value)| {
                        let value = match value {
                            SettingValue::Text(text) => text.clone(),
                            SettingValue::InsightsOf(id) => format!("insights {}", id.name()),
                        };
                        (name.clone(), value)
                    })
                    .collect();
                settings.insert(who, values);
            }
        }
    }

    // Terraform's side, resource by resource.
    let mut seen = BTreeSet::new();
    for r in found.resources.iter().filter(|r| r.kind.starts_with("az")) {
        let name = r.get("name").map(Value::known_text).unwrap_or_default();
        if TERRAFORMS.contains(&&*r.kind) {
            continue;
        }
        let Some((_, kind, properties)) = SAME.iter().find(|(kind, ..)| *kind == &*r.kind) else {
            problems.push(format!("{} has no counterpart in provisioning", r.address));
            continue;
        };
        let name = if *kind == "diagnosticSettings" {
            let target = r.get("target_resource_id").unwrap().as_ref().unwrap().address.clone();
            let site = found.resources.iter().find(|s| s.address == target).unwrap();
            site.get("name").unwrap().known_text()
        } else {
            name
        };
        let key = ((*kind).to_owned(), name);
        let Some(body) = bodies.get(&key) else {
            problems.push(format!("{} ({key:?}) is not provisioned", r.address));
            continue;
        };
        for (path, pointer) in *properties {
            let ours = at(&r.body, path).map(|v| plain(&v)).unwrap_or_default();
            let theirs = body.pointer(pointer).map(json).unwrap_or_default();
            let same = ours == theirs
                // Absent and off are the same; so are `Disabled` and no block at all.
                || (ours.is_empty() && theirs == "false")
                || (theirs.is_empty() && ours == "false")
                || (json(&Json::String(ours.clone())) == theirs);
            if !same {
                problems.push(format!("{}.{path}: {ours} here, {theirs} provisioned", r.address));
            }
            compared += 1;
        }
        // Settings: those that all have, with a site's own over them.
        if r.kind.starts_with("azurerm_linux_web_app") {
            let slot = &*r.kind == "azurerm_linux_web_app_slot";
            let who = if slot {
                format!("{}/slots/{}", blueprint.backend().name, key.1)
            } else {
                key.1.clone()
            };
            for (what, attribute) in [
                ("ftp", "ftp_publish_basic_authentication_enabled"),
                ("scm", "webdeploy_publish_basic_authentication_enabled"),
            ] {
                let allowed = publishing.remove(&(who.clone(), what.to_owned()));
                let ours = r.get(attribute).unwrap().known_text();
                assert_eq!(Some(ours), allowed.as_ref().map(json), "{who}: {what}");
                compared += 1;
            }
            let ours = r.get("app_settings").unwrap().as_map().unwrap();
            for (name, value) in &settings[&who] {
                if name == "WEBSITE_HEALTHCHECK_MAXPINGFAILURES" {
                    let minutes = at(&r.body, "site_config.health_check_eviction_time_in_min");
                    assert_eq!(minutes.map(|m| m.known_text()).as_deref(), Some(value.as_str()));
                    continue;
                }
                let entry = ours.get(name);
                let text = entry.map(|v| match v.as_ref() {
                    Some(r) if &*r.attribute == "connection_string" => {
                        let insights =
                            found.resources.iter().find(|i| i.address == r.address).unwrap();
                        format!("insights {}", insights.get("name").unwrap().known_text())
                    }
                    _ => v.known_text(),
                });
                if text.as_deref() != Some(value.as_str()) {
                    problems.push(format!("{who}: {name} is {text:?} here, {value} provisioned"));
                }
                compared += 1;
            }
            let extra = ours.iter().filter(|e| !settings[&who].contains_key(&*e.key)).count();
            assert_eq!(extra, 0, "{who} has settings that provisioning does not give it");
            if let Some(names) = at(&r.body, "sticky_settings.app_setting_names") {
                let names: Vec<String> =
                    names.as_list().unwrap().iter().map(Value::known_text).collect();
                assert_eq!(names, sticky, "sticky settings");
            }
        }
        seen.insert(key);
    }
    for key in bodies.keys().filter(|key| !seen.contains(*key)) {
        problems.push(format!("{key:?} is provisioned and not in Terraform"));
    }
    assert!(publishing.is_empty(), "{publishing:?}");
    let endpoints = found.resources.iter().filter(|r| &*r.kind == "azurerm_private_endpoint");
    assert_eq!(endpoints.count(), zone_groups, "each endpoint registers its name");

    // Subnets: part of the network's body there, resources of their own here.
    let network = bodies.iter().find(|((kind, _), _)| kind == "virtualNetworks").unwrap().1;
    for subnet in network["properties"]["subnets"].as_array().unwrap() {
        let name = subnet["name"].as_str().unwrap();
        let ours = found
            .resources
            .iter()
            .find(|r| &*r.kind == "azurerm_subnet" && r.get("name").unwrap().known_text() == name)
            .unwrap_or_else(|| panic!("{name}"));
        let theirs = &subnet["properties"];
        for (path, pointer) in [
            ("address_prefixes.0", "/addressPrefix"),
            ("delegation.service_delegation.name", "/delegations/0/properties/serviceName"),
            ("private_endpoint_network_policies", "/privateEndpointNetworkPolicies"),
        ] {
            let ours = at(&ours.body, path).map(|v| v.known_text()).unwrap_or_default();
            let theirs = theirs.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
            let same = ours == theirs || (ours.is_empty() && theirs == "Disabled");
            assert!(same, "{name} {path}: {ours} here, {theirs} provisioned");
            compared += 1;
        }
    }
    for ((kind, name), body) in &bodies {
        if kind != "networkSecurityGroups" {
            continue;
        }
        let ours = found.resources.iter().find(|r| {
            &*r.kind == "azurerm_network_security_group"
                && r.get("name").unwrap().known_text() == *name
        });
        let ours = ours.unwrap().body.blocks("security_rule");
        let theirs = body["properties"]["securityRules"].as_array().unwrap();
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for ((_, ours), theirs) in ours.iter().zip(theirs) {
            for (attribute, property) in [
                ("description", "description"),
                ("priority", "priority"),
                ("direction", "direction"),
                ("access", "access"),
                ("protocol", "protocol"),
                ("source_port_range", "sourcePortRange"),
                ("source_address_prefix", "sourceAddressPrefix"),
                ("destination_address_prefix", "destinationAddressPrefix"),
                ("destination_port_range", "destinationPortRange"),
            ] {
                let a = ours.get(attribute).map(plain).unwrap_or_default();
                let b = theirs["properties"].get(property).map(json).unwrap_or_default();
                assert_eq!(a, b, "{name} {attribute}");
                compared += 1;
            }
            for (attribute, property) in [
                ("source_address_prefixes", "sourceAddressPrefixes"),
                ("destination_address_prefixes", "destinationAddressPrefixes"),
                ("destination_port_ranges", "destinationPortRanges"),
            ] {
                let a: Vec<String> = ours
                    .get(attribute)
                    .and_then(Value::as_list)
                    .unwrap_or_default()
                    .iter()
                    .map(Value::known_text)
                    .collect();
                let b: Vec<String> = theirs["properties"][property]
                    .as_array()
                    .map(|l| l.iter().map(json).collect())
                    .unwrap_or_default();
                assert_eq!(a, b, "{name} {attribute}");
                compared += 1;
            }
        }
    }
    for body in cache_databases {
        let redis = found.resources.iter().find(|r| &*r.kind == "azurerm_managed_redis").unwrap();
        for (path, pointer) in [
            ("default_database.client_protocol", "/properties/clientProtocol"),
            ("default_database.clustering_policy", "/properties/clusteringPolicy"),
            ("default_database.eviction_policy", "/properties/evictionPolicy"),
            (
                "default_database.access_keys_authentication_enabled",
                "/properties/accessKeysAuthentication",
            ),
        ] {
            let ours = plain(&at(&redis.body, path).unwrap());
            assert_eq!(ours, json(body.pointer(pointer).unwrap()), "{path}");
            compared += 1;
        }
    }
    assert!(problems.is_empty(), "{environment}: {problems:#?}");
    compared
}
