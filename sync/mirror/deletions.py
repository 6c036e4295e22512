"""Held deletes: customers that upstream answered 404 for, waiting to become tombstones."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, select

from sync.merge.snapshots import Source
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import CHANGES, CUSTOMERS, HELD_DELETES, STATUS


@dataclass(frozen=True, slots=True)
class HeldDelete:
    """One customer that was missing at `missing_at`; `live` while the mirror still shows it.

    One without a record is neither live nor `known`: only a delivery or a list has named it.
    """

    customer_id: int
    missing_at: datetime
    live: bool
    why: str | None = None
    """Why a person has to decide; None: it answered 404, or what is as good, and waits for the brake."""
    known: bool = True
    """Whether the mirror has a record of it."""


async def held_deletes(mirror: MirrorReader) -> list[HeldDelete]:
    """Give them all, the oldest first."""
    statement = (
        select(
            HELD_DELETES.c.customer_id,
            HELD_DELETES.c.missing_at,
            CUSTOMERS.c.deleted_at,
            HELD_DELETES.c.why,
            CUSTOMERS.c.id,
        )
        .join_from(
            HELD_DELETES,
            CUSTOMERS,
            and_(
                CUSTOMERS.c.company_id == HELD_DELETES.c.company_id,
                CUSTOMERS.c.id == HELD_DELETES.c.customer_id,
            ),
            isouter=True,
        )
        .where(HELD_DELETES.c.company_id == mirror.company_id)
        .order_by(HELD_DELETES.c.missing_at, HELD_DELETES.c.customer_id)
    )
    async with mirror.reading() as connection:
        rows = (await connection.execute(statement)).all()
    return [
        HeldDelete(customer_id, missing_at, known is not None and deleted_at is None, why, known is not None)
        for customer_id, missing_at, deleted_at, why, known in rows
    ]


async def deletions_since(mirror: MirrorReader, since: datetime) -> int:
    """Count the live customers that a 404 has deleted since then."""
    statement = (
        select(func.count())
        .select_from(CHANGES)
        .where(
            CHANGES.c.company_id == mirror.company_id,
            CHANGES.c.kind == "deleted",
            CHANGES.c.applied_at > since,
            CHANGES.c.source == Source.VERIFICATION.value,
        )
    )
    async with mirror.reading() as connection:
        return int((await connection.execute(statement)).scalar_one())


async def live_customers(mirror: MirrorReader) -> int:
    """Count the live customers."""
    async with mirror.reading() as connection:
        statement = select(STATUS.c.live).where(STATUS.c.company_id == mirror.company_id)
        return int((await connection.execute(statement)).scalar_one())
