resource "azurerm_postgresql_flexible_server" "db" {
  sku_name = "GP_Standard_D4ds_v5"
}

resource "azurerm_monitor_metric_alert" "connections" {
  scopes = [azurerm_postgresql_flexible_server.db.id]
  criteria {
    metric_name = "active_connections"
    operator    = "GreaterThan"
    threshold   = 1700 # expect LZ-MON-005
  }
}

resource "azurerm_monitor_metric_alert" "early" {
  scopes = [azurerm_postgresql_flexible_server.db.id]
  criteria {
    metric_name = "active_connections"
    operator    = "GreaterThan"
    threshold   = 1374
  }
}
