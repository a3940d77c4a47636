resource "azurerm_postgresql_flexible_server" "x" {
  backup_retention_days = 14 # expect LZ-DB-006
}
