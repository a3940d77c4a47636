variable "environment" {}

resource "azurerm_postgresql_flexible_server" "db" {
  dynamic "high_availability" {
    for_each = var.environment == "dev" ? [] : ["ZoneRedundant"]
    content {
      mode = high_availability.value # expect LZ-PAR-004
    }
  }
}
