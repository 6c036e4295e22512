"""What upstream has shown so far: names of behaviours with counts and times, no values and no ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from sync.mirror.reader import MirrorReader
from sync.mirror.schema import OBSERVATIONS
from sync.mirror.store import Mirror


@dataclass(frozen=True, slots=True)
class Observation:
    """One behaviour: how often it was seen, and when first and last (UTC)."""

    name: str
    count: int
    first_at: datetime
    last_at: datetime


async def add_observations(mirror: Mirror, seen: Mapping[str, tuple[int, datetime, datetime]]) -> None:
    """Add counts by name, each with its first and last time, in one transaction."""
    rows = [
        {"company_id": mirror.company_id, "name": name, "count": count, "first_at": first, "last_at": last}
        for name, (count, first, last) in sorted(seen.items())
    ]
    statement = insert(OBSERVATIONS)
    added = statement.on_conflict_do_update(
        index_elements=["company_id", "name"],
        set_={
            "count": OBSERVATIONS.c.count + statement.excluded["count"],
            "last_at": statement.excluded.last_at,
        },
    )
    async with mirror.transaction() as connection:
        await connection.execute(added, rows)


async def observations(mirror: MirrorReader) -> list[Observation]:
    """Return what was seen, the last seen first."""
    statement = (
        select(*(OBSERVATIONS.c[name] for name in Observation.__slots__))
        .where(OBSERVATIONS.c.company_id == mirror.company_id)
        .order_by(OBSERVATIONS.c.last_at.desc(), OBSERVATIONS.c.name)
    )
    async with mirror.reading() as connection:
        return [Observation(*row) for row in await connection.execute(statement)]
