"""What is known of the company itself: its name, its time zone, and the days that this zone makes."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import delete, insert, select, update

from sync.mirror.days import DAY, LocalDay, local_days, zone_named
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import CHANGES, COMPANIES, COMPANY_DAYS, VERDICTS
from sync.mirror.store import Mirror

AHEAD: Final = timedelta(days=400)
"""So far ahead there are days, for whoever plans by them."""

_C: Final = COMPANIES.c
_D: Final = COMPANY_DAYS.c


class KnownCompany(NamedTuple):
    """A company as Kounta told of it; all None: it has not yet."""

    name: str | None
    time_zone: str | None
    read_at: datetime | None


async def known_company(mirror: MirrorReader) -> KnownCompany:
    """Give what is known of the company."""
    statement = select(*(_C[name] for name in KnownCompany._fields)).where(_C.company_id == mirror.company_id)
    async with mirror.reading() as connection:
        return KnownCompany(*(await connection.execute(statement)).one())


async def keep_company(mirror: Mirror, known: KnownCompany) -> None:
    """Keep what Kounta told."""
    async with mirror.transaction() as connection:
        await connection.execute(
            update(COMPANIES).where(_C.company_id == mirror.company_id).values(known._asdict())
        )


async def keep_days(mirror: Mirror, now: datetime) -> None:
    """Let `company_days` be the days of the company's zone as this machine knows it.

    They go from the day before the mirror met anything to AHEAD; of a zone that is not known there are none.
    All are made anew when the zone, or what is known of its clocks, has changed.
    """
    zone = zone_named((await known_company(mirror)).time_zone)
    kept = await _days(mirror)
    wanted: list[LocalDay] = []
    if zone is not None:
        earliest = (await _earliest(mirror, now)).astimezone(zone).date() - DAY
        first = min([earliest, *(one.day for one in kept[:1])])
        wanted = list(local_days(zone, first, now.astimezone(zone).date() + AHEAD))
    if wanted == kept:
        return
    async with mirror.transaction() as connection:
        await connection.execute(delete(COMPANY_DAYS).where(_D.company_id == mirror.company_id))
        if wanted:
            rows = [{"company_id": mirror.company_id, **one._asdict()} for one in wanted]
            await connection.execute(insert(COMPANY_DAYS), rows)


async def _days(mirror: MirrorReader) -> list[LocalDay]:
    statement = (
        select(*(_D[name] for name in LocalDay._fields))
        .where(_D.company_id == mirror.company_id)
        .order_by(_D.day)
    )
    async with mirror.reading() as connection:
        return [LocalDay(*row) for row in await connection.execute(statement)]


async def _earliest(mirror: MirrorReader, now: datetime) -> datetime:
    """Give when the mirror met the first thing that it still knows, each by its key alone."""
    first_change = (
        select(CHANGES.c.applied_at)
        .where(CHANGES.c.company_id == mirror.company_id)
        .order_by(CHANGES.c.seq)
        .limit(1)
    )
    first_delivery = (
        select(VERDICTS.c.received_at)
        .where(VERDICTS.c.company_id == mirror.company_id)
        .order_by(VERDICTS.c.delivery_id)
        .limit(1)
    )
    async with mirror.reading() as connection:
        met: list[datetime | None] = [
            (await connection.execute(statement)).scalar_one_or_none()
            for statement in (first_change, first_delivery)
        ]
    return min([now, *(at for at in met if at is not None)])
