"""Samples: how it stood once a minute, kept for two days, for whoever looks back."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from sync.mirror.reader import MirrorReader
from sync.mirror.schema import SAMPLES, STATUS
from sync.mirror.store import Mirror

KEPT: Final = timedelta(days=2)


class Sample(NamedTuple):
    """How it stood at a moment."""

    at: datetime
    pending: int
    """Deliveries without a verdict."""
    oldest_pending_seconds: float
    verifications_due: int


async def keep_sample(mirror: Mirror, at: datetime, pending: int, oldest_pending_seconds: float) -> None:
    """Keep how it stands at this moment, and forget what is too old."""
    due = select(STATUS.c.verifications_due).where(STATUS.c.company_id == mirror.company_id)
    values = {
        "pending": pending,
        "oldest_pending_seconds": oldest_pending_seconds,
        "verifications_due": due.scalar_subquery(),
    }
    sample = insert(SAMPLES).values(company_id=mirror.company_id, at=at, **values)
    async with mirror.transaction() as connection:
        kept = {name: sample.excluded[name] for name in values}
        await connection.execute(sample.on_conflict_do_update(index_elements=["company_id", "at"], set_=kept))
        old = SAMPLES.c.company_id == mirror.company_id, SAMPLES.c.at < at - KEPT
        await connection.execute(delete(SAMPLES).where(*old))


async def samples_since(mirror: MirrorReader, since: datetime) -> list[Sample]:
    """Give the samples from then on, in order."""
    statement = (
        select(*(SAMPLES.c[name] for name in Sample._fields))
        .where(SAMPLES.c.company_id == mirror.company_id, SAMPLES.c.at >= since)
        .order_by(SAMPLES.c.at)
    )
    async with mirror.reading() as connection:
        return [Sample(*row) for row in await connection.execute(statement)]
