"""Excerpts of what is long, for people who page through it: by cursor and index, never by counting rows."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Select, and_, select, text

from sync.merge.decisions import Verdict
from sync.mirror.deliveries import Wanted
from sync.mirror.feed import Change
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import (
    CHANGES,
    CUSTOMERS,
    HELD_DELETES,
    PROGRESS,
    STATUS,
    SWEEPS,
    UNUSUAL,
    VERDICTS,
    VERIFICATIONS,
)
from sync.mirror.sweeps import SweepRow
from sync.mirror.verdicts import Ruling, is_verdict

LOOKED_THROUGH: Final = 20_000
"""So many deliveries are looked through at once for those of a verdict that has no index."""
_USUAL: Final = (Verdict.APPLIED.value, Verdict.UNCHANGED.value)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Excerpt(Generic[T]):
    """Some of many, and the cursor at which they go on; None: there are no more."""

    rows: list[T]
    more: str | None = None


class DoubtRow(NamedTuple):
    """A customer that is to be read."""

    customer_id: int
    reason: str
    asked: bool
    priority: int
    due_at: datetime
    tries: int
    not_before: datetime | None
    failure: str | None = None
    """Why the last read of it failed, if it did."""


class HeldRow(NamedTuple):
    """A customer whose deletion may be held, and since when; `deleted_at`: it is deleted by now."""

    customer_id: int
    missing_at: datetime
    first_name: str | None
    last_name: str | None
    email: str | None
    deleted_at: datetime | None


async def rulings_before(
    mirror: MirrorReader, wanted: Wanted, before: str | None, limit: int
) -> Excerpt[Ruling]:
    """Give deliveries with their verdict, the newest first, whose name is below `before`.

    Fewer than `limit` need not be the end: of a usual verdict LOOKED_THROUGH are looked at, and `more` says
    where they go on.
    """
    c, named = VERDICTS.c, VERDICTS.alias("named")
    conditions = [named.c.company_id == mirror.company_id]
    if before is not None:
        conditions.append(named.c.delivery_id < before)
    if wanted.customer_id is not None:
        conditions.append(named.c.customer_id == wanted.customer_id)
    is_searched = wanted.verdict is not None and (wanted.verdict in _USUAL or wanted.customer_id is not None)
    names = select(named.c.delivery_id).where(*conditions).order_by(named.c.delivery_id.desc())
    statement = _named(mirror.company_id, names.limit(limit + 1))
    if is_searched and wanted.customer_id is not None:
        statement = _named(mirror.company_id, names.limit(LOOKED_THROUGH)).where(c.verdict == wanted.verdict)
    elif is_searched:
        columns = (named.c[name] for name in Ruling._fields)
        looked = names.with_only_columns(*columns).limit(LOOKED_THROUGH).subquery("looked")
        ordered = select(looked).order_by(looked.c.delivery_id.desc())
        statement = ordered.where(looked.c.verdict == wanted.verdict)
    elif wanted.verdict is not None:
        these = is_verdict(wanted.verdict, named.c.verdict), text(UNUSUAL)
        statement = _named(mirror.company_id, names.where(*these).limit(limit + 1))
    statement = statement.limit(limit + 1)
    async with mirror.reading() as connection:
        found = [Ruling(*row) for row in await connection.execute(statement)]
        more = found[limit - 1].delivery_id if len(found) > limit else None
        if is_searched and more is None:
            last = names.offset(LOOKED_THROUGH - 1).limit(1)
            more = (await connection.execute(last)).scalar()
    if wanted.since is not None and found and found[-1].received_at < wanted.since:
        more = None
    return Excerpt([one for one in found[:limit] if _is_of_time(one, wanted)], more)


def _named(company_id: int, names: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """Give deliveries by their names: SQLite goes by an index where that holds all that is asked for."""
    c = VERDICTS.c
    columns = (c[name] for name in Ruling._fields)
    these = c.company_id == company_id, c.delivery_id.in_(names)
    return select(*columns).where(*these).order_by(c.delivery_id.desc())


async def doubts_behind(mirror: MirrorReader, cursor: str | None, limit: int) -> Excerpt[DoubtRow]:
    """Give the customers that are to be read, the most urgent first. ValueError: no such cursor."""
    c = VERIFICATIONS.c
    columns = [c[name] for name in DoubtRow._fields]
    order = (c.priority, c.due_at, c.customer_id)
    found: list[DoubtRow] = []
    async with mirror.reading() as connection:
        for behind in _behind(cursor):
            statement = select(*columns).where(c.company_id == mirror.company_id, *behind).order_by(*order)
            rows = await connection.execute(statement.limit(limit + 1 - len(found)))
            found += [DoubtRow(*row) for row in rows]
            if len(found) > limit:
                last = found[limit - 1]
                more = f"{last.priority}_{last.due_at.isoformat()}_{last.customer_id}"
                return Excerpt(found[:limit], more)
    return Excerpt(found)


def _behind(cursor: str | None) -> list[tuple[ColumnElement[bool], ...]]:
    """Say in steps what lies behind a cursor: each goes by the index, the three together would not."""
    if cursor is None:
        return [()]
    c = VERIFICATIONS.c
    told = cursor.split("_")
    priority, due_at, customer_id = int(told[0]), datetime.fromisoformat(told[1]), int(told[2])
    return [
        (c.priority == priority, c.due_at == due_at, c.customer_id > customer_id),
        (c.priority == priority, c.due_at > due_at),
        (c.priority > priority,),
    ]


async def held_behind(mirror: MirrorReader, after: int, limit: int) -> Excerpt[HeldRow]:
    """Give the customers whose deletion is held, in the order of their ids."""
    c, of = HELD_DELETES.c, CUSTOMERS.c
    same = and_(of.company_id == c.company_id, of.id == c.customer_id)
    statement = (
        select(c.customer_id, c.missing_at, of.first_name, of.last_name, of.email, of.deleted_at)
        .join_from(HELD_DELETES, CUSTOMERS, same)
        .where(c.company_id == mirror.company_id, c.customer_id > after)
        .order_by(c.customer_id)
        .limit(limit + 1)
    )
    async with mirror.reading() as connection:
        found = [HeldRow(*row) for row in await connection.execute(statement)]
    return Excerpt(found[:limit], str(found[limit - 1].customer_id) if len(found) > limit else None)


async def changes_before(
    mirror: MirrorReader, customer_id: int, before: int | None, limit: int
) -> Excerpt[Change]:
    """Give the changes of a customer whose number is below `before`, the newest first."""
    c = CHANGES.c
    conditions = [c.company_id == mirror.company_id, c.customer_id == customer_id]
    if before is not None:
        conditions.append(c.seq < before)
    columns = [c[name] for name in Change._fields]
    statement = select(*columns).where(*conditions).order_by(c.seq.desc()).limit(limit + 1)
    async with mirror.reading() as connection:
        found = [Change(*row) for row in await connection.execute(statement)]
    return Excerpt(found[:limit], str(found[limit - 1].seq) if len(found) > limit else None)


async def newest_sweeps(mirror: MirrorReader, limit: int) -> list[SweepRow]:
    """Give the last sweeps, the newest first."""
    columns = [SWEEPS.c[name] for name in SweepRow.__slots__]
    statement = select(*columns).where(SWEEPS.c.company_id == mirror.company_id)
    async with mirror.reading() as connection:
        rows = await connection.execute(statement.order_by(SWEEPS.c.id.desc()).limit(limit))
        return [SweepRow(*row) for row in rows]


async def state_of(mirror: MirrorReader) -> tuple[Any, ...]:
    """Give what is different whenever something has changed that people look at."""
    progress = select(
        *(
            PROGRESS.c[name]
            for name in ("position", "seq", "revision", "upstream_failure", "closed_until", "lease_holder")
        )
    ).where(PROGRESS.c.company_id == mirror.company_id)
    status = select(STATUS).where(STATUS.c.company_id == mirror.company_id)
    async with mirror.reading() as connection:
        found = [(await connection.execute(one)).first() for one in (progress, status)]
    return (*found, *await newest_sweeps(mirror, 1))


def _is_of_time(ruling: Ruling, wanted: Wanted) -> Any:
    return (wanted.since is None or ruling.received_at >= wanted.since) and (
        wanted.until is None or ruling.received_at < wanted.until
    )
