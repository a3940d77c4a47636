variable "redis" {
  default = true
}
resource "azurerm_redis_cache" "redis" { # expect LZ-PAR-001
  count = var.redis ? 1 : 0
}
