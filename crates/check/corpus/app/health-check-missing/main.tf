resource "azurerm_linux_web_app" "api" {
  site_config { # expect LZ-APP-008
    always_on = true
  }
}
