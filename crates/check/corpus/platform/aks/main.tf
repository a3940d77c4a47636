resource "azurerm_kubernetes_cluster" "k" { # expect LZ-PLT-002
  name = "k"
}
