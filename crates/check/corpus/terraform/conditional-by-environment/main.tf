variable "environment" {}
locals {
  production = var.environment == "prod"
}
resource "azurerm_service_plan" "p" {
  sku_name = local.production ? "P2v3" : "B1"
}
