//! `environments/*.tfvars`: everything in which environments differ, and nothing else.

use lazuli_standard::Blueprint;
use lazuli_standard::data::database;
use lazuli_standard::manifest::Cache;

use crate::hcl::{fill, quote};

pub(crate) fn tfvars(b: &Blueprint) -> String {
    let plan = &b.plans[0];
    let yes = |on: bool| if on { "true" } else { "false" }.to_owned();
    let cache = match b.cache.kind {
        Cache::Premium => format!(
            "redis_sku_name = {}\nredis_family = {}\nredis_capacity = {}\n",
            quote(&b.cache.sku),
            quote(&b.cache.family),
            b.cache.capacity
        ),
        Cache::Managed => format!("redis_sku_name = {}\n", quote(&b.cache.sku)),
    };
    let worker = match b.plans.get(1) {
        Some(worker) => format!(
            "worker_sku = {}\nworker_per_site_scaling = {}\n",
            quote(&worker.sku),
            worker.per_site_scaling
        ),
        None => String::new(),
    };
    let autoscale = match &b.autoscale {
        Some(a) => {
            format!("autoscale = {{\n  minimum = {}\n  maximum = {}\n}}\n", a.minimum, a.maximum)
        }
        None => "autoscale = null\n".to_owned(),
    };
    let domain = match &b.domain {
        Some(domain) => format!("custom_domain = {}\n", quote(domain)),
        None => String::new(),
    };
    let tier = if b.postgres.tier == "Burstable" { "B" } else { "GP" };
    let connections = database::sku(b.environment).max_connections.to_string();
    fill(
        r"
environment = <<ENVIRONMENT>>
location = <<LOCATION>>

# Compute
app_service_sku = <<SKU>>
app_service_instances = <<INSTANCES>>
staging_slot_enabled = <<SLOT>>
<<WORKER>>
# null: the number of instances is fixed
<<AUTOSCALE>>
# Data
postgresql_sku = <<PGSKU>>
# max_connections of this size, of which the alerts are percentages
postgresql_max_connections = <<CONNECTIONS>>
postgresql_zone_redundant = <<HA>>
postgresql_geo_redundant_backup = <<GEO>>
pgbouncer_enabled = <<PGBOUNCER>>
<<CACHE>>
key_vault_purge_protection = <<PURGE>>

# Monitoring and cost
site_logs_enabled = <<LOGS>>
alerts_enabled = <<ALERTS>>
budget_amount = <<BUDGET>>
<<DOMAIN>>",
        &[
            ("ENVIRONMENT", &quote(b.environment.as_str())),
            ("LOCATION", &quote(&b.location)),
            ("SKU", &quote(&plan.sku)),
            ("INSTANCES", &plan.instances.to_string()),
            ("SLOT", &yes(b.backend().staging().is_some())),
            ("WORKER", &worker),
            ("AUTOSCALE", &autoscale),
            ("PGSKU", &quote(&format!("{tier}_{}", b.postgres.sku))),
            ("CONNECTIONS", &connections),
            ("HA", &yes(b.postgres.zone_redundant)),
            ("GEO", &yes(b.postgres.geo_redundant_backup)),
            ("PGBOUNCER", &yes(b.postgres.pgbouncer)),
            ("CACHE", &cache),
            ("PURGE", &yes(b.vault.purge_protection)),
            ("LOGS", &yes(!b.monitoring.site_logs.is_empty())),
            ("ALERTS", &yes(!b.monitoring.action_groups.is_empty())),
            ("BUDGET", &b.budget.amount.to_string()),
            ("DOMAIN", &domain),
        ],
    )
}

/// Where this environment's state lies: `terraform init -backend-config=environments/prod.tfbackend`.
pub(crate) fn backend(b: &Blueprint) -> String {
    format!("key = {}\n", quote(&format!("{}/terraform.tfstate", b.environment)))
}
