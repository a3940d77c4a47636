VAULT = "https://shop-kv.vault.azure.net"  # expect LZ-PY-005
