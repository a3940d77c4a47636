resource "azurerm_linux_web_app" "x" {
  site_config {
    application_stack {
      python_version = "3.11" # expect LZ-APP-013
    }
  }
}
