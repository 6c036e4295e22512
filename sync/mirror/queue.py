"""The set of verifications as a queue: which customers are to be read next."""

from collections.abc import Collection
from dataclasses import fields
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, and_, case, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from sync.merge.doubts import AHEAD, ASKED, MOST_FAILURES, PRIORITY, SWEEP, Doubt, Reason, Timing
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import CUSTOMERS, PROGRESS, STATUS, VERIFICATIONS
from sync.mirror.store import Mirror

BROUGHT_BACK_AT_ONCE: Final = 500

_V: Final = VERIFICATIONS.c
_JOINED: Final = VERIFICATIONS.outerjoin(
    CUSTOMERS, and_(CUSTOMERS.c.company_id == _V.company_id, CUSTOMERS.c.id == _V.customer_id)
)


class Problem(NamedTuple):
    """A customer that cannot be read: why, how many reads in a row failed, and when it is tried again."""

    customer_id: int
    failure: str | None
    failures: int
    not_before: datetime | None


async def due_doubts(
    mirror: MirrorReader, now: datetime, timing: Timing, limit: int, *, asked_only: bool = False
) -> list[Doubt]:
    """Give the doubts that may be read now (see `sync.merge.doubts.readable_at`), the most urgent first.

    With `asked_only`, those that a person waits for; among them customers that a list left out come first,
    so that a later answer proves that their 404 was no lost access.
    """
    order: list[ColumnElement[Any]] = [_V.priority, _V.due_at]
    if asked_only:
        order.insert(0, case((_V.reason == Reason.UNLISTED.value, 0), else_=1))
    statement = (
        select(*(_V[field.name] for field in fields(Doubt)))
        .select_from(_JOINED)
        .where(
            _V.company_id == mirror.company_id,
            _V.due_at <= now,
            or_(_V.asked, _V.not_before.is_(None), _V.not_before <= now),
            or_(CUSTOMERS.c.settled_at.is_(None), CUSTOMERS.c.settled_at <= now - timing.read_after),
            or_(_V.asked, CUSTOMERS.c.read_at.is_(None), CUSTOMERS.c.read_at <= now - timing.pause),
        )
        .order_by(*order)
        .limit(limit)
    )
    if asked_only:
        statement = statement.where(_V.priority == ASKED)
    async with mirror.reading() as connection:
        rows = await connection.execute(statement)
        return [Doubt(customer_id, Reason(reason), *rest) for customer_id, reason, *rest in rows]


async def bring_back_times(mirror: Mirror, now: datetime, timing: Timing) -> int:
    """Set times of customers in doubt that lie ahead of now, though no clock but one ahead set them, to now.

    Return the number of customers. Each is stored once, and read a full read lag later (decision 0064).
    """
    longest = max(timing.problem_pause, timing.longest_pause)
    statement = (
        select(_V.customer_id)
        .select_from(_JOINED)
        .where(
            _V.company_id == mirror.company_id,
            or_(
                _V.due_at > now + timing.read_after + AHEAD,
                and_(_V.not_before > now + timing.longest_pause + AHEAD, _V.failures < MOST_FAILURES),
                _V.not_before > now + longest + AHEAD,
                CUSTOMERS.c.settled_at > now + AHEAD,
                CUSTOMERS.c.read_at > now + AHEAD,
            ),
        )
        .limit(BROUGHT_BACK_AT_ONCE)
    )
    async with mirror.reading() as connection:
        ids = list((await connection.execute(statement)).scalars())
    if ids:
        async with mirror.batch(ids, now) as batch:
            batch.bring_back_times(timing)
    return len(ids)


async def problems_of(mirror: MirrorReader, limit: int) -> tuple[int, list[Problem]]:
    """Count the customers that cannot be read, and return some of them, the longest tried first."""
    of_company = _V.company_id == mirror.company_id, _V.failures >= MOST_FAILURES
    counted = select(func.count()).select_from(VERIFICATIONS).where(*of_company)
    statement = (
        select(_V.customer_id, _V.failure, _V.failures, _V.not_before)
        .where(*of_company)
        .order_by(_V.failures.desc(), _V.customer_id)
        .limit(limit)
    )
    async with mirror.reading() as connection:
        count = int((await connection.execute(counted)).scalar_one())
        rows = (await connection.execute(statement)).all() if count else []
    return count, [Problem(*row) for row in rows]


