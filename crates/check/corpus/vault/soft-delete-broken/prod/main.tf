resource "azurerm_key_vault" "x" {
  soft_delete_retention_days = 30 # expect LZ-KV-004
}
