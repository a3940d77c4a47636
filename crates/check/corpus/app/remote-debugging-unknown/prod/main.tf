variable "value" {}
resource "azurerm_linux_web_app" "x" {
  site_config {
    remote_debugging_enabled = var.value
  }
}
