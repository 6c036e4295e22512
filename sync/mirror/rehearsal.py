"""Trying something out on the mirror: everything happens as it would, and nothing of it stays."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.mirror.batch import Batch
from sync.mirror.marks import Marker
from sync.mirror.progress import Progress
from sync.mirror.reader import MirrorReader
from sync.mirror.schema import PROGRESS
from sync.mirror.store import Mirror
from sync.mirror.wholeness import whole


class Rehearsal(MirrorReader):
    """A mirror within one transaction that is undone in the end; its batches see each other."""

    def __init__(
        self, connection: AsyncConnection, company_id: int, progress: Progress, keeping_out: Marker | None
    ) -> None:
        super().__init__(connection.engine, company_id)
        self.progress = progress
        self._connection = connection
        self._keeping_out = keeping_out

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Read what the mirror would hold by now."""
        yield self._connection

    @asynccontextmanager
    async def batch(self, customer_ids: Collection[int], now: datetime) -> AsyncIterator[Batch]:
        """Do what `Mirror.batch` does; an exception leaves everything as it was before the batch."""
        async with self._connection.begin_nested():
            batch = Batch(
                self._connection,
                self.company_id,
                self.progress,
                holding=True,
                now=now,
                keeping_out=self._keeping_out,
            )
            await batch.load(customer_ids)
            yield batch
            await batch.flush(now)
        self.progress = batch.progress


@asynccontextmanager
async def rehearsal(mirror: Mirror) -> AsyncIterator[Rehearsal]:
    """Begin one; everyone else who writes waits until it is over."""
    statement = select(*(PROGRESS.c[name] for name in Progress.__slots__)).where(
        PROGRESS.c.company_id == mirror.company_id
    )
    async with mirror.transaction() as connection:
        row = (await connection.execute(statement)).one()
        keeping_out = await mirror.keeping_out_now(connection)
        yield Rehearsal(connection, mirror.company_id, Progress(*row), keeping_out)
        await whole(connection.rollback())
