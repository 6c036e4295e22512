"""A change of MIRROR_ATTRIBUTES: what is no longer kept goes at once, what is new has yet to be read."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.merge.customers import ATTRIBUTES, Subscription, attributes_of
from sync.merge.doubts import Reason
from sync.mirror.queue import doubt_every_live
from sync.mirror.schema import CHANGES, CUSTOMERS, STATUS
from sync.mirror.store import Mirror

WIDENED: Final = "widened"
"""Why a sweep is due: attributes are subscribed that were not before."""
AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Resubscription:
    """What changed: attributes that were blanked, attributes that are new, customers to read for them."""

    blanked: tuple[str, ...]
    new: tuple[str, ...]
    to_read: int


async def resubscribe(mirror: Mirror, now: datetime) -> Resubscription | None:
    """Make the mirror hold what `mirror.subscription` names, and nothing else; None: it does already.

    Killed meanwhile, it is done again by the next owner. A tombstone is not read for what is new.
    """
    before = Subscription.of(await _attributes(mirror))
    after = mirror.subscription
    if before == after:
        return None
    both = Subscription(before.attributes & after.attributes)
    if both != before:
        async with mirror.transaction() as connection:
            await _blank(connection, mirror.company_id, set(before.columns) - set(both.columns))
            await _note(connection, mirror.company_id, both)
    to_read = 0
    if both != after:
        await doubt_every_live(mirror, Reason.PARTIAL, now, asked=False)
        if mirror.progress.sweep_due is None:
            await mirror.note(sweep_due=WIDENED)
        async with mirror.transaction() as connection:
            to_read = await _unsettle(connection, mirror.company_id)
            await _note(connection, mirror.company_id, after)
    return Resubscription(
        tuple(name for name in ATTRIBUTES if name in before.attributes - after.attributes),
        tuple(name for name in ATTRIBUTES if name in after.attributes - before.attributes),
        to_read,
    )


async def _attributes(mirror: Mirror) -> list[str]:
    statement = select(STATUS.c.attributes).where(STATUS.c.company_id == mirror.company_id)
    async with mirror.reading() as connection:
        return list((await connection.execute(statement)).scalar_one())


async def _note(connection: AsyncConnection, company_id: int, subscription: Subscription) -> None:
    attributes = [name for name in ATTRIBUTES if name in subscription.attributes]
    await connection.execute(
        update(STATUS).where(STATUS.c.company_id == company_id).values(attributes=attributes)
    )


async def _unsettle(connection: AsyncConnection, company_id: int) -> int:
    """Let every live customer be known in part only, and give their number."""
    live = CUSTOMERS.c.company_id == company_id, CUSTOMERS.c.deleted_at.is_(None)
    number = int(
        (await connection.execute(select(func.count()).select_from(CUSTOMERS).where(*live))).scalar_one()
    )
    await connection.execute(update(CUSTOMERS).where(*live).values(partial=True, verified_at=None))
    await connection.execute(
        update(STATUS)
        .where(STATUS.c.company_id == company_id)
        .values(partial=number, verified=0, oldest_verified_at=None)
    )
    return number


async def _blank(connection: AsyncConnection, company_id: int, columns: Collection[str]) -> None:
    """Empty these columns of every customer and of the whole history."""
    nothing: Mapping[Any, None] = dict.fromkeys(columns)
    for table in (CUSTOMERS, CHANGES):
        await connection.execute(update(table).where(table.c.company_id == company_id).values(nothing))
    await _blank_unread(connection, company_id, columns)
    after = 0
    while changes := await _changes(connection, company_id, after):
        told = [told for change in changes if (told := _without(columns, *change)) is not None]
        if told:
            await connection.execute(_TELL, [{**values, "of_company": company_id} for values in told])
        after = changes[-1][0]


async def _blank_unread(connection: AsyncConnection, company_id: int, columns: Collection[str]) -> None:
    """Empty what came for these columns and could not be read; unknown fields go with `other`."""
    after = 0
    while True:
        found = await connection.execute(
            select(CUSTOMERS.c.id, CUSTOMERS.c.unread)
            .where(
                CUSTOMERS.c.company_id == company_id,
                CUSTOMERS.c.id > after,
                CUSTOMERS.c.unread.is_not(None),
            )
            .order_by(CUSTOMERS.c.id)
            .limit(AT_ONCE)
        )
        rows = [(id_, _kept_unread(columns, unread)) for id_, unread in found]
        if not rows:
            return
        emptied = [{"of_id": id_, "left": left or None, "of_company": company_id} for id_, left in rows]
        await connection.execute(_KEEP_UNREAD, emptied)
        after = rows[-1][0]


def _kept_unread(columns: Collection[str], unread: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name: raw for name, raw in unread.items() if name.partition(".")[0] not in columns}


async def _changes(connection: AsyncConnection, company_id: int, after: int) -> list[tuple[Any, ...]]:
    statement = (
        select(CHANGES.c.seq, CHANGES.c.attributes, CHANGES.c.before, CHANGES.c.after)
        .where(CHANGES.c.company_id == company_id, CHANGES.c.seq > after)
        .order_by(CHANGES.c.seq)
        .limit(AT_ONCE)
    )
    return [tuple(row) for row in await connection.execute(statement)]


def _without(
    columns: Collection[str],
    seq: int,
    attributes: list[str],
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> dict[str, Any] | None:
    """Give what is left of a change; None when nothing of it goes."""
    was, became = _kept(columns, before), _kept(columns, after)
    if (was, became) == (before, after):
        return None
    told = attributes_of(frozenset({*(was or ()), *(became or ())}))
    left = [name for name in attributes if name in told]
    return {"of_seq": seq, "left": left, "was": was, "became": became}


def _kept(columns: Collection[str], values: dict[str, Any] | None) -> dict[str, Any] | None:
    return values and {name: value for name, value in values.items() if name not in columns}


_KEEP_UNREAD: Final = (
    update(CUSTOMERS)
    .where(CUSTOMERS.c.company_id == bindparam("of_company"), CUSTOMERS.c.id == bindparam("of_id"))
    .values(unread=bindparam("left"))
)
_TELL: Final = (
    update(CHANGES)
    .where(CHANGES.c.company_id == bindparam("of_company"), CHANGES.c.seq == bindparam("of_seq"))
    .values(attributes=bindparam("left"), before=bindparam("was"), after=bindparam("became"))
)
