//! `main.tf`, `variables.tf`, `outputs.tf`.

use lazuli_standard::Environment;
use lazuli_standard::manifest::{Cache, Receiver};

use crate::hcl::{fill, list, quote};
use crate::{Source, bootstrap};

pub(crate) fn main(source: &Source<'_>) -> String {
    let app = &source.manifest.app;
    let azapi = if source.prod.frontend.is_some() {
        r#"
    # For the link between Static Web App and back end alone: azurerm has no resource for it.
    azapi = {
      source = "Azure/azapi"
      version = "~> 2.5"
    }
"#
    } else {
        ""
    };
    fill(
        MAIN,
        &[
            ("AZAPI", azapi),
            ("STATE_GROUP", &quote(&bootstrap::group(app))),
            ("STATE_ACCOUNT", &quote(&bootstrap::account(app))),
            ("APP", &quote(app)),
            ("DEV", Environment::Dev.suffix()),
            ("STAGING", Environment::Staging.suffix()),
        ],
    )
}

const MAIN: &str = r#"
terraform {
  # 1.11 has write-only arguments: no secret of ours is in state or plan.
  required_version = ">= 1.11.0"

  required_providers {
    azurerm = {
      source = "hashicorp/azurerm"
      version = "~> 5.2"
    }
<<AZAPI>>
  }

  # Made once by bootstrap/. Locked by the blob's lease, encrypted by Azure. The key is the
  # environment's: terraform init -backend-config=environments/prod.tfbackend
  backend "azurerm" {
    resource_group_name = <<STATE_GROUP>>
    storage_account_name = <<STATE_ACCOUNT>>
    container_name = "tfstate"
    use_azuread_auth = true
  }
}

# Who and where: ARM_SUBSCRIPTION_ID, and az login or a pipeline's workload identity federation.
provider "azurerm" {
  features {
    key_vault {
      # A vault that was deleted is not gone for 90 days, and its name with it: it is recovered.
      recover_soft_deleted_key_vaults = true
      purge_soft_delete_on_destroy = false
    }

    resource_group {
      prevent_deletion_if_contains_resources = true
    }
  }
}

data "azurerm_client_config" "current" {}

locals {
  app = <<APP>>

  # Names are unique in the world, so environments besides production carry theirs. Staging is not
  # `-staging`: that is the host name of production's staging slot.
  suffix = { dev = "<<DEV>>", staging = "<<STAGING>>", prod = "" }[var.environment]
  stem = "${local.app}${local.suffix}"

  # What APP_ENV holds.
  app_env = { dev = "development", staging = "staging", prod = "production" }[var.environment]

  tags = {
    app = local.app
    environment = local.app_env
    managed-by = "lazuli"
  }
}

resource "azurerm_resource_group" "main" {
  name = "rg-${local.app}-${var.environment}"
  location = var.location
  tags = local.tags
}

# What the environment costs, and who hears of it before the invoice does.
resource "azurerm_consumption_budget_resource_group" "main" {
  name = "${local.stem}-budget"
  resource_group_id = azurerm_resource_group.main.id
  amount = var.budget_amount
  time_grain = "Monthly"

  # Azure takes no other month than the current one.
  time_period {
    start_date = formatdate("YYYY-MM-01'T'00:00:00'Z'", plantimestamp())
  }

  notification {
    operator = "GreaterThan"
    threshold = 80
    threshold_type = "Actual"
    contact_roles = ["Owner"]
    contact_groups = azurerm_monitor_action_group.team[*].id
  }

  notification {
    operator = "GreaterThan"
    threshold = 100
    threshold_type = "Actual"
    contact_roles = ["Owner"]
    contact_groups = azurerm_monitor_action_group.team[*].id
  }

  lifecycle {
    # It began in the month it was made.
    ignore_changes = [time_period]
  }
}
"#;

pub(crate) fn variables(source: &Source<'_>) -> String {
    let manifest = source.manifest;
    let mut out = fill(VARIABLES, &[("LOCATION", &quote(&manifest.location))]);
    out.push_str(match manifest.cache {
        Cache::Premium => PREMIUM,
        Cache::Managed => MANAGED,
    });
    if source.prod.plans.len() > 1 {
        out.push_str(WORKER);
    }
    if manifest.domain.is_some() {
        out.push_str(DOMAIN);
    }
    let webhooks = webhooks(source);
    if !webhooks.is_empty() {
        let names = list(webhooks.iter().map(String::as_str));
        out.push_str(&fill(WEBHOOKS, &[("NAMES", &names)]));
    }
    out
}

