managed = ".redis.azure.net:" in f"{server}:"
