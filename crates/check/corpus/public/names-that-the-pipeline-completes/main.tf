resource "azurerm_key_vault_secret" "admin" {
  name  = "shop$(env)admin"
  value = "x"
}
resource "azurerm_key_vault_secret" "plain" {
  name  = "adminpassword" # expect LZ-KV-006
  value = "x"
}
