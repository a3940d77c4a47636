import logging

handler = logging.FileHandler("cli.log")
