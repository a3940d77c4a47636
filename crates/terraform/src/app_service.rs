//! `app_service.tf`, `identity.tf`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lazuli_standard::blueprint::{Holder, RoleAssignment, RoleScope, Setting, Site, SiteRole};
use lazuli_standard::data::compute;

use crate::Source;
use crate::hcl::{fill, key, list, quote};

/// The resource's label.
pub(crate) fn label(role: SiteRole) -> &'static str {
    match role {
        SiteRole::Backend => "backend",
        SiteRole::Worker => "worker",
        SiteRole::Scheduler => "scheduler",
    }
}

pub(crate) fn render(source: &Source<'_>) -> String {
    let b = &source.prod;
    let mut out = fill(
        r#"
resource "azurerm_service_plan" "main" {
  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  os_type = "Linux"
  sku_name = var.app_service_sku
  worker_count = var.app_service_instances
  tags = local.tags

  lifecycle {
    # Auto-scale's from then on.
    ignore_changes = [worker_count]
  }
}
"#,
        &[("NAME", &source.name(&b.plans[0].name))],
    );
    if let Some(plan) = b.plans.get(1) {
        out.push_str(&fill(
            r#"
# Background processes do not take the backend's CPU. Each site has its own number of instances, so
# that whoever scales the workers out does not get a second scheduler.
resource "azurerm_service_plan" "worker" {
  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  os_type = "Linux"
  sku_name = var.worker_sku
  worker_count = <<INSTANCES>>
  per_site_scaling_enabled = var.worker_per_site_scaling
  tags = local.tags
}
"#,
            &[("NAME", &source.name(&plan.name)), ("INSTANCES", &plan.instances.to_string())],
        ));
    }
    out.push_str(&settings(source));
    for site in &b.sites {
        out.push_str(&web_app(source, site));
    }
    if let Some(autoscale) = &b.autoscale {
        let mut rules = String::new();
        for rule in &autoscale.rules {
            for out in [true, false] {
                let (operator, threshold, direction) = if out {
                    ("GreaterThan", rule.out_above, "Increase")
                } else {
                    ("LessThan", rule.in_below, "Decrease")
                };
                let of = if rule.of_site {
                    "azurerm_linux_web_app.backend.id"
                } else {
                    "azurerm_service_plan.main.id"
                };
                rules.push_str(&fill(
                    r#"
    rule {
      metric_trigger {
        metric_name = <<METRIC>>
        metric_resource_id = <<OF>>
        operator = <<OPERATOR>>
        threshold = <<THRESHOLD>>
        statistic = <<STATISTIC>>
        time_aggregation = "Average"
        time_grain = "PT1M"
        time_window = "PT<<WINDOW>>M"
        divide_by_instance_count = <<DIVIDE>>
      }

      scale_action {
        direction = <<DIRECTION>>
        type = "ChangeCount"
        value = 1
        cooldown = "PT<<COOLDOWN>>M"
      }
    }
"#,
                    &[
                        ("METRIC", &quote(&rule.metric)),
                        ("OF", of),
                        ("OPERATOR", &quote(operator)),
                        ("THRESHOLD", &threshold.to_string()),
                        (
                            "STATISTIC",
                            &quote(if rule.aggregation == "Total" { "Sum" } else { "Average" }),
                        ),
                        ("WINDOW", &(rule.window.as_secs() / 60).to_string()),
                        ("DIVIDE", if rule.per_instance { "true" } else { "false" }),
                        ("DIRECTION", &quote(direction)),
                        ("COOLDOWN", &(rule.cooldown.as_secs() / 60).to_string()),
                    ],
                ));
            }
        }
        out.push_str(&fill(
            r#"
# CPU is the plan's metric; a plan has none for requests, so those are the site's, for each instance.
resource "azurerm_monitor_autoscale_setting" "main" {
  count = var.autoscale == null ? 0 : 1

  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  target_resource_id = azurerm_service_plan.main.id
  enabled = true
  tags = local.tags

  profile {
    name = "default"

    capacity {
      minimum = var.autoscale.minimum
      maximum = var.autoscale.maximum
      default = var.autoscale.minimum
    }
<<RULES>>
  }
}
"#,
            &[("NAME", &source.name(&autoscale.name)), ("RULES", &rules)],
        ));
    }
    out
}

/// The expression of a setting's value. `slot`: the staging slot's, where resources have a count.
fn value(source: &Source<'_>, name: &str, setting: &Setting, slot: bool) -> String {
    match setting {
        Setting::Plain(_) if name == "APP_ENV" && !slot => "local.app_env".to_owned(),
        Setting::Plain(_) if name == "AZURE_OPENAI_ENDPOINT" => {
            "\"https://${azurerm_cognitive_account.openai.custom_subdomain_name}.openai.azure.com/\""
                .to_owned()
        }
        Setting::Plain(text) => quote(text),
        Setting::Secret(secret) => {
            let one = source.prod.secrets.iter().find(|s| s.name == *secret);
            let index =
                if one.is_some_and(|s| crate::data::of_slot(source, s)) { "[0]" } else { "" };
            format!(
                "\"@Microsoft.KeyVault(VaultName=${{azurerm_key_vault.main.name}};SecretName=${{azurerm_key_vault_secret.{}{index}.name}})\"",
                crate::data::label(source, secret)
            )
        }
        Setting::Insights(_) if slot => {
            "azurerm_application_insights.staging[0].connection_string".to_owned()
        }
        Setting::Insights(_) => "azurerm_application_insights.main.connection_string".to_owned(),
    }
}

