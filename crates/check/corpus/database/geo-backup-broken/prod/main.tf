resource "azurerm_postgresql_flexible_server" "x" {
  geo_redundant_backup_enabled = false # expect LZ-DB-007
}
