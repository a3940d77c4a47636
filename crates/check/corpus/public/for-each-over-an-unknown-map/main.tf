variable "apps" {}
resource "azurerm_linux_web_app" "app" { # expect LZ-APP-001
  for_each = var.apps
  name     = each.value.name
  site_config {
    application_stack {
      python_version = "3.11" # expect LZ-APP-013
    }
  }
}
