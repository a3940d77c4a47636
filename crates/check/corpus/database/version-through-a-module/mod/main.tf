variable "value" {}
resource "azurerm_postgresql_flexible_server" "x" {
  version = var.value # expect LZ-DB-001
}
