resource "azurerm_linux_web_app" "x" {
  app_settings = {
    APP_ENV                       = "production"
    SCM_DO_BUILD_DURING_DEPLOYMENT = "true"
    TOKEN_TTL_SECONDS             = "3600"
    JWT_ALGORITHM                 = "HS256"
    AZURE_CLIENT_ID               = "11111111-2222-3333-4444-555555555555"
    KEY_VAULT_NAME                = "shop-kv"
    API_BASE                      = "https://api.example.com/v1"
  }
}
