resource "azurerm_linux_web_app" "x" {
  site_config {
    minimum_tls_version = "1.3"
  }
}
