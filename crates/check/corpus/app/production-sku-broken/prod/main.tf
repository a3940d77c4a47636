resource "azurerm_service_plan" "x" {
  sku_name = "P2v2" # expect LZ-APP-009
}
