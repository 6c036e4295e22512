"""PostgreSQL: the partitions of `deliveries`, a day each, by the time in their names.

A day without a partition (nobody made it ahead, a clock was wrong) goes into `deliveries_others`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

    from sqlalchemy.engine import Connection

OTHERS = "deliveries_others"
DAYS_AHEAD = 8  # today among them
LOCK = 5_086_883  # names the advisory lock under which partitions are made and dropped
LOCK_SECONDS = 2  # for so long receivers may wait behind a drop that waits for a long reader
_PREFIX = "deliveries_"
_DAY = "%Y%m%d"


def make_ahead(connection: Connection, now: datetime) -> list[str]:
    """Make the partitions of today and the next days; give the names of the new ones."""
    today = now.astimezone(UTC).date()
    return make(connection, [today + timedelta(ahead) for ahead in range(DAYS_AHEAD)])


def make(connection: Connection, days: Iterable[date]) -> list[str]:
    """Make the partitions of these days, but of those that have begun without; give the new ones' names."""
    wanted = {f"{_PREFIX}{day:{_DAY}}": day for day in days}
    if wanted.keys() <= {name for name, _ in _partitions(connection)}:
        return []
    connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK})
    made = []
    for name in sorted(wanted.keys() - {name for name, _ in _partitions(connection)}):
        day = wanted[name]
        if _others_hold(connection, day):
            continue
        first, last = bounds(day)
        connection.execute(
            text(
                f"CREATE TABLE inbox.{name} PARTITION OF inbox.deliveries "
                f"FOR VALUES FROM ('{first}') TO ('{last}')"
            )
        )
        made.append(name)
    return made


def drop_old(connection: Connection, before: datetime) -> int:
    """Drop the partitions of days that ended before; what no company has released stays, with the others.

    Gives how many deliveries went.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK})
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
    gone = 0
    for name, day in list(_partitions(connection)):
        end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        if end > before:
            continue
        gone += connection.execute(text(f"SELECT count(*) FROM inbox.{name}")).scalar_one()  # noqa: S608 - our own name
        # from here on no receiver stores: little is done
        connection.execute(text(f"ALTER TABLE inbox.deliveries DETACH PARTITION inbox.{name}"))
        gone -= connection.execute(text(_KEEP.format(name=name)), {"end": end}).rowcount
        connection.execute(text(f"DROP TABLE inbox.{name}"))
    return gone


def delete_others(connection: Connection, company_id: int) -> int:
    """Delete what a company has released of the deliveries that lie in no day's partition."""
    return connection.execute(text(_DELETE), {"company": company_id}).rowcount


_DELETE = f"""
DELETE FROM inbox.{OTHERS} AS old USING inbox.releases AS released
WHERE old.company_id = :company AND released.company_id = :company AND old.position <= released.through
AND old.received_at < released.before AND NOT jsonb_exists(released.keep, old.id)
"""  # noqa: S608 - our own name
_KEEP = """
INSERT INTO inbox.deliveries
SELECT old.* FROM inbox.{name} AS old LEFT JOIN inbox.releases AS released USING (company_id)
WHERE released.company_id IS NULL OR old.position > released.through OR released.before < :end
OR jsonb_exists(released.keep, old.id)
"""


def _partitions(connection: Connection) -> Iterator[tuple[str, date]]:
    names = connection.execute(
        text(
            "SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid "
            "WHERE inhparent = 'inbox.deliveries'::regclass ORDER BY child.relname"
        )
    ).scalars()
    for name in names:
        if name != OTHERS:
            yield name, datetime.strptime(name.removeprefix(_PREFIX), _DAY).replace(tzinfo=UTC).date()


def _others_hold(connection: Connection, day: date) -> bool:
    first, last = bounds(day)
    found = connection.execute(
        text(f"SELECT 1 FROM inbox.{OTHERS} WHERE id >= :first AND id < :last LIMIT 1"),  # noqa: S608 - our own name
        {"first": first, "last": last},
    )
    return found.first() is not None


def bounds(day: date) -> tuple[str, str]:
    """Give the lowest name of a day, and of the next one: a UUIDv7 begins with 48 bits of milliseconds."""
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    first, last = (f"{int(moment.timestamp() * 1000):012x}" for moment in (begin, begin + timedelta(days=1)))
    return f"{first[:8]}-{first[8:]}", f"{last[:8]}-{last[8:]}"
