"""What the mirror can say of itself, in figures."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, func, select

from sync.merge.decisions import Verdict
from sync.mirror.progress import Progress
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import (
    CUSTOMERS,
    ERASED_CUSTOMERS,
    HELD_DELETES,
    PROGRESS,
    STATUS,
    VERDICT_COUNTS,
    VERDICTS,
    VERIFICATIONS,
)
from sync.mirror.verdicts import is_verdict


@dataclass(frozen=True, slots=True)
class Figures:
    """One company's mirror, counted; all times in UTC."""

    progress: Progress
    live: int
    deleted: int
    verified: int
    partial: int
    verdicts: dict[str, int]
    doubts: dict[str, int]
    held_deletes: int
    """Live customers that upstream answered 404 for."""
    oldest_verified_at: datetime | None
    last_quarantined_at: datetime | None
    last_delivery_at: datetime | None
    last_sweep_at: datetime | None
    erasure_begun_at: datetime | None = None
    """Of the oldest erasure that is not complete; None: all are."""
    held_since: datetime | None = None
    """When the first of the held deletions was found; None: none is held."""
    held_for_person: int = 0
    """Of the held deletions those that only a person can decide on, however few they are."""


async def figures_of(mirror: MirrorReader) -> Figures | None:
    """Count, all at one moment; None when the mirror holds nothing of this company yet."""
    company_id = mirror.company_id
    async with mirror.snapshot() as connection:
        progress = (
            await connection.execute(
                select(*(PROGRESS.c[name] for name in Progress.__slots__)).where(
                    PROGRESS.c.company_id == company_id
                )
            )
        ).first()
        status = (await connection.execute(select(STATUS).where(STATUS.c.company_id == company_id))).first()
        if progress is None or status is None:
            return None
        verdicts = await connection.execute(
            select(VERDICT_COUNTS.c.verdict, VERDICT_COUNTS.c.count).where(
                VERDICT_COUNTS.c.company_id == company_id
            )
        )
        quarantined = await connection.execute(
            select(func.max(VERDICTS.c.applied_at)).where(
                VERDICTS.c.company_id == company_id, is_verdict(Verdict.QUARANTINED.value)
            )
        )
        doubts = await connection.execute(
            select(VERIFICATIONS.c.reason, func.count())
            .where(VERIFICATIONS.c.company_id == company_id)
            .group_by(VERIFICATIONS.c.reason)
        )
        held = await connection.execute(
            select(func.count(), func.min(HELD_DELETES.c.missing_at), func.count(HELD_DELETES.c.why))
            .select_from(HELD_DELETES)
            .where(HELD_DELETES.c.company_id == company_id, _IS_LIVE)
        )
        begun = await connection.execute(
            select(func.min(ERASED_CUSTOMERS.c.erased_at)).where(
                ERASED_CUSTOMERS.c.company_id == company_id,
                ERASED_CUSTOMERS.c.completed_at.is_(None),
                ERASED_CUSTOMERS.c.returned_at.is_(None),
            )
        )
        held_deletes, held_since, held_for_person = held.one()
        return Figures(
            progress=Progress(*progress),
            live=status.live,
            deleted=status.deleted,
            verified=status.verified,
            partial=status.partial,
            verdicts=dict(verdicts.all()),
            doubts=dict(doubts.all()),
            held_deletes=held_deletes,
            oldest_verified_at=status.oldest_verified_at,
            last_quarantined_at=quarantined.scalar_one(),
            last_delivery_at=status.last_delivery_at,
            last_sweep_at=status.last_sweep_at,
            erasure_begun_at=begun.scalar_one(),
            held_since=held_since,
            held_for_person=held_for_person,
        )


# no join: SQLite would begin it with all customers
_IS_LIVE = (
    exists()
    .where(
        CUSTOMERS.c.company_id == HELD_DELETES.c.company_id,
        CUSTOMERS.c.id == HELD_DELETES.c.customer_id,
        CUSTOMERS.c.deleted_at.is_(None),
    )
    .correlate(HELD_DELETES)
)
