"""SQLite as both stores use it: one writing connection, read-only others, one type for time, migrations.

Why one writing connection, and why paths go through `Path.as_uri`: the design, "One writing connection for
each SQLite file".
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import DateTime, String, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, StaticPool
from sqlalchemy.types import TypeDecorator

from receiver.errors import MirrorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableSequence
    from pathlib import Path

    from alembic.script import ScriptDirectory
    from sqlalchemy.engine import Connection, Dialect, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry
    from sqlalchemy.types import TypeEngine

Result = TypeVar("Result")

BUSY_SECONDS = 5.0
WAL_PAGES = 4_000  # between two checkpoints: 16 MiB
WAL_BYTES_KEPT = 64 * 1024 * 1024

_WRITER = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # macOS alone: its fsync does not reach the disk
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -65536",  # 64 MiB: what a batch touches is found without reading the log again
    "PRAGMA secure_delete = ON",  # what was erased must not lie in a free page
    f"PRAGMA wal_autocheckpoint = {WAL_PAGES}",
    f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}",
)
_READER = ("PRAGMA query_only = ON",)

# The kind of error that another try may not meet: nothing in the data brought it about.
_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)

# Alembic's `context` is one for the process.
_migrating = threading.Lock()


class StoreMissing(MirrorError):  # noqa: N818 - it says what is the case
    """There is no such file yet."""


class NewerDatabase(MirrorError):  # noqa: N818 - it says what is the case
    """A later version of this program has written the schema."""


class MigrationFailed(MirrorError):  # noqa: N818 - it says what is the case
    """The schema could not be brought to this version; the database is as it was."""


class UTCDateTime(TypeDecorator[datetime]):
    """Aware datetimes in and out, in milliseconds.

    On SQLite text, `YYYY-MM-DDTHH:MM:SS.sssZ`, which sorts as time; on PostgreSQL timestamptz.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String())
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if dialect.name == "sqlite":
            return utc_text(value)
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone: a time that is stored must be aware.")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if dialect.name == "sqlite":
            return datetime.fromisoformat(value)
        stored: datetime = value
        return stored.astimezone(UTC)


def utc_text(moment: datetime) -> str:
    """`YYYY-MM-DDTHH:MM:SS.sssZ`. A time without a zone raises ValueError."""
    if moment.tzinfo is not UTC:
        if moment.tzinfo is None:
            raise ValueError(f"{moment!r} has no time zone: a time that is stored must be aware.")
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def open_writer(path: Path) -> AsyncEngine:
    """Open the one connection that writes `path` and owns its checkpoints.

    Every transaction begins IMMEDIATE: SQLAlchemy's deferred ones lose concurrent read-modify-writes.
    Whoever opens it holds the `Ownership` of the store.
    """
    return _engine(path, mode="rwc", pragmas=_WRITER, begin="BEGIN IMMEDIATE", size=1)


class WritingThread:
    """The one writing connection of `path`, as `open_writer`, in a thread of its own.

    A whole transaction is one trip to the thread and back, where an `AsyncEngine` makes one for every step.
    """

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=path.stem)
        self._engine = create_engine(
            "sqlite://",
            creator=lambda: _connect(path, "rwc"),
            poolclass=StaticPool,
            hide_parameters=True,  # an error goes to logs; what people are called does not
        )
        _equip(self._engine, _WRITER, "BEGIN IMMEDIATE")

    async def transact(self, act: Callable[[Connection], Result]) -> Result:
        """Give what `act` gives, once it is committed; an error of `act` or of the commit undoes it all."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, act)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()

    def _transact(self, act: Callable[[Connection], Result]) -> Result:
        with self._engine.begin() as connection:
            return act(connection)


def open_reader(path: Path) -> AsyncEngine:
    """Open connections that can only read `path`. Keep transactions short: a long one grows the log.

    Raises `StoreMissing` when there is no such file.
    """
    if not path.is_file():
        raise StoreMissing(
            f"There is no {path} yet: the process that writes it has not run with this data directory."
        )
    return _engine(path, mode="ro", pragmas=_READER, begin="BEGIN", size=3)


def is_unavailable(error: BaseException) -> bool:
    """Whether the store itself failed (full, locked, unreadable), so that the same work may succeed later."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        original: BaseException | None = error.orig
    else:
        original = error
    if isinstance(original, sqlite3.Error):
        code: int | None = getattr(original, "sqlite_errorcode", None)
        return code is not None and (code & 0xFF) in _UNAVAILABLE
    return isinstance(original, OSError | MemoryError | PoolTimeout)


