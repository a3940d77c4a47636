data "azurerm_service_plan" "shared" {
  name                = "plan"
  resource_group_name = "rg"
}
resource "azurerm_monitor_autoscale_setting" "plan" {
  target_resource_id = data.azurerm_service_plan.shared.id
  profile {
    name = "default"
    capacity {
      default = 2
      minimum = 2
      maximum = 12 # expect LZ-SCL-003
    }
  }
}
