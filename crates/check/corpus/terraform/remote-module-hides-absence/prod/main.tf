module "net" {
  source  = "Azure/network/azurerm"
  version = "5.0"
}
resource "azurerm_linux_web_app" "backend" {
  name = "x"
}
