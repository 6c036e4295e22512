"""Who was erased, as every transaction that writes looks at it: by marks, never by names or ids."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.mirror.bulk import Lookup, among, json_array, keeping
from sync.mirror.marks import Marker
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import ERASED_BODIES, ERASED_CUSTOMERS

REASON: Final = "erased"
"""Why a delivery about an erased customer changed nothing."""

BODIES: Final = keeping(ERASED_BODIES)
"""Adds deliveries whose bodies the inbox has yet to drop: company, name."""

_E: Final = ERASED_CUSTOMERS.c
_AMONG: Final = Lookup(
    select(_E.mark).where(
        _E.company_id == bindparam("company"),
        _E.returned_at.is_(None),
        among(_E.mark, bindparam("marks", type_=_E.mark.type)),
    ),
    ["company", "marks"],
)


async def erased_among(
    connection: AsyncConnection, company_id: int, marker: Marker, customer_ids: Collection[int]
) -> set[int]:
    """Name those of these customers that were erased and may not come back."""
    ids = {marker.mark(company_id, customer_id): customer_id for customer_id in customer_ids}
    rows = await _AMONG.rows(connection, company_id, json_array(ids))
    return {ids[mark] for (mark,) in rows}


async def erased_at(mirror: MirrorReader, marker: Marker | None, customer_id: int) -> datetime | None:
    """Say when a customer was erased; None: never, or a person let it come back, or there is no key."""
    if marker is None:
        return None
    statement = select(_E.erased_at).where(
        _E.company_id == mirror.company_id,
        _E.mark == marker.mark(mirror.company_id, customer_id),
        _E.returned_at.is_(None),
    )
    async with mirror.reading() as connection:
        found: datetime | None = (await connection.execute(statement)).scalar_one_or_none()
    return found
