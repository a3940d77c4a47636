//! `monitoring.tf`.

use std::fmt::Write as _;

use lazuli_standard::Environment;
use lazuli_standard::blueprint::{AlertScope, Tells};
use lazuli_standard::data::{database, monitoring as data};
use lazuli_standard::manifest::Receiver;

use crate::Source;
use crate::hcl::{fill, list, quote};

/// The part of an alert's name after the app's: the resource's label.
fn label(source: &Source<'_>, name: &str) -> String {
    let rest = name.strip_prefix(source.manifest.app.as_str()).unwrap_or(name);
    rest.trim_start_matches('-').replace('-', "_")
}

pub(crate) fn render(source: &Source<'_>) -> String {
    let b = &source.prod;
    let m = &b.monitoring;
    let mut out = fill(
        WORKSPACE,
        &[
            ("LAW", &source.name(&m.workspace)),
            ("DAYS", &m.retention_days.to_string()),
            ("AI", &source.name(&m.insights[0])),
            ("STAGING", &source.name(m.insights.get(1).map_or("staging-ai", String::as_str))),
            ("SAMPLING", &data::SAMPLING_PERCENTAGE.to_string()),
        ],
    );
    for site in &b.sites {
        let mut logs = String::new();
        for category in &m.site_logs {
            let _ = write!(logs, "\n  enabled_log {{\n    category = {}\n  }}\n", quote(category));
        }
        out.push_str(&fill(
            r#"
resource "azurerm_monitor_diagnostic_setting" "<<LABEL>>" {
  count = var.site_logs_enabled ? 1 : 0

  name = "to-workspace"
  target_resource_id = azurerm_linux_web_app.<<LABEL>>.id
  log_analytics_workspace_id = azurerm_log_analytics_workspace.main.id
<<LOGS>>
}
"#,
            &[("LABEL", crate::app_service::label(site.role)), ("LOGS", &logs)],
        ));
    }
    let mut logs = String::new();
    for category in &m.vault_logs {
        let _ = write!(logs, "\n  enabled_log {{\n    category = {}\n  }}\n", quote(category));
    }
    if !logs.is_empty() {
        out.push_str(&fill(
            r#"
# Who read or wrote which secret: `lazuli secrets audit` asks the workspace.
resource "azurerm_monitor_diagnostic_setting" "vault" {
  name = "to-workspace"
  target_resource_id = azurerm_key_vault.main.id
  log_analytics_workspace_id = azurerm_log_analytics_workspace.main.id
<<LOGS>>
}
"#,
            &[("LOGS", &logs)],
        ));
    }
    for group in &m.action_groups {
        let mut receivers = String::new();
        for receiver in &group.receivers {
            receivers.push_str(&match receiver {
                Receiver::Email(address) => format!(
                    "\n  email_receiver {{\n    name = {0}\n    email_address = {0}\n    use_common_alert_schema = true\n  }}\n",
                    quote(address)
                ),
                Receiver::Webhook(_) => continue,
            });
        }
        let webhooks: Vec<&str> = group
            .receivers
            .iter()
            .filter_map(|r| match r {
                Receiver::Webhook(name) => Some(name.as_str()),
                Receiver::Email(_) => None,
            })
            .collect();
        if !webhooks.is_empty() {
            receivers.push_str(&fill(
                r#"
  # The names are no secret, the addresses are.
  dynamic "webhook_receiver" {
    for_each = setintersection(<<NAMES>>, nonsensitive(keys(var.alert_webhooks)))

    content {
      name = webhook_receiver.value
      service_uri = var.alert_webhooks[webhook_receiver.value]
      use_common_alert_schema = true
    }
  }
"#,
                &[("NAMES", &list(webhooks))],
            ));
        }
        if group.receivers.is_empty() {
            receivers.push_str(&fill(
                r#"
  # Nobody is named in lazuli.yaml: the subscription's owners are told.
  arm_role_receiver {
    name = "owners"
    role_id = <<ROLE>>
    use_common_alert_schema = true
  }
"#,
                &[("ROLE", &quote(data::OWNER.id))],
            ));
        }
        out.push_str(&fill(
            r#"
resource "azurerm_monitor_action_group" "<<LABEL>>" {
  count = var.alerts_enabled ? 1 : 0

  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  short_name = <<SHORT>>
  tags = local.tags
<<RECEIVERS>>
}
"#,
            &[
                ("LABEL", &group.short_name),
                ("NAME", &source.name(&group.name)),
                ("SHORT", &quote(&group.short_name)),
                ("RECEIVERS", &receivers),
            ],
        ));
    }
    let told = |tells: Tells| -> Vec<&'static str> {
        let (oncall, team) = tells.groups();
        [(oncall, "oncall"), (team, "team")]
            .into_iter()
            .filter_map(|(is, name)| is.then_some(name))
            .collect()
    };
    for alert in &m.metric_alerts {
        let scope = match alert.scope {
            AlertScope::Site => "azurerm_linux_web_app.backend.id",
            AlertScope::Plan => "azurerm_service_plan.main.id",
            AlertScope::Postgres => "azurerm_postgresql_flexible_server.main.id",
            AlertScope::Cache => match source.manifest.cache {
                lazuli_standard::manifest::Cache::Premium => "azurerm_redis_cache.main.id",
                lazuli_standard::manifest::Cache::Managed => "azurerm_managed_redis.main.id",
            },
        };
        // A part of the server's connections, in whatever size the environment has.
        let threshold = if alert.scope == AlertScope::Postgres {
            let of = f64::from(database::sku(Environment::Prod).max_connections);
            format!(
                "floor(var.postgresql_max_connections * {})",
                (alert.threshold / of * 100.0).round() / 100.0
            )
        } else {
            alert.threshold.to_string()
        };
        let description = if alert.scope == AlertScope::Postgres {
            // The figure is the environment's.
            format!("More than {} of the database's connections", percent(&threshold))
        } else {
            alert.description.clone()
        };
        let mut actions = String::new();
        for group in told(alert.tells) {
            let _ = write!(
                actions,
                "\n  action {{\n    action_group_id = azurerm_monitor_action_group.{group}[0].id\n  }}\n"
            );
        }
        out.push_str(&fill(
            r#"
resource "azurerm_monitor_metric_alert" "<<LABEL>>" {
  count = var.alerts_enabled ? 1 : 0

  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  description = <<DESCRIPTION>>
  severity = <<SEVERITY>>
  scopes = [<<SCOPE>>]
  frequency = "PT<<FREQUENCY>>M"
  window_size = "PT<<WINDOW>>M"
  auto_mitigate = true
  tags = local.tags

  criteria {
    metric_namespace = <<NAMESPACE>>
    metric_name = <<METRIC>>
    aggregation = <<AGGREGATION>>
    operator = <<OPERATOR>>
    threshold = <<THRESHOLD>>
  }
<<ACTIONS>>
}
"#,
            &[
                ("LABEL", &label(source, &alert.name)),
                ("NAME", &source.name(&alert.name)),
                ("DESCRIPTION", &quote(&description)),
                ("SEVERITY", &alert.severity.to_string()),
                ("SCOPE", scope),
                ("FREQUENCY", &(alert.frequency.as_secs() / 60).to_string()),
                ("WINDOW", &(alert.window.as_secs() / 60).to_string()),
                ("NAMESPACE", &quote(&alert.namespace)),
                ("METRIC", &quote(&alert.metric)),
                ("AGGREGATION", &quote(&alert.aggregation)),
                ("OPERATOR", &quote(&alert.operator)),
                ("THRESHOLD", &threshold),
                ("ACTIONS", &actions),
            ],
        ));
    }
    for alert in &m.query_alerts {
        let query: String = alert.query.lines().map(|l| format!("      {l}\n")).collect();
        let groups: Vec<String> = told(alert.tells)
            .iter()
            .map(|g| format!("azurerm_monitor_action_group.{g}[0].id"))
            .collect();
        out.push_str(&fill(
            r#"
resource "azurerm_monitor_scheduled_query_rules_alert_v2" "<<LABEL>>" {
  count = var.alerts_enabled ? 1 : 0

  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  description = <<DESCRIPTION>>
  severity = <<SEVERITY>>
  scopes = [azurerm_application_insights.main.id]
  evaluation_frequency = "PT<<FREQUENCY>>M"
  window_duration = "PT<<WINDOW>>M"
  auto_mitigation_enabled = true
  tags = local.tags

  criteria {
    query = <<-KQL
<<QUERY>>    KQL
    time_aggregation_method = "Count"
    operator = "GreaterThan"
    threshold = 0

    failing_periods {
      number_of_evaluation_periods = 1
      minimum_failing_periods_to_trigger_alert = 1
    }
  }

  action {
    action_groups = [<<GROUPS>>]
  }
}
"#,
            &[
                ("LABEL", &label(source, &alert.name)),
                ("NAME", &source.name(&alert.name)),
                ("DESCRIPTION", &quote(&alert.description)),
                ("SEVERITY", &alert.severity.to_string()),
                ("FREQUENCY", &(alert.frequency.as_secs() / 60).to_string()),
                ("WINDOW", &(alert.window.as_secs() / 60).to_string()),
                ("QUERY", &query),
                ("GROUPS", &groups.join(", ")),
            ],
        ));
    }
    out
}

