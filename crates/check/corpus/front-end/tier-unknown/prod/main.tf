variable "value" {}
resource "azurerm_static_web_app" "x" {
  sku_tier = var.value
}
