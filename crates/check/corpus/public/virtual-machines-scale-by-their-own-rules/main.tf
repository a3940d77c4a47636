resource "azurerm_linux_virtual_machine_scale_set" "runners" {
  name = "runners"
}
resource "azurerm_monitor_autoscale_setting" "runners" {
  target_resource_id = azurerm_linux_virtual_machine_scale_set.runners.id
  profile {
    name = "default"
    capacity {
      default = 1
      minimum = 0
      maximum = 40
    }
    rule {
      metric_trigger {
        metric_name        = "Percentage CPU"
        metric_resource_id = azurerm_linux_virtual_machine_scale_set.runners.id
        operator           = "GreaterThan"
        threshold          = 75
        time_window        = "PT5M"
      }
      scale_action {
        direction = "Increase"
        type      = "ChangeCount"
        value     = "4"
        cooldown  = "PT1M"
      }
    }
  }
}
