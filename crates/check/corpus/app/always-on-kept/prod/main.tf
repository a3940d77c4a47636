resource "azurerm_linux_web_app" "x" {
  site_config {
    always_on = true
  }
}