/// The provider writes this one itself, from `health_check_eviction_time_in_min`, and refuses it here.
const PROVIDERS: &str = "WEBSITE_HEALTHCHECK_MAXPINGFAILURES";

type Settings = BTreeMap<String, Setting>;

/// Settings that all sites and the slot have with the same value.
fn common(source: &Source<'_>) -> Settings {
    let b = &source.prod;
    let everywhere = |name: &String, setting: &Setting| {
        b.sites.iter().all(|s| {
            s.settings.get(name) == Some(setting)
                && s.slots.iter().all(|slot| slot.settings.get(name) == Some(setting))
        })
    };
    let all = b.backend().settings.iter().filter(|(n, s)| everywhere(n, s));
    all.map(|(n, s)| (n.clone(), s.clone())).collect()
}

fn settings(source: &Source<'_>) -> String {
    let mut lines = String::new();
    for (name, setting) in &common(source) {
        let _ = writeln!(lines, "    {} = {}", key(name), value(source, name, setting, false));
    }
    fill(
        r"
locals {
  # What every site reads, and the staging slot. References to the vault name no version: they follow
  # a rotation.
  app_settings = {
<<LINES>>
  }
}
",
        &[("LINES", &lines)],
    )
}

fn own(source: &Source<'_>, settings: &Settings, slot: bool) -> String {
    let common = common(source);
    let mut lines = String::new();
    for (name, setting) in settings {
        if common.contains_key(name) || name == PROVIDERS {
            continue;
        }
        let _ = writeln!(lines, "    {} = {}", key(name), value(source, name, setting, slot));
    }
    lines
}

fn web_app(source: &Source<'_>, site: &Site) -> String {
    let label = label(site.role);
    let plan = if site.role == SiteRole::Backend { "main" } else { "worker" };
    let python = site.linux_fx_version.rsplit('|').next().unwrap_or_default();
    let health = match &site.health_check_path {
        Some(path) => format!(
            "health_check_path = {}\n    # After so many failed pings, one a minute, an instance leaves the rotation.\n    health_check_eviction_time_in_min = {}\n",
            quote(path),
            *compute::MAX_PING_FAILURES
        ),
        None => String::new(),
    };
    let instances = match site.instances {
        Some(n) => format!("    # Exactly {n}, whatever the plan has.\n    worker_count = {n}\n"),
        None => String::new(),
    };
    let yes = |on: bool| if on { "true" } else { "false" };
    let site_config = fill(
        r"
  site_config {
    app_command_line = <<STARTUP>>
    always_on = <<ALWAYS>>
    ftps_state = <<FTPS>>
    http2_enabled = true
    minimum_tls_version = <<TLS>>
    scm_minimum_tls_version = <<TLS>>
    remote_debugging_enabled = <<DEBUG>>
    use_32_bit_worker = <<BITS>>
    websockets_enabled = <<WEBSOCKETS>>
    vnet_route_all_enabled = <<ROUTE>>
    <<HEALTH>>
<<INSTANCES>>

    application_stack {
      python_version = <<PYTHON>>
    }
  }
",
        &[
            ("STARTUP", &quote(&site.startup)),
            ("ALWAYS", yes(*compute::ALWAYS_ON)),
            ("FTPS", &quote(*compute::FTPS_STATE)),
            ("TLS", &quote(*compute::MIN_TLS)),
            ("DEBUG", yes(*compute::REMOTE_DEBUGGING)),
            ("BITS", yes(*compute::USE_32_BIT)),
            ("WEBSOCKETS", yes(site.websockets)),
            ("ROUTE", yes(*compute::ROUTE_ALL)),
            ("HEALTH", &health),
            ("INSTANCES", &instances),
            ("PYTHON", &quote(python)),
        ],
    );
    let linked = site.role == SiteRole::Backend && source.prod.frontend.is_some();
    let common = |settings: &str| {
        fill(
            r#"
  https_only = <<HTTPS>>
  client_affinity_enabled = <<AFFINITY>>
  virtual_network_subnet_id = azurerm_subnet.app.id
  # A release authenticates by Entra ID; there is no password to leak.
  ftp_publish_basic_authentication_enabled = false
  webdeploy_publish_basic_authentication_enabled = false
  tags = local.tags

  app_settings = merge(local.app_settings, {
<<SETTINGS>>
  })

  identity {
    type = "SystemAssigned"
  }
<<CONFIG>>
"#,
            &[
                ("HTTPS", yes(*compute::HTTPS_ONLY)),
                ("AFFINITY", yes(*compute::ARR_AFFINITY)),
                ("SETTINGS", settings),
                ("CONFIG", &site_config),
            ],
        )
    };
    let sticky = if site.sticky.is_empty() {
        String::new()
    } else {
        fill(
            r#"
  # What stays with its slot when a release is swapped.
  dynamic "sticky_settings" {
    for_each = var.staging_slot_enabled ? [1] : []

    content {
      app_setting_names = <<NAMES>>
    }
  }
"#,
            &[("NAMES", &list(site.sticky.iter().map(String::as_str)))],
        )
    };
    let lifecycle = if linked {
        r"
  lifecycle {
    # The link with the Static Web App writes it, see frontend.tf.
    ignore_changes = [auth_settings_v2]
  }
"
    } else {
        ""
    };
    let mut out = fill(
        r#"
resource "azurerm_linux_web_app" "<<LABEL>>" {
  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  service_plan_id = azurerm_service_plan.<<PLAN>>.id
<<BODY>><<STICKY>><<LIFECYCLE>>
}
"#,
        &[
            ("LABEL", label),
            ("NAME", &source.name(&site.name)),
            ("PLAN", plan),
            ("BODY", common(&own(source, &site.settings, false)).trim_start_matches('\n')),
            ("STICKY", &sticky),
            ("LIFECYCLE", lifecycle),
        ],
    );
    for slot in &site.slots {
        out.push_str(&fill(
            r#"
# Where a release goes first. The same as production but for its settings: its own database, its own
# telemetry, its own identity.
resource "azurerm_linux_web_app_slot" "<<SLOT>>" {
  count = var.staging_slot_enabled ? 1 : 0

  name = <<NAME>>
  app_service_id = azurerm_linux_web_app.<<LABEL>>.id
<<BODY>>
}
"#,
            &[
                ("SLOT", &slot.name),
                ("NAME", &quote(&slot.name)),
                ("LABEL", label),
                ("BODY", common(&own(source, &slot.settings, true)).trim_start_matches('\n')),
            ],
        ));
    }
    out
}

