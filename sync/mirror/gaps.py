"""Gaps: times in which deliveries may have been lost, and what the sweeps after them repaired."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.merge.decisions import Kind
from sync.merge.doubts import MOST_FAILURES, SWEEP
from sync.merge.snapshots import Source
from sync.mirror.losses import LOST
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import CHANGES, GAPS, PROGRESS, VERIFICATIONS
from sync.mirror.store import Mirror

REPAIRS: Final = (Source.SWEEP.value, Source.VERIFICATION.value)
"""Sources of changes that no delivery had announced."""


@dataclass(frozen=True, slots=True)
class GapRow:
    """A gap: noticed, then swept, then mended, once whatever the sweep found doubtful was read."""

    id: int
    what: str
    """The beginning of a sentence, without times: "Nobody listened"."""
    since: datetime | None
    until: datetime | None
    noticed_at: datetime
    seq: int
    """The newest change when it was noticed: the later ones may be repairs."""
    swept_at: datetime | None
    revision: int | None
    """The newest doubt when it was swept: the sweep's own are not younger."""
    mended_at: datetime | None
    created: int | None
    updated: int | None
    deleted: int | None


_COLUMNS: Final = [GAPS.c[name] for name in GapRow.__slots__]


async def newest_gap(mirror: MirrorReader) -> GapRow | None:
    """Give the newest gap: if any is open, this one."""
    async with mirror.reading() as connection:
        return await _newest(connection, mirror.company_id)


async def note_gap(
    mirror: Mirror,
    what: str,
    now: datetime,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    **progress: Any,
) -> None:
    """Note a gap in one transaction with what `progress` says of it: that a sweep is due, and what was seen.

    One that is not mended yet becomes longer: one sweep is for both.
    """
    async with mirror.noting(**progress) as connection:
        newest = await _newest(connection, mirror.company_id)
        if newest is None or newest.mended_at is not None:
            seq = select(PROGRESS.c.seq).where(PROGRESS.c.company_id == mirror.company_id)
            await connection.execute(
                insert(GAPS).values(
                    company_id=mirror.company_id,
                    id=1 if newest is None else newest.id + 1,
                    what=what,
                    since=since,
                    until=until,
                    noticed_at=now,
                    seq=seq.scalar_subquery(),
                )
            )
            return
        await connection.execute(
            update(GAPS)
            .where(GAPS.c.company_id == mirror.company_id, GAPS.c.id == newest.id)
            .values(
                what=what if newest.what == LOST else newest.what,
                since=min(filter(None, (newest.since, since)), default=None),
                until=max(filter(None, (newest.until, until)), default=None),
                noticed_at=now,
                swept_at=None,
                revision=None,
            )
        )


async def note_swept(mirror: Mirror, now: datetime) -> bool:
    """Note that the sweep that was due is complete; say whether it was for a gap."""
    revision = select(PROGRESS.c.revision).where(PROGRESS.c.company_id == mirror.company_id)
    async with mirror.noting(sweep_due=None) as connection:
        result = await connection.execute(
            update(GAPS)
            .where(GAPS.c.company_id == mirror.company_id, GAPS.c.mended_at.is_(None))
            .values(swept_at=now, revision=revision.scalar_subquery())
        )
    return result.rowcount > 0


async def note_losses_swept(mirror: Mirror, began_at: datetime, now: datetime) -> None:
    """Note that a sweep for losses that began at `began_at` is complete, also of the gap that they share."""
    revision = select(PROGRESS.c.revision).where(PROGRESS.c.company_id == mirror.company_id)
    async with mirror.noting(lost_swept_at=began_at) as connection:
        await connection.execute(
            update(GAPS)
            .where(
                GAPS.c.company_id == mirror.company_id, GAPS.c.mended_at.is_(None), GAPS.c.swept_at.is_(None)
            )
            .values(swept_at=now, revision=revision.scalar_subquery())
        )


async def is_read(mirror: MirrorReader, gap: GapRow) -> bool:
    """Say whether everything was read that the sweep after this gap found doubtful."""
    statement = (
        select(func.count())
        .select_from(VERIFICATIONS)
        .where(
            VERIFICATIONS.c.company_id == mirror.company_id,
            VERIFICATIONS.c.priority <= SWEEP,
            VERIFICATIONS.c.born <= gap.revision,
            VERIFICATIONS.c.failures < MOST_FAILURES,  # a problem of its own
        )
    )
    async with mirror.reading() as connection:
        return (await connection.execute(statement)).scalar_one() == 0


async def note_mended(mirror: Mirror, gap: GapRow, now: datetime) -> dict[str, int]:
    """Note that a gap is mended; count the customers that were repaired since: created, updated, deleted.

    One that a list brought and a read completed is created, not updated.
    """
    had = {
        name: (func.count().filter(CHANGES.c.kind.in_(kinds)) > 0).label(name)
        for name, kinds in (
            ("created", (Kind.CREATED, Kind.RESTORED)),
            ("updated", (Kind.UPDATED,)),
            ("deleted", (Kind.DELETED,)),
        )
    }
    each = (
        select(*had.values())
        .where(
            CHANGES.c.company_id == mirror.company_id, CHANGES.c.seq > gap.seq, CHANGES.c.source.in_(REPAIRS)
        )
        .group_by(CHANGES.c.customer_id)
        .subquery()
    )
    statement = select(
        func.count().filter(each.c.created),
        func.count().filter(each.c.updated, ~each.c.created),
        func.count().filter(each.c.deleted),
    )
    async with mirror.transaction() as connection:
        counts = (await connection.execute(statement)).one()
        repaired = dict(zip(had, map(int, counts), strict=True))
        await connection.execute(
            update(GAPS)
            .where(GAPS.c.company_id == mirror.company_id, GAPS.c.id == gap.id)
            .values(mended_at=now, **repaired)
        )
    return repaired


async def _newest(connection: AsyncConnection, company_id: int) -> GapRow | None:
    statement = select(*_COLUMNS).where(GAPS.c.company_id == company_id).order_by(GAPS.c.id.desc()).limit(1)
    row = (await connection.execute(statement)).first()
    return None if row is None else GapRow(*row)
