"""All that the mirror knows of one customer at one moment."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select

from sync.merge.doubts import Doubt, Reason
from sync.merge.records import Record
from sync.mirror.reader import MirrorReader
from sync.mirror.rows import record_of
from sync.mirror.schema import CUSTOMERS, HELD_DELETES, VERIFICATIONS

_DOUBT: Final = tuple(VERIFICATIONS.c[field.name] for field in fields(Doubt))


@dataclass(frozen=True, slots=True)
class Known:
    """A customer's record, the doubt about it, and since when its deletion is held; None: there is none."""

    record: Record | None = None
    doubt: Doubt | None = None
    missing_at: datetime | None = None


async def known_of(mirror: MirrorReader, customer_id: int) -> Known:
    """Look at a customer."""
    customer = select(CUSTOMERS).where(
        CUSTOMERS.c.company_id == mirror.company_id, CUSTOMERS.c.id == customer_id
    )
    doubt = select(*_DOUBT).where(
        VERIFICATIONS.c.company_id == mirror.company_id, VERIFICATIONS.c.customer_id == customer_id
    )
    held = select(HELD_DELETES.c.missing_at).where(
        HELD_DELETES.c.company_id == mirror.company_id, HELD_DELETES.c.customer_id == customer_id
    )
    async with mirror.reading() as connection:
        row = (await connection.execute(customer)).first()
        raised = (await connection.execute(doubt)).first()
        missing_at = (await connection.execute(held)).scalar_one_or_none()
    return Known(
        None if row is None else record_of(row)[0],
        None if raised is None else _doubt(*raised),
        missing_at,
    )


def _doubt(customer_id: int, reason: str, *rest: Any) -> Doubt:
    return Doubt(customer_id, Reason(reason), *rest)
