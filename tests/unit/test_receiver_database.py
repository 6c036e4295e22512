import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from receiver.database import (
    MigrationFailed,
    NewerDatabase,
    StoreMissing,
    WritingThread,
    is_unavailable,
    migrate,
    open_reader,
    open_writer,
    schema_revision,
    utc_text,
)

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


async def test_concurrent_read_modify_writes_lose_nothing(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "store.db")
    async with writer.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
        await connection.exec_driver_sql("INSERT INTO t VALUES (0)")

    async def add_one() -> None:
        async with writer.begin() as connection:
            found = (await connection.exec_driver_sql("SELECT n FROM t")).scalar_one()
            await connection.exec_driver_sql("UPDATE t SET n = ?", (found + 1,))

    await asyncio.gather(*(add_one() for _ in range(50)))
    async with writer.begin() as connection:
        assert (await connection.exec_driver_sql("SELECT n FROM t")).scalar_one() == 50
    await writer.dispose()


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
        header.format("0001", None) + "def upgrade():\n    op.execute('CREATE TABLE one (a)')\n"
    )
    return scripts


def add_failing_migration(history: Path) -> None:
    (history / "versions" / "0002.py").write_text(
        "from alembic import op\nrevision = '0002'\ndown_revision = '0001'\n"
        "def upgrade():\n"
        "    op.execute('CREATE TABLE two (a)')\n"
        "    op.execute('INSERT INTO nowhere VALUES (1)')\n"
    )


def tables(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    finally:
        connection.close()


def test_a_store_is_brought_to_this_version_and_stays_there(tmp_path: Path, history: Path) -> None:
    path = tmp_path / "store.db"
    migrate(path, str(history))
    migrate(path, str(history))
    assert schema_revision(path) == "0001"
    assert "one" in tables(path)


def test_a_failed_migration_leaves_the_store_as_it_was(tmp_path: Path, history: Path) -> None:
    path = tmp_path / "store.db"
    migrate(path, str(history))
    before = tables(path)
    add_failing_migration(history)
    with pytest.raises(MigrationFailed, match=r"0002.*nowhere.*unchanged"):
        migrate(path, str(history))
    assert tables(path) == before
    assert schema_revision(path) == "0001"


def test_a_failed_first_migration_leaves_nothing(tmp_path: Path, history: Path) -> None:
    path = tmp_path / "store.db"
    add_failing_migration(history)
    with pytest.raises(MigrationFailed):
        migrate(path, str(history))
    assert tables(path) == set()


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path, history: Path) -> None:
    path = tmp_path / "store.db"
    migrate(path, str(history))
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    connection.close()
    with pytest.raises(NewerDatabase, match=r"0099.*0001.*newer"):
        migrate(path, str(history))
    assert schema_revision(path) == "0099"


def test_a_file_that_is_no_database_is_told_and_kept(tmp_path: Path, history: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"a letter to a friend" * 100)
    with pytest.raises(MigrationFailed, match="not a database"):
        migrate(path, str(history))
    assert path.read_bytes().startswith(b"a letter to a friend")


async def test_an_error_of_a_statement_does_not_repeat_what_was_written(tmp_path: Path) -> None:
    engine = open_writer(tmp_path / "mirror.db")
    thread = WritingThread(tmp_path / "inbox.db")
    name = {"name": "Jamie McDonald"}
    statement = text("INSERT INTO nowhere (name) VALUES (:name)")
    try:
        with pytest.raises(DBAPIError) as of_engine:
            async with engine.begin() as connection:
                await connection.execute(statement, name)
        with pytest.raises(DBAPIError) as of_thread:
            await thread.transact(lambda connection: connection.execute(statement, name))
    finally:
        await engine.dispose()
        await thread.close()
    assert "Jamie" not in str(of_engine.value)
    assert "Jamie" not in str(of_thread.value)
