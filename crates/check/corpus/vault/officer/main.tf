resource "azurerm_linux_web_app" "x" {
  name = "x"
}
resource "azurerm_role_assignment" "r" {
  role_definition_name = "Key Vault Administrator" # expect LZ-KV-007
  principal_id         = azurerm_linux_web_app.x.identity[0].principal_id
}
