"""A clock that a test sets."""

from datetime import UTC, datetime
from itertools import count
from typing import Final
from uuid import UUID

NOON: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Clock:
    """Stands at noon until it is set, and names deliveries by its time."""

    def __init__(self) -> None:
        self.now = NOON
        self._numbers = count()

    def __call__(self) -> datetime:
        return self.now

    def name(self) -> str:
        """Give the next UUIDv7."""
        milliseconds = int(self.now.timestamp() * 1000)
        return str(UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | next(self._numbers)))
