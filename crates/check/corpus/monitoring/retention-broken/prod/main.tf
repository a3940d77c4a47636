resource "azurerm_log_analytics_workspace" "x" {
  retention_in_days = 31 # expect LZ-MON-002
}
