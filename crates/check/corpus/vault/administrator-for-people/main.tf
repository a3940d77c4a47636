variable "security_team" {}
resource "azurerm_role_assignment" "r" {
  role_definition_name = "Key Vault Administrator"
  principal_id         = var.security_team
}
