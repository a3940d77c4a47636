resource "azurerm_postgresql_flexible_server" "x" {
  high_availability {
    mode = "SameZone" # expect LZ-DB-005
  }
}
