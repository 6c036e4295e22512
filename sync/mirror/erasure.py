"""Erasure: how a person leaves the mirror for good, and what stays, which says nothing of them."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Table,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    union,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.merge.decisions import Kind, Verdict
from sync.mirror.bulk import adding, among, json_array
from sync.mirror.erased import BODIES, REASON
from sync.mirror.marks import Marker
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import (
    ALERTS,
    CHANGES,
    CUSTOMERS,
    ERASED_BODIES,
    ERASED_CUSTOMERS,
    HELD_DELETES,
    PAST_VERDICTS,
    PROGRESS,
    STATUS,
    SWEEPS,
    TAGS,
    VERDICT_COUNTS,
    VERDICTS,
    VERIFICATIONS,
)
from sync.mirror.store import Mirror

SOURCE: Final = "erasure"
"""Where the change comes from that tells followers whom to drop."""
SETTLED: Final = (Verdict.QUARANTINED, Verdict.FAILED)
"""Verdicts that ask a person to look at a delivery: one that says nothing any more is stale."""

_E: Final = ERASED_CUSTOMERS.c
_OF_A_CUSTOMER: Final = (
    (CUSTOMERS, CUSTOMERS.c.id),
    (CHANGES, CHANGES.c.customer_id),
    (VERDICTS, VERDICTS.c.customer_id),
    (VERIFICATIONS, VERIFICATIONS.c.customer_id),
    (HELD_DELETES, HELD_DELETES.c.customer_id),
)
_SENTENCES: Final = (
    (PROGRESS, PROGRESS.c.upstream_failure),
    (SWEEPS, SWEEPS.c.failure),
    (ALERTS, ALERTS.c.sentence),
)
"""Where a sentence stands that may name a customer: "GET /v1/…/customers/7.json: …", "customer 7 …"."""


class Mark(NamedTuple):
    """One erased person: a row of `_erased_customers` without its company."""

    mark: str
    key_id: str
    erased_at: datetime
    searched_at: datetime | None = None
    """When all their deliveries were found; None: that is still to be done."""
    completed_at: datetime | None = None
    """When nothing of them was left; None: that is still to be done."""
    returned_at: datetime | None = None
    """When a person let them come back."""


@dataclass(slots=True)
class Gone:
    """What has left the mirror, in rows."""

    customers: int = 0
    changes: int = 0
    tags: int = 0
    doubts: int = 0
    held_deletes: int = 0
    verdicts: int = 0
    """Verdicts that name nobody any more; they stay, for each delivery has one."""
    past_verdicts: int = 0


async def marks_of(mirror: MirrorReader, *conditions: ColumnElement[bool]) -> list[Mark]:
    """Give the marks of all who were ever erased."""
    ours = _E.company_id == mirror.company_id
    statement = select(*(_E[name] for name in Mark._fields)).where(ours, *conditions)
    async with mirror.reading() as connection:
        return [Mark(*row) for row in await connection.execute(statement)]


async def incomplete(mirror: MirrorReader) -> list[Mark]:
    """Give the marks of those of whom something may be left."""
    return await marks_of(mirror, _E.completed_at.is_(None), _E.returned_at.is_(None))


async def mark_of(mirror: MirrorReader, mark: str) -> Mark | None:
    """Give one mark, if it was ever made."""
    return next(iter(await marks_of(mirror, _E.mark == mark)), None)


async def erase_rows(
    mirror: Mirror, marker: Marker, marks: Collection[Mark], customer_ids: Collection[int], now: datetime
) -> Gone:
    """Mark people, and remove what the mirror has of these customers, in one transaction.

    Whatever is committed later sees the marks. The feed says `erased` of each customer, and nothing else.
    """
    gone = Gone()
    async with mirror.noting(seq=PROGRESS.c.seq) as connection:  # which reads anew what is changed within
        mirror.keeping_out(frozenset({marker.key_id, *await _keys(connection, mirror.company_id)}))
        for mark in marks:
            await _store(connection, mirror.company_id, mark)
        less: Counter[str] = Counter()
        for customer_id in customer_ids:
            less += await _counted(connection, mirror.company_id, customer_id)
            await _erase_one(connection, mirror.company_id, customer_id, now, gone)
        if less:
            await _count_less(connection, mirror.company_id, less)
    return gone


async def forget_deliveries(
    mirror: Mirror, delivery_ids: Collection[str], marks: Iterable[str], now: datetime
) -> Gone:
    """Let the verdicts of these deliveries name nobody, and have the inbox drop what they say.

    They are all that the inbox had of those whose `marks` these are.
    """
    gone = Gone()
    async with mirror.transaction() as connection:
        await _silence(connection, mirror.company_id, delivery_ids, gone)
        await BODIES.run(connection, [(mirror.company_id, name) for name in sorted(delivery_ids)])
        await _note(connection, mirror.company_id, marks, searched_at=now)
    return gone


async def note_complete(mirror: Mirror, now: datetime) -> None:
    """Note that nothing is left of those whose deliveries were found."""
    async with mirror.transaction() as connection:
        await connection.execute(
            update(ERASED_CUSTOMERS)
            .where(_E.company_id == mirror.company_id, _E.searched_at.is_not(None), _E.completed_at.is_(None))
            .values(completed_at=now)
        )


async def allow_return(mirror: Mirror, mark: str, now: datetime) -> bool:
    """Let a person come back; False: nobody with this mark is kept out."""
    async with mirror.transaction() as connection:
        result = await connection.execute(
            update(ERASED_CUSTOMERS)
            .where(_E.company_id == mirror.company_id, _E.mark == mark, _E.returned_at.is_(None))
            .values(returned_at=now)
        )
    return result.rowcount > 0


async def known_ids(mirror: MirrorReader) -> set[int]:
    """Give the ids of all customers of whom anything is stored but that they were erased."""
    found = union(
        *(
            select(column).where(
                table.c.company_id == mirror.company_id, column.is_not(None), *_not_erased(table)
            )
            for table, column in _OF_A_CUSTOMER
        )
    )
    async with mirror.reading() as connection:
        return set((await connection.execute(found)).scalars())


async def bodies_to_drop(mirror: MirrorReader, limit: int) -> list[str]:
    """Name deliveries whose bodies the inbox has yet to drop, at most `limit`."""
    statement = (
        select(ERASED_BODIES.c.delivery_id)
        .where(ERASED_BODIES.c.company_id == mirror.company_id)
        .order_by(ERASED_BODIES.c.delivery_id)
        .limit(limit)
    )
    async with mirror.reading() as connection:
        return list((await connection.execute(statement)).scalars())


async def note_dropped(mirror: Mirror, delivery_ids: Collection[str]) -> None:
    """Note that the inbox has dropped the bodies of these."""
    async with mirror.transaction() as connection:
        await connection.execute(
            delete(ERASED_BODIES).where(
                ERASED_BODIES.c.company_id == mirror.company_id,
                among(ERASED_BODIES.c.delivery_id, _array(delivery_ids)),
            )
        )


async def forget_ids_of_erased(mirror: Mirror, before: datetime) -> int:
    """Let the feed forget whom it said `erased` of before then: followers had time to read it."""
    async with mirror.transaction() as connection:
        result = await connection.execute(
            delete(CHANGES).where(
                CHANGES.c.company_id == mirror.company_id,
                CHANGES.c.kind == Kind.ERASED.value,
                CHANGES.c.applied_at < before,
            )
        )
    return result.rowcount


async def _keys(connection: AsyncConnection, company_id: int) -> list[str]:
    statement = select(_E.key_id).where(_E.company_id == company_id, _E.returned_at.is_(None)).distinct()
    return list((await connection.execute(statement)).scalars())


async def _store(connection: AsyncConnection, company_id: int, mark: Mark) -> None:
    values = mark._asdict()
    statement = upsert(ERASED_CUSTOMERS).values(company_id=company_id, **values)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["company_id", "mark"],
            set_={name: value for name, value in values.items() if name != "mark"},
        )
    )


async def _note(connection: AsyncConnection, company_id: int, marks: Iterable[str], **values: Any) -> None:
    await connection.execute(
        update(ERASED_CUSTOMERS)
        .where(_E.company_id == company_id, among(_E.mark, _array(marks)))
        .values(values)
    )


async def _erase_one(
    connection: AsyncConnection, company_id: int, customer_id: int, now: datetime, gone: Gone
) -> None:
    def of(table: Table, column: ColumnElement[int]) -> tuple[ColumnElement[bool], ...]:
        return table.c.company_id == company_id, column == customer_id

    async def removed(table: Table, *conditions: ColumnElement[bool]) -> int:
        return (await connection.execute(delete(table).where(*conditions))).rowcount

    names = select(VERDICTS.c.delivery_id).where(*of(VERDICTS, VERDICTS.c.customer_id))
    deliveries = list((await connection.execute(names)).scalars())
    gone.customers += await removed(CUSTOMERS, *of(CUSTOMERS, CUSTOMERS.c.id))
    gone.tags += await removed(TAGS, *of(TAGS, TAGS.c.customer_id))
    gone.doubts += await removed(VERIFICATIONS, *of(VERIFICATIONS, VERIFICATIONS.c.customer_id))
    gone.held_deletes += await removed(HELD_DELETES, *of(HELD_DELETES, HELD_DELETES.c.customer_id))
    of_changes = of(CHANGES, CHANGES.c.customer_id)
    told = await connection.execute(
        select(func.count()).select_from(CHANGES).where(*of_changes, CHANGES.c.kind == Kind.ERASED.value)
    )
    changes = await removed(CHANGES, *of_changes, *_not_erased(CHANGES))
    gone.changes += changes
    if changes or not told.scalar_one():
        await removed(CHANGES, *of_changes)
        await _tell(connection, company_id, customer_id, now)
    await _silence(connection, company_id, deliveries, gone)
    await BODIES.run(connection, [(company_id, name) for name in deliveries])
    for table, column in _SENTENCES:
        await _take_out(connection, table, column, company_id, customer_id)


def _not_erased(table: Table) -> tuple[ColumnElement[bool], ...]:
    return (table.c.kind != Kind.ERASED.value,) if table is CHANGES else ()


async def _tell(connection: AsyncConnection, company_id: int, customer_id: int, now: datetime) -> None:
    """Let the feed say that a customer is erased: nothing but whom to drop, and when."""
    raised = update(PROGRESS).where(PROGRESS.c.company_id == company_id).values(seq=PROGRESS.c.seq + 1)
    seq = (await connection.execute(raised.returning(PROGRESS.c.seq))).scalar_one()
    await connection.execute(
        insert(CHANGES).values(
            company_id=company_id,
            seq=seq,
            customer_id=customer_id,
            kind=Kind.ERASED.value,
            attributes=[],
            source=SOURCE,
            applied_at=now,
        )
    )


async def _silence(
    connection: AsyncConnection, company_id: int, delivery_ids: Collection[str], gone: Gone
) -> None:
    """Take out of the verdicts of these deliveries who they are about and why they were given.

    A quarantined or failed one, of which nothing is left to look at or to try again, is stale from now on.
    """
    names = _array(delivery_ids)
    these = VERDICTS.c.company_id == company_id, among(VERDICTS.c.delivery_id, names)
    settled = VERDICTS.c.verdict.in_([str(verdict) for verdict in SETTLED])
    counted = select(VERDICTS.c.verdict, func.count()).where(*these, settled).group_by(VERDICTS.c.verdict)
    counts = {verdict: int(count) for verdict, count in await connection.execute(counted)}
    if counts:
        moved = [(company_id, verdict, -count) for verdict, count in counts.items()]
        await _COUNTS.run(connection, [*moved, (company_id, str(Verdict.STALE), sum(counts.values()))])
        await connection.execute(update(VERDICTS).where(*these, settled).values(verdict=str(Verdict.STALE)))
    says = or_(VERDICTS.c.customer_id.is_not(None), VERDICTS.c.reason.is_(None), VERDICTS.c.reason != REASON)
    result = await connection.execute(
        update(VERDICTS).where(*these, says).values(customer_id=None, reason=REASON)
    )
    gone.verdicts += result.rowcount
    past = delete(PAST_VERDICTS).where(
        PAST_VERDICTS.c.company_id == company_id, among(PAST_VERDICTS.c.delivery_id, names)
    )
    gone.past_verdicts += (await connection.execute(past)).rowcount


async def _take_out(
    connection: AsyncConnection, table: Table, column: ColumnElement[Any], company_id: int, customer_id: int
) -> None:
    """Take the customer's id out of the sentences that name it."""
    named = re.compile(rf"(customers?[ /]){customer_id}(?!\d)", re.IGNORECASE)
    key = list(table.primary_key)
    found = select(*key, column).where(table.c.company_id == company_id, column.contains(str(customer_id)))
    for *values, sentence in (await connection.execute(found)).all():
        this = (part == value for part, value in zip(key, values, strict=True))
        told = {column: named.sub(r"\1(erased)", sentence)}
        await connection.execute(update(table).where(*this).values(told))


