resource "azurerm_key_vault" "x" {
  purge_protection_enabled = true
}
