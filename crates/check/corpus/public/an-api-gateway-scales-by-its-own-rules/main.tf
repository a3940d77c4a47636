variable "gateway_id" {}
resource "azurerm_monitor_autoscale_setting" "apim" {
  target_resource_id = var.gateway_id
  profile {
    name = "default"
    capacity {
      default = 1
      minimum = 1
      maximum = 10
    }
    rule {
      metric_trigger {
        metric_name        = "Capacity"
        metric_namespace   = "microsoft.apimanagement/service"
        metric_resource_id = var.gateway_id
        operator           = "GreaterThan"
        threshold          = 50
        time_window        = "PT5M"
      }
      scale_action {
        direction = "Increase"
        type      = "ChangeCount"
        value     = "1"
        cooldown  = "PT1M"
      }
    }
  }
}
