"""A store's database, a file of SQLite or a schema of PostgreSQL: how it is opened, migrated, and fails."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from sqlalchemy import JSON, DateTime, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.types import TypeDecorator

from receiver import postgresql, sqlite
from receiver.errors import MirrorError
from receiver.integrity import PlacedFile, StoreDamagedError, StoreReplacedError, is_damage
from receiver.postgresql import Schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from sqlalchemy.engine import Connection, Dialect, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.types import TypeEngine


Result = TypeVar("Result")

Database: TypeAlias = Path | Schema
"""One store: a file of SQLite, or a schema of PostgreSQL."""

READERS: Final = 5
"""Connections of one process to PostgreSQL that read a store, and as many that write it."""

JSON_VALUE: Final = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

# Alembic's `context` is one for the process.
_migrating = threading.Lock()


@dataclass(frozen=True, slots=True)
class Server:
    """Both stores on PostgreSQL, in a schema each; in `directory` lies what is of this machine alone."""

    directory: Path
    url: str = field(repr=False)  # may carry a password


Place: TypeAlias = Path | Server
"""Where both stores lie: a directory, or a server."""


def directory_of(place: Place) -> Path:
    """Give the directory of what is of this machine: sockets, locks, and on SQLite the databases."""
    return place.directory if isinstance(place, Server) else place


def inbox_of(place: Place) -> Database:
    """Give the database of the inbox."""
    return Schema(place.url, "inbox") if isinstance(place, Server) else place / "inbox.db"


def mirror_of(place: Place) -> Database:
    """Give the database of the mirror."""
    return Schema(place.url, "mirror") if isinstance(place, Server) else place / "mirror.db"


def files_of(place: Place) -> tuple[Path, ...]:
    """Give the files of both stores; none on a server."""
    return tuple(one for one in (mirror_of(place), inbox_of(place)) if isinstance(one, Path))


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
        return value.astimezone(UTC).replace(microsecond=value.microsecond // 1000 * 1000)

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


def open_writer(database: Database) -> AsyncEngine:
    """Open what writes: of a file the one connection, which owns its checkpoints; of a schema several.

    Whoever opens a file holds the `Ownership` of the store.
    """
    if isinstance(database, Schema):
        return postgresql.open_engine(database, size=READERS)
    return sqlite.open_writer(database)


def open_reader(database: Database) -> AsyncEngine:
    """Open connections that read. Keep transactions short: a long one grows a file's log.

    Raises `StoreMissing` when there is no such file.
    """
    if isinstance(database, Schema):
        return postgresql.open_engine(database, size=READERS)
    _require(database)
    return sqlite.open_reader(database)


def open_sync_reader(database: Database) -> Engine:
    """Open the same for programs without a loop; any thread may use them. Raises `StoreMissing`."""
    if isinstance(database, Schema):
        return postgresql.open_sync_reader(database)
    _require(database)
    return sqlite.open_sync_reader(database)


def _require(path: Path) -> None:
    if not path.is_file():
        raise StoreMissing(
            f"There is no {path} yet: the process that writes it has not run with this data directory."
        )


class WritingThread:
    """One writing connection in a thread of its own.

    A whole transaction is one trip to the thread and back, where an `AsyncEngine` makes one for every step.
    """

    def __init__(self, database: Database) -> None:
        name = database.name if isinstance(database, Schema) else database.stem
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._engine = (
            postgresql.open_sync_engine(database)
            if isinstance(database, Schema)
            else sqlite.open_sync_writer(database)
        )
        self._path = database if isinstance(database, Path) else None
        self._placed: PlacedFile | None = None

    async def transact(self, act: Callable[[Connection], Result]) -> Result:
        """Give what `act` gives, once it is committed; an error of `act` or of the commit undoes it all."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, act)

    async def truncate_log(self) -> bool:
        """Empty the log of a file, so that no old page is left; False while a reader keeps some alive."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, sqlite.truncate_log, self._engine
        )

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()

    def _transact(self, act: Callable[[Connection], Result]) -> Result:
        if self._placed is not None:
            self._placed.require()  # what is stored in a file that has gone is lost with this process
        with self._engine.begin() as connection:
            if self._path is not None and self._placed is None:
                self._placed = PlacedFile(self._path)
            return act(connection)


def is_unavailable(error: BaseException) -> bool:
    """Whether the store itself failed (full, locked, away), so that the same work may succeed later."""
    original: BaseException | None = error
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        original = error.orig
    if original is None:
        return False
    for failed in (sqlite.is_unavailable(original), postgresql.is_unavailable(original)):
        if failed is not None:
            return failed
    return isinstance(original, OSError | MemoryError | PoolTimeout | StoreDamagedError | StoreReplacedError)


def unusable(error: BaseException) -> str:
    """Say in one sentence that the database cannot be used, and why; `is_unavailable` knows the error."""
    reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
    if is_damage(error):
        advice = "It is damaged: stop the worker, then run kounta-mirror rebuild."
    else:
        advice = "Correct that, then try again."
    return f"The database cannot be used: {reason}. {advice}"


def migrate(database: Database, script_location: str) -> None:
    """Bring the schema of `database` to this version, all or nothing; it is made if it is missing.

    `script_location` is Alembic's, as in "receiver:inbox/migrations". Whoever calls holds the `Ownership` of
    a file and has no other connection to it. Raises `NewerDatabase` or `MigrationFailed`, and
    what `is_unavailable` knows when a server is away; `StoreDamagedError` for a file that is damaged.
    """
    from alembic import command

    config, script = _config(script_location), scripts_of(script_location)
    head = script.get_current_head()
    with _migrating:
        try:
            with _migration(database) as connection:
                current = _revision(connection)
                if current == head:
                    return
                _refuse_newer(database, current, script)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except MirrorError:
            raise
        except Exception as error:
            if isinstance(database, Schema) and is_unavailable(error):
                raise  # nothing is known of its schema: the server cannot be reached
            if isinstance(database, Path) and is_damage(error):
                raise StoreDamagedError(database.name, str(getattr(error, "orig", error))) from error
            reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
            raise MigrationFailed(
                f"The schema of {database} could not be brought to version {head}: "
                f"{reason.strip() or type(error).__name__}. The database is unchanged."
            ) from error


def scripts_of(script_location: str) -> ScriptDirectory:
    """Read the migrations at Alembic's `script_location`."""
    from alembic.script import ScriptDirectory as Scripts

    return Scripts.from_config(_config(script_location))


