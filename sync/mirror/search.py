"""Finding customers by what a person knows of them: id, e-mail, phone, reference id, each by its index."""

from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, func, literal, select

from sync.mirror.reader import MirrorReader
from sync.mirror.schema import CUSTOMERS

_C: Final = CUSTOMERS.c
_BIGGEST_ID: Final = 2**63 - 1


class Found(NamedTuple):
    """A customer as a list of findings shows it."""

    id: int
    first_name: str | None
    last_name: str | None
    email: str | None
    phone: str | None
    mobile: str | None
    reference_id: str | None
    deleted_at: datetime | None


async def customers_like(mirror: MirrorReader, wanted: str, limit: int) -> list[Found]:
    """Give the customers, live and deleted, whose id, e-mail (in any case), phone or reference id it is."""
    ways: list[tuple[ColumnElement[bool], ...]] = [
        (func.lower(_C.email) == func.lower(literal(wanted)),),
        (_C.phone == wanted,),
        (_C.mobile == wanted,),
        (_C.reference_id == wanted,),
    ]
    if wanted.isascii() and wanted.isdecimal() and 0 < int(wanted) <= _BIGGEST_ID:
        ways.insert(0, (_C.id == int(wanted),))
    found: dict[int, Found] = {}
    async with mirror.reading() as connection:
        for way in ways:
            statement = (
                select(*(_C[name] for name in Found._fields))
                .where(_C.company_id == mirror.company_id, *way)
                .limit(limit)
            )
            for row in await connection.execute(statement):
                found.setdefault(row.id, Found(*row))
    return list(found.values())[:limit]
