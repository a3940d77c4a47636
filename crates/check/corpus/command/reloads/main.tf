resource "azurerm_linux_web_app" "api" {
  site_config {
    app_command_line = "uvicorn main:app --reload" # expect LZ-CMD-008
  }
}
