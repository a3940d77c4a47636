# Made once; the certificate's renewal writes the real one.
resource "azurerm_key_vault_secret" "certificate" {
  name  = "shop-gateway-pfx"
  value = "to-be-set"
  lifecycle {
    ignore_changes = [value, tags]
  }
}
resource "azurerm_key_vault_secret" "pin" {
  name  = "shop-gateway-pin"
  value = "q8Zt-2250"
  lifecycle {
    ignore_changes = all
  }
}
resource "azurerm_key_vault_secret" "other" {
  name  = "shop-gateway-token"
  value = "q8Zt-2250-uu" # expect LZ-KV-011
  lifecycle {
    ignore_changes = [tags]
  }
}
