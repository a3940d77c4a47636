variable "extra" {}
resource "azurerm_linux_web_app" "x" {
  app_settings = merge(var.extra, {
    LOG_LEVEL = "info"
  })
}