/// The names of all webhooks that are told.
pub(crate) fn webhooks(source: &Source<'_>) -> Vec<String> {
    let alerts = &source.manifest.alerts;
    let mut names: Vec<String> = alerts
        .oncall
        .iter()
        .chain(&alerts.team)
        .filter_map(|r| match r {
            Receiver::Webhook(name) => Some(name.clone()),
            Receiver::Email(_) => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

const VARIABLES: &str = r#"
variable "environment" {
  description = "The environment: dev, staging or prod."
  type = string

  validation {
    condition = contains(["dev", "staging", "prod"], var.environment)
    error_message = "The environment is dev, staging or prod."
  }
}

variable "location" {
  description = "The Azure region of everything."
  type = string
  default = <<LOCATION>>

  validation {
    condition = can(regex("^[a-z0-9]{3,30}$", var.location))
    error_message = "Give Azure's short name of the region, such as westeurope."
  }
}

variable "app_service_sku" {
  description = "SKU of the backend's App Service plan."
  type = string

  validation {
    condition = contains(["B1", "B2", "B3", "P0v3", "P1v3", "P2v3", "P3v3"], var.app_service_sku)
    error_message = "The standard knows B1 for development and Premium v3 for the rest."
  }

  validation {
    condition = var.environment != "prod" || can(regex("^P[1-3]v3$", var.app_service_sku))
    error_message = "Production runs on Premium v3."
  }
}

variable "app_service_instances" {
  description = "Instances of the backend when the plan is created; auto-scale changes them."
  type = number

  validation {
    condition = var.app_service_instances >= (var.environment == "prod" ? 2 : 1)
    error_message = "Production has two instances at least: one may always fail."
  }
}

variable "staging_slot_enabled" {
  description = "Whether the backend has a staging slot: where a release goes first."
  type = bool
}

variable "autoscale" {
  description = "Fewest and most instances of the backend; null: their number is fixed."
  type = object({
    minimum = number
    maximum = number
  })
  default = null

  validation {
    condition = var.autoscale == null || try(var.autoscale.minimum <= var.autoscale.maximum && var.autoscale.maximum <= 30, false)
    error_message = "The minimum is at most the maximum, and the maximum at most 30."
  }
}

variable "postgresql_sku" {
  description = "SKU of the database server, with its tier: GP_Standard_D4ds_v5."
  type = string

  validation {
    condition = can(regex("^(B|GP|MO)_Standard_", var.postgresql_sku))
    error_message = "The SKU begins with its tier: B_, GP_ or MO_."
  }
}

variable "postgresql_max_connections" {
  description = "max_connections of the server's size: the alerts are percentages of it."
  type = number
}

variable "postgresql_zone_redundant" {
  description = "Whether a standby waits in another zone."
  type = bool
}

variable "postgresql_geo_redundant_backup" {
  description = "Whether backups are copied to the paired region. Cannot be changed later."
  type = bool
}

variable "pgbouncer_enabled" {
  description = "Whether the built-in PgBouncer pools connections: General Purpose and Memory Optimized only."
  type = bool

  validation {
    condition = !(var.pgbouncer_enabled && startswith(var.postgresql_sku, "B_"))
    error_message = "PgBouncer is not offered on Burstable servers."
  }
}

variable "key_vault_purge_protection" {
  description = "Whether nothing can be purged from the vault before its time. Cannot be switched off again."
  type = bool
}

variable "site_logs_enabled" {
  description = "Whether the sites' logs go to the workspace."
  type = bool
}

variable "alerts_enabled" {
  description = "Whether somebody is told."
  type = bool
}

variable "budget_amount" {
  description = "What the environment may cost a month, US dollars."
  type = number

  validation {
    condition = var.budget_amount > 0
    error_message = "A budget is more than nothing."
  }
}

variable "secrets_version" {
  description = "Raise it to write every secret anew, the database's password among them."
  type = number
  default = 1
}

variable "deployment_ip_addresses" {
  description = "Public addresses that may reach the vault while Terraform writes secrets from outside the VNet. Empty: none, which is how it stays."
  type = list(string)
  default = []
}
"#;

const PREMIUM: &str = r#"
variable "redis_sku_name" {
  description = "Tier of Azure Cache for Redis: Basic for development, Premium for the rest."
  type = string

  validation {
    condition = contains(["Basic", "Standard", "Premium"], var.redis_sku_name)
    error_message = "The tier is Basic, Standard or Premium."
  }
}

variable "redis_family" {
  description = "C for Basic and Standard, P for Premium."
  type = string
}

variable "redis_capacity" {
  description = "Size within the family: P1 has 6 GB."
  type = number
}
"#;

const MANAGED: &str = r#"
variable "redis_sku_name" {
  description = "SKU of Azure Managed Redis: Balanced_B5 has 6 GB."
  type = string
}
"#;

const WORKER: &str = r#"
variable "worker_sku" {
  description = "SKU of the plan that background processes share."
  type = string
}

variable "worker_per_site_scaling" {
  description = "Whether each site of that plan has its own number of instances; Basic plans cannot."
  type = bool
}
"#;

const DOMAIN: &str = r#"
variable "custom_domain" {
  description = "The domain users know the app under; null: Azure's own name. Its DNS records must be there first."
  type = string
  default = null
}
"#;

const WEBHOOKS: &str = r#"
variable "alert_webhooks" {
  description = "Addresses of the webhooks that alerts call, by name; each is a secret. A webhook without an address is left out."
  type = map(string)
  default = {}
  sensitive = true

  validation {
    condition = alltrue([for name, address in var.alert_webhooks : contains(<<NAMES>>, name) && startswith(address, "https://")])
    error_message = "Each is one of the manifest's webhooks, and an address beginning with https://."
  }
}
"#;

pub(crate) fn outputs(source: &Source<'_>) -> String {
    let mut out = OUTPUTS.to_owned();
    out.push_str(match source.manifest.cache {
        Cache::Premium => CACHE_PREMIUM,
        Cache::Managed => CACHE_MANAGED,
    });
    if source.prod.frontend.is_some() {
        out.push_str(FRONTEND);
    }
    if source.manifest.openai.is_some() {
        out.push_str(OPENAI);
    }
    out
}

const OUTPUTS: &str = r#"
output "resource_group_name" {
  description = "The resource group that holds everything."
  value = azurerm_resource_group.main.name
}

output "app_name" {
  description = "The web app: what a release is deployed to."
  value = azurerm_linux_web_app.backend.name
}

output "app_url" {
  description = "Where the app answers."
  value = "https://${azurerm_linux_web_app.backend.default_hostname}"
}

output "staging_url" {
  description = "Where a release is tested before the swap; null where there is no slot."
  value = one([for slot in azurerm_linux_web_app_slot.staging : "https://${slot.default_hostname}"])
}

output "custom_domain_verification_id" {
  description = "What the TXT record asuid.{domain} must hold before the domain can be bound."
  value = azurerm_linux_web_app.backend.custom_domain_verification_id
  sensitive = true
}

output "key_vault_name" {
  description = "The vault: only identities that were given a role read it, and only inside the VNet."
  value = azurerm_key_vault.main.name
}

output "postgresql_host" {
  description = "The database server's name, resolved inside the VNet."
  value = azurerm_postgresql_flexible_server.main.fqdn
}

output "log_analytics_workspace_id" {
  description = "Where all logs and telemetry are."
  value = azurerm_log_analytics_workspace.main.id
}
"#;

const CACHE_PREMIUM: &str = r#"
output "redis_host" {
  description = "The cache's name, resolved inside the VNet."
  value = azurerm_redis_cache.main.hostname
}
"#;

const CACHE_MANAGED: &str = r#"
output "redis_host" {
  description = "The cache's name, resolved inside the VNet."
  value = azurerm_managed_redis.main.hostname
}
"#;

const FRONTEND: &str = r#"
output "frontend_url" {
  description = "Where the front end answers, and the back end below /api."
  value = "https://${azurerm_static_web_app.main.default_host_name}"
}

output "frontend_name" {
  description = "The Static Web App: what the front end is deployed to."
  value = azurerm_static_web_app.main.name
}
"#;

const OPENAI: &str = r#"
output "openai_endpoint" {
  description = "Azure OpenAI's endpoint; authentication by managed identity alone."
  value = azurerm_cognitive_account.openai.endpoint
}
"#;
