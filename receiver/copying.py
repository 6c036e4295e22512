"""One store's rows from a file of SQLite into a schema of PostgreSQL.

What the drivers give for SQLite's rows is what PostgreSQL reads as text: COPY takes them as they are, in
parts, so that memory stays the same however many there are.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import JSON, String, column, func, select, text
from sqlalchemy import table as named

from receiver import postgresql
from receiver.database import migrate, schema_revision, scripts_of
from receiver.digest import at_once, digest, storable
from receiver.errors import MirrorError
from receiver.postgresql import Schema
from receiver.sqlite import looking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import MetaData, Select, Table
    from sqlalchemy.engine import Connection

    from receiver.digest import Digest

# A person who waits for another transaction should know it; checking one database keeps the other waiting.
_FOR_LONG: Final = (
    "SET LOCAL lock_timeout = '10s'",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
)


class CopyFailed(MirrorError):  # noqa: N818 - it says what is the case
    """Nothing was copied."""


class CopiesDiffer(CopyFailed):
    """Nothing was kept: in `copied` stands which tables differ."""

    def __init__(self, copied: Copied) -> None:
        super().__init__(
            f"Not every table is the same in both databases: {', '.join(copied.differing)}. Nothing was kept "
            "on PostgreSQL, and the files are as they were. This is a fault of this program."
        )
        self.copied = copied


@dataclass(frozen=True, slots=True)
class Store:
    """What is to be known of a store to copy it."""

    name: str  # of its file, and of its schema
    metadata: MetaData
    migrations: str
    made_by_triggers: frozenset[str] = frozenset()  # tables that fill when the others do
    prepare: Callable[[Connection, Connection], None] = lambda _source, _target: None

    @property
    def tables(self) -> list[Table]:
        return list(self.metadata.sorted_tables)

    def file(self, directory: Path) -> Path:
        return directory / f"{self.name}.db"


@dataclass(frozen=True, slots=True)
class Compared:
    """One table in both databases."""

    table: str
    here: Digest
    there: Digest

    @property
    def is_equal(self) -> bool:
        return self.here == self.there


@dataclass(slots=True)
class Copied:
    """What came of copying; `mended` are texts with a sign that PostgreSQL cannot store."""

    tables: list[Compared] = field(default_factory=list)
    mended: int = 0

    @property
    def differing(self) -> list[str]:
        return [one.table for one in self.tables if not one.is_equal]


@contextmanager
def brought_up_to_date(path: Path, migrations: str) -> Iterator[Path]:
    """Give a file with the store of `path` in this version's schema, for as long as it is needed.

    It is the file itself, which is only read, or a migrated copy beside it. Whoever calls holds its
    `Ownership`. Raises `NewerDatabase`, `MigrationFailed`, or `CopyFailed` for a file that is no store.
    """
    if schema_revision(path) is None:
        raise CopyFailed(f"{path} holds no tables of Kounta Mirror: it has never been used.")
    if not _is_old(path, migrations):
        yield path
        return
    with TemporaryDirectory(prefix="copy-", dir=path.parent) as directory:
        copied = Path(directory) / path.name
        _back_up(path, copied)
        migrate(copied, migrations)
        yield copied


@contextmanager
def filling(url: str) -> Iterator[Connection]:
    """One transaction on a PostgreSQL, in which nobody else brings a schema up to date or starts anew."""
    engine = postgresql.open_sync_engine(Schema(url, "public"))
    try:
        with engine.begin() as connection:
            for setting in _FOR_LONG:
                connection.execute(text(setting))
            connection.execute(
                text("SELECT pg_advisory_xact_lock(:number)"), {"number": postgresql.MIGRATION_LOCK}
            )
            yield connection
    finally:
        engine.dispose()


def require_empty(target: Connection, store: Store) -> None:
    """Keep all others from writing the schema until the transaction ends, and see that it holds nothing."""
    names = ", ".join(_quoted(target, store, one) for one in store.tables)
    target.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))
    found = [one.name for one in store.tables if _has_rows(target, store, one)]
    if found:
        raise CopyFailed(
            f"Only empty schemas can be filled, and in schema {store.name} there are rows already "
            f"({', '.join(found)}): name another database in DATABASE_URL. Nothing was copied."
        )


def count(source: Connection, store: Store) -> int:
    """Count the rows of a file."""
    return sum(source.execute(select(func.count()).select_from(one)).scalar_one() for one in store.tables)


def copy(source: Connection, target: Connection, store: Store, passed: Callable[[int], None]) -> int:
    """Copy all rows; what is numbered by the database goes on behind them. `passed` is told of rows.

    Gives how many texts had a sign that PostgreSQL cannot store. Raises `CopyFailed`.
    """
    store.prepare(source, target)
    mended = 0
    for one in store.tables:
        if one.name not in store.made_by_triggers:
            mended += _copy_table(source, target, store, one, passed)
    for one in store.tables:
        if one.dialect_options["sqlite"]["autoincrement"]:
            _go_on_numbering(source, target, store, one)
        target.execute(text(f"ANALYZE {_quoted(target, store, one)}"))
    return mended


def compare(
    source: Connection, target: Connection, store: Store, passed: Callable[[int], None]
) -> Iterator[Compared]:
    """Count and hash every table in both databases; `passed` is told of the rows of each."""
    for one in store.tables:
        here = digest(source, one, None, passed)
        there = digest(target, one, store.name, passed)
        yield Compared(f"{store.name}.{one.name}", here, there)


def _copy_table(
    source: Connection, target: Connection, store: Store, one: Table, passed: Callable[[int], None]
) -> int:
    import psycopg

    columns = ", ".join(target.dialect.identifier_preparer.quote(each.name) for each in one.columns)
    statement = f"COPY {_quoted(target, store, one)} ({columns}) FROM STDIN"
    texts = [place for place, each in enumerate(one.columns) if isinstance(each.type, String)]
    objects = [place for place, each in enumerate(one.columns) if isinstance(each.type, JSON)]
    raw: Select[*tuple[Any, ...]] = select(*(column(each.name) for each in one.columns)).select_from(
        named(one.name)
    )
    rows = source.execute(raw, execution_options={"yield_per": at_once(one)})
    driver: Any = target.connection.driver_connection
    mended = 0
    try:
        with driver.cursor() as cursor, cursor.copy(statement.encode()) as into:
            for part in rows.partitions():
                for row in part:
                    mended += _write(into, row, texts, objects)
                passed(len(part))
    except psycopg.DataError as error:  # its whole text would quote the row
        raise CopyFailed(
            f"A row of {one.name} cannot be stored on PostgreSQL: {error.diag.message_primary}. "
            "Nothing was copied."
        ) from None
    return mended


def _write(into: Any, row: Any, texts: list[int], objects: list[int]) -> int:
    """Write one row, and give how many of its texts were not as PostgreSQL can store them."""
    changed = {}
    for place in texts:
        if isinstance(row[place], str) and (fit := storable(row[place])) != row[place]:
            changed[place] = fit
    for place in objects:
        written = row[place]
        if isinstance(written, str) and "\\u" in written:
            read = json.loads(written)
            fit = json.dumps(_storable(read))
            if json.loads(fit) != read:
                changed[place] = fit
    into.write_row([changed.get(place, value) for place, value in enumerate(row)] if changed else row)
    return len(changed)


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(name): _storable(one) for name, one in value.items()}
    return [_storable(one) for one in value] if isinstance(value, list) else value


def _go_on_numbering(source: Connection, target: Connection, store: Store, one: Table) -> None:
    given = source.execute(
        text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": one.name}
    ).scalar_one_or_none()
    if given:
        (number,) = one.primary_key
        target.execute(
            text("SELECT setval(pg_get_serial_sequence(:table, :column), :given)"),
            {"table": _quoted(target, store, one), "column": number.name, "given": given},
        )


def _has_rows(target: Connection, store: Store, one: Table) -> bool:
    found = target.execute(text(f"SELECT 1 FROM {_quoted(target, store, one)} LIMIT 1"))  # noqa: S608 - our own names
    return found.first() is not None


def _quoted(target: Connection, store: Store, one: Table) -> str:
    quote = target.dialect.identifier_preparer.quote
    return f"{quote(store.name)}.{quote(one.name)}"


def _is_old(path: Path, migrations: str) -> bool:
    return schema_revision(path) != scripts_of(migrations).get_current_head()


def _back_up(path: Path, copy: Path) -> None:
    with looking(path) as connection, closing(sqlite3.connect(copy)) as into:
        driver: Any = connection.connection.driver_connection
        driver.backup(into)
