"""Deliveries of each hour: what an hour of the week usually brings."""

from collections import Counter
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.mirror.bulk import adding, time_text
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import HOURLY_DELIVERIES


async def add_hours(connection: AsyncConnection, company_id: int, hours: Counter[datetime]) -> None:
    """Count deliveries in the hours in which they came."""
    await _ADD.run(connection, [(company_id, time_text(hour), count) for hour, count in hours.items()])


async def deliveries_by_hour(mirror: MirrorReader, since: datetime) -> dict[datetime, int]:
    """Give the deliveries of each hour from `since` on, by its beginning; hours without any are left out."""
    columns = HOURLY_DELIVERIES.c
    statement = select(columns.hour, columns.count).where(
        columns.company_id == mirror.company_id, columns.hour >= since
    )
    async with mirror.reading() as connection:
        return {hour: int(count) for hour, count in await connection.execute(statement)}


async def ever_delivered(mirror: MirrorReader) -> bool:
    """Whether a delivery of upstream's own was ever applied; pings of `webhooks test` are in no hour."""
    columns = HOURLY_DELIVERIES.c
    statement = select(columns.hour).where(columns.company_id == mirror.company_id).limit(1)
    async with mirror.reading() as connection:
        return (await connection.execute(statement)).first() is not None


_ADD: Final = adding(HOURLY_DELIVERIES)
