//! `bootstrap/main.tf`: the storage account that holds the state of everything else.

use crate::Source;
use crate::hcl::{fill, quote};

/// The state's storage account: 3 to 24 lower-case letters and digits, unique in the world.
pub(crate) fn account(app: &str) -> String {
    format!("{}tfstate", app.replace('-', ""))
}

/// The state's resource group.
pub(crate) fn group(app: &str) -> String {
    format!("rg-{app}-tfstate")
}

pub(crate) fn render(source: &Source<'_>) -> String {
    let app = &source.manifest.app;
    fill(
        TEMPLATE,
        &[
            ("GROUP", &quote(&group(app))),
            ("ACCOUNT", &quote(&account(app))),
            ("LOCATION", &quote(&source.manifest.location)),
            ("APP", &quote(app)),
        ],
    )
}

const TEMPLATE: &str = r#"
# Applied once, by hand, before everything else: the storage account for Terraform's state. Its own
# state stays on the machine that applied it and holds no secret; what it describes can be imported.

terraform {
  required_version = ">= 1.11.0"

  required_providers {
    azurerm = {
      source = "hashicorp/azurerm"
      version = "~> 5.2"
    }
  }
}

provider "azurerm" {
  features {}

  # The account takes no shared key: the provider asks Entra ID.
  storage_use_azuread = true
}

data "azurerm_client_config" "current" {}

resource "azurerm_resource_group" "state" {
  name = <<GROUP>>
  location = <<LOCATION>>
  tags = local.tags
}

locals {
  tags = {
    app = <<APP>>
    managed-by = "lazuli"
  }
}

# Encrypted at rest by Azure (and once more below the account); the blob's lease is Terraform's lock.
resource "azurerm_storage_account" "state" {
  name = <<ACCOUNT>>
  resource_group_name = azurerm_resource_group.state.name
  location = azurerm_resource_group.state.location
  account_tier = "Standard"
  account_kind = "StorageV2"
  # The state survives the region whose resources it describes.
  account_replication_type = "GRS"
  min_tls_version = "TLS1_2"
  https_traffic_only_enabled = true
  allow_nested_items_to_be_public = false
  shared_access_key_enabled = false
  default_to_oauth_authentication = true
  cross_tenant_replication_enabled = false
  infrastructure_encryption_enabled = true
  tags = local.tags

  # Every earlier state can be had back.
  blob_properties {
    versioning_enabled = true

    delete_retention_policy {
      days = 90
    }

    container_delete_retention_policy {
      days = 90
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_storage_container" "state" {
  name = "tfstate"
  storage_account_id = azurerm_storage_account.state.id
  container_access_type = "private"

  lifecycle {
    prevent_destroy = true
  }
}

# Whoever applies this may also use the state; give the pipeline's service principal the same role.
resource "azurerm_role_assignment" "state" {
  scope = azurerm_storage_account.state.id
  role_definition_name = "Storage Blob Data Contributor"
  principal_id = data.azurerm_client_config.current.object_id
}
"#;