async def waiting_doubts(mirror: MirrorReader, *, asked_only: bool = False) -> int:
    """Count the doubts, whether they may be read now or not."""
    statement = select(func.count()).select_from(VERIFICATIONS).where(_V.company_id == mirror.company_id)
    if asked_only:
        statement = statement.where(_V.priority == ASKED)
    async with mirror.reading() as connection:
        return int((await connection.execute(statement)).scalar_one())


async def awaited_customers(mirror: MirrorReader) -> list[int]:
    """Give the ids of the customers that a person waits for."""
    statement = select(_V.customer_id).where(_V.company_id == mirror.company_id, _V.priority == ASKED)
    async with mirror.reading() as connection:
        return list((await connection.execute(statement)).scalars())


async def unlisted_unread(mirror: MirrorReader) -> int:
    """Count the customers that a list has left out and that were not read since."""
    statement = (
        select(func.count())
        .select_from(VERIFICATIONS)
        .where(_V.company_id == mirror.company_id, _V.reason == Reason.UNLISTED.value, _V.tries == 0)
    )
    async with mirror.reading() as connection:
        return int((await connection.execute(statement)).scalar_one())


async def unknown_in_doubt(mirror: MirrorReader) -> list[int]:
    """Give the ids in doubt of which the mirror has no record."""
    statement = (
        select(_V.customer_id)
        .select_from(_JOINED)
        .where(_V.company_id == mirror.company_id, CUSTOMERS.c.id.is_(None))
        .order_by(_V.customer_id)
    )
    async with mirror.reading() as connection:
        return list((await connection.execute(statement)).scalars())


async def await_nobody(mirror: Mirror) -> None:
    """Take every person's request back: whoever waited has gone. The doubts stay, each in its own place."""
    place = case(
        {reason.value: priority for reason, priority in PRIORITY.items()}, value=_V.reason, else_=SWEEP
    )
    async with mirror.transaction() as connection:
        await connection.execute(
            update(VERIFICATIONS)
            .where(_V.company_id == mirror.company_id, _V.priority == ASKED)
            .values(asked=False, priority=place)
        )


async def ask_about_doubts(mirror: Mirror) -> int:
    """Let a person wait for every customer in doubt; confirmations and refreshes are left where they are."""
    async with mirror.transaction() as connection:
        result = await connection.execute(
            update(VERIFICATIONS)
            .where(_V.company_id == mirror.company_id, _V.priority <= SWEEP)
            .values(asked=True, priority=ASKED)
        )
    return result.rowcount


async def ask_about(mirror: Mirror, customer_ids: Collection[int], now: datetime) -> bool:
    """Let a person wait for a read of these customers; False: some were erased, and are not asked about."""
    async with mirror.batch(customer_ids, now) as batch:
        for customer_id in customer_ids:
            batch.doubt(customer_id, Reason.ASKED, now, asked=True)
    return not batch.erased


async def doubt_every_live(mirror: Mirror, reason: Reason, now: datetime, *, asked: bool) -> None:
    """Ask for a read of every live customer, in one statement however many there are."""
    await mirror.note(revision=PROGRESS.c.revision + 1)
    revision = mirror.progress.revision
    added = insert(VERIFICATIONS).from_select(
        ["company_id", "customer_id", "reason", "asked", "priority", "due_at", "revision", "born", "tries"],
        select(
            CUSTOMERS.c.company_id,
            CUSTOMERS.c.id,
            literal(reason.value),
            literal(asked),
            literal(ASKED if asked else PRIORITY[reason]),
            literal(now, _V.due_at.type),
            literal(revision),
            literal(revision),
            literal(0),
        ).where(CUSTOMERS.c.company_id == mirror.company_id, CUSTOMERS.c.deleted_at.is_(None)),
    )
    kept = {"revision": added.excluded.revision}
    if asked:
        kept |= {"asked": added.excluded.asked, "priority": added.excluded.priority}
    async with mirror.transaction() as connection:
        await connection.execute(
            added.on_conflict_do_update(index_elements=["company_id", "customer_id"], set_=kept)
        )
        counted = (
            select(func.count())
            .select_from(VERIFICATIONS)
            .where(_V.company_id == mirror.company_id)
            .scalar_subquery()
        )
        await connection.execute(
            update(STATUS).where(STATUS.c.company_id == mirror.company_id).values(verifications_due=counted)
        )
