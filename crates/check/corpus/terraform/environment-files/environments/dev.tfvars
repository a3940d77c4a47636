environment = "dev"
sku = "B1"
