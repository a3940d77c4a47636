resource "azurerm_linux_web_app" "x" {
  client_affinity_enabled = true # lazuli:ignore LZ-APP-004
}
