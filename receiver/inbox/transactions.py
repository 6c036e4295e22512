"""What the owner of the inbox does in one transaction: plain functions of its connection."""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from receiver.database import is_unavailable, utc_text
from receiver.inbox import partitions
from receiver.inbox.notes import write
from receiver.inbox.schema import accepted, deliveries, identity, releases, starts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Any

    from sqlalchemy.engine import Connection

    from receiver.inbox.notes import Page

ROWS_AT_ONCE = 64
FORGOTTEN_AT_ONCE = 500
CHANNEL = "kounta_mirror"  # PostgreSQL: where a worker hears which company has deliveries


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


KEPT_SECONDS = 30.0  # how long a sender waits for the answer to what waits in a socket; see docs/deploy


def begin(connection: Connection, now: datetime, socket: str | None = None) -> int:
    """Note the start of a run, and give its number.

    `socket` identifies one that its parent keeps open: the run is `kept` when the run before at that socket
    has stopped within KEPT_SECONDS, and was not killed.
    """
    if connection.dialect.name == "postgresql":
        partitions.make_ahead(connection, now)
    connection.execute(
        insert(identity).on_conflict_do_nothing(),
        {"number": 1, "identity": str(uuid4()), "created_at": now},
    )
    number: int = connection.execute(
        insert(starts)
        .values(started_at=now, seen_at=now, socket=socket, kept=_is_kept(connection, now, socket))
        .returning(starts.c.number)
    ).scalar_one()
    return number


def _is_kept(connection: Connection, now: datetime, socket: str | None) -> bool:
    if socket is None:
        return False
    columns = starts.c
    before = select(columns.stopped_at).where(columns.socket == socket).order_by(columns.number.desc())
    stopped_at: datetime | None = connection.execute(before.limit(1)).scalar()
    return stopped_at is not None and abs((now - stopped_at).total_seconds()) <= KEPT_SECONDS


def append(connection: Connection, rows: Sequence[Row], *, tried: bool = False) -> None:
    """Append deliveries in order, each at its company's next position.

    With `tried`, some may be there already: a commit whose answer never came had stored them.
    """
    by_company: dict[int, list[Row]] = {}
    for row in rows:
        by_company.setdefault(row.company_id, []).append(row)
    placed: list[tuple[Any, ...]] = []
    for company_id in sorted(by_company):  # all in one order: two receivers must not wait for each other
        own = by_company[company_id]
        new = _not_there(connection, company_id, own) if tried else own
        head = _raise_head(connection, company_id, len(new))
        placed += [(position, *row) for position, row in enumerate(new, head - len(new) + 1)]
    if connection.dialect.name == "postgresql":
        _store_in_schema(connection, placed)
    else:
        _store_in_file(connection, placed)


def _not_there(connection: Connection, company_id: int, rows: list[Row]) -> list[Row]:
    """Leave out what is stored; nobody else stores for the company until this transaction ends."""
    _raise_head(connection, company_id, 0)
    names = deliveries.c.id.in_([row.id for row in rows])
    statement = select(deliveries.c.id).where(deliveries.c.company_id == company_id, names)
    known = set(connection.execute(statement).scalars())
    return [row for row in rows if row.id not in known]


def _raise_head(connection: Connection, company_id: int, count: int) -> int:
    """Take the company's next positions, and give the last of them; others wait until this commits."""
    numbers = (count, count, company_id)
    head: int | None = connection.exec_driver_sql(_HEAD[connection.dialect.name], numbers).scalar()
    if head is not None:
        return head
    first = insert(accepted).values(company_id=company_id, count=0, head=0)
    connection.execute(first.on_conflict_do_nothing())
    return _raise_head(connection, company_id, count)


def _store_in_schema(connection: Connection, placed: Sequence[tuple[Any, ...]]) -> None:
    """Insert on PostgreSQL, and wake the workers when it is committed."""
    if not placed:
        return
    columns = tuple(map(list, zip(*placed, strict=True)))
    connection.exec_driver_sql(_FROM_ARRAYS, columns)
    for company_id in sorted(set(columns[_COMPANY])):
        connection.exec_driver_sql(_WAKE, (str(company_id),))


def _store_in_file(connection: Connection, placed: Sequence[tuple[Any, ...]]) -> None:
    """Insert on SQLite."""
    for start in range(0, len(placed), ROWS_AT_ONCE):
        part = placed[start : start + ROWS_AT_ONCE]
        connection.exec_driver_sql(_insertion(len(part)), tuple(chain.from_iterable(part)))


