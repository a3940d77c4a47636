variable "value" {}
resource "azurerm_redis_cache" "x" {
  non_ssl_port_enabled = var.value # expect LZ-RED-002
}
