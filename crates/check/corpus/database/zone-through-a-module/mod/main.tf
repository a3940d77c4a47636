variable "value" {}
resource "azurerm_postgresql_flexible_server" "x" {
  high_availability {
    mode = var.value # expect LZ-DB-005
  }
}
