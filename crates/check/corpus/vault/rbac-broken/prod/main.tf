resource "azurerm_key_vault" "x" {
  rbac_authorization_enabled = false # expect LZ-KV-001
}
