"""The mirror as workers hold it: opened, migrated, written in batches.

Every transaction that writes locks the company's row of `_progress` first. On SQLite there is one writer
anyway; on PostgreSQL that row is what makes workers take turns at a company: positions, doubts and the feed's
numbers become visible in their order, and whoever holds no lease any more is stopped (decision 0031).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import ColumnElement, ScalarSelect, bindparam, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from receiver.database import Place, directory_of, migrate, mirror_of, open_reader, open_writer
from receiver.errors import MirrorError
from receiver.integrity import FileCheck, PlacedFile
from receiver.ownership import Ownership
from receiver.postgresql import Schema
from receiver.sqlite import TRUNCATION, checkpoint
from sync.merge.customers import ATTRIBUTES, Subscription
from sync.mirror.batch import Batch
from sync.mirror.comments import comment
from sync.mirror.marks import Marker
from sync.mirror.overgrown import Overgrown
from sync.mirror.progress import Progress
from sync.mirror.reader import MIGRATIONS, MirrorReader
from sync.mirror.schema import COMPANIES, ERASED_CUSTOMERS, HELD_DELETES, PROGRESS, STATUS
from sync.mirror.wholeness import Whole, WholeConnection, whole

OWNER: Final = "worker"
"""The name under which the mirror's owner holds its lock and its local socket."""


class LeaseLostError(MirrorError):
    """Another worker asks upstream for this company now; what this one was about to write is not written."""


class KeyDiffersError(MirrorError):
    """Nobody can tell who was erased: the key that they were marked with is not the one that is set."""

    def __init__(self, company_id: int) -> None:
        super().__init__(
            f"People of company {company_id} were erased, and MIRROR_SECRET_KEY is not what it was then: "
            "nobody can tell who must not come back. Set it as it was."
        )


class BusyElsewhere(MirrorError):  # noqa: N818 - it says what is the case
    """Another worker writes of this company at this moment."""


def migrate_mirror(place: Place) -> None:
    """Bring the mirror to this version's schema; the caller owns a file. Raises as `migrate` does."""
    database = mirror_of(place)
    migrate(database, MIGRATIONS)
    if isinstance(database, Schema):
        comment(database)


@dataclass(frozen=True, slots=True)
class Holding:
    """A lease that is held (sync.mirror.lease); `over` is set once somebody wants it, or it is lost."""

    epoch: int
    over: asyncio.Event = field(default_factory=asyncio.Event)


