resource "azurerm_postgresql_flexible_server" "x" {
  auto_grow_enabled = false # expect LZ-DB-003
}
