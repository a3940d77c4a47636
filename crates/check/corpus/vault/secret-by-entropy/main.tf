resource "azurerm_linux_web_app" "x" {
  app_settings = {
    VENDOR = "sk9Q2mZ7xLr4TtV0bNn8WcY1pKd6GhJ3" # expect LZ-KV-010
  }
}
