resource "azurerm_linux_web_app" "api" {
  site_config {
    app_command_line = "gunicorn -w 2 -k uvicorn_worker.UvicornWorker -b 0.0.0.0:8000 --timeout 20 --graceful-timeout 30 main:app" # expect LZ-CMD-006
  }
}
