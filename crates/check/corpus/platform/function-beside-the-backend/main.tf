resource "azurerm_linux_web_app" "backend" {
  name = "x"
}
resource "azurerm_linux_function_app" "queue" {
  name = "x-queue"
}
