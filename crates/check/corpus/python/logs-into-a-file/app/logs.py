from logging.handlers import RotatingFileHandler


def handlers(stream):
    return [
        RotatingFileHandler("app.log", maxBytes=1_000_000),  # expect LZ-PY-006
        stream,
    ]
