"""Samples: how it stood once a minute, and for long ago once an hour, for whoever looks back."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.postgresql import insert

from sync.mirror.reader import MirrorReader
from sync.mirror.schema import SAMPLES, STATUS
from sync.mirror.store import Mirror

EACH_MINUTE: Final = timedelta(days=2)
"""So long each sample is kept; of those before, the first of each hour."""
KEPT: Final = timedelta(days=400)


class Sample(NamedTuple):
    """How it stood at a moment."""

    at: datetime
    pending: int
    """Deliveries without a verdict."""
    oldest_pending_seconds: float
    verifications_due: int
    live: int | None
    """Customers; None in samples of versions that did not count them."""
    verified: int | None


async def keep_sample(mirror: Mirror, at: datetime, pending: int, oldest_pending_seconds: float) -> None:
    """Keep how it stands at this moment."""
    stands = {
        name: select(STATUS.c[name]).where(STATUS.c.company_id == mirror.company_id).scalar_subquery()
        for name in ("live", "verified", "verifications_due")
    }
    values = {"pending": pending, "oldest_pending_seconds": oldest_pending_seconds, **stands}
    sample = insert(SAMPLES).values(company_id=mirror.company_id, at=at, **values)
    async with mirror.transaction() as connection:
        kept = {name: sample.excluded[name] for name in values}
        await connection.execute(sample.on_conflict_do_update(index_elements=["company_id", "at"], set_=kept))


async def thin_samples(mirror: Mirror, now: datetime) -> int:
    """Forget the samples that are no longer kept, and give their number."""
    of_company = SAMPLES.c.company_id == mirror.company_id
    thinned = select(SAMPLES.c.at).where(of_company, SAMPLES.c.at < now - EACH_MINUTE).order_by(SAMPLES.c.at)
    async with mirror.reading() as connection:
        found = list((await connection.execute(thinned)).scalars())
    hours = {(at.date(), at.hour): at for at in reversed(found) if at >= now - KEPT}
    gone = [at for at in found if at != hours.get((at.date(), at.hour))]
    if gone:
        async with mirror.transaction() as connection:
            await connection.execute(
                delete(SAMPLES).where(of_company, SAMPLES.c.at == bindparam("gone")),
                [{"gone": at} for at in gone],
            )
    return len(gone)


async def samples_since(mirror: MirrorReader, since: datetime) -> list[Sample]:
    """Give the samples from then on, in order."""
    statement = (
        select(*(SAMPLES.c[name] for name in Sample._fields))
        .where(SAMPLES.c.company_id == mirror.company_id, SAMPLES.c.at >= since)
        .order_by(SAMPLES.c.at)
    )
    async with mirror.reading() as connection:
        return [Sample(*row) for row in await connection.execute(statement)]
