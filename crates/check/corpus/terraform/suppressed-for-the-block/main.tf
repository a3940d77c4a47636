# lazuli:ignore LZ-APP-004,LZ-APP-003 legacy site, goes away with release 9
resource "azurerm_linux_web_app" "x" {
  client_affinity_enabled = true
  site_config {
    ftps_state = "AllAllowed"
  }
}