def migrate(path: Path, script_location: str) -> None:
    """Bring the schema of `path` to this version, all or nothing; the file is made if it is missing.

    `script_location` is Alembic's, as in "receiver:inbox/migrations". Whoever calls holds the `Ownership` of
    the store and has no other connection to it. Raises `NewerDatabase` or `MigrationFailed`.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory as Scripts

    config = Config()
    config.set_main_option("script_location", script_location)
    script = Scripts.from_config(config)
    head = script.get_current_head()
    with _migrating:
        try:
            with _migration(path) as connection:
                current = _revision(connection)
                if current == head:
                    return
                _refuse_newer(path, current, script)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except MirrorError:
            raise
        except Exception as error:
            reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
            raise MigrationFailed(
                f"The schema of {path} could not be brought to version {head}: "
                f"{reason or type(error).__name__}. The database is unchanged."
            ) from error


def run_migration() -> None:
    """Go all the way up in the transaction that `migrate` began: what the `env.py` of a store does."""
    from alembic import context

    context.configure(connection=context.config.attributes["connection"])
    context.run_migrations()


def schema_revision(path: Path) -> str | None:
    """Give the schema version of `path`; None when it has none yet. Raises `StoreMissing`."""
    if not path.is_file():
        raise StoreMissing(f"There is no {path} yet.")
    engine = create_engine("sqlite://", creator=lambda: _connect(path, "ro"), poolclass=NullPool)
    with engine.connect() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    from alembic.runtime.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer(path: Path, current: str | None, script: ScriptDirectory) -> None:
    known = {revision.revision for revision in script.walk_revisions()}
    if current is not None and current not in known:
        raise NewerDatabase(
            f"{path} has schema version {current}, and this program knows versions up to "
            f"{script.get_current_head()}: a newer kounta-mirror has written it. "
            "Start that version, or restore a backup made before it."
        )


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(_uri(path, mode), uri=True, isolation_level=None, timeout=BUSY_SECONDS)


def _uri(path: Path, mode: str) -> str:
    return f"{path.resolve().as_uri()}?mode={mode}"


@contextmanager
def _migration(path: Path) -> Iterator[Connection]:
    """One transaction on the one connection to `path`."""
    driver = _connect(path, "rwc")
    try:
        engine = create_engine("sqlite://", creator=lambda: driver, poolclass=StaticPool)
        _equip(engine, _WRITER, "BEGIN IMMEDIATE")
        with engine.begin() as connection:
            yield connection
    finally:
        driver.close()


def _engine(path: Path, *, mode: str, pragmas: tuple[str, ...], begin: str, size: int) -> AsyncEngine:
    engine = create_async_engine(
        "sqlite+aiosqlite://",
        poolclass=AsyncAdaptedQueuePool,
        pool_size=size,
        max_overflow=0,
        hide_parameters=True,
        pool_reset_on_return=None,  # Connection ends its transactions; one rollback more is a thread hop more
    )

    @event.listens_for(engine.sync_engine, "do_connect")
    def place(
        _dialect: Dialect,
        _entry: ConnectionPoolEntry,
        arguments: MutableSequence[Any],
        options: dict[str, Any],
    ) -> None:
        arguments[:] = [_uri(path, mode)]
        options.update(uri=True, isolation_level=None, timeout=BUSY_SECONDS)

    _equip(engine.sync_engine, pragmas, begin)
    return engine


def _equip(engine: Engine, pragmas: tuple[str, ...], begin: str) -> None:
    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
