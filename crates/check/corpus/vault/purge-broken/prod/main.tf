resource "azurerm_key_vault" "x" {
  purge_protection_enabled = false # expect LZ-KV-003
}