# The statements of every commit are text: SQLAlchemy's share of the time was more than half.
_HEAD = {
    "sqlite": "UPDATE accepted SET count = count + ?, head = head + ? WHERE company_id = ? RETURNING head",
    "postgresql": "UPDATE inbox.accepted SET count = count + %s, head = head + %s WHERE company_id = %s "
    "RETURNING head",
}
_PLACED = ("position", *Row._fields)
_COMPANY = _PLACED.index("company_id")
_NAMES = ", ".join(_PLACED)
_ARRAYS = ("bigint", "text", "bigint", "text", "timestamptz", "text", "bytea")
_FROM_ARRAYS = (
    f"INSERT INTO inbox.deliveries ({_NAMES}) "  # noqa: S608 - names only
    f"SELECT * FROM unnest({', '.join(f'%s::{kind}[]' for kind in _ARRAYS)})"
)
_WAKE = f"SELECT pg_notify('{CHANNEL}', %s)"


@cache
def _insertion(size: int) -> str:
    """Make the statement that inserts `size` rows on SQLite.

    One statement for many rows: with executemany SQLite gives up Python's lock for each row and waits for it
    behind the event loop, which doubled and tripled the time of a commit under load. A connection keeps 128
    prepared, more than there are sizes.
    """
    row = f"({', '.join('?' * (len(Row._fields) + 1))})"
    return f"INSERT INTO deliveries ({_NAMES}) VALUES {', '.join([row] * size)}"  # noqa: S608 - no value is in it


def note(connection: Connection, page: Page, sign: Sign | None) -> None:
    write(connection, page)
    if sign is not None and connection.dialect.name == "postgresql":
        partitions.make_ahead(connection, sign.at)
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
        this = columns.company_id == company_id, columns.position == bindparam("doomed")
        connection.execute(delete(deliveries).where(*this), doomed)
    return len(doomed), stretch[-1].position if old else None


def release(
    connection: Connection, *, company_id: int, through: int, before: datetime, kept: frozenset[str]
) -> int:
    """PostgreSQL: note what may go, and let go of whole partitions; give how many deliveries went."""
    values = {"through": through, "before": before, "keep": sorted(kept)}
    statement = insert(releases).values(company_id=company_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["company_id"], set_=values))
    return partitions.drop_old(connection, before) + partitions.delete_others(connection, company_id)


def is_refused(error: BaseException) -> bool:
    """Whether a database refuses the row for what it holds, rather than fails or lacks a table."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError) and not is_unavailable(error)
    return not is_unavailable(error)


def waiting(connection: Connection) -> tuple[int, datetime | None]:
    """Count all deliveries; give the arrival of the oldest, too."""
    count, oldest = connection.execute(select(func.count(), func.min(deliveries.c.received_at))).one()
    return count, oldest


def heads(connection: Connection) -> list[tuple[int, int]]:
    """Give each company that ever had a delivery, with the highest position that was given."""
    columns = accepted.c
    statement = select(columns.company_id, columns.head).order_by(columns.company_id)
    return [(company_id, head) for company_id, head in connection.execute(statement)]


def oldest(
    connection: Connection, *, company_id: int, after: int, through: int, limit: int, most_bytes: int
) -> tuple[list[Row], int]:
    """Give the first deliveries of a company between two positions, as they came, and the last position.

    Fewer when their bodies reach `most_bytes` before; but one at least, if there is one.
    """
    columns = deliveries.c
    statement = (
        select(columns.position, *(columns[name] for name in Row._fields))
        .where(columns.company_id == company_id, columns.position > after, columns.position <= through)
        .order_by(columns.position)
        .limit(limit)
    )
    rows: list[Row] = []
    size, last = 0, after
    with connection.execute(statement) as found:
        for position, *values in found:
            row = Row(*values)
            rows.append(row._replace(received_at=utc_text(values[_RECEIVED_AT])))
            size += len(row.body)
            last = position
            if size >= most_bytes:
                break
    return rows, last


_RECEIVED_AT = Row._fields.index("received_at")


def remove(connection: Connection, *, company_id: int, names: Sequence[str]) -> None:
    """Remove deliveries by their names."""
    doomed = deliveries.c.company_id == company_id, deliveries.c.id.in_(names)
    connection.execute(delete(deliveries).where(*doomed))
