"""What the log says of refused requests: for each reason one line a minute, however many there are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from starlette.types import Scope

EVERY_SECONDS = 60.0
PATH_SHOWN = 120

_log = structlog.get_logger("receiver")


@dataclass(slots=True)
class _Unsaid:
    """Refusals for one reason since its last line."""

    count: int = 0
    path: str = ""


class RefusalLog:
    """The first refusal for a reason is a line at once; those of the minute behind it share the next line."""

    def __init__(self, what: str = "Requests refused") -> None:
        self._what = what
        self._unsaid: dict[str, _Unsaid] = {}

    def note(self, reason: str, path: str) -> None:
        """Note a refused request; its path may be empty: it was not read. Call it in the event loop."""
        unsaid = self._unsaid.get(reason)
        if unsaid is None:
            self._unsaid[reason] = _Unsaid()
            self._say(reason, 1, path)
            self._wait(reason)
        else:
            unsaid.count += 1
            unsaid.path = path

    def flush(self) -> None:
        """Say what is left, because the process stops."""
        unsaid, self._unsaid = self._unsaid, {}
        for reason, one in unsaid.items():
            if one.count:
                self._say(reason, one.count, one.path)

    def _wait(self, reason: str) -> None:
        asyncio.get_running_loop().call_later(EVERY_SECONDS, self._minute_over, reason)

    def _minute_over(self, reason: str) -> None:
        unsaid = self._unsaid.pop(reason, None)
        if unsaid is not None and unsaid.count:
            self._unsaid[reason] = _Unsaid()
            self._say(reason, unsaid.count, unsaid.path)
            self._wait(reason)

    def _say(self, reason: str, count: int, path: str) -> None:
        _log.warning(
            f"{self._what}: {count} ({reason}).",
            action="requests_refused",
            reason=reason,
            count=count,
            path=shown(path),
        )


def shown(path: str) -> str:
    """Return a path as it may stand in a log: short, and in printable ASCII."""
    plain = "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in path[:PATH_SHOWN])
    return plain + "…" * (len(path) > PATH_SHOWN)


def path_of(scope: Scope) -> str:
    """Return the path of a request as it came, without its query."""
    raw: bytes = scope.get("raw_path") or scope.get("path", "").encode()
    return raw.partition(b"?")[0].decode("ascii", "replace")
