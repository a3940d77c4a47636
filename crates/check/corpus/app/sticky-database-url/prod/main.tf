resource "azurerm_linux_web_app" "api" {
  app_settings = {
    DATABASE_URL = "@Microsoft.KeyVault(VaultName=shop-kv;SecretName=shop-db-connection-string)" # expect LZ-APP-015
  }
}
resource "azurerm_linux_web_app_slot" "staging" {
  app_service_id = azurerm_linux_web_app.api.id
}
