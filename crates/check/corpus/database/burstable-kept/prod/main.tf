resource "azurerm_postgresql_flexible_server" "x" {
  sku_name = "GP_Standard_D4ds_v5"
}
