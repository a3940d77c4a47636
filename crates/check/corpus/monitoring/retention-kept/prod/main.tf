resource "azurerm_log_analytics_workspace" "x" {
  retention_in_days = 365
}
