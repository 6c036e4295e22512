"""Logs of a process on stderr: the name of an event and a sentence, as JSON unless a person looks on.

The code gives the sentence, and the name of the event as `action`; in JSON they are `message` and `event`.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE_SECONDS = 60.0
OF_A_LIBRARY = "library"
"""The event of what a library says."""


class OncePerMinute(logging.Filter):
    """Lets a message of a library through once a minute: what strangers send must not fill the log."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a line is written; errors always are."""
        if record.levelno >= logging.ERROR:
            return True
        now = self._clock()
        said_at = self._said_at.get(str(record.msg))
        if said_at is not None and now - said_at < MINUTE_SECONDS:
            return False
        self._said_at[str(record.msg)] = now
        return True


def configure() -> None:
    """Send every line of this process, uvicorn's too, through structlog. The access log is off."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=_rendering(sys.stderr.isatty())
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in ("alembic", "httpx2"):  # the latter tells whole URLs, which may hold an e-mail address
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = name != "uvicorn.access"
        logger.setLevel(logging.WARNING)  # its progress is told by our own lines
        logger.filters = [OncePerMinute()]


def _rendering(for_a_person: bool) -> list[structlog.typing.Processor]:  # noqa: FBT001 - one switch
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if for_a_person:
        # its own way to show errors prints the local variables of each frame, and passwords with them
        plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        return [strip, _traced, plain]
    return [strip, _traced, _named, structlog.processors.JSONRenderer()]


def _traced(
    logger: structlog.typing.WrappedLogger, method: str, line: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Write out the error of a line, and leave out what an error in its chain keeps out of logs."""
    given = line.get("exc_info")
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else None
    waiting = [error or (sys.exc_info()[1] if given else None)]
    line = structlog.processors.format_exc_info(logger, method, line)
    seen: set[int] = set()
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        if hasattr(error, "for_log"):
            line["exception"] = line["exception"].replace(str(error), error.for_log())
        waiting += [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]
    return line


def _named(
    _logger: structlog.typing.WrappedLogger, _method: str, line: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Put the name of the event first, which stays, and its sentence, which may change."""
    sentence = line.pop("event", None)
    return {"event": line.pop("action", OF_A_LIBRARY), "message": sentence, **line}
