resource "azurerm_subnet" "app" {
  name                 = "app-subnet"
  virtual_network_name = "one"
  address_prefixes     = ["10.0.1.0/24"]
  delegation {
    name = "app"
    service_delegation {
      name = "Microsoft.Web/serverFarms"
    }
  }
}
resource "azurerm_subnet" "db" {
  name                 = "db-subnet"
  virtual_network_name = "two"
  address_prefixes     = ["10.0.3.0/24"]
  delegation {
    name = "db"
    service_delegation {
      name = "Microsoft.DBforPostgreSQL/flexibleServers"
    }
  }
}
resource "azurerm_subnet_network_security_group_association" "db" {
  subnet_id                 = azurerm_subnet.db.id
  network_security_group_id = azurerm_network_security_group.db.id
}
resource "azurerm_network_security_group" "db" {
  name = "db-nsg"
}
resource "azurerm_network_security_group" "other" {
  name = "other-nsg"
}
resource "azurerm_network_security_rule" "elsewhere" {
  network_security_group_name = "other-nsg"
  priority                    = 100
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "*"
  source_port_range           = "*"
  destination_port_range      = "*"
  source_address_prefix       = "*"
  destination_address_prefix  = "*"
}
resource "azurerm_network_security_rule" "app" {
  network_security_group_name = "db-nsg"
  priority                    = 100
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_port_range           = "*"
  destination_port_range      = "5432"
  source_address_prefix       = "10.0.1.0/24"
  destination_address_prefix  = "10.0.3.0/24"
}
resource "azurerm_network_security_rule" "rest" {
  network_security_group_name = azurerm_network_security_group.db.name
  priority                    = 4096
  direction                   = "Inbound"
  access                      = "Deny"
  protocol                    = "*"
  source_port_range           = "*"
  destination_port_range      = "*"
  source_address_prefix       = "*"
  destination_address_prefix  = "*"
}
