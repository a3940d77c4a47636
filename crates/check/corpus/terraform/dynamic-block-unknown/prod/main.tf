variable "ha" {}
resource "azurerm_postgresql_flexible_server" "db" {
  dynamic "high_availability" {
    for_each = var.ha
    content {
      mode = "ZoneRedundant"
    }
  }
}
