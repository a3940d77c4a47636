resource "azurerm_linux_web_app" "x" { # expect LZ-IDN-001
  name = "x"
}
