resource "azurerm_linux_web_app" "backend" {
  name = "x"
}
