resource "azurerm_postgresql_flexible_server" "db" {
  dynamic "high_availability" {
    for_each = [1]
    content {
      mode = "SameZone" # expect LZ-DB-005
    }
  }
}
