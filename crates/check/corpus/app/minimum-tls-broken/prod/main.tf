resource "azurerm_linux_web_app" "x" {
  site_config {
    minimum_tls_version = "1.1" # expect LZ-APP-002
  }
}
