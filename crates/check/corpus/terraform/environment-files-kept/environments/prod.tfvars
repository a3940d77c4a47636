environment = "prod"
sku = "P2v3"
