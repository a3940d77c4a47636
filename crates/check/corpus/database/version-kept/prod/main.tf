resource "azurerm_postgresql_flexible_server" "x" {
  version = "17"
}
