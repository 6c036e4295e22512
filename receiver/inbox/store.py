"""What an `InboxWriter` writes to: the inbox in one database, and the run of the receiver that it notes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from receiver.database import WritingThread, migrate
from receiver.inbox import transactions
from receiver.inbox.erasure import Dropped, drop_bodies
from receiver.inbox.retention import release
from receiver.inbox.schema import MIGRATIONS
from receiver.inbox.transactions import Row, Sign
from receiver.ownership import Ownership
from receiver.postgresql import Schema

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from receiver.database import Database
    from receiver.inbox.notes import Page


@dataclass(frozen=True, slots=True)
class Spooled:
    """What waits on this machine for PostgreSQL."""

    count: int
    since: datetime | None
    """When the oldest of them came; while none waits, since when PostgreSQL is away; None: it is not."""
    away: bool = False
    """Whether what comes now is spooled."""


async def owned(database: Database) -> Ownership | None:
    """Own the inbox, made or migrated if need be; None: it is a schema, which several may write."""
    if not isinstance(database, Path):
        await asyncio.to_thread(migrate, database, MIGRATIONS)
        return None
    ownership = Ownership.take(database.parent, database.stem, "the receiver")
    try:
        await asyncio.to_thread(migrate, database, MIGRATIONS)
    except BaseException:
        ownership.close()
        raise
    return ownership


class InboxStore(WritingThread):
    """The one writing connection; a file has no other owner."""

    tasks: Sequence[asyncio.Task[None]] = ()
    """What it does by itself once it has begun, and without which it is of no use."""

    def __init__(self, database: Database, ownership: Ownership | None) -> None:
        super().__init__(database)
        self.database = database
        self._ownership = ownership
        self._run = 0

    @classmethod
    async def open(cls, database: Database) -> Self:
        """Open the inbox, made or migrated if need be.

        Raises `OwnedElsewhere`, `NewerDatabase`, `MigrationFailed`, or `MirrorError` for a directory that
        cannot serve.
        """
        ownership = await owned(database)
        return cls(database, ownership)

    @property
    def spooled(self) -> Spooled | None:
        """What waits here for another database; None: nothing ever does."""
        return None

    @property
    def file(self) -> Path | None:
        """The file that holds the inbox; None: it is elsewhere, or only for a time in a file."""
        return self.database if isinstance(self.database, Path) else None

    async def begin(self, now: datetime, socket: str | None = None) -> None:
        """Note the start of a run; `socket` identifies one that its parent keeps open."""
        self._run = await self.transact(partial(transactions.begin, now=now, socket=socket))

    async def append(self, rows: Sequence[Row], *, tried: bool = False) -> None:
        """Store deliveries, all or none; with `tried` some may be there already."""
        await self.transact(partial(transactions.append, rows=rows, tried=tried))

    async def note(self, page: Page, now: datetime, *, alive: bool, last: bool) -> bool:
        """Write notes, and that this run lives or stops; False: they wait, though deliveries need not."""
        sign = Sign(self._run, now, last) if alive else None
        await self.transact(partial(transactions.note, page=page, sign=sign))
        return True

    async def forget(self, company_id: int, *, through: int, before: datetime, keep: Collection[str]) -> int:
        """Remove a company's deliveries as `InboxWriter.forget` says."""
        if isinstance(self.database, Schema):
            return await release(self.database, company_id, through=through, before=before, keep=keep)
        kept = frozenset(keep)
        gone = 0
        after: int | None = 0
        while after is not None:
            stretch = partial(
                transactions.forget,
                company_id=company_id,
                after=after,
                through=through,
                before=before,
                kept=kept,
            )
            forgotten, after = await self.transact(stretch)
            gone += forgotten
        return gone

    async def drop_bodies(self, company_id: int, names: Collection[str], now: datetime) -> Dropped:
        """Drop what these deliveries say, and leave it nowhere in a file."""
        count = await drop_bodies(self, company_id, names, now)
        return Dropped(count, self._ownership is None or await self.truncate_log())

    async def close(self) -> None:
        """End the connection, and give up the lock."""
        await super().close()
        if self._ownership is not None:
            self._ownership.close()