def _config(script_location: str) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", script_location)
    return config


def run_migration() -> None:
    """Go all the way up in the transaction that `migrate` began: what the `env.py` of a store does."""
    from alembic import context

    context.configure(connection=context.config.attributes["connection"])
    context.run_migrations()


def schema_revision(database: Database) -> str | None:
    """Give the schema version of `database`; None when it has none yet. Raises `StoreMissing`."""
    if isinstance(database, Path) and not database.is_file():
        raise StoreMissing(f"There is no {database} yet.")
    with _looking(database) as connection:
        return _revision(connection)


def _migration(database: Database) -> AbstractContextManager[Connection]:
    return postgresql.migration(database) if isinstance(database, Schema) else sqlite.migration(database)


@contextmanager
def _looking(database: Database) -> Iterator[Connection]:
    looking = postgresql.looking(database) if isinstance(database, Schema) else sqlite.looking(database)
    with looking as connection:
        yield connection


def _revision(connection: Connection) -> str | None:
    from alembic.runtime.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer(database: Database, current: str | None, script: ScriptDirectory) -> None:
    known = {revision.revision for revision in script.walk_revisions()}
    if current is not None and current not in known:
        raise NewerDatabase(
            f"{database} has schema version {current}, and this program knows versions up to "
            f"{script.get_current_head()}: a newer kounta-mirror has written it. "
            "Start that version, or restore a backup made before it."
        )
