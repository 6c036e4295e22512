"""Counts of each day (UTC): changes that deliveries announced and others, and what the drift sample found."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.mirror.bulk import adding
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import DAILY_COUNTS, STATUS

PERIOD: Final = timedelta(days=7)
"""What is said of drift and loss is said of the last seven days, today among them."""
_DIFFERED_IN: Final = "differed_in:"


class Counted(StrEnum):
    """What is counted."""

    ANNOUNCED = "announced"
    """A change that a delivery brought."""
    UNANNOUNCED = "unannounced"
    """A change that a read or a list brought, and no delivery had."""
    SAMPLED = "sampled"
    """A customer that was drawn at random and read."""
    DIFFERED = "differed"
    """One of those that differed from its row."""


def differed_in(attribute: str) -> str:
    """Name the count of sampled customers that differed in this attribute."""
    return f"{_DIFFERED_IN}{attribute}"


async def add_counts(
    connection: AsyncConnection, company_id: int, counts: Mapping[str, int], now: datetime
) -> None:
    """Add to the counts of the day, and bring the drift that `mirror_status` shows up to date."""
    day = _day(now)
    await _ADD.run(connection, [(company_id, day, name, count) for name, count in counts.items() if count])
    if counts.get(Counted.SAMPLED):
        total = await _counts(connection, company_id, now)
        rate = total[Counted.DIFFERED] / total[Counted.SAMPLED]
        await connection.execute(
            update(STATUS).where(STATUS.c.company_id == company_id).values(drift_rate=rate)
        )


async def recent_counts(mirror: MirrorReader, now: datetime) -> Counter[str]:
    """Give the counts of the last PERIOD by name."""
    async with mirror.reading() as connection:
        return await _counts(connection, mirror.company_id, now)


def differed_by_attribute(counts: Mapping[str, int]) -> dict[str, int]:
    """Give how many sampled customers differed, by attribute."""
    return {
        name.removeprefix(_DIFFERED_IN): count
        for name, count in counts.items()
        if name.startswith(_DIFFERED_IN)
    }


async def _counts(connection: AsyncConnection, company_id: int, now: datetime) -> Counter[str]:
    statement = (
        select(DAILY_COUNTS.c.name, func.sum(DAILY_COUNTS.c.count))
        .where(DAILY_COUNTS.c.company_id == company_id, DAILY_COUNTS.c.day > _day(now - PERIOD))
        .group_by(DAILY_COUNTS.c.name)
    )
    return Counter({name: int(count) for name, count in await connection.execute(statement)})


def _day(now: datetime) -> str:
    return now.date().isoformat()


_ADD: Final = adding(DAILY_COUNTS)
