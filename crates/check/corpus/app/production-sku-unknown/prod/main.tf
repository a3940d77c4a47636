variable "value" {}
resource "azurerm_service_plan" "x" {
  sku_name = var.value
}
