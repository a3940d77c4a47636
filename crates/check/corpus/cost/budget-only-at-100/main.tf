resource "azurerm_consumption_budget_subscription" "b" { # expect LZ-CST-002
  notification {
    threshold = 100
  }
}
