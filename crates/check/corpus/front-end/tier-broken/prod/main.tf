resource "azurerm_static_web_app" "x" {
  sku_tier = "Free" # expect LZ-FE-006
}
