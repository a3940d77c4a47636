variable "environment" {}
variable "sku" {}
resource "azurerm_service_plan" "p" {
  sku_name = var.sku # expect LZ-APP-009
}
