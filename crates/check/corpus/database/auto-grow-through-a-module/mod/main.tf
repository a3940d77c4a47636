variable "value" {}
resource "azurerm_postgresql_flexible_server" "x" {
  auto_grow_enabled = var.value # expect LZ-DB-003
}
