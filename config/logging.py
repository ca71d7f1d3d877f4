"""Logging: one line per record on stderr; the message is constant, the data is in fields.

Write `log.info("job finished", extra=fields(job_id=..., state=...))`. Callers never pass a
phone number, a secret or a message body to a logger; no filter does that for them.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Literal

_CHATTY = (
    "celery.app.trace",
    "celery.worker.consumer.connection",
    "celery.worker.strategy",
    "kombu",
    "urllib3",
    "tornado.access",
    "uvicorn.access",
)
"""Libraries whose INFO lines repeat ours, or show message bodies."""
_IRRELEVANT = (
    # at every reconnect, six lines about the next default of a setting, even where it is set
    "worker_cancel_long_running_tasks_on_connection_loss",
    # a traceback of what our own pool logs in one line
    "Exception raised outside body",
)
"""Celery's warnings that are left out, by a part of their text."""


_STEERING = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that move a cursor, change colours or reverse the direction of writing."""

Form = Literal["text", "json"]


def escaped(text: str, keep: str = "") -> str:
    """Return the text with all that could steer a terminal, except `keep`, escaped as in JSON.

    A JSON document keeps its meaning; a text of several lines needs its line breaks in `keep`.
    """
    return _STEERING.sub(
        lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text
    )


def fields(**values: Any) -> dict[str, Any]:
    """Wrap `values` for the `extra` of a logging call."""
    return {"fields": values}


def set_up_logging(form: Form = "text", level: int | str = "info") -> None:
    """Send every record of the process to stderr, one line each. Call it once, at the start."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # a filter of the `warnings` module is not enough: Celery puts its own in front
    logging.getLogger("py.warnings").addFilter(_is_relevant)


def set_level(level: int | str) -> None:
    """Log this level and more severe ones; `level` is a number, or a name in lower case."""
    logging.getLogger().setLevel(level.upper() if isinstance(level, str) else level)


def log_line(form: Form, logger: str, level: int, text: str, **values: Any) -> str:
    """Return the line that `logger` would write, for places where logging might block."""
    record = logging.LogRecord(logger, level, "", 0, text, None, None)
    record.fields = values
    return (_Json() if form == "json" else _Text()).format(record)


def _is_relevant(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(text in message for text in _IRRELEVANT)


def _when(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        data = "".join(
            f" {name}={_plain(value)}" for name, value in getattr(record, "fields", {}).items()
        )
        line = f"{_when(record)} {record.levelname:<7} {record.name}: {record.getMessage()}{data}"
        line = escaped(line.replace("\r", "\\r").replace("\n", "\\n"))
        if record.exc_info:
            line += "\n" + escaped(self.formatException(record.exc_info), keep="\n\t")
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        data: dict[str, Any] = {
            "time": _when(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            data["traceback"] = self.formatException(record.exc_info)
        return escaped(json.dumps(data, ensure_ascii=False, default=str))


def _plain(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text
