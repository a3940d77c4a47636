variable "value" {}
resource "azurerm_redis_cache" "x" {
  public_network_access_enabled = var.value
}
