locals {
  plans = { web = "P2v3", batch = "S1" }
}
resource "azurerm_service_plan" "p" {
  for_each = local.plans
  name     = each.key
  sku_name = each.value # expect LZ-APP-009
}
