resource "azurerm_container_app" "app" {
  name = "app"
}
