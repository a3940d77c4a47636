variable "value" {}
resource "azurerm_linux_web_app" "x" {
  client_affinity_enabled = var.value
}