pub(crate) fn identity(source: &Source<'_>) -> String {
    let b = &source.prod;
    let mut out = IDENTITY.to_owned();
    for assignment in &b.role_assignments {
        let (site, slot) = match &assignment.holder {
            Holder::Identity { site, slot } => (site, slot),
            Holder::CiCd(id) => {
                out.push_str(&given("ci_cd_secrets", assignment, id));
                continue;
            }
            Holder::BreakGlass(id) => {
                out.push_str(&given("break_glass_administrator", assignment, id));
                continue;
            }
        };
        let Some(site) = b.sites.iter().find(|s| s.name == *site) else { continue };
        let in_slot = slot.is_some();
        let who = label(site.role);
        let (what, scope) = match &assignment.scope {
            RoleScope::Vault => ("secrets", "azurerm_key_vault.main.id"),
            RoleScope::OpenAi => ("openai", "azurerm_cognitive_account.openai.id"),
            RoleScope::Insights(_) if in_slot => {
                ("metrics", "azurerm_application_insights.staging[0].id")
            }
            RoleScope::Insights(_) => ("metrics", "azurerm_application_insights.main.id"),
        };
        let (name, principal, count) = match slot {
            Some(slot) => (
                format!("{slot}_{what}"),
                format!("azurerm_linux_web_app_slot.{slot}[0].identity[0].principal_id"),
                "count = var.staging_slot_enabled ? 1 : 0\n\n  ",
            ),
            None => (
                format!("{who}_{what}"),
                format!("azurerm_linux_web_app.{who}.identity[0].principal_id"),
                "",
            ),
        };
        out.push_str(&fill(
            r#"
resource "azurerm_role_assignment" "<<NAME>>" {
  <<COUNT>>scope = <<SCOPE>>
  role_definition_name = <<ROLE>>
  principal_id = <<PRINCIPAL>>
  principal_type = "ServicePrincipal"
}
"#,
            &[
                ("NAME", &name),
                ("COUNT", count),
                ("SCOPE", scope),
                ("ROLE", &quote(&assignment.role)),
                ("PRINCIPAL", &principal),
            ],
        ));
    }
    out
}

/// The role of somebody whom the manifest names by object ID.
fn given(name: &str, assignment: &RoleAssignment, id: &str) -> String {
    fill(
        r#"
resource "azurerm_role_assignment" "<<NAME>>" {
  scope = azurerm_key_vault.main.id
  role_definition_name = <<ROLE>>
  principal_id = <<ID>>
  principal_type = <<TYPE>>
}
"#,
        &[
            ("NAME", name),
            ("ROLE", &quote(&assignment.role)),
            ("ID", &quote(id)),
            ("TYPE", &quote(assignment.holder.principal_type())),
        ],
    )
}

const IDENTITY: &str = r#"
# Azure's services know one another by managed identity. Every site and every slot has its own, and
# each needs its own roles: a slot without them would bring up an app without secrets.

# Whoever applies writes the secrets, and nobody else. Not the app: its identity reads and does
# nothing else.
resource "azurerm_role_assignment" "deployer_secrets" {
  scope = azurerm_key_vault.main.id
  role_definition_name = "Key Vault Secrets Officer"
  principal_id = data.azurerm_client_config.current.object_id
}
"#;
