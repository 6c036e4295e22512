"""Sweeps: how far a walk of upstream's list has come, and whom it did not meet."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import exists, insert, or_, select, update

from sync.mirror.batch import Batch
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import CUSTOMERS, STATUS, SWEEPS, VERIFICATIONS
from sync.mirror.store import Mirror


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One sweep; `next_page` is where it goes on: None at the beginning, END once every page was met."""

    id: int
    reason: str
    started_at: datetime
    finished_at: datetime | None
    complete: bool
    next_page: str | None
    listed: int
    failure: str | None
    pages: int | None = None
    """How many pages it has met; None: it began before that was counted."""


END: Final = ""
_COLUMNS: Final = [SWEEPS.c[name] for name in SweepRow.__slots__]


async def newest_sweep(mirror: MirrorReader, *, complete: bool = False) -> SweepRow | None:
    """Give the newest sweep, or the newest complete one."""
    statement = select(*_COLUMNS).where(SWEEPS.c.company_id == mirror.company_id)
    if complete:
        statement = statement.where(SWEEPS.c.complete)
    async with mirror.reading() as connection:
        row = (await connection.execute(statement.order_by(SWEEPS.c.id.desc()).limit(1))).first()
    return None if row is None else SweepRow(*row)


async def begin_sweep(mirror: Mirror, reason: str, now: datetime) -> SweepRow:
    """Note that a sweep begins."""
    newest = await newest_sweep(mirror)
    sweep = SweepRow(1 if newest is None else newest.id + 1, reason, now, None, False, None, 0, None, 0)
    async with mirror.transaction() as connection:
        await connection.execute(
            insert(SWEEPS).values(
                company_id=mirror.company_id, **{name: getattr(sweep, name) for name in SweepRow.__slots__}
            )
        )
    return sweep


async def note_page(batch: Batch, sweep: SweepRow) -> None:
    """Note how far a sweep has come, in the transaction of the page that brought it there."""
    await batch.connection.execute(
        update(SWEEPS)
        .where(SWEEPS.c.company_id == batch.company_id, SWEEPS.c.id == sweep.id)
        .values(next_page=sweep.next_page, listed=sweep.listed, pages=sweep.pages)
    )


async def end_sweep(mirror: Mirror, sweep: SweepRow, now: datetime, failure: str | None) -> None:
    """Note that a sweep has met every page, or why it has not."""
    complete = failure is None
    async with mirror.transaction() as connection:
        await connection.execute(
            update(SWEEPS)
            .where(SWEEPS.c.company_id == mirror.company_id, SWEEPS.c.id == sweep.id)
            .values(finished_at=now, complete=complete, failure=failure)
        )
        status = {"listed_complete": complete} | ({"last_sweep_at": now} if complete else {})
        await connection.execute(
            update(STATUS).where(STATUS.c.company_id == mirror.company_id).values(status)
        )


async def note_failure(mirror: Mirror, sweep: SweepRow, failure: str) -> None:
    """Note why a sweep stands still; it can go on at its next page."""
    async with mirror.transaction() as connection:
        await connection.execute(
            update(SWEEPS)
            .where(SWEEPS.c.company_id == mirror.company_id, SWEEPS.c.id == sweep.id)
            .values(failure=failure)
        )


async def unlisted(mirror: MirrorReader, sweep: SweepRow, after: int, limit: int) -> list[int]:
    """Give ids above `after` of customers that the sweep has not met, in order, at most `limit`.

    Those are the live ones, and tombstones in doubt: a read of them may be under way.
    """
    in_doubt = exists().where(
        VERIFICATIONS.c.company_id == CUSTOMERS.c.company_id, VERIFICATIONS.c.customer_id == CUSTOMERS.c.id
    )
    statement = (
        select(CUSTOMERS.c.id)
        .where(
            CUSTOMERS.c.company_id == mirror.company_id,
            CUSTOMERS.c.listed_in < sweep.id,
            or_(CUSTOMERS.c.deleted_at.is_(None), in_doubt),
            CUSTOMERS.c.id > after,
        )
        .order_by(CUSTOMERS.c.id)
        .limit(limit)
    )
    async with mirror.reading() as connection:
        return list((await connection.execute(statement)).scalars())
