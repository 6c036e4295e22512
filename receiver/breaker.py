"""Whether deliveries go to PostgreSQL, or into the spool until it is back. Pure: times come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime


class Outage(NamedTuple):
    """A time in which deliveries were spooled."""

    since: datetime
    until: datetime
    forwarded: int


class Breaker:
    """Open from a failure until PostgreSQL has stored again: while it is open nobody waits for it.

    It begins open. An outage is told when it begins, once, and ends when nothing of it waits any more, which
    may be after the breaker was closed.
    """

    def __init__(self, now: datetime) -> None:
        self.closed = False
        self.reason: str | None = None
        """Why it is open; None: nothing is known against PostgreSQL."""
        self._since = now
        self._told = False
        self._forwarded = 0

    @property
    def away_since(self) -> datetime | None:
        """When PostgreSQL was first found to fail; None while it stores."""
        return None if self.closed or self.reason is None else self._since

    def failed(self, reason: str, now: datetime) -> bool:
        """Open it; give whether an outage begins, which is to be told."""
        if self.reason is None:
            self._since = now
        self.closed = False
        self.reason = reason
        begins, self._told = not self._told, True
        return begins

    def forwarded(self, count: int) -> None:
        """Count what has left the spool."""
        self._forwarded += count

    def close(self) -> None:
        """PostgreSQL has stored."""
        self.closed = True
        self.reason = None

    def ended(self, now: datetime) -> Outage | None:
        """Nothing waits any more; give the outage that is over, if there is anything to tell."""
        outage = Outage(self._since, now, self._forwarded) if self._told or self._forwarded else None
        self._told = False
        self._forwarded = 0
        return outage
