"""Log lines for machines: one JSON document a line, with the fields that a call gave in `extra`.

log.warning("no overlay", extra={"topic": "images", "partition": 0, "offset": 7, "task": "nut"})
"""

import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, Any

#: what every log record has by itself
BUILT_IN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """`time` (ISO 8601, UTC), `level`, `logger`, `message`, what came in `extra`, and `exception` with its trace."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        document |= {name: value for name, value in record.__dict__.items() if name not in BUILT_IN | document.keys()}
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            document["stack"] = record.stack_info
        return json.dumps(document, default=str)


def log_as_json(stream: IO[str] | None = None) -> None:
    """Everything that this process logs goes to stderr (or `stream`) as JSON: ours from INFO, libraries' from WARNING.

    Python's warnings and an error that ends the process too: whoever reads the lines can rely on their form.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    ours = logging.getLogger("stream_ad")
    ours.handlers.clear()
    ours.setLevel(logging.INFO)
    ours.propagate = True
    logging.captureWarnings(True)
    sys.excepthook = _log_the_end


def _log_the_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("stream_ad").critical("ended by an error: %s", error, exc_info=(kind, error, trace))
