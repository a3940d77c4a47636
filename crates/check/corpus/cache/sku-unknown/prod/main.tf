variable "value" {}
resource "azurerm_redis_cache" "x" {
  sku_name = var.value
}
