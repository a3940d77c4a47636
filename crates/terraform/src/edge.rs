//! `frontend.tf` and `openai.tf`: what an app has only when its manifest asks for it.

use crate::Source;
use crate::hcl::{fill, quote};

pub(crate) fn openai(source: &Source<'_>) -> String {
    let Some(openai) = &source.prod.openai else { return String::new() };
    fill(
        r#"
# Reached through its private endpoint, by managed identity: it accepts no key.
resource "azurerm_cognitive_account" "openai" {
  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  location = azurerm_resource_group.main.location
  kind = "OpenAI"
  sku_name = "S0"
  custom_subdomain_name = <<NAME>>
  local_auth_enabled = false
  public_network_access_enabled = false
  tags = local.tags

  network_acls {
    default_action = "Deny"
  }

  identity {
    type = "SystemAssigned"
  }
}

resource "azurerm_cognitive_deployment" "model" {
  name = <<MODEL>>
  cognitive_account_id = azurerm_cognitive_account.openai.id
  # A new version of a model is a release like any other.
  version_upgrade_option = "NoAutoUpgrade"

  model {
    format = "OpenAI"
    name = <<MODEL>>
    version = <<VERSION>>
  }

  # Thousands of tokens a minute.
  sku {
    name = "Standard"
    capacity = <<CAPACITY>>
  }
}
"#,
        &[
            ("NAME", &source.name(&openai.name)),
            ("MODEL", &quote(&openai.model)),
            ("VERSION", &quote(&openai.version)),
            ("CAPACITY", &openai.capacity.to_string()),
        ],
    )
}

pub(crate) fn frontend(source: &Source<'_>) -> String {
    let mut out = String::new();
    if let Some(web) = &source.prod.frontend {
        out.push_str(&fill(
            WEB,
            &[
                ("NAME", &source.name(&web.name)),
                ("LOCATION", &quote(&web.location)),
                ("SKU", &quote(&web.sku)),
            ],
        ));
        if source.manifest.domain.is_some() {
            out.push_str(WEB_DOMAIN);
        }
    } else {
        out.push_str(SITE_DOMAIN);
    }
    out
}

const WEB: &str = r#"
# Registered in one of the few regions that offer it; its files are served from everywhere.
resource "azurerm_static_web_app" "main" {
  name = <<NAME>>
  resource_group_name = azurerm_resource_group.main.name
  location = <<LOCATION>>
  sku_tier = <<SKU>>
  sku_size = <<SKU>>
  configuration_file_changes_enabled = true
  preview_environments_enabled = false
  tags = local.tags
}

# /api is the back end's. A rewrite to another host does not exist, and WebSockets are not passed on:
# the browser opens them to the back end itself.
resource "azapi_resource" "linked_backend" {
  type = "Microsoft.Web/staticSites/linkedBackends@2023-12-01"
  name = "backend"
  parent_id = azurerm_static_web_app.main.id

  body = {
    properties = {
      backendResourceId = azurerm_linux_web_app.backend.id
      region = azurerm_linux_web_app.backend.location
    }
  }
}

# The link makes the back end refuse whoever does not come through the Static Web App: health checks,
# a release's smoke tests and WebSockets do not. The app authenticates its users itself.
resource "azapi_update_resource" "backend_auth" {
  type = "Microsoft.Web/sites/config@2023-12-01"
  name = "authsettingsV2"
  parent_id = azurerm_linux_web_app.backend.id

  body = {
    properties = {
      globalValidation = {
        requireAuthentication = false
        unauthenticatedClientAction = "AllowAnonymous"
      }
    }
  }

  depends_on = [azapi_resource.linked_backend]
}
"#;

const WEB_DOMAIN: &str = r#"
# Its certificate is Azure's and renews itself. First the CNAME record to the output frontend_url.
resource "azurerm_static_web_app_custom_domain" "main" {
  count = var.custom_domain == null ? 0 : 1

  static_web_app_id = azurerm_static_web_app.main.id
  domain_name = var.custom_domain
  validation_type = "cname-delegation"
}
"#;

const SITE_DOMAIN: &str = r#"
# First the DNS records: a CNAME to the output app_url, and a TXT record asuid.{domain} with the
# output custom_domain_verification_id.
resource "azurerm_app_service_custom_hostname_binding" "main" {
  count = var.custom_domain == null ? 0 : 1

  hostname = var.custom_domain
  app_service_name = azurerm_linux_web_app.backend.name
  resource_group_name = azurerm_resource_group.main.name

  lifecycle {
    # The binding of the certificate below.
    ignore_changes = [ssl_state, thumbprint]
  }
}

# Free, and renewed by Azure.
resource "azurerm_app_service_managed_certificate" "main" {
  count = var.custom_domain == null ? 0 : 1

  custom_hostname_binding_id = azurerm_app_service_custom_hostname_binding.main[0].id
  tags = local.tags
}

resource "azurerm_app_service_certificate_binding" "main" {
  count = var.custom_domain == null ? 0 : 1

  hostname_binding_id = azurerm_app_service_custom_hostname_binding.main[0].id
  certificate_id = azurerm_app_service_managed_certificate.main[0].id
  ssl_state = "SniEnabled"
}
"#;
