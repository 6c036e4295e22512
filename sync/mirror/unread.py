"""Which columns could not be read, of how many live customers."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import select

from sync.merge.customers import COLUMNS, OTHER
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import CUSTOMERS

AT_ONCE: Final = 1000


@dataclass(slots=True)
class Unread:
    """Column -> number of live customers. `other`: fields that this version does not know."""

    strange: Counter[str] = field(default_factory=Counter)
    """What came cannot be understood or stored."""
    missing: Counter[str] = field(default_factory=Counter)
    """Nothing came."""


async def unread_of(mirror: MirrorReader) -> Unread:
    """Count the columns of all live customers that the last read left unknown."""
    unread, after = Unread(), 0
    statement = (
        select(CUSTOMERS.c.id, CUSTOMERS.c.unread)
        .where(CUSTOMERS.c.company_id == mirror.company_id, CUSTOMERS.c.unread.is_not(None))
        .where(CUSTOMERS.c.deleted_at.is_(None))
        .order_by(CUSTOMERS.c.id)
        .limit(AT_ONCE)
    )
    while True:
        async with mirror.reading() as connection:
            rows = (await connection.execute(statement.where(CUSTOMERS.c.id > after))).all()
        if not rows:
            return unread
        for _, columns in rows:
            for name, raw in columns.items():
                column = name if name in COLUMNS else OTHER
                (unread.missing if raw is None else unread.strange)[column] += 1
        after = rows[-1][0]
