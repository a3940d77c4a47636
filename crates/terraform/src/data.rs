//! `postgresql.tf`, `redis.tf`, `keyvault.tf`.

use std::fmt::Write as _;

use lazuli_standard::blueprint::{Secret, SecretOrigin};
use lazuli_standard::data::{cache as redis_data, compute, database};
use lazuli_standard::manifest::Cache;

use crate::Source;
use crate::hcl::{fill, quote};

/// The cache's address.
pub(crate) fn cache(source: &Source<'_>) -> &'static str {
    match source.manifest.cache {
        Cache::Premium => "azurerm_redis_cache.main",
        Cache::Managed => "azurerm_managed_redis.main",
    }
}

/// `notes-db-password` → `db_password`.
pub(crate) fn label(source: &Source<'_>, secret: &str) -> String {
    let rest = secret.strip_prefix(source.manifest.app.as_str()).unwrap_or(secret);
    rest.trim_start_matches('-').replace('-', "_")
}

/// Whether a secret is there only where there is a staging slot.
pub(crate) fn of_slot(source: &Source<'_>, secret: &Secret) -> bool {
    let staging = source.prod.postgres.databases.get(1);
    matches!((&secret.origin, staging), (SecretOrigin::DatabaseUrl { database, .. }, Some(s)) if database == s)
}

pub(crate) fn postgresql(source: &Source<'_>) -> String {
    let p = &source.prod.postgres;
    let mut parameters = String::new();
    for (name, value) in &p.parameters {
        let _ = writeln!(parameters, "    {} = {}", quote(name), quote(value));
    }
    fill(
        POSTGRESQL,
        &[
            ("NAME", &source.name(&p.name)),
            ("VERSION", &quote(&p.version)),
            ("ADMIN", &quote(&p.administrator)),
            ("STORAGE", &(p.storage_gb * 1024).to_string()),
            ("GROW", if p.auto_grow { "true" } else { "false" }),
            ("BACKUP", &p.backup_retention_days.to_string()),
            ("DATABASE", &quote(&p.databases[0])),
            ("STAGING", &quote(p.databases.get(1).map_or("staging", String::as_str))),
            ("PARAMETERS", &parameters),
            ("PORT", &database::PORT.to_string()),
            ("POOLED", &database::POOLED_PORT.to_string()),
        ],
    )
}

const POSTGRESQL: &str = r#"
locals {
  # PgBouncer answers on a port of its own, under the same name.
  postgresql_app_port = var.pgbouncer_enabled ? <<POOLED>> : <<PORT>>

  # New with every run and used only when secrets_version rises: it goes into the vault and into the
  # server, by write-only arguments, and never into state or plan. 488 random bits as letters and
  # digits, so that it needs no escaping in a URL.
  postgresql_password = sensitive(replace(replace(replace(base64sha512(join("", [uuid(), uuid(), uuid(), uuid()])), "+", ""), "/", ""), "=", ""))
}

resource "azurerm_postgresql_flexible_server" "main" {
  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  version = <<VERSION>>
  sku_name = var.postgresql_sku
  storage_mb = <<STORAGE>>
  auto_grow_enabled = <<GROW>>
  backup_retention_days = <<BACKUP>>
  geo_redundant_backup_enabled = var.postgresql_geo_redundant_backup
  administrator_login = <<ADMIN>>
  administrator_password_wo = local.postgresql_password
  administrator_password_wo_version = var.secrets_version
  delegated_subnet_id = azurerm_subnet.db.id
  private_dns_zone_id = azurerm_private_dns_zone.postgresql.id
  public_network_access_enabled = false
  tags = local.tags

  dynamic "high_availability" {
    for_each = var.postgresql_zone_redundant ? ["ZoneRedundant"] : []

    content {
      mode = high_availability.value
    }
  }

  # The server resolves its standby by this zone, and archives its log through these rules.
  depends_on = [
    azurerm_private_dns_zone_virtual_network_link.postgresql,
    azurerm_subnet_network_security_group_association.db,
  ]

  lifecycle {
    prevent_destroy = true
    # Azure chooses the zones, and exchanges them when the standby takes over; storage grows.
    ignore_changes = [zone, high_availability[0].standby_availability_zone, storage_mb]
  }
}

resource "azurerm_postgresql_flexible_server_database" "main" {
  name = <<DATABASE>>
  server_id = azurerm_postgresql_flexible_server.main.id
  charset = "UTF8"
  collation = "en_US.utf8"

  lifecycle {
    prevent_destroy = true
  }
}

# The staging slot's: a release is migrated and tested here first.
resource "azurerm_postgresql_flexible_server_database" "staging" {
  count = var.staging_slot_enabled ? 1 : 0

  name = <<STAGING>>
  server_id = azurerm_postgresql_flexible_server.main.id
  charset = "UTF8"
  collation = "en_US.utf8"
}

resource "azurerm_postgresql_flexible_server_configuration" "pgbouncer" {
  for_each = var.pgbouncer_enabled ? {
<<PARAMETERS>>
  } : {}

  name = each.key
  server_id = azurerm_postgresql_flexible_server.main.id
  value = each.value
}
"#;

pub(crate) fn redis(source: &Source<'_>) -> String {
    let r = &source.prod.cache;
    let values = [
        ("NAME", source.name(&r.name)),
        ("TLS", quote(*compute::MIN_TLS)),
        ("VERSION", quote(*redis_data::VERSION)),
    ];
    let values: Vec<(&str, &str)> = values.iter().map(|(n, v)| (*n, v.as_str())).collect();
    match r.kind {
        Cache::Premium => fill(PREMIUM, &values),
        Cache::Managed => fill(MANAGED, &values),
    }
}

const PREMIUM: &str = r#"
# Azure Cache for Redis retires on 2028-09-30 and takes no new caches: for those who have one.
# A new deployment says `cache: managed` in lazuli.yaml.
resource "azurerm_redis_cache" "main" {
  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  sku_name = var.redis_sku_name
  family = var.redis_family
  capacity = var.redis_capacity
  redis_version = <<VERSION>>
  minimum_tls_version = <<TLS>>
  non_ssl_port_enabled = false
  public_network_access_enabled = false
  tags = local.tags

  redis_configuration {}
}

locals {
  # A key may hold characters that end the password of a URL.
  redis_url = sensitive("rediss://:${urlencode(azurerm_redis_cache.main.primary_access_key)}@${azurerm_redis_cache.main.hostname}:${azurerm_redis_cache.main.ssl_port}/0")
}
"#;

const MANAGED: &str = r#"
# One logical database: what the standard keeps apart by database number, the app keeps apart by
# prefixes of its keys.
resource "azurerm_managed_redis" "main" {
  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  sku_name = var.redis_sku_name
  public_network_access = "Disabled"
  tags = local.tags

  default_database {
    client_protocol = "Encrypted"
    clustering_policy = "EnterpriseCluster"
    eviction_policy = "VolatileLRU"
    # The app's client authenticates with a key, which only the vault hands out.
    access_keys_authentication_enabled = true
  }
}

locals {
  # A key may hold characters that end the password of a URL.
  redis_url = sensitive("rediss://:${urlencode(azurerm_managed_redis.main.default_database[0].primary_access_key)}@${azurerm_managed_redis.main.hostname}:${azurerm_managed_redis.main.default_database[0].port}/0")
}
"#;

pub(crate) fn keyvault(source: &Source<'_>) -> String {
    let b = &source.prod;
    let mut out = fill(
        VAULT,
        &[("NAME", &source.name(&b.vault.name)), ("DAYS", &b.vault.soft_delete_days.to_string())],
    );
    for secret in &b.secrets {
        let value = match &secret.origin {
            SecretOrigin::DatabasePassword => "local.postgresql_password".to_owned(),
            SecretOrigin::DatabaseUrl { database: name, port } => {
                let port = if *port == *database::PORT {
                    port.to_string()
                } else {
                    "${local.postgresql_app_port}".to_owned()
                };
                format!(
                    "\"postgresql+asyncpg://{}:${{local.postgresql_password}}@${{azurerm_postgresql_flexible_server.main.fqdn}}:{port}/{name}?ssl=require\"",
                    b.postgres.administrator
                )
            }
            SecretOrigin::RedisUrl => "local.redis_url".to_owned(),
            SecretOrigin::Generated { .. } => {
                // 488 random bits.
                "base64sha512(join(\"\", [uuid(), uuid(), uuid(), uuid()]))".to_owned()
            }
        };
        let count = if of_slot(source, secret) {
            "count = var.staging_slot_enabled ? 1 : 0\n\n  "
        } else {
            ""
        };
        out.push_str(&fill(
            r#"
resource "azurerm_key_vault_secret" "<<LABEL>>" {
  <<COUNT>>name = <<NAME>>
  key_vault_id = azurerm_key_vault.main.id
  content_type = "text/plain"
  value_wo = <<VALUE>>
  value_wo_version = var.secrets_version
  tags = local.tags

  # The vault answers at its private endpoint only: secrets are written once that is there, and go
  # before it goes.
  depends_on = [
    azurerm_role_assignment.deployer_secrets,
    azurerm_private_endpoint.key_vault,
    azurerm_private_dns_zone_virtual_network_link.key_vault,
  ]

  lifecycle {
    # A rotation's: it dates each version and names the credential in it.
    ignore_changes = [expiration_date, tags]
  }
}
"#,
            &[
                ("LABEL", &label(source, &secret.name)),
                ("COUNT", count),
                ("NAME", &quote(&secret.name)),
                ("VALUE", &value),
            ],
        ));
    }
    out
}

const VAULT: &str = r#"
resource "azurerm_key_vault" "main" {
  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  tenant_id = data.azurerm_client_config.current.tenant_id
  sku_name = "standard"
  rbac_authorization_enabled = true
  soft_delete_retention_days = <<DAYS>>
  purge_protection_enabled = var.key_vault_purge_protection
  # Inside the VNet only. Whoever applies from outside names their own address for that one run.
  public_network_access_enabled = length(var.deployment_ip_addresses) > 0
  tags = local.tags

  network_acls {
    bypass = "AzureServices"
    default_action = "Deny"
    ip_rules = var.deployment_ip_addresses
  }

  lifecycle {
    prevent_destroy = true
  }
}

# Secrets are written by write-only arguments: neither state nor plan holds one. Each is written when
# it is created and again when secrets_version rises. Should a run stop between the server and the
# secrets that hold its password, raise secrets_version: both are written anew, together.
"#;
