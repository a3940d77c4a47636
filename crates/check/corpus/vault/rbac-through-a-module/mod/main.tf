variable "value" {}
resource "azurerm_key_vault" "x" {
  rbac_authorization_enabled = var.value # expect LZ-KV-001
}
