variable "window" {
  default = "PT24H"
}

resource "azurerm_monitor_metric_alert" "down" {
  name        = "down"
  scopes      = ["/subscriptions/x"]
  window_size = var.window # expect LZ-MON-016
  criteria {
    metric_namespace = "Microsoft.Web/sites"
    metric_name      = "HealthCheckStatus"
    aggregation      = "Average"
    operator         = "LessThan"
    threshold        = 100
  }
}

resource "azurerm_monitor_metric_alert" "storage" {
  name        = "storage"
  scopes      = ["/subscriptions/x"]
  window_size = "PT12H"
  criteria {
    metric_namespace = "Microsoft.DBforPostgreSQL/flexibleServers"
    metric_name      = "storage_percent"
    aggregation      = "Average"
    operator         = "GreaterThan"
    threshold        = 80
  }
}
