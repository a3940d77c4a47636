variable "value" {}
resource "azurerm_linux_web_app" "x" {
  site_config {
    always_on = var.value # expect LZ-APP-005
  }
}
