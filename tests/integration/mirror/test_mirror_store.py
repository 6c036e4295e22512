"""The mirror's file: full disks, versions, readers beside the writer, paths, and nothing left open."""

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from receiver.database import MigrationFailed, NewerDatabase, StoreMissing, is_unavailable, migrate
from receiver.ownership import OwnedElsewhere
from sync.merge.customers import Subscription
from sync.mirror.figures import figures_of
from sync.mirror.reader import MirrorReader, mirror_path
from sync.mirror.schema import METADATA, create_statements
from sync.mirror.store import Mirror, migrate_mirror
from sync.mirror.verdicts import deliveries_with


async def set_pragma(mirror: Mirror, pragma: str) -> None:
    """Set it on the one writing connection, outside a transaction."""
    connection = await mirror.store.engine.raw_connection()
    driver: Any = connection.driver_connection
    await driver.execute(f"PRAGMA {pragma}")
    connection.close()


async def pages(mirror: Mirror) -> int:
    async with mirror.transaction() as connection:
        return int((await connection.exec_driver_sql("PRAGMA page_count")).scalar_one())


async def test_on_a_full_disk_nothing_is_applied_lost_or_failed_and_it_goes_on_when_there_is_room(
    house: Any,
) -> None:
    await house.post(house.customer(1))
    await house.apply()
    await set_pragma(house.mirror, f"max_page_count = {await pages(house.mirror)}")
    for id_ in range(2, 1502):
        await house.post(house.customer(id_, first_name="x" * 50))
    for _ in range(2):
        with pytest.raises(OperationalError, match="full") as raised:
            await house.apply()
        assert is_unavailable(raised.value)
        assert house.counts() == {"applied": 1}
        assert house.row("SELECT position FROM _progress")["position"] == 1
    await set_pragma(house.mirror, "max_page_count = 1000000")
    assert await house.apply() == 1500
    assert house.counts() == {"applied": 1501}


async def test_a_file_that_became_read_only_keeps_deliveries_waiting(house: Any) -> None:
    await house.post(house.customer(1))
    await set_pragma(house.mirror, "query_only = ON")
    with pytest.raises(OperationalError, match="readonly") as raised:
        await house.apply()
    assert is_unavailable(raised.value)
    assert house.counts() == {}
    await set_pragma(house.mirror, "query_only = OFF")
    assert await house.apply() == 1
    assert house.counts() == {"applied": 1}


def change(directory: Path, *statements: str) -> None:
    with closing(sqlite3.connect(mirror_path(directory))) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def schema_of(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%'"
            " ORDER BY type, name"
        ).fetchall()


def spaced(schema: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(" ".join(str(part).split()) for part in row) for row in schema]


