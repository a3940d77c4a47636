resource "azurerm_cognitive_account" "x" {
  local_auth_enabled = true # expect LZ-IDN-003
}
