"""Verdicts of deliveries."""

from collections.abc import Collection

from sqlalchemy import func, select

from sync.mirror.batch import Ruling
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import VERDICT_COUNTS, VERDICTS


async def deliveries_with(mirror: MirrorReader, verdict: str) -> list[str]:
    """Give the names of the deliveries with this verdict."""
    statement = select(VERDICTS.c.delivery_id).where(
        VERDICTS.c.company_id == mirror.company_id, VERDICTS.c.verdict == verdict
    )
    async with mirror.reading() as connection:
        return list((await connection.execute(statement)).scalars())


async def verdicts_of(mirror: MirrorReader, delivery_ids: Collection[str]) -> dict[str, str]:
    """Give the verdict of each of these deliveries that has one."""
    statement = select(VERDICTS.c.delivery_id, VERDICTS.c.verdict).where(
        VERDICTS.c.company_id == mirror.company_id, VERDICTS.c.delivery_id.in_(sorted(delivery_ids))
    )
    async with mirror.reading() as connection:
        return dict((await connection.execute(statement)).tuples().all())


async def verdicts_given(mirror: MirrorReader) -> int:
    """Count the deliveries that have a verdict."""
    statement = select(func.coalesce(func.sum(VERDICT_COUNTS.c.count), 0)).where(
        VERDICT_COUNTS.c.company_id == mirror.company_id
    )
    async with mirror.reading() as connection:
        return int((await connection.execute(statement)).scalar_one())


async def newest_rulings(mirror: MirrorReader, verdict: str | None, limit: int) -> list[Ruling]:
    """Give the newest deliveries with their verdict, or those with one verdict, at most `limit`."""
    columns = (VERDICTS.c[name] for name in Ruling.__slots__)
    statement = select(*columns).where(VERDICTS.c.company_id == mirror.company_id)
    if verdict is not None:
        statement = statement.where(VERDICTS.c.verdict == verdict)
    async with mirror.reading() as connection:
        rows = await connection.execute(statement.order_by(VERDICTS.c.delivery_id.desc()).limit(limit))
        return [Ruling(*row) for row in rows]
