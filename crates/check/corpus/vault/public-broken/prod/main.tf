resource "azurerm_key_vault" "x" {
  public_network_access_enabled = true # expect LZ-KV-005
}
