"""What the receiver notes of itself: refused requests, tokens in use, times in which nothing was stored.

Kept in memory until a commit takes them, so that a flood of refusals costs one small write a second.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import insert, update
from sqlalchemy.dialects import postgresql

from receiver.inbox.schema import failed_commits, refusals, tokens

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection


QUEUE_FULL = "the queue was full"
CONNECTIONS_FULL = "there were too many connections"
OVERLOADS = frozenset({QUEUE_FULL, CONNECTIONS_FULL})
"""Reasons of outages that are no fault of the store: what they cost later is bounded (decision 0069)."""
OVERLOAD_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Span:
    count: int
    first_at: datetime
    last_at: datetime

    def __add__(self, later: _Span) -> _Span:
        return _Span(
            self.count + later.count, min(self.first_at, later.first_at), max(self.last_at, later.last_at)
        )


@dataclass(slots=True)
class Page:
    used: dict[tuple[int, str], _Span] = field(default_factory=dict)
    refused: dict[tuple[int, str], _Span] = field(default_factory=dict)
    outage: _Span | None = None
    reason: str = ""


class Notes:
    """Counts and times not yet on disk, and whether the last commit failed."""

    def __init__(self) -> None:
        self.failing = False
        self._page = Page()
        self._overload_noted_at: datetime | None = None
        self._something = asyncio.Event()

    def refuse(self, company_id: int, reason: str, now: datetime) -> None:
        key, span = (company_id, reason), _Span(1, now, now)
        known = self._page.refused.get(key)
        self._page.refused[key] = known + span if known else span
        self._something.set()

    def verified(self, company_id: int, fingerprint: str, now: datetime) -> None:
        """Note which token a delivery was signed with; the next heartbeat takes it along."""
        key = (company_id, fingerprint)
        known = self._page.used.get(key)
        self._page.used[key] = known + _Span(1, now, now) if known else _Span(1, now, now)

    def failed(self, refused: int, reason: str, now: datetime) -> None:
        """Note a commit that failed, with how many deliveries."""
        self.failing = True
        span = _Span(refused, now, now)
        self._page.outage = self._page.outage + span if self._page.outage else span
        self._page.reason = reason
        self._something.set()

    def committed(self) -> None:
        """Note a commit that succeeded."""
        self.failing = False

    def turned_away(self, now: datetime, reason: str) -> None:
        """Note a delivery that was refused though commits succeed, for one of OVERLOADS."""
        self._missed(_Span(1, now, now), reason)

    def stood_still(self, since: datetime, now: datetime) -> None:
        """Note a time in which the process did not run: the machine slept, or somebody had halted it."""
        self._missed(_Span(0, since, now), "the receiver stood still")

    def _missed(self, span: _Span, reason: str) -> None:
        if self._page.outage:
            self._page.outage += span
        else:
            self._page.outage, self._page.reason = span, reason
        self._something.set()

    def wake(self) -> None:
        """End a wait, though there may be nothing to write."""
        self._something.set()

    async def wait(self, seconds: float) -> None:
        """Until there is something to write, but for so many seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._something.wait()

    def take(self, now: datetime, *, last: bool = False) -> Page:
        """Take what is to be written; an overload that goes on is taken once a minute, and at the end."""
        page, self._page = self._page, Page()
        self._something.clear()
        if page.outage and page.reason in OVERLOADS:
            noted_at = self._overload_noted_at
            if noted_at is not None and not last and abs(now - noted_at) < OVERLOAD_NOTED_EVERY:
                self._page.outage, self._page.reason = page.outage, page.reason
                page.outage = None
            else:
                self._overload_noted_at = now
        return page

    def put_back(self, page: Page) -> None:
        """`page` was not written: what came meanwhile is added to it."""
        for before, since in ((page.refused, self._page.refused), (page.used, self._page.used)):
            for key, span in since.items():
                before[key] = before[key] + span if key in before else span
        if self._page.outage:
            is_worse = page.outage is not None and page.reason not in OVERLOADS
            page.outage = page.outage + self._page.outage if page.outage else self._page.outage
            if not (is_worse and self._page.reason in OVERLOADS):
                page.reason = self._page.reason
        self._page = replace(page)
        self._something.set()


def write(connection: Connection, page: Page) -> None:
    for (company_id, reason), span in page.refused.items():
        columns = refusals.c
        changed = connection.execute(
            update(refusals)
            .where(columns.company_id == company_id, columns.reason == reason)
            .values(count=columns.count + span.count, last_at=span.last_at)
        )
        if changed.rowcount == 0:
            connection.execute(
                insert(refusals),
                {
                    "company_id": company_id,
                    "reason": reason,
                    "count": span.count,
                    "first_at": span.first_at,
                    "last_at": span.last_at,
                },
            )
    for (company_id, token), span in page.used.items():
        connection.execute(
            _USED,
            {
                "company_id": company_id,
                "fingerprint": token,
                "first_used_at": span.first_at,
                "last_used_at": span.last_at,
            },
        )
    if page.outage:
        connection.execute(
            insert(failed_commits),
            {
                "first_at": page.outage.first_at,
                "last_at": page.outage.last_at,
                "refused": page.outage.count,
                "reason": page.reason,
            },
        )


_added = postgresql.insert(tokens)  # the form that SQLite has, too
_USED = _added.on_conflict_do_update(
    index_elements=["company_id", "fingerprint"], set_={"last_used_at": _added.excluded.last_used_at}
)
