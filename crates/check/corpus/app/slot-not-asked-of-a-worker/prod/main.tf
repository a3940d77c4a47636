resource "azurerm_linux_web_app" "worker" {
  name = "shop-worker"
  site_config {
    application_stack {
      python_version = "3.14"
    }
  }
}
