resource "azurerm_postgresql_flexible_server_firewall_rule" "x" { # expect LZ-DB-009
  start_ip_address = "0.0.0.0"
  end_ip_address   = "0.0.0.0"
}
