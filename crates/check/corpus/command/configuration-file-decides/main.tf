resource "azurerm_linux_web_app" "api" {
  site_config {
    app_command_line = "gunicorn -c gunicorn.conf.py main:app"
  }
}
