module "naming" {
  source  = "Azure/naming/azurerm"
  version = "0.4.2"
}
resource "azurerm_linux_web_app" "app" { # expect LZ-APP-001
  name = module.naming.app_service.name
  identity {
    type = "SystemAssigned"
  }
  site_config { # expect LZ-APP-008
  }
}
