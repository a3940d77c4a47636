variable "emails" {
  type = list(string)
}

resource "azurerm_monitor_action_group" "oncall" {
  name                = "oncall"
  resource_group_name = "rg"
  short_name          = "oncall"
  dynamic "email_receiver" {
    for_each = var.emails
    content {
      name          = email_receiver.value
      email_address = email_receiver.value
    }
  }
}
