resource "azurerm_linux_web_app" "backend" {
  name = "nginx-replacement"
  site_config {
    app_command_line = "nginx && gunicorn -k uvicorn_worker.UvicornWorker main:app" # expect LZ-PLT-005
  }
}
