variable "value" {}
resource "azurerm_key_vault" "x" {
  soft_delete_retention_days = var.value # expect LZ-KV-004
}
