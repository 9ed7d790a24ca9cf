"""Everything that api-rest says: one JSON object a line, on stdout. gunicorn's own lines, too."""

import logging
import logging.config
import time
from typing import Any

from pythonjsonlogger.json import JsonFormatter


class Formatter(JsonFormatter):
    """RFC 3339 with milliseconds, levels in lower case, and no empty fields."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__(
            ["asctime", "levelname", "message"],
            rename_fields={"asctime": "time", "levelname": "level"},
            static_fields={"service": "api-rest"},
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        log_data["level"] = log_data["level"].lower()
        return {name: value for name, value in log_data.items() if value != ""}


SETTINGS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": Formatter}},
    "handlers": {
        "stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}
    },
    "root": {"handlers": ["stdout"], "level": "INFO"},
    # Instead of gunicorn's defaults, which have handlers of their own.
    "loggers": {"gunicorn.error": {"handlers": [], "propagate": True}},
}


def configure() -> None:
    logging.config.dictConfig(SETTINGS)
