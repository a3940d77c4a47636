resource "azurerm_redis_cache" "x" {
  sku_name = "Standard" # expect LZ-RED-001
}
