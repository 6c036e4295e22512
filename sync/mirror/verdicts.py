"""Verdicts: what became of each delivery, counted, and what became of it before it was replayed."""

from collections import Counter
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import BindParameter, ColumnElement, bindparam, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from receiver.database import utc_text
from receiver.topics import PING
from sync.merge.decisions import Verdict
from sync.mirror.bulk import adding, among, json_array, keeping, time_text, upserting
from sync.mirror.hours import add_hours
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import PAST_VERDICTS, VERDICT_COUNTS, VERDICTS
from sync.silence import hour_of


class Ruling(NamedTuple):
    """A delivery's verdict, as `delivery_verdicts` shows it."""

    delivery_id: str
    customer_id: int | None
    topic: str
    verdict: Verdict
    reason: str | None
    received_at: datetime
    applied_at: datetime

    def as_json(self) -> dict[str, Any]:
        """Give it as commands print it; times are ISO 8601 in UTC."""
        times = {"received_at": utc_text(self.received_at), "applied_at": utc_text(self.applied_at)}
        return {**self._asdict(), "verdict": str(self.verdict), **times}


async def write_rulings(
    connection: AsyncConnection, company_id: int, rulings: list[Ruling], again: Collection[str]
) -> None:
    """Store verdicts, and count them; those of `again` are kept as past ones first."""
    counts: Counter[str] = Counter(ruling.verdict for ruling in rulings)
    if again:
        given = await _given(connection, company_id, again)
        replaced_at = {ruling.delivery_id: time_text(ruling.applied_at) for ruling in rulings}
        counts.subtract(verdict for _, verdict, _, _ in given)
        past = [
            (company_id, delivery_id, replaced_at[delivery_id], verdict, reason, time_text(applied_at))
            for delivery_id, verdict, reason, applied_at in given
        ]
        await _PAST_VERDICTS.run(connection, past)
    await _VERDICTS.run(
        connection,
        [
            (company_id, id_, customer_id, topic, str(verdict), reason, time_text(received_at), time_text(at))
            for id_, customer_id, topic, verdict, reason, received_at, at in rulings
        ],
    )
    hours = Counter(
        hour_of(ruling.received_at)
        for ruling in rulings
        if ruling.topic != PING and ruling.delivery_id not in again
    )
    await add_hours(connection, company_id, hours)
    await _COUNTS.run(
        connection, [(company_id, verdict, count) for verdict, count in counts.items() if count]
    )


async def count_anew(connection: AsyncConnection, company_id: int) -> None:
    """Count the verdicts that deliveries have, whatever was counted before."""
    counted = (
        select(VERDICTS.c.company_id, VERDICTS.c.verdict, func.count())
        .where(VERDICTS.c.company_id == company_id)
        .group_by(VERDICTS.c.company_id, VERDICTS.c.verdict)
    )
    await connection.execute(delete(VERDICT_COUNTS).where(VERDICT_COUNTS.c.company_id == company_id))
    await connection.execute(insert(VERDICT_COUNTS).from_select(["company_id", "verdict", "count"], counted))


def is_verdict(verdict: str, column: ColumnElement[str] = VERDICTS.c.verdict) -> ColumnElement[bool]:
    """Say that it is this verdict, in the text of the statement: SQLite uses a partial index for no other."""
    return column == bindparam(None, verdict, literal_execute=True)


def is_about(company_id: int, customer_id: int) -> ColumnElement[bool]:
    """Say that it is about this customer, so that SQLite goes by the index: alone it would walk the table."""
    named = VERDICTS.alias("named")
    return VERDICTS.c.delivery_id.in_(
        select(named.c.delivery_id).where(
            named.c.company_id == company_id, named.c.customer_id == customer_id
        )
    )


async def verdict_counts(mirror: MirrorReader) -> dict[str, int]:
    """Count the deliveries by their verdict."""
    statement = select(VERDICT_COUNTS.c.verdict, VERDICT_COUNTS.c.count).where(
        VERDICT_COUNTS.c.company_id == mirror.company_id
    )
    async with mirror.reading() as connection:
        return {verdict: int(count) for verdict, count in await connection.execute(statement)}


async def deliveries_with(mirror: MirrorReader, verdict: str) -> list[str]:
    """Give the names of the deliveries with this verdict."""
    statement = select(VERDICTS.c.delivery_id).where(
        VERDICTS.c.company_id == mirror.company_id, is_verdict(verdict)
    )
    async with mirror.reading() as connection:
        return list((await connection.execute(statement)).scalars())


async def verdicts_of(mirror: MirrorReader, delivery_ids: Collection[str]) -> dict[str, str]:
    """Give the verdict of each of these deliveries that has one."""
    async with mirror.reading() as connection:
        given = await _given(connection, mirror.company_id, delivery_ids)
    return {delivery_id: verdict for delivery_id, verdict, _, _ in given}


async def have_verdict(
    connection: AsyncConnection, company_id: int, delivery_ids: Collection[str]
) -> set[str]:
    """Name those of these deliveries that have a verdict."""
    return {delivery_id for delivery_id, _, _, _ in await _given(connection, company_id, delivery_ids)}


async def verdicts_given(mirror: MirrorReader) -> int:
    """Count the deliveries that have a verdict."""
    statement = select(func.coalesce(func.sum(VERDICT_COUNTS.c.count), 0)).where(
        VERDICT_COUNTS.c.company_id == mirror.company_id
    )
    async with mirror.reading() as connection:
        return int((await connection.execute(statement)).scalar_one())


async def newest_rulings(mirror: MirrorReader, verdict: str | None, limit: int) -> list[Ruling]:
    """Give the newest deliveries with their verdict, or those with one verdict, at most `limit`."""
    statement = select(*(VERDICTS.c[name] for name in Ruling._fields)).where(
        VERDICTS.c.company_id == mirror.company_id
    )
    if verdict is not None:
        statement = statement.where(is_verdict(verdict))
    async with mirror.reading() as connection:
        rows = await connection.execute(statement.order_by(VERDICTS.c.delivery_id.desc()).limit(limit))
        return [Ruling(*row) for row in rows]


async def named_about(
    connection: AsyncConnection, company_id: int, customer_ids: Collection[int]
) -> list[str]:
    """Name the deliveries with a verdict that are about these customers, at another topic than deleted."""
    ids: BindParameter[str] = bindparam("ids", json_array(customer_ids))
    statement = select(VERDICTS.c.delivery_id).where(
        VERDICTS.c.company_id == company_id,
        among(VERDICTS.c.customer_id, ids),
        VERDICTS.c.topic.not_like("%/deleted"),
    )
    return sorted((await connection.execute(statement)).scalars())


async def _given(
    connection: AsyncConnection, company_id: int, delivery_ids: Collection[str]
) -> list[tuple[str, str, str | None, datetime]]:
    columns = (VERDICTS.c.delivery_id, VERDICTS.c.verdict, VERDICTS.c.reason, VERDICTS.c.applied_at)
    names: BindParameter[str] = bindparam("names", json_array(delivery_ids))
    statement = select(*columns).where(
        VERDICTS.c.company_id == company_id, among(VERDICTS.c.delivery_id, names)
    )
    return list(await connection.execute(statement))


_VERDICTS: Final = upserting(VERDICTS)
_PAST_VERDICTS: Final = keeping(PAST_VERDICTS)
_COUNTS: Final = adding(VERDICT_COUNTS)
