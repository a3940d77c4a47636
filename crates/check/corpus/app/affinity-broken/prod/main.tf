resource "azurerm_linux_web_app" "x" {
  client_affinity_enabled = true # expect LZ-APP-004
}
