"""The feed of changes as others read it: onwards from a number, or of one customer."""

from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, select

from receiver.database import utc_text
from sync.merge.customers import Values
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import CHANGES, PROGRESS


class Change(NamedTuple):
    """One row of `customer_changes`."""

    company_id: int
    seq: int
    customer_id: int
    kind: str
    attributes: list[str]
    before: Values | None
    after: Values | None
    as_of: datetime | None
    source: str
    delivery_id: str | None
    applied_at: datetime

    def as_json(self) -> dict[str, Any]:
        """Give it as commands print it; times are ISO 8601 in UTC."""
        times = {
            "as_of": None if self.as_of is None else utc_text(self.as_of),
            "applied_at": utc_text(self.applied_at),
        }
        return self._asdict() | times


_C: Final = CHANGES.c
_SHOWN: Final = tuple(_C[name] for name in Change._fields)


async def changes_behind(mirror: MirrorReader, seq: int, limit: int) -> list[Change]:
    """Give the changes whose number is above `seq`, in order, at most `limit`."""
    return await _changes(mirror, _C.seq > seq, limit=limit)


async def changes_of(
    mirror: MirrorReader, customer_id: int, *, delivery_id: str | None = None, newest: int | None = None
) -> list[Change]:
    """Give the changes of a customer, or those that one delivery made of it, the newest last.

    With `newest`, only so many of the newest.
    """
    conditions = [_C.customer_id == customer_id]
    if delivery_id is not None:
        conditions.append(_C.delivery_id == delivery_id)
    if newest is None:
        return await _changes(mirror, *conditions)
    return (await _changes(mirror, *conditions, limit=newest, backwards=True))[::-1]


async def end_of_feed(mirror: MirrorReader) -> int:
    """Give the number of the newest change; 0 when there is none."""
    statement = select(PROGRESS.c.seq).where(PROGRESS.c.company_id == mirror.company_id)
    async with mirror.reading() as connection:
        return (await connection.execute(statement)).scalar_one_or_none() or 0


async def _changes(
    mirror: MirrorReader, *conditions: ColumnElement[bool], limit: int | None = None, backwards: bool = False
) -> list[Change]:
    statement = (
        select(*_SHOWN)
        .where(_C.company_id == mirror.company_id, *conditions)
        .order_by(_C.seq.desc() if backwards else _C.seq)
        .limit(limit)
    )
    async with mirror.reading() as connection:
        return [Change(*row) for row in await connection.execute(statement)]
