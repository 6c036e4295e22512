"""How the inbox goes from a file into a schema: each day's deliveries into a partition of their own."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import exists, func, select

from receiver.copying import Store
from receiver.inbox.partitions import bounds, make
from receiver.inbox.schema import MIGRATIONS, accepted, deliveries, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from sqlalchemy.engine import Connection

MOST_DAYS = 366  # what is older is little, and lies with the others


def _make_partitions(source: Connection, target: Connection) -> None:
    newest = source.execute(select(func.max(deliveries.c.received_at))).scalar_one()
    if newest is not None:
        make(target, _days(source, newest.date()))


def _days(source: Connection, newest: date) -> Iterator[date]:
    """Give the days that have deliveries, `newest` and a year before it."""
    companies = list(source.execute(select(accepted.c.company_id)).scalars())
    for back in range(MOST_DAYS):
        day = newest - timedelta(days=back)
        first, last = bounds(day)
        of_day = exists().where(
            deliveries.c.company_id.in_(companies), deliveries.c.id >= first, deliveries.c.id < last
        )
        if source.execute(select(of_day)).scalar_one():
            yield day


INBOX = Store("inbox", metadata, MIGRATIONS, prepare=_make_partitions)
