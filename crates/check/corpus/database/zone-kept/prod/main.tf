resource "azurerm_postgresql_flexible_server" "x" {
  high_availability {
    mode = "ZoneRedundant"
  }
}
