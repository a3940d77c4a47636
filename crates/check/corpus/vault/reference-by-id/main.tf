resource "azurerm_key_vault_secret" "s" {
  name = "shop-jwt-secret"
}
resource "azurerm_linux_web_app" "x" {
  app_settings = {
    JWT_SECRET = "@Microsoft.KeyVault(SecretUri=${azurerm_key_vault_secret.s.id})" # expect LZ-KV-012
  }
  identity {
    type = "SystemAssigned"
  }
}
