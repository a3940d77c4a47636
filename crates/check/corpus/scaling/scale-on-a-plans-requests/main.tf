resource "azurerm_service_plan" "p" {
  sku_name = "P2v3"
}
resource "azurerm_monitor_autoscale_setting" "a" {
  target_resource_id = azurerm_service_plan.p.id
  profile {
    rule {
      metric_trigger {
        metric_name        = "Requests"
        metric_resource_id = azurerm_service_plan.p.id # expect LZ-SCL-007
      }
      scale_action {
        direction = "Increase"
      }
    }
  }
}