def test_a_fresh_schema_equals_a_migrated_one(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.db"
    migrate_mirror(tmp_path)
    engine = create_engine(f"sqlite:///{fresh}", poolclass=NullPool)
    METADATA.create_all(engine)
    with engine.begin() as connection:
        for statement in create_statements(engine.dialect):
            connection.exec_driver_sql(statement)
    assert spaced(schema_of(mirror_path(tmp_path))) == spaced(schema_of(fresh))
    migrated = create_engine(f"sqlite:///{mirror_path(tmp_path)}", poolclass=NullPool)
    with migrated.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def with_a_migration_that_fails(tmp_path: Path) -> Path:
    """The mirror's own migrations and one more, which fails at its last statement."""
    import sync.mirror.migrations

    scripts = tmp_path / "migrations"
    shutil.copytree(Path(sync.mirror.migrations.__path__[0]), scripts)
    head = max(path.stem for path in (scripts / "versions").glob("[0-9]*.py"))
    (scripts / "versions" / "0999.py").write_text(
        f"from alembic import op\nrevision, down_revision = '0999', {head!r}\n"
        "def upgrade():\n"
        "    op.execute('DROP VIEW customers')\n"
        "    op.execute('ALTER TABLE _customers ADD COLUMN odd TEXT')\n"
        "    op.execute('DROP TABLE nowhere')\n"
    )
    return scripts


async def test_a_migration_that_fails_leaves_the_file_as_it_was(house: Any, tmp_path: Path) -> None:
    await house.post(house.customer(1))
    await house.apply()
    await house.mirror.close()
    before = schema_of(mirror_path(house.directory))
    with pytest.raises(MigrationFailed, match=r"mirror\.db could not be brought to version 0999.*nowhere"):
        migrate(mirror_path(house.directory), str(with_a_migration_that_fails(tmp_path)))
    assert schema_of(mirror_path(house.directory)) == before
    assert house.name(1) == "Jamie"
    house.mirror = await house.new_mirror()


def test_a_first_migration_that_fails_leaves_no_table(tmp_path: Path) -> None:
    with pytest.raises(MigrationFailed):
        migrate(mirror_path(tmp_path), str(with_a_migration_that_fails(tmp_path)))
    assert schema_of(mirror_path(tmp_path)) == []


async def test_a_mirror_of_a_newer_version_is_one_sentence_for_its_owner_and_its_readers(house: Any) -> None:
    await house.mirror.close()
    change(house.directory, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewerDatabase, match=r"mirror\.db has schema version 9999"):
        await house.new_mirror()
    with pytest.raises(NewerDatabase, match=r"mirror\.db has schema version 9999"):
        MirrorReader.look(house.directory, 5678)
    change(house.directory, "UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(StoreMissing, match=r"mirror\.db has schema version 0001.*kounta-mirror migrate"):
        MirrorReader.look(house.directory, 5678)


async def test_there_is_no_mirror_to_look_at_before_a_worker_has_made_it(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match=r"There is no .*mirror\.db"):
        MirrorReader.look(tmp_path, 5678)
    mirror_path(tmp_path).touch()
    with pytest.raises(StoreMissing, match="has no tables yet"):
        MirrorReader.look(tmp_path, 5678)


async def test_a_mirror_has_one_owner(house: Any) -> None:
    with pytest.raises(OwnedElsewhere, match="the test"):
        await house.new_mirror()


async def test_a_mirror_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    migrate_mirror(tmp_path)
    change(
        tmp_path,
        "CREATE TRIGGER odd BEFORE INSERT ON companies BEGIN SELECT RAISE(ABORT, 'odd'); END",
    )
    with nothing_left_open(tmp_path):
        for _ in range(2):
            with pytest.raises(Exception, match="odd"):
                await Mirror.open(tmp_path, 5678, Subscription(), "the test")
    change(tmp_path, "DROP TRIGGER odd")
    await (await Mirror.open(tmp_path, 5678, Subscription(), "the test")).close()


@contextmanager
def nothing_left_open(directory: Path) -> Iterator[None]:
    known = threading.enumerate()
    yield
    links = [descriptor for descriptor in Path("/proc/self/fd").iterdir() if descriptor.is_symlink()]
    held = [target for target in (link.readlink() for link in links) if directory in target.parents]
    assert held == []
    new = [thread for thread in threading.enumerate() if thread not in known]
    for thread in new:
        thread.join(2)  # it ends just after it has said that its connection is closed
    assert [thread for thread in new if thread.is_alive()] == []


async def test_opening_and_closing_leaves_no_descriptor_and_no_thread(
    empty_house: Any, tmp_path: Path
) -> None:
    async def once() -> None:
        mirror = await empty_house.new_mirror(tmp_path)
        async with mirror.batch([1], empty_house.now) as batch:
            assert batch.records == {}
        await mirror.close()
        async with MirrorReader.look(tmp_path, 5678) as reader, reader.reading() as connection:
            await connection.exec_driver_sql("SELECT 1")

    await once()
    with nothing_left_open(tmp_path):
        for _ in range(5):
            await once()


async def test_closing_waits_for_the_batch_under_way(house: Any) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> None:
        async with house.mirror.batch([], house.now) as batch:
            inside.set()
            await go_on.wait()
            batch.position = 7

    working = asyncio.create_task(slowly())
    await inside.wait()
    closing_ = asyncio.create_task(house.mirror.close())
    done, _ = await asyncio.wait([closing_], timeout=0.1)
    assert not done
    go_on.set()
    await asyncio.gather(working, closing_)
    assert house.row("SELECT position FROM _progress")["position"] == 7


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


@pytest.mark.parametrize("name", ["a#b", "a?mode=rwc", "100%", "a%23b", "with space", "für Käufer", "顧客"])
async def test_a_data_directory_may_have_any_name(empty_house: Any, tmp_path: Path, name: str) -> None:
    empty_house.directory = tmp_path / name
    await empty_house.open()
    await empty_house.post(empty_house.customer(1))
    assert await empty_house.apply() == 1
    assert empty_house.name(1) == "Jamie"
    assert names_in(tmp_path) == [name]
    async with MirrorReader.look(empty_house.directory, 5678) as reader, reader.reading() as connection:
        rows = await connection.exec_driver_sql("SELECT count(*) FROM customers")
        assert rows.scalar_one() == 1


async def test_a_reporting_tool_reads_while_batches_are_written(house: Any) -> None:
    for id_ in range(400):
        await house.post(house.customer(id_ % 40 + 1, first_name=f"Name {id_}"))
    stop = threading.Event()
    seen: list[tuple[int, int, int]] = []

    def report() -> None:
        uri = mirror_path(house.directory).as_uri() + "?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)) as connection:
            while not stop.is_set():
                connection.execute("BEGIN")
                (changes,) = connection.execute("SELECT count(*) FROM customer_changes").fetchone()
                (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM customer_changes").fetchone()
                (live,) = connection.execute("SELECT live FROM mirror_status").fetchone()
                (rows,) = connection.execute("SELECT count(*) FROM customers").fetchone()
                connection.execute("COMMIT")
                assert live == rows
                seen.append((changes, last, live))

    reporting = asyncio.create_task(asyncio.to_thread(report))
    reader = await house.view.reader()
    for start in range(0, 400, 10):
        await house.applier.apply(await reader.read(5678, start, 10))
    stop.set()
    await reporting
    assert all(changes == last for changes, last, _ in seen)
    assert seen == sorted(seen)
    assert house.row("SELECT count(*) AS n FROM customer_changes")["n"] == 400


async def test_what_is_in_trouble_is_found_without_looking_at_every_verdict(house: Any) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "FROM delivery_verdicts" in statement:
            asked.append((statement, parameters))

    event.listen(house.mirror._reading.sync_engine, "before_cursor_execute", note)
    await figures_of(house.mirror)
    await deliveries_with(house.mirror, "failed")
    for statement, parameters in asked:
        (step,) = house.rows(f"EXPLAIN QUERY PLAN {statement}", *parameters)
        assert "COVERING INDEX _delivery_verdicts_in_trouble" in step["detail"]
    assert len(asked) == 2
