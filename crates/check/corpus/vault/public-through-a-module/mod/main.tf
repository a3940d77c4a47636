variable "value" {}
resource "azurerm_key_vault" "x" {
  public_network_access_enabled = var.value # expect LZ-KV-005
}
