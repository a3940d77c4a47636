resource "azurerm_monitor_action_group" "oncall" { # expect LZ-MON-015
  name                = "oncall"
  resource_group_name = "rg"
  short_name          = "oncall"
}

resource "azurerm_monitor_action_group" "mail" {
  name                = "mail"
  resource_group_name = "rg"
  short_name          = "mail"
  email_receiver {
    name          = "team"
    email_address = "team@example.com"
  }
}
