resource "azurerm_key_vault_secret" "db_username" {
  name  = "shop-db-username"
  value = "shop_reporting"
}
resource "azurerm_key_vault_secret" "db_password" {
  name  = "shop-db-password"
  value = "Wo7-krumpir-lonac" # expect LZ-KV-011
}
