variable "value" {}
resource "azurerm_cognitive_account" "x" {
  local_auth_enabled = var.value # expect LZ-IDN-003
}
