resource "azurerm_cognitive_account" "x" {
  local_auth_enabled = false
}
