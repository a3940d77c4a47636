variable "prefix" {}
resource "azurerm_network_security_group" "nsg" {
  name = "${var.prefix}-nsg"
}
resource "azurerm_network_security_rule" "ssh" { # expect LZ-NET-013
  name                        = "ssh"
  network_security_group_name = azurerm_network_security_group.nsg.name
  priority                    = 102
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_port_range           = "*"
  destination_port_range      = "22"
  source_address_prefix       = "*"
  destination_address_prefix  = "*"
}