async def _counted(connection: AsyncConnection, company_id: int, customer_id: int) -> Counter[str]:
    """Name the figures of `mirror_status` that a customer counts for."""
    row = select(CUSTOMERS.c.deleted_at, CUSTOMERS.c.verified_at, CUSTOMERS.c.partial).where(
        CUSTOMERS.c.company_id == company_id, CUSTOMERS.c.id == customer_id
    )
    doubts = select(func.count()).where(
        VERIFICATIONS.c.company_id == company_id, VERIFICATIONS.c.customer_id == customer_id
    )
    counted = Counter(verifications_due=int((await connection.execute(doubts)).scalar_one()))
    known = (await connection.execute(row)).one_or_none()
    if known is not None and known.deleted_at is not None:
        counted["deleted"] = 1
    elif known is not None:
        counted.update(live=1, verified=int(known.verified_at is not None), partial=int(known.partial))
    return +counted


async def _count_less(connection: AsyncConnection, company_id: int, less: Mapping[str, int]) -> None:
    oldest = select(func.min(CUSTOMERS.c.verified_at)).where(
        CUSTOMERS.c.company_id == company_id, CUSTOMERS.c.deleted_at.is_(None)
    )
    values: dict[str, Any] = {name: STATUS.c[name] - count for name, count in less.items()}
    values["oldest_verified_at"] = oldest.scalar_subquery()
    await connection.execute(update(STATUS).where(STATUS.c.company_id == company_id).values(values))


def _array(values: Iterable[str]) -> BindParameter[str]:
    return bindparam(None, json_array(values), type_=VERDICTS.c.delivery_id.type)


_COUNTS: Final = adding(VERDICT_COUNTS)
