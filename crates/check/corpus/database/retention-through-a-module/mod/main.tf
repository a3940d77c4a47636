variable "value" {}
resource "azurerm_postgresql_flexible_server" "x" {
  backup_retention_days = var.value # expect LZ-DB-006
}
