environment = "prod"
sku = "B1"
