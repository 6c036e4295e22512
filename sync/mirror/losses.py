"""Losses: deliveries that could not be used and name no customer. They share one open gap (decision 0062)."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import BindParameter, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.mirror.bulk import among, json_array, time_text, upserting
from sync.mirror.schema import GAPS, LOST_BODIES, PROGRESS

LOST: Final = "Deliveries that name no customer could not be read"
"""The beginning of a sentence: what the gap is that they share."""
KNOWN_FOR: Final = timedelta(hours=24)
"""For so long the same bytes add nothing: one round of refresh a day is for all that was lost."""
MOST_KNOWN: Final = 10_000
"""Bodies of a company that are known again; those beyond count as new ones, which costs no more calls."""


async def note_lost(
    connection: AsyncConnection, company_id: int, digests: Sequence[str | None], now: datetime
) -> bool:
    """Note lost bodies by their digests (None: too short to be known again); return whether any is new.

    New ones open a gap, or keep the open one open for another sweep.
    """
    named = {digest for digest in digests if digest is not None}
    new = named - await _known(connection, company_id, named, now)
    if not new and None not in digests:
        return False
    await connection.execute(
        delete(LOST_BODIES).where(
            LOST_BODIES.c.company_id == company_id, LOST_BODIES.c.noticed_at <= now - KNOWN_FOR
        )
    )
    count = select(func.count()).select_from(LOST_BODIES).where(LOST_BODIES.c.company_id == company_id)
    free = MOST_KNOWN - int((await connection.execute(count)).scalar_one())
    kept = sorted(new)[: max(free, 0)]
    await _KEPT.run(connection, [(company_id, digest, time_text(now)) for digest in kept])
    await _keep_open(connection, company_id, now)
    return True


async def _known(
    connection: AsyncConnection, company_id: int, digests: Collection[str], now: datetime
) -> set[str]:
    if not digests:
        return set()
    wanted: BindParameter[str] = bindparam("wanted", json_array(digests))
    statement = select(LOST_BODIES.c.digest).where(
        LOST_BODIES.c.company_id == company_id,
        LOST_BODIES.c.noticed_at > now - KNOWN_FOR,
        among(LOST_BODIES.c.digest, wanted),
    )
    return set((await connection.execute(statement)).scalars())


async def _keep_open(connection: AsyncConnection, company_id: int, now: datetime) -> None:
    """Open the gap that losses share, or let the open gap wait for another sweep."""
    c = GAPS.c
    newest = select(c.id, c.mended_at).where(c.company_id == company_id).order_by(c.id.desc()).limit(1)
    gap = (await connection.execute(newest)).first()
    if gap is not None and gap.mended_at is None:
        waiting = update(GAPS).where(c.company_id == company_id, c.id == gap.id)
        await connection.execute(waiting.values(swept_at=None, revision=None))
        return
    seq = select(PROGRESS.c.seq).where(PROGRESS.c.company_id == company_id)
    await connection.execute(
        insert(GAPS).values(
            company_id=company_id,
            id=1 if gap is None else gap.id + 1,
            what=LOST,
            noticed_at=now,
            seq=seq.scalar_subquery(),
        )
    )


_KEPT: Final = upserting(LOST_BODIES)
