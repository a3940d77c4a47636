variable "value" {}
resource "azurerm_postgresql_flexible_server" "x" {
  sku_name = var.value # expect LZ-DB-002
}
