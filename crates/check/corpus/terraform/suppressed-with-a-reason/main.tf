resource "azurerm_linux_web_app" "x" {
  # lazuli:ignore LZ-APP-004 a vendor's client needs it until 2027
  client_affinity_enabled = true
}
