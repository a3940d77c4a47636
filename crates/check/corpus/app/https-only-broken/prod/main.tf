resource "azurerm_linux_web_app" "x" {
  https_only = false # expect LZ-APP-001
}
