resource "azurerm_monitor_diagnostic_setting" "d" {
  target_resource_id = 
