resource "azurerm_postgresql_flexible_server" "x" {
  storage_mb = 262144
}
