resource "azurerm_linux_web_app" "app" {
  name = "x"
  https_only == true
}
