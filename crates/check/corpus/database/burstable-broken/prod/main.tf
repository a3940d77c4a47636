resource "azurerm_postgresql_flexible_server" "x" {
  sku_name = "B_Standard_B1ms" # expect LZ-DB-002
}