/// `floor(… * 0.9)` → `90 %`.
fn percent(expression: &str) -> String {
    let part = expression.trim_end_matches(')').rsplit(' ').next().unwrap_or_default();
    let part: f64 = part.parse().unwrap_or_default();
    format!("{:.0} %", part * 100.0)
}

const WORKSPACE: &str = r#"
resource "azurerm_log_analytics_workspace" "main" {
  name = <<LAW>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  sku = "PerGB2018"
  retention_in_days = <<DAYS>>
  tags = local.tags
}

# Sampling to the standard's 5 events a second is adaptive, and so the SDK's: what it sends is kept.
resource "azurerm_application_insights" "main" {
  name = <<AI>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  workspace_id = azurerm_log_analytics_workspace.main.id
  application_type = "web"
  retention_in_days = <<DAYS>>
  sampling_percentage = <<SAMPLING>>
  tags = local.tags
}

# The staging slot's telemetry is kept apart: a test before the swap is no incident.
resource "azurerm_application_insights" "staging" {
  count = var.staging_slot_enabled ? 1 : 0

  name = <<STAGING>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  workspace_id = azurerm_log_analytics_workspace.main.id
  application_type = "web"
  retention_in_days = <<DAYS>>
  sampling_percentage = <<SAMPLING>>
  tags = local.tags
}

# What an app prints reaches the workspace by a diagnostic setting and by nothing else.
"#;
