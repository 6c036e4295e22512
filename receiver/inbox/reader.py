"""The inbox as everyone but a receiver sees it: read-only, by position."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Self

from sqlalchemy import func, or_, select

from receiver.database import open_reader
from receiver.errors import MirrorError
from receiver.inbox.delivery import Delivery, FailedCommits, Refusal, Start
from receiver.inbox.schema import (
    NOBODY,
    accepted,
    deliveries,
    failed_commits,
    identity,
    refusals,
    starts,
    tokens,
)
from receiver.topics import PING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Any

    from sqlalchemy import Select
    from sqlalchemy.engine import Row
    from sqlalchemy.ext.asyncio import AsyncEngine

    from receiver.database import Database

BYTES_AT_ONCE = 16 * 1024 * 1024
ROWS_A_TRIP = 100
_NAMES_AT_ONCE = 500

_identity = select(identity.c.identity)
_delivery = select(
    deliveries.c.position,
    deliveries.c.id,
    deliveries.c.company_id,
    deliveries.c.topic,
    deliveries.c.received_at,
    deliveries.c.headers,
    deliveries.c.body,
)


class InboxReader:
    """Reads the inbox while receivers write it; any number may, a file in any process of the same user."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, database: Database) -> Self:
        """Open the inbox; `StoreMissing` when it is a file that no receiver has made yet."""
        return cls(open_reader(database))

    async def close(self) -> None:
        await self._engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def identity(self) -> str:
        """Give the UUID of this inbox. Another one than before means that deliveries are missing."""
        found = await self._one(_identity)
        if found is None:
            raise MirrorError(
                "The inbox has no identity yet: its receiver is about to start for the first time."
            )
        return str(found[0])

    async def read(
        self, company_id: int, after: int, limit: int, *, most_bytes: int = BYTES_AT_ONCE
    ) -> list[Delivery]:
        """Give a company's deliveries behind position `after`, in order, at most `limit`.

        Fewer when their bodies reach `most_bytes` before; but one at least, if there is one.
        """
        statement = (
            _delivery.where(deliveries.c.company_id == company_id, deliveries.c.position > after)
            .order_by(deliveries.c.position)
            .limit(limit)
        )
        if self._engine.dialect.name == "postgresql":
            return await self._deliveries(_no_more_than(most_bytes, statement))
        found: list[Delivery] = []
        size = 0
        async with self._engine.connect() as connection, connection.stream(statement) as rows:
            async for part in rows.partitions(ROWS_A_TRIP):
                found += _read(part)
                size += sum(len(row.body) for row in part)
                if size >= most_bytes:
                    break
        return found

    async def is_behind(self, company_id: int, position: int) -> bool:
        """Whether a company's deliveries go on behind a position."""
        behind = deliveries.c.company_id == company_id, deliveries.c.position > position
        return await self._one(select(deliveries.c.position).where(*behind).limit(1)) is not None

    async def head(self, company_id: int) -> int:
        """Give a company's highest position that is there; 0 when none is."""
        of_company = deliveries.c.company_id == company_id
        found = await self._one(select(func.max(deliveries.c.position)).where(of_company))
        return 0 if found is None or found[0] is None else int(found[0])

    async def pending(self, company_id: int, after: int) -> tuple[int, datetime | None]:
        """How many deliveries of a company lie behind `after`, and when the first of them came."""
        behind = (deliveries.c.company_id == company_id, deliveries.c.position > after)
        first = (
            select(deliveries.c.received_at)
            .where(*behind)
            .order_by(deliveries.c.position)
            .limit(1)
            .scalar_subquery()
        )
        found = await self._one(select(func.count(), first).select_from(deliveries).where(*behind))
        return (0, None) if found is None else (int(found[0]), found[1])

    async def find(self, company_id: int, ids: Collection[str]) -> list[Delivery]:
        """Give a company's deliveries of these names that are still there, in order of position."""
        names = sorted(set(ids))
        found: list[Delivery] = []
        for start in range(0, len(names), _NAMES_AT_ONCE):
            part = names[start : start + _NAMES_AT_ONCE]
            named = deliveries.c.company_id == company_id, deliveries.c.id.in_(part)
            found += await self._deliveries(_delivery.where(*named))
        return sorted(found, key=lambda delivery: delivery.position)

    async def newest(self, company_id: int) -> datetime | None:
        """When the newest delivery of a company came."""
        found = await self._one(
            select(deliveries.c.received_at)
            .where(deliveries.c.company_id == company_id)
            .order_by(deliveries.c.position.desc())
            .limit(1)
        )
        return None if found is None else found[0]

    async def accepted(self, company_id: int) -> int:
        """How many deliveries of a company were ever stored, whatever retention has removed."""
        found = await self._one(select(accepted.c.count).where(accepted.c.company_id == company_id))
        return 0 if found is None else int(found[0])

    async def has_deliveries(self, company_id: int) -> bool:
        """Whether a delivery of upstream's own is there: one that is no ping of `webhooks test`."""
        own = deliveries.c.company_id == company_id, deliveries.c.topic != PING
        return await self._one(select(deliveries.c.position).where(*own).limit(1)) is not None

    async def refusals(self, company_id: int) -> list[Refusal]:
        """Refused requests by reason; those that named no company of ours are among them."""
        rows = await self._all(
            select(
                refusals.c.reason,
                func.sum(refusals.c.count),
                func.min(refusals.c.first_at),
                func.max(refusals.c.last_at),
            )
            .where(or_(refusals.c.company_id == company_id, refusals.c.company_id == NOBODY))
            .group_by(refusals.c.reason)
            .order_by(refusals.c.reason)
        )
        return [Refusal(reason, int(count), first_at, last_at) for reason, count, first_at, last_at in rows]

    async def tokens_used(self, company_id: int) -> dict[str, datetime]:
        """When each of a company's tokens has verified a delivery last, by its fingerprint."""
        columns = tokens.c
        rows = await self._all(
            select(columns.fingerprint, columns.last_used_at).where(columns.company_id == company_id)
        )
        return {fingerprint: last_used_at for fingerprint, last_used_at in rows}  # noqa: C416 - rows are no tuples

    async def starts(self, after: int = 0) -> list[Start]:
        """Give the runs of the receiver whose number is above `after`, in order."""
        columns = starts.c
        rows = await self._all(
            select(columns.number, columns.started_at, columns.stopped_at, columns.seen_at, columns.kept)
            .where(columns.number > after)
            .order_by(columns.number)
        )
        return [Start(*row) for row in rows]

    async def runs(self, since: datetime) -> list[Start]:
        """Give the runs of receivers that have given a sign of life since then, in order of their start."""
        columns = starts.c
        last_sign = func.coalesce(columns.stopped_at, columns.seen_at, columns.started_at)
        rows = await self._all(
            select(columns.number, columns.started_at, columns.stopped_at, columns.seen_at, columns.kept)
            .where(last_sign >= since)
            .order_by(columns.number)
        )
        return [Start(*row) for row in rows]

    async def newest_start(self) -> Start | None:
        """Give the newest run of the receiver; None in an inbox that was only made."""
        columns = starts.c
        row = await self._one(
            select(columns.number, columns.started_at, columns.stopped_at, columns.seen_at, columns.kept)
            .order_by(columns.number.desc())
            .limit(1)
        )
        return None if row is None else Start(*row)

    async def failed_commits(self, after: int = 0) -> list[FailedCommits]:
        """Give the times in which deliveries were refused, those whose number is above `after`, in order."""
        columns = failed_commits.c
        rows = await self._all(
            select(columns.number, columns.first_at, columns.last_at, columns.refused, columns.reason)
            .where(columns.number > after)
            .order_by(columns.number)
        )
        return [FailedCommits(*row) for row in rows]

    async def _deliveries(self, statement: Select[*tuple[Any, ...]]) -> list[Delivery]:
        return _read(await self._all(statement))

    async def _all(self, statement: Select[*tuple[Any, ...]]) -> list[Row[*tuple[Any, ...]]]:
        async with self._engine.connect() as connection:
            return list((await connection.execute(statement)).all())

    async def _one(self, statement: Select[*tuple[Any, ...]]) -> Row[*tuple[Any, ...]] | None:
        async with self._engine.connect() as connection:
            return (await connection.execute(statement)).first()


def _no_more_than(most_bytes: int, statement: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """Leave out those before which the bodies have reached this size: one trip, where a cursor takes many."""
    size = func.sum(func.octet_length(deliveries.c.body))
    before = size.over(order_by=deliveries.c.position, rows=(None, -1)).label("before")
    sized = statement.add_columns(before).subquery("sized")
    return (
        select(*(column for column in sized.c if column is not sized.c.before))
        .where(func.coalesce(sized.c.before, 0) < most_bytes)
        .order_by(sized.c.position)
    )


def _read(rows: Sequence[Row[*tuple[Any, ...]]]) -> list[Delivery]:
    return [
        Delivery(position, id_, company_id, topic, received_at, json.loads(headers), body)
        for position, id_, company_id, topic, received_at, headers, body in rows
    ]
