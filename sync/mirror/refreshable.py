"""Customers that may be read again though nothing is known against them."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, and_, exists, or_, select

from sync.merge.doubts import Reason
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import CUSTOMERS, HELD_DELETES, VERIFICATIONS

_C: Final = CUSTOMERS.c
_UNPROVEN: Final = [Reason.CONFIRMATION.value, Reason.REFRESH.value]
"""Doubts that say nothing against a customer."""


async def oldest_verified(mirror: MirrorReader, before: datetime, ahead_of: datetime) -> int | None:
    """Give the live customer whose last proof is older than all others and than `before`.

    Behind them come those whose proof lies ahead of `ahead_of`: a clock has stepped back since.
    """
    statement = (
        select(_C.id)
        .where(
            _C.company_id == mirror.company_id,
            _C.deleted_at.is_(None),
            or_(_C.verified_at <= before, _C.verified_at > ahead_of),
            ~_has(VERIFICATIONS),
            ~_has(HELD_DELETES),
        )
        .order_by(_C.verified_at)
        .limit(1)
    )
    async with mirror.reading() as connection:
        return (await connection.execute(statement)).scalar()


async def undoubted(mirror: MirrorReader, place: int) -> int | None:
    """Give the live customer at `place` (0: the first); None: it is in doubt, held or known in part only.

    A customer that rests on a webhook alone is not in doubt: nothing is known against it.
    """
    doubted = _has(VERIFICATIONS, VERIFICATIONS.c.reason.not_in(_UNPROVEN))
    statement = (
        select(_C.id, _C.partial | doubted | _has(HELD_DELETES))
        .where(_C.company_id == mirror.company_id, _C.deleted_at.is_(None))
        .order_by(_C.verified_at)
        .limit(1)
        .offset(place)
    )
    async with mirror.reading() as connection:
        found = (await connection.execute(statement)).first()
    return None if found is None or found[1] else int(found[0])


def _has(table: Table, *conditions: ColumnElement[bool]) -> ColumnElement[Any]:
    of_customer = and_(table.c.company_id == _C.company_id, table.c.customer_id == _C.id, *conditions)
    return exists().where(of_customer).correlate(CUSTOMERS)
