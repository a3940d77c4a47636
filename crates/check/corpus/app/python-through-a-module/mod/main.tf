variable "value" {}
resource "azurerm_linux_web_app" "x" {
  site_config {
    application_stack {
      python_version = var.value # expect LZ-APP-013
    }
  }
}
