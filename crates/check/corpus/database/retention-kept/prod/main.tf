resource "azurerm_postgresql_flexible_server" "x" {
  backup_retention_days = 35
}