class MirrorStore:
    """The database of the mirrors of all companies: a file that this process owns, or a schema."""

    def __init__(
        self, place: Place, engine: AsyncEngine, reading: AsyncEngine, ownership: Ownership | None
    ) -> None:
        self.place = place
        self.engine = engine
        self.reading = reading
        self._ownership = ownership
        self._one_writer = asyncio.Lock()
        database = mirror_of(place)
        self._log = Overgrown(database) if isinstance(database, Path) else None
        self._placed = PlacedFile(database) if isinstance(database, Path) else None
        self.check: FileCheck | None = None
        """What checks the file while a worker runs; nothing is written to a file that it finds damaged."""

    @classmethod
    def open(cls, place: Place, purpose: str) -> Self:
        """Own the file, or reach the schema, and bring it up to date.

        Raises OwnedElsewhere, MirrorError for a directory that cannot serve, NewerDatabase, MigrationFailed.
        """
        ownership = None
        if isinstance(place, Path):
            ownership = Ownership.take(directory_of(place), OWNER, purpose)
        try:
            migrate_mirror(place)
            database = mirror_of(place)
            return cls(place, open_writer(database), open_reader(database), ownership)
        except BaseException:
            if ownership is not None:
                ownership.close()
            raise

    @property
    def is_shared(self) -> bool:
        """Whether other processes may write it, too."""
        return self._ownership is None

    def turns(self) -> asyncio.Lock:
        """Give what writers take turns by: all of them in a file, those of one company in a schema."""
        return asyncio.Lock() if self.is_shared else self._one_writer

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that writes; each step of it is awaited to its end.

        Raises StoreDamagedError or StoreReplacedError for a file that must not be written.
        """
        if self._placed is not None:
            self._placed.require()
        if self.check is not None:
            self.check.require()
        log = self._log
        if log and (seconds := log.seconds_to_wait()) and await self._restart_log(seconds):
            log.begins_anew()
        connection = WholeConnection(self.engine)
        async with Whole(connection):
            try:
                async with Whole(connection.begin()):
                    yield connection
            except BaseException as error:
                if self.check is not None:
                    self.check.doubt(error)  # it may be the inbox's, which is read meanwhile
                await whole(connection.undo())
                raise

    async def truncate_log(self) -> bool:
        """Empty the log of a file, so that no old page is left; False while a reader keeps some alive."""
        async with self._one_writer:
            return await whole(self._checkpoint(TRUNCATION))

    async def _restart_log(self, seconds: float) -> bool:
        return await whole(self._checkpoint(checkpoint("RESTART", seconds)))

    async def _checkpoint(self, statements: tuple[str, str, str]) -> bool:
        """Execute what `checkpoint` gives; False while a reader uses the log."""
        async with self.engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            before, statement, after = statements
            await driver.execute(before)
            try:
                cursor = await driver.execute(statement)
                (busy, _, _) = await cursor.fetchone()
                await cursor.close()
            finally:
                await driver.execute(after)
        return bool(busy == 0)

    async def close(self) -> None:
        """Let it go; a transaction under way ends first."""
        async with self._one_writer:
            await self.reading.dispose()
            await self.engine.dispose()
            if self._ownership is not None:
                self._ownership.close()


class Mirror(MirrorReader):
    """One company's mirror, as a worker writes it."""

    def __init__(
        self,
        store: MirrorStore,
        company_id: int,
        subscription: Subscription,
        *,
        marker: Marker | None = None,
        owns_store: bool = False,
    ) -> None:
        """Make it; `marker` tells who was erased, and is needed once anybody was."""
        super().__init__(store.reading, company_id)
        self.subscription = subscription
        self.marker = marker
        self.progress = Progress()
        self.lease: Holding | None = None
        """Under which it writes; None: it needs none, it applies deliveries or owns a file."""
        self.store = store
        self._writing = store.turns()
        self._owns_store = owns_store

    @classmethod
    async def of(
        cls,
        store: MirrorStore,
        company_id: int,
        subscription: Subscription,
        *,
        marker: Marker | None = None,
        owns_store: bool = False,
    ) -> Self:
        """Give a company's mirror in `store`, and say how far it has come."""
        mirror = cls(store, company_id, subscription, marker=marker, owns_store=owns_store)
        await mirror._greet()
        return mirror

    @classmethod
    async def open(
        cls,
        place: Place,
        company_id: int,
        subscription: Subscription,
        purpose: str,
        *,
        marker: Marker | None = None,
    ) -> Self:
        """Open the store and the company's mirror in it; raises as `MirrorStore.open` does."""
        store = MirrorStore.open(place, purpose)
        try:
            return await cls.of(store, company_id, subscription, marker=marker, owns_store=True)
        except BaseException:
            await store.close()
            raise

    async def close(self) -> None:
        """Let the store go, if it was opened for this mirror; a batch under way ends first."""
        async with self._writing:
            pass
        if self._owns_store:
            await self.store.close()

    @asynccontextmanager
    async def batch(
        self, customer_ids: Collection[int], now: datetime, *, wait: bool = True
    ) -> AsyncIterator[Batch]:
        """Change these customers in one transaction; an exception leaves everything as it was.

        Without `wait`, BusyElsewhere is raised while another worker writes of this company.
        """
        async with self._writing:
            async with self.store.begin() as connection:
                progress, holding, keys = await self._stored(connection, wait=wait)
                batch = Batch(
                    connection,
                    self.company_id,
                    progress,
                    holding=holding,
                    now=now,
                    keeping_out=self.keeping_out(keys),
                )
                await batch.load(customer_ids)
                yield batch
                await batch.flush(now)
            self.progress = batch.progress

    def keeping_out(self, keys: frozenset[str]) -> Marker | None:
        """Give what tells who was erased, under these keys; None: nobody was. Raises KeyDiffersError."""
        if keys and (self.marker is None or keys != {self.marker.key_id}):
            raise KeyDiffersError(self.company_id)
        return self.marker if keys else None

    async def keeping_out_now(self, connection: AsyncConnection) -> Marker | None:
        """Give the same within a transaction that has locked the company."""
        _, _, keys = await self._stored(connection)
        return self.keeping_out(keys)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that writes of this company; everyone else who does waits for its end."""
        async with self._writing, self.store.begin() as connection:
            await self._stored(connection)
            yield connection

    async def note(self, **fields: Any) -> None:
        """Change what `Progress` says, in a transaction of its own."""
        async with self.noting(**fields):
            pass

    @asynccontextmanager
    async def noting(self, **fields: Any) -> AsyncIterator[AsyncConnection]:
        """Change what `Progress` says in one transaction with what is written meanwhile."""
        if fields.get("sweep_due") is not None:
            fields["sweeps_asked"] = PROGRESS.c.sweeps_asked + 1
        async with self._writing:
            async with self.store.begin() as connection:
                await self._stored(connection)
                await connection.execute(
                    update(PROGRESS).where(PROGRESS.c.company_id == self.company_id).values(fields)
                )
                yield connection
                progress, _, _ = await self._stored(connection)
            self.progress = progress

    async def refresh(self) -> Progress:
        """Say how far it has come, read anew where others may have written."""
        if not self.store.is_shared:
            return self.progress
        async with self._writing, self.reading() as connection:
            row = (await connection.execute(_PROGRESS, {"company": self.company_id})).one()
            self.progress = Progress(*row[:-_BESIDE])
        return self.progress

    async def _stored(
        self, connection: AsyncConnection, *, wait: bool = True
    ) -> tuple[Progress, bool, frozenset[str]]:
        """Lock the company, read how far it has come, whether deletions are held, and the keys of marks.

        Anew each time: a call that was cancelled while it committed leaves memory behind.
        """
        statement = _PROGRESS.with_for_update(of=PROGRESS, skip_locked=not wait)
        row = (await connection.execute(statement, {"company": self.company_id})).one_or_none()
        if row is None:
            raise BusyElsewhere(f"Another worker writes of company {self.company_id} at this moment.")
        progress = Progress(*row[:-_BESIDE])
        if self.lease is not None and progress.epoch != self.lease.epoch:
            raise LeaseLostError(
                f"Another worker asks Kounta for company {self.company_id} now: this one had stood still."
            )
        holding, *keys = row[-_BESIDE:]
        return progress, bool(holding), frozenset(key for key in keys if key is not None)

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
        async with self._writing, self.store.begin() as connection:
            for table, values in nothing_yet.items():
                await connection.execute(
                    insert(table).values(company_id=self.company_id, **values).on_conflict_do_nothing()
                )
            self.progress, _, _ = await self._stored(connection)


def _key(of: Callable[[Any], ColumnElement[str]]) -> ScalarSelect[Any]:
    """Give the first or last of the keys that marks in force were made with: with one key they are equal."""
    in_force = (
        ERASED_CUSTOMERS.c.company_id == PROGRESS.c.company_id,
        ERASED_CUSTOMERS.c.returned_at.is_(None),
    )
    return select(of(ERASED_CUSTOMERS.c.key_id)).where(*in_force).scalar_subquery()


_BESIDE: Final = 3
_PROGRESS = select(
    *(PROGRESS.c[name] for name in Progress.__slots__),
    exists().where(HELD_DELETES.c.company_id == PROGRESS.c.company_id),
    _key(func.min),
    _key(func.max),
).where(PROGRESS.c.company_id == bindparam("company"))
