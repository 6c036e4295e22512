"""The mirror as its one owner holds it: opened, migrated, written in batches."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import bindparam, exists, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from receiver.database import migrate, open_reader, open_writer
from receiver.ownership import Ownership
from sync.merge.customers import ATTRIBUTES, Subscription
from sync.mirror.batch import Batch
from sync.mirror.progress import Progress
from sync.mirror.reader import MIGRATIONS, MirrorReader, mirror_path
from sync.mirror.schema import COMPANIES, HELD_DELETES, PROGRESS, STATUS
from sync.mirror.wholeness import Whole, WholeConnection, whole

OWNER: Final = "worker"
"""The name under which the mirror's owner holds its lock and its local socket."""


def migrate_mirror(directory: Path) -> None:
    """Bring `mirror.db` to this version's schema; the caller owns it. Raises as `migrate` does."""
    migrate(mirror_path(directory), MIGRATIONS)


class Mirror(MirrorReader):
    """One company's mirror, for the process that owns it."""

    def __init__(
        self,
        engine: AsyncEngine,
        reading: AsyncEngine,
        company_id: int,
        subscription: Subscription,
        ownership: Ownership,
    ) -> None:
        super().__init__(reading, company_id)
        self.subscription = subscription
        self.progress = Progress()
        self.sweeps_asked = 0
        """How often a sweep was asked for beside the schedule, since it was opened."""
        self._engine = engine
        self._ownership = ownership
        self._writing = asyncio.Lock()

    @classmethod
    async def open(cls, directory: Path, company_id: int, subscription: Subscription, purpose: str) -> Self:
        """Own the mirror in `directory`, bring its schema up to date, and say how far it has come.

        Raises OwnedElsewhere, MirrorError for a directory that cannot serve, NewerDatabase, MigrationFailed.
        """
        ownership = Ownership.take(directory, OWNER, purpose)
        try:
            migrate_mirror(directory)
            path = mirror_path(directory)
            mirror = cls(open_writer(path), open_reader(path), company_id, subscription, ownership)
        except BaseException:
            ownership.close()
            raise
        try:
            await mirror._greet()
        except BaseException:
            await mirror.close()
            raise
        return mirror

    async def close(self) -> None:
        """Let the mirror go; a batch under way ends first."""
        async with self._writing:
            await super().close()
            await self._engine.dispose()
            self._ownership.close()

    @asynccontextmanager
    async def batch(self, customer_ids: Collection[int], now: datetime) -> AsyncIterator[Batch]:
        """Change these customers in one transaction; an exception leaves everything as it was."""
        async with self._writing:
            async with self._begin() as connection:
                progress, holding = await self._stored(connection)
                batch = Batch(connection, self.company_id, progress, holding=holding)
                await batch.load(customer_ids)
                yield batch
                await batch.flush(now)
            self.progress = batch.progress

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction on the one writing connection; everyone else waits for its end."""
        async with self._writing, self._begin() as connection:
            yield connection

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        connection = WholeConnection(self._engine)
        async with Whole(connection):
            try:
                async with Whole(connection.begin()):
                    yield connection
            except BaseException:
                await whole(connection.undo())
                raise

    async def note(self, **fields: Any) -> None:
        """Change what `Progress` says, in a transaction of its own."""
        async with self.noting(**fields):
            pass

    @asynccontextmanager
    async def noting(self, **fields: Any) -> AsyncIterator[AsyncConnection]:
        """Change what `Progress` says in one transaction with what is written meanwhile."""
        async with self._writing:
            async with self._begin() as connection:
                await connection.execute(
                    update(PROGRESS).where(PROGRESS.c.company_id == self.company_id).values(fields)
                )
                yield connection
                progress, _ = await self._stored(connection)
            self.progress = progress
            self.sweeps_asked += fields.get("sweep_due") is not None

    async def _stored(self, connection: AsyncConnection) -> tuple[Progress, bool]:
        """Read how far it has come, and whether deletions are held.

        Anew each time: a call that was cancelled while it committed leaves memory behind.
        """
        row = (await connection.execute(_PROGRESS, {"company": self.company_id})).one()
        return Progress(*row[:-1]), bool(row[-1])

    async def _greet(self) -> None:
        """Make the rows that each company has one of, and read how far it has come."""
        attributes = [name for name in ATTRIBUTES if name in self.subscription.attributes]
        nothing_yet: Mapping[Any, dict[str, Any]] = {
            COMPANIES: {},
            PROGRESS: {"position": 0, "missing": 0, "seq": 0, "revision": 0},
            STATUS: {
                **dict.fromkeys(("live", "deleted", "verified", "partial", "verifications_due"), 0),
                "listed_complete": False,
                "attributes": attributes,
            },
        }
        async with self.transaction() as connection:
            for table, values in nothing_yet.items():
                await connection.execute(
                    insert(table).values(company_id=self.company_id, **values).on_conflict_do_nothing()
                )
            self.progress, _ = await self._stored(connection)


_PROGRESS = select(
    *(PROGRESS.c[name] for name in Progress.__slots__),
    exists().where(HELD_DELETES.c.company_id == PROGRESS.c.company_id),
).where(PROGRESS.c.company_id == bindparam("company"))
