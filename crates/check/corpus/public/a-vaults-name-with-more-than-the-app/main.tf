resource "azurerm_key_vault" "kv" {
  name = "org-p-shop-kv"
}
resource "azurerm_key_vault_secret" "jwe" {
  name         = "shop-profile-jwe-public-key"
  key_vault_id = azurerm_key_vault.kv.id
}
resource "azurerm_key_vault_secret" "foreign" {
  name         = "billing-db-password" # expect LZ-KV-006
  key_vault_id = azurerm_key_vault.kv.id
}
