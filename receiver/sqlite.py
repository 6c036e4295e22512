"""SQLite as both stores use it: one writing connection with its checkpoints, read-only others.

Why one writing connection, and why paths go through `Path.as_uri`: the design, "One writing connection for
each SQLite file".
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, QueuePool, StaticPool

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableSequence
    from pathlib import Path

    from sqlalchemy.engine import Connection, Dialect, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

BUSY_SECONDS = 5.0
TRUNCATING_SECONDS = 0.05  # whoever writes waits meanwhile; who wants it tries again
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


def open_writer(path: Path) -> AsyncEngine:
    """Open the one connection that writes; every transaction begins IMMEDIATE.

    SQLAlchemy's deferred ones lose concurrent read-modify-writes.
    """
    return _engine(path, mode="rwc", pragmas=_WRITER, begin="BEGIN IMMEDIATE", size=1)


def open_sync_writer(path: Path) -> Engine:
    """Open the same for one thread."""
    engine = create_engine(
        "sqlite://",
        creator=lambda: _connect(path, "rwc"),
        poolclass=StaticPool,
        hide_parameters=True,  # an error goes to logs; what people are called does not
    )
    _equip(engine, _WRITER, "BEGIN IMMEDIATE")
    return engine


def open_reader(path: Path) -> AsyncEngine:
    """Open connections that can only read."""
    return _engine(path, mode="ro", pragmas=_READER, begin="BEGIN", size=3)


def open_sync_reader(path: Path) -> Engine:
    """Open the same for programs without a loop; any thread may use them."""
    engine = create_engine(
        "sqlite://",
        creator=lambda: _connect(path, "ro", check_same_thread=False),  # the pool lends one to one thread
        poolclass=QueuePool,
        hide_parameters=True,
    )
    _equip(engine, _READER, "BEGIN")
    return engine


@contextmanager
def looking(path: Path) -> Iterator[Connection]:
    """One transaction that only looks."""
    engine = create_engine("sqlite://", creator=lambda: _connect(path, "ro"), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def is_unavailable(error: BaseException) -> bool | None:
    """Whether the file failed rather than the statement; None: it is no error of SQLite."""
    if not isinstance(error, sqlite3.Error):
        return None
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _UNAVAILABLE


def checkpoint(kind: str, seconds: float) -> tuple[str, str, str]:
    """Give what writes the log into the file, and waits for readers of old pages so long at the most.

    On the one connection that writes, within no transaction. The second statement gives 0 first when no
    reader still uses the log: RESTART lets the next transaction begin it anew, TRUNCATE leaves nothing of it.
    """
    return (
        f"PRAGMA busy_timeout = {seconds * 1000:.0f}",
        f"PRAGMA wal_checkpoint({kind})",
        f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}",
    )


TRUNCATION = checkpoint("TRUNCATE", TRUNCATING_SECONDS)


def truncate_log(engine: Engine) -> bool:
    """Do that with the writer of a thread; False: a reader keeps old pages alive."""
    fairy = engine.raw_connection()
    try:
        before, truncation, after = TRUNCATION
        driver: Any = fairy.driver_connection
        driver.execute(before)
        try:
            (busy, _, _) = driver.execute(truncation).fetchone()
        finally:
            driver.execute(after)
        return bool(busy == 0)
    finally:
        fairy.close()


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open a connection that only reads, for the thread that calls."""
    return _connect(path, "ro")


def _connect(path: Path, mode: str, *, check_same_thread: bool = True) -> sqlite3.Connection:
    return sqlite3.connect(
        _uri(path, mode),
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=check_same_thread,
    )


def _uri(path: Path, mode: str) -> str:
    return f"{path.resolve().as_uri()}?mode={mode}"


@contextmanager
def migration(path: Path) -> Iterator[Connection]:
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
