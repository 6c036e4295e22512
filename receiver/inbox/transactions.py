"""What the owner of the inbox does in one transaction: plain functions of its connection."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from sqlalchemy import bindparam, delete, insert, select, update

from receiver.inbox.notes import write
from receiver.inbox.schema import accepted, deliveries, identity, starts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from receiver.inbox.notes import Page

ROWS_AT_ONCE = 64
FORGOTTEN_AT_ONCE = 500


class Row(NamedTuple):
    """A delivery before it has a position."""

    id: str
    company_id: int
    topic: str
    received_at: str  # as `utc_text` writes it
    headers: str  # JSON
    body: bytes


class Sign(NamedTuple):
    """A sign of life of one run of the receiver; the last one is that it stops."""

    start: int
    at: datetime
    last: bool


def begin(connection: Connection, now: datetime) -> int:
    if connection.execute(select(identity.c.number)).first() is None:
        connection.execute(insert(identity), {"number": 1, "identity": str(uuid4()), "created_at": now})
    number: int = connection.execute(
        insert(starts).values(started_at=now, seen_at=now).returning(starts.c.number)
    ).scalar_one()
    return number


def append(connection: Connection, rows: Sequence[Row]) -> None:
    """Append deliveries in order, and count them for their companies."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        connection.exec_driver_sql(_insertion(len(part)), tuple(chain.from_iterable(part)))
    for company_id, count in Counter(row.company_id for row in rows).items():
        changed = connection.exec_driver_sql(_COUNT, (count, company_id))
        if changed.rowcount == 0:
            connection.execute(insert(accepted), {"company_id": company_id, "count": count})


# The two statements of every commit are SQLite's own text: SQLAlchemy's share of the time was more than half.
_COUNT = "UPDATE accepted SET count = count + ? WHERE company_id = ?"


@cache
def _insertion(size: int) -> str:
    """Make the statement that inserts `size` rows.

    One statement for many rows: with executemany SQLite gives up Python's lock for each row and waits for it
    behind the event loop, which doubled and tripled the time of a commit under load. A connection keeps 128
    prepared, more than there are sizes.
    """
    row = f"({', '.join('?' * len(Row._fields))})"
    return f"INSERT INTO deliveries ({', '.join(Row._fields)}) VALUES {', '.join([row] * size)}"  # noqa: S608 - no value is in it


def note(connection: Connection, page: Page, sign: Sign | None) -> None:
    write(connection, page)
    if sign is not None:
        times = {"seen_at": sign.at, **({"stopped_at": sign.at} if sign.last else {})}
        connection.execute(update(starts).where(starts.c.number == sign.start).values(times))


def forget(
    connection: Connection,
    *,
    company_id: int,
    after: int,
    through: int,
    before: datetime,
    kept: frozenset[str],
) -> tuple[int, int | None]:
    """Forget one stretch behind `after`; give how many went, and where to go on, None at the end."""
    columns = deliveries.c
    stretch = connection.execute(
        select(columns.position, columns.id, columns.received_at)
        .where(columns.company_id == company_id, columns.position > after, columns.position <= through)
        .order_by(columns.position)
        .limit(FORGOTTEN_AT_ONCE)
    ).all()
    old = [row for row in stretch if row.received_at < before]
    doomed = [{"doomed": row.position} for row in old if row.id not in kept]
    if doomed:
        connection.execute(delete(deliveries).where(columns.position == bindparam("doomed")), doomed)
    return len(doomed), stretch[-1].position if old else None
