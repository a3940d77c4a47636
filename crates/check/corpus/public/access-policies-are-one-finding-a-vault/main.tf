data "azurerm_key_vault" "shared" {
  name                = "org-kv"
  resource_group_name = "rg"
}
resource "azurerm_key_vault_access_policy" "people" { # expect LZ-KV-002
  key_vault_id       = data.azurerm_key_vault.shared.id
  secret_permissions = ["Get", "List"]
}
resource "azurerm_key_vault_access_policy" "app" {
  key_vault_id       = data.azurerm_key_vault.shared.id
  secret_permissions = ["Get"]
}
resource "azurerm_key_vault" "own" {
  name = "own-kv"
}
resource "azurerm_key_vault_access_policy" "own" { # expect LZ-KV-002
  key_vault_id       = azurerm_key_vault.own.id
  secret_permissions = ["Get"]
}
