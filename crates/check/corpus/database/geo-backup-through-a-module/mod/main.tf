variable "value" {}
resource "azurerm_postgresql_flexible_server" "x" {
  geo_redundant_backup_enabled = var.value # expect LZ-DB-007
}
