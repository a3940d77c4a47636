resource "azurerm_postgresql_flexible_server" "x" {
  storage_mb = 65536 # expect LZ-DB-004
}
