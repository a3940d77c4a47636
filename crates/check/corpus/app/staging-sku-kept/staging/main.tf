resource "azurerm_service_plan" "x" {
  sku_name = "P1v3"
}
