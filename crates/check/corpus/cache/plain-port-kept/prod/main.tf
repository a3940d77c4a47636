resource "azurerm_redis_cache" "x" {
  non_ssl_port_enabled = false
}
