resource "azurerm_service_plan" "p" {
  count    = false ? 1 : 0
  sku_name = "B1"
}
