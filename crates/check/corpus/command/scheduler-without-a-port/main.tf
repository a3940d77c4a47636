resource "azurerm_linux_web_app" "scheduler" {
  site_config {
    app_command_line = "exec taskiq scheduler tasks:scheduler" # expect LZ-CMD-010
  }
}

resource "azurerm_linux_web_app" "worker" {
  site_config {
    app_command_line = "python -m http.server 8000 & taskiq worker tasks:broker"
  }
}
