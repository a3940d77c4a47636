variable "value" {}
resource "azurerm_key_vault" "x" {
  purge_protection_enabled = var.value # expect LZ-KV-003
}
