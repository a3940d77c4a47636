resource "azurerm_postgresql_flexible_server" "db" { # expect LZ-DB-005
  dynamic "high_availability" {
    for_each = []
    content {
      mode = "ZoneRedundant"
    }
  }
}
