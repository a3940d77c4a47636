import logging

logging.getLogger().addHandler(logging.FileHandler("import.log"))
