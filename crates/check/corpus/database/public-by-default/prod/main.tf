resource "azurerm_postgresql_flexible_server" "x" { # expect LZ-DB-008
  name = "x"
}
