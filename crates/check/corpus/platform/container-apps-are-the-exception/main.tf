resource "azurerm_container_app" "k" {
  name = "k"
}
