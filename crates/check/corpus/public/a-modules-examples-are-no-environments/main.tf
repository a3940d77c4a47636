variable "redis" {
  default = false
}
resource "azurerm_redis_cache" "redis" {
  count = var.redis ? 1 : 0
}
