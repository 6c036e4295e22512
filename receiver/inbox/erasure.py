"""What deliveries said of a person leaves the inbox; that they came stays, so that no position is missing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, update

from receiver.database import WritingThread
from receiver.inbox.delivery import blank_headers
from receiver.inbox.schema import deliveries

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from receiver.postgresql import Schema

NAMES_AT_ONCE = 500


class Dropped(NamedTuple):
    """What came of dropping bodies."""

    number: int
    """Deliveries that said something until now."""
    clean: bool
    """Whether the file holds it nowhere any more; false while a reader keeps old pages alive."""


def drop(connection: Connection, *, company_id: int, names: Collection[str], now: datetime) -> int:
    """Empty bodies and headers of these deliveries, and give how many were not empty."""
    these = (
        deliveries.c.company_id == company_id,
        deliveries.c.id.in_(names),
        func.length(deliveries.c.body) > 0,
    )
    emptied = {"body": b"", "headers": blank_headers(now)}
    return connection.execute(update(deliveries).where(*these).values(emptied)).rowcount


async def drop_bodies(thread: WritingThread, company_id: int, names: Collection[str], now: datetime) -> int:
    """Do `drop` in transactions of their own, between which others write."""
    ordered = sorted(names)
    count = 0
    for start in range(0, len(ordered), NAMES_AT_ONCE):
        part = ordered[start : start + NAMES_AT_ONCE]
        count += await thread.transact(partial(drop, company_id=company_id, names=part, now=now))
    return count


async def drop_in_schema(schema: Schema, company_id: int, names: Collection[str], now: datetime) -> int:
    """PostgreSQL: drop what these deliveries say. There whoever knows who is erased may do it."""
    thread = WritingThread(schema)
    try:
        return await drop_bodies(thread, company_id, names, now)
    finally:
        await thread.close()
