resource "azurerm_redis_cache" "x" {
  sku_name = "Premium"
}
