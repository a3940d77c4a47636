resource "azurerm_redis_cache" "r" {
  name = "x"
}
resource "azurerm_linux_web_app" "x" {
  app_settings = {
    REDIS_KEY = azurerm_redis_cache.r.primary_access_key # expect LZ-KV-010
  }
}
