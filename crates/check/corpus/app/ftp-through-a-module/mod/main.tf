variable "value" {}
resource "azurerm_linux_web_app" "x" {
  site_config {
    ftps_state = var.value # expect LZ-APP-003
  }
}
