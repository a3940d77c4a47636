locals {
  common = { LOG_LEVEL = "info" }
}
resource "azurerm_linux_web_app" "x" {
  app_settings = merge(local.common, {
    JWT_SECRET = "abcdefgh12345678" # expect LZ-KV-010
  })
}
