resource "azurerm_linux_web_app" "x" {
  site_config {
    ftps_state = "FtpsOnly" # expect LZ-APP-003
  }
}
