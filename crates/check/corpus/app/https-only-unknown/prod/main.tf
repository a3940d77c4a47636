variable "value" {}
resource "azurerm_linux_web_app" "x" {
  https_only = var.value
}
