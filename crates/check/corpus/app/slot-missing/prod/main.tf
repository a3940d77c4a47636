resource "azurerm_linux_web_app" "api" { # expect LZ-APP-014
  name = "shop"
  site_config {
    application_stack {
      python_version = "3.14"
    }
  }
}
