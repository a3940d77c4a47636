"""One JSON object a line on stdout, whoever logs: the app, gunicorn, uvicorn, taskiq."""

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from modules.backend.version import VERSION


def _access_fields(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """uvicorn logs a request as five positional arguments; give them names."""
    arguments = event.pop("positional_args", None) or ()
    if event["_record"].name == "uvicorn.access" and len(arguments) == 5:
        client, method, path, http_version, status = arguments
        event.update(event="request", client=client, method=method, path=path, http=http_version, status=status)
    return event


def _release(_logger: Any, _method: str, event: EventDict) -> EventDict:
    event["version"] = VERSION
    return event


SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _release,
]


def formatter() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_access_fields, *SHARED],
        pass_foreign_args=True,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )


def gunicorn_config(level: str) -> dict[str, Any]:
    """For gunicorn's `logconfig_dict`; uvicorn's worker takes its handlers from these loggers."""
    logger = {"handlers": ["stdout"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": formatter}},
        "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
        "root": {"handlers": ["stdout"], "level": level.upper()},
        "loggers": {"gunicorn.error": logger, "gunicorn.access": logger},
    }


def configure(level: str) -> None:
    structlog.configure(
        processors=[*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def log(name: str) -> structlog.stdlib.BoundLogger:
    return structlog.stdlib.get_logger(name)
