resource "azurerm_service_plan" "x" {
  sku_name = "S2" # expect LZ-APP-010
}
