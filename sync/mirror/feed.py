"""The feed of changes as others read it: onwards from a number, or of one customer."""

from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, select

from receiver.errors import MirrorError
from sync.merge.customers import Values
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import PROGRESS
from sync.mirror.views import CUSTOMER_CHANGES, json_of


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
        return json_of(self)


class BeyondFeedError(MirrorError):
    """A follower has heard of changes that this feed does not have."""

    def __init__(self, end: int, told: str, seq: int) -> None:
        """Say so; `told` is what says that the follower has come to `seq`."""
        super().__init__(
            f"The feed ends with seq {end}, and {told} says {seq}: it is of another mirror, or this one was "
            "made anew. Begin at 0, and take every customer from there."
        )


_C: Final = CUSTOMER_CHANGES.c
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
    async with mirror.reading() as connection:
        return (await connection.execute(selected_end(mirror.company_id))).scalar_one_or_none() or 0


def selected_end(company_id: int) -> Select[int]:
    """Select the number of the newest change; no row, or 0, when there is none."""
    return select(PROGRESS.c.seq).where(PROGRESS.c.company_id == company_id)


def selected_changes(
    company_id: int, *conditions: ColumnElement[bool], limit: int | None = None, backwards: bool = False
) -> Select[*tuple[Any, ...]]:
    """Select the fields of `Change`, in order."""
    return (
        select(*_SHOWN)
        .where(_C.company_id == company_id, *conditions)
        .order_by(_C.seq.desc() if backwards else _C.seq)
        .limit(limit)
    )


async def _changes(
    mirror: MirrorReader, *conditions: ColumnElement[bool], limit: int | None = None, backwards: bool = False
) -> list[Change]:
    statement = selected_changes(mirror.company_id, *conditions, limit=limit, backwards=backwards)
    async with mirror.reading() as connection:
        return [Change(*row) for row in await connection.execute(statement)]
