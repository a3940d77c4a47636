resource "azurerm_postgresql_flexible_server" "x" {
  version = "14" # expect LZ-DB-001
}
