resource "azurerm_linux_web_app" "api" {
  app_settings = {
    APP_ENV = "staging" # expect LZ-APP-019
  }
}
