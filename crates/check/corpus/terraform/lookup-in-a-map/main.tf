variable "environment" {}
locals {
  skus = { dev = "B1", prod = "S1" }
}
resource "azurerm_service_plan" "p" {
  sku_name = lookup(local.skus, var.environment, "P1v3") # expect LZ-APP-009
}
