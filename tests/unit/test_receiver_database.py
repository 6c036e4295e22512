import asyncio
import sqlite3
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from receiver.database import (
    Database,
    MigrationFailed,
    NewerDatabase,
    Place,
    StoreMissing,
    WritingThread,
    inbox_of,
    is_unavailable,
    migrate,
    open_reader,
    open_writer,
    schema_revision,
    utc_text,
)
from receiver.integrity import StoreDamagedError
from receiver.postgresql import Schema
from tests.stores import change, held, shape

NOON = datetime(2026, 11, 24, 12, 0, 0, 123_999, tzinfo=UTC)


def test_a_time_is_stored_in_utc_to_the_millisecond() -> None:
    assert utc_text(NOON) == "2026-11-24T12:00:00.123Z"
    assert utc_text(NOON.astimezone(timezone(timedelta(hours=11)))) == "2026-11-24T12:00:00.123Z"
    assert utc_text(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00.000Z"


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        utc_text(NOON.replace(tzinfo=None))


@pytest.fixture(params=["plain", "with space", "a#b", "a?mode=rwc", "100%", "a%23b", "ü"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    directory = tmp_path / str(request.param)
    directory.mkdir()
    return directory / "store.db"


async def test_any_directory_name_names_the_same_file_for_writer_and_reader(path: Path) -> None:
    writer = open_writer(path)
    async with writer.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE t (a INTEGER)")
        await connection.exec_driver_sql("INSERT INTO t VALUES (7)")
    reader = open_reader(path)
    async with reader.connect() as connection:
        assert (await connection.exec_driver_sql("SELECT a FROM t")).scalar_one() == 7
        with pytest.raises(DBAPIError, match="readonly"):
            await connection.exec_driver_sql("INSERT INTO t VALUES (8)")
    await reader.dispose()
    await writer.dispose()
    assert {one.name for one in path.parent.iterdir()} <= {"store.db", "store.db-wal", "store.db-shm"}


def test_a_store_that_is_not_there_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match=r"There is no .*inbox\.db"):
        open_reader(tmp_path / "inbox.db")
    with pytest.raises(StoreMissing):
        schema_revision(tmp_path / "inbox.db")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def store(empty_place: Place) -> Database:
    """Nothing yet: no file, or no schema."""
    return inbox_of(empty_place)


@pytest.fixture
def empty_store(store: Database) -> Database:
    """A store without tables."""
    if isinstance(store, Schema):
        change(store, "CREATE SCHEMA inbox")
    return store


async def test_concurrent_read_modify_writes_lose_nothing(empty_store: Database) -> None:
    change(empty_store, "CREATE TABLE t (n INTEGER)", "INSERT INTO t VALUES (0)")
    writer = open_writer(empty_store)
    table = Table("t", MetaData(), Column("n", Integer))

    async def add_one() -> None:
        async with writer.begin() as connection:
            found = (await connection.execute(select(table.c.n).with_for_update())).scalar_one()
            await connection.execute(update(table).values(n=found + 1))

    await asyncio.gather(*(add_one() for _ in range(50)))
    await writer.dispose()
    assert held(empty_store) == {"t": [(50,)]}


async def test_a_transaction_of_a_writer_keeps_others_out_from_its_beginning(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "store.db")
    other = sqlite3.connect(tmp_path / "store.db", timeout=0, isolation_level=None)
    async with writer.begin():
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.close()
    await writer.dispose()


async def test_the_writer_reaches_the_disk_with_each_commit(tmp_path: Path) -> None:
    thread = WritingThread(tmp_path / "thread.db")
    engine = open_writer(tmp_path / "engine.db")

    def setting(name: str, connection: Connection) -> object:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()

    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    for name, value in wanted.items():
        of_thread = await thread.transact(partial(setting, name))
        async with engine.begin() as connection:
            of_engine = await connection.run_sync(partial(setting, name))
        assert of_thread == of_engine == value
    await thread.close()
    await engine.dispose()


def _error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    "code",
    [
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_BUSY_SNAPSHOT,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY_DBMOVED,
        sqlite3.SQLITE_CANTOPEN,
    ],
)
def test_a_store_that_fails_is_unavailable(code: int) -> None:
    assert is_unavailable(_error(code))
    assert is_unavailable(DBAPIError("INSERT", None, _error(code)))


@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_ERROR]
)
def test_data_that_fails_is_not_the_store(code: int) -> None:
    assert not is_unavailable(_error(code))
    assert not is_unavailable(DBAPIError("INSERT", None, _error(code)))
    assert not is_unavailable(ValueError("no number"))


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Two migrations of a store: the second one fails after its first statement."""
    scripts = tmp_path / "migrations"
    (scripts / "versions").mkdir(parents=True)
    (scripts / "env.py").write_text("from receiver.database import run_migration\nrun_migration()\n")
    header = "from alembic import op\nrevision = {!r}\ndown_revision = {!r}\n"
    (scripts / "versions" / "0001.py").write_text(
        header.format("0001", None) + "def upgrade():\n    op.execute('CREATE TABLE one (a INTEGER)')\n"
    )
    return scripts


def add_failing_migration(history: Path) -> None:
    (history / "versions" / "0002.py").write_text(
        "from alembic import op\nrevision = '0002'\ndown_revision = '0001'\n"
        "def upgrade():\n"
        "    op.execute('CREATE TABLE two (a INTEGER)')\n"
        "    op.execute('INSERT INTO nowhere VALUES (1)')\n"
    )


def test_a_store_is_brought_to_this_version_and_stays_there(store: Database, history: Path) -> None:
    migrate(store, str(history))
    migrate(store, str(history))
    assert schema_revision(store) == "0001"
    assert held(store).keys() == {"alembic_version", "one"}


def test_a_failed_migration_leaves_the_store_as_it_was(store: Database, history: Path) -> None:
    migrate(store, str(history))
    before = held(store)
    add_failing_migration(history)
    with pytest.raises(MigrationFailed, match=r"0002.*nowhere.*unchanged"):
        migrate(store, str(history))
    assert held(store) == before
    assert schema_revision(store) == "0001"


def test_a_failed_first_migration_leaves_nothing(store: Database, history: Path) -> None:
    add_failing_migration(history)
    with pytest.raises(MigrationFailed):
        migrate(store, str(history))
    assert shape(store) == []


def test_two_that_bring_a_store_to_this_version_at_once_take_turns(
    empty_store: Database, history: Path
) -> None:
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: migrate(empty_store, str(history)), range(2)))
    assert schema_revision(empty_store) == "0001"


def test_a_store_of_a_newer_version_is_left_alone(store: Database, history: Path) -> None:
    migrate(store, str(history))
    change(store, "UPDATE alembic_version SET version_num = '0099'")
    with pytest.raises(NewerDatabase, match=r"0099.*0001.*newer"):
        migrate(store, str(history))
    assert schema_revision(store) == "0099"


def test_a_file_that_is_no_database_is_told_and_kept(tmp_path: Path, history: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"a letter to a friend" * 100)
    with pytest.raises(StoreDamagedError, match=r"store\.db is damaged: .*not a database.*rebuild"):
        migrate(path, str(history))
    assert path.read_bytes().startswith(b"a letter to a friend")


@pytest.mark.parametrize("what", ["is missing", "takes it once"])
async def test_an_error_of_a_statement_does_not_repeat_what_was_written(
    empty_store: Database, what: str
) -> None:
    change(empty_store, "CREATE TABLE other (name TEXT)", "CREATE TABLE people (name TEXT UNIQUE)")
    change(empty_store, "INSERT INTO people VALUES ('Jamie McDonald')")
    table = {"is missing": "nowhere", "takes it once": "people"}[what]
    statement = insert(Table(table, MetaData(), Column("name", Text))).values(name="Jamie McDonald")
    engine = open_writer(empty_store)
    thread = WritingThread(empty_store)
    try:
        with pytest.raises(DBAPIError) as of_engine:
            async with engine.begin() as connection:
                await connection.execute(statement)
        with pytest.raises(DBAPIError) as of_thread:
            await thread.transact(lambda connection: connection.execute(statement))
    finally:
        await engine.dispose()
        await thread.close()
    for error in (of_engine.value, of_thread.value):
        assert "Jamie" not in "".join(traceback.format_exception(error))
        assert "people" in str(error) or "nowhere" in str(error)


@pytest.mark.parametrize(
    ("state", "unavailable"),
    [
        ("08006", True),  # the connection failed
        ("25006", True),  # a standby: it takes no writes
        ("40P01", True),  # a deadlock was broken
        ("53100", True),  # the disk is full
        ("57P01", True),  # the server is going down
        ("23505", False),  # a row that is there
        ("22P05", False),  # a character that it cannot hold
        ("42P01", False),  # a table that is missing
    ],
)
def test_what_postgresql_says_tells_a_store_that_fails_from_data_that_fails(
    state: str, *, unavailable: bool
) -> None:
    error = psycopg.errors.lookup(state)("as PostgreSQL says it")
    assert is_unavailable(error) is unavailable
    assert is_unavailable(DBAPIError("INSERT", None, error)) is unavailable
