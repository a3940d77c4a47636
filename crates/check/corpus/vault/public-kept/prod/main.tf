resource "azurerm_key_vault" "x" {
  public_network_access_enabled = false
}
