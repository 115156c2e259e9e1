"""Log lines as JSON objects, one a line, on standard error: errors and what happens to the service, not requests."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

LOGGER = logging.getLogger("shortlist")


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure(worker: str) -> None:
    """Send the service's own lines, and uvicorn's warnings, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(lambda record: _stamp(record, worker))
    for name, level in (("shortlist", logging.INFO), ("uvicorn", logging.WARNING), ("asyncio", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def log(event: str, level: int = logging.INFO, *, exc_info: BaseException | None = None, **facts: Any) -> None:
    """One line. Facts never hold a key, a request's body or a user's id."""
    LOGGER.log(level, event, exc_info=exc_info, extra={"facts": facts})


def _stamp(record: logging.LogRecord, worker: str) -> bool:
    record.facts = {"worker": worker, **getattr(record, "facts", {})}
    return True
