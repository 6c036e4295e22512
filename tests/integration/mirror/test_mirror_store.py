"""The mirror's store: full disks, versions, readers beside the writer, paths, and nothing left open."""

import asyncio
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, OperationalError

from receiver.database import (
    MigrationFailed,
    NewerDatabase,
    Place,
    Server,
    StoreMissing,
    directory_of,
    is_unavailable,
    migrate,
    mirror_of,
)
from receiver.ownership import OwnedElsewhere
from sync.merge.customers import Subscription
from sync.mirror.figures import figures_of
from sync.mirror.reader import MirrorReader, mirror_path
from sync.mirror.store import Mirror, migrate_mirror
from sync.mirror.verdicts import deliveries_with
from tests.stores import change, end_sessions, held, sessions, set_pragma, shape, take_writes


async def pages(mirror: Mirror) -> int:
    async with mirror.transaction() as connection:
        return int((await connection.exec_driver_sql("PRAGMA page_count")).scalar_one())


@pytest.mark.parametrize("database_kind", ["sqlite"], ids=["sqlite: a server's disk is not ours to fill"])
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


async def test_a_store_that_takes_no_writes_keeps_deliveries_waiting(house: Any) -> None:
    """A file that became read-only, a standby in the place of a server."""
    await house.post(house.customer(1))
    await take_writes(house.mirror, "off")
    for _ in range(2):
        with pytest.raises(DBAPIError, match=r"read-?only") as raised:
            await house.apply()
        assert is_unavailable(raised.value)
        assert house.counts() == {}
    await take_writes(house.mirror, "on")
    assert await house.apply() == 1
    assert house.counts() == {"applied": 1}


@pytest.mark.parametrize("database_kind", ["postgresql"], ids=["postgresql: its sessions end with it"])
async def test_a_server_that_was_started_anew_is_written_to_as_before(house: Any) -> None:
    reader = await house.view.reader()
    for id_ in (1, 2, 3):
        await house.post(house.customer(id_))
    for position in range(3):
        await house.applier.apply(await reader.read(5678, position, 1))
        end_sessions(house.place)
    assert house.counts() == {"applied": 3}


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


async def test_a_migration_that_fails_leaves_the_store_as_it_was(house: Any, tmp_path: Path) -> None:
    await house.post(house.customer(1))
    await house.apply()
    await house.mirror.close()
    mirror = mirror_of(house.place)
    before = shape(mirror), held(mirror)
    with pytest.raises(MigrationFailed, match=r"mirror.* could not be brought to version 0999.*nowhere"):
        migrate(mirror, str(with_a_migration_that_fails(tmp_path)))
    assert (shape(mirror), held(mirror)) == before
    house.mirror = await house.new_mirror()


def test_a_first_migration_that_fails_leaves_nothing(empty_place: Place, tmp_path: Path) -> None:
    mirror = mirror_of(empty_place)
    with pytest.raises(MigrationFailed):
        migrate(mirror, str(with_a_migration_that_fails(tmp_path)))
    assert shape(mirror) == []


async def test_a_mirror_of_a_newer_version_is_one_sentence_for_its_owner_and_its_readers(house: Any) -> None:
    await house.mirror.close()
    mirror = mirror_of(house.place)
    change(mirror, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewerDatabase, match=r"mirror.* has schema version 9999"):
        await house.new_mirror()
    with pytest.raises(NewerDatabase, match=r"mirror.* has schema version 9999"):
        MirrorReader.look(house.place, 5678)
    change(mirror, "UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(StoreMissing, match=r"mirror.* has schema version 0001.*kounta-mirror migrate"):
        MirrorReader.look(house.place, 5678)


async def test_there_is_no_mirror_to_look_at_before_a_worker_has_made_it(empty_place: Place) -> None:
    mirror = mirror_of(empty_place)
    if isinstance(mirror, Path):
        with pytest.raises(StoreMissing, match=r"There is no .*mirror\.db"):
            MirrorReader.look(empty_place, 5678)
        mirror.touch()
    with pytest.raises(StoreMissing, match=r"mirror.* has no tables yet"):
        MirrorReader.look(empty_place, 5678)


@pytest.mark.parametrize("database_kind", ["sqlite"], ids=["sqlite: a schema has many writers"])
async def test_a_mirror_has_one_owner(house: Any) -> None:
    with pytest.raises(OwnedElsewhere, match="the test"):
        await house.new_mirror()


async def test_a_mirror_that_cannot_be_opened_leaves_nothing_open(place: Place) -> None:
    migrate_mirror(place)
    change(mirror_of(place), "ALTER TABLE companies RENAME TO odd")
    with nothing_left_open(place):
        for _ in range(2):
            with pytest.raises(DBAPIError, match="companies"):
                await Mirror.open(place, 5678, Subscription(), "the test")
    change(mirror_of(place), "ALTER TABLE odd RENAME TO companies")
    await (await Mirror.open(place, 5678, Subscription(), "the test")).close()


@contextmanager
def nothing_left_open(place: Place) -> Iterator[None]:
    known = threading.enumerate()
    yield
    directory = directory_of(place)
    links = [descriptor for descriptor in Path("/proc/self/fd").iterdir() if descriptor.is_symlink()]
    held = [target for target in (link.readlink() for link in links) if directory in target.parents]
    assert held == []
    new = [thread for thread in threading.enumerate() if thread not in known]
    for thread in new:
        thread.join(2)  # it ends just after it has said that its connection is closed
    assert [thread for thread in new if thread.is_alive()] == []
    assert sessions(place) == 0


async def test_opening_and_closing_leaves_no_descriptor_and_no_thread(empty_house: Any) -> None:
    place = empty_house.place

    async def once() -> None:
        mirror = await empty_house.new_mirror()
        async with mirror.batch([1], empty_house.now) as batch:
            assert batch.records == {}
        await mirror.close()
        async with MirrorReader.look(place, 5678) as reader, reader.reading() as connection:
            await connection.exec_driver_sql("SELECT 1")

    await once()
    with nothing_left_open(place):
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


@pytest.mark.parametrize("database_kind", ["sqlite"], ids=["sqlite: its files lie there"])
@pytest.mark.parametrize("name", ["a#b", "a?mode=rwc", "100%", "a%23b", "with space", "für Käufer", "顧客"])
async def test_a_data_directory_may_have_any_name(empty_house: Any, tmp_path: Path, name: str) -> None:
    empty_house.place = tmp_path / name
    await empty_house.open()
    await empty_house.post(empty_house.customer(1))
    assert await empty_house.apply() == 1
    assert empty_house.name(1) == "Jamie"
    assert names_in(tmp_path) == [name]
    async with MirrorReader.look(empty_house.directory, 5678) as reader, reader.reading() as connection:
        rows = await connection.exec_driver_sql("SELECT count(*) FROM customers")
        assert rows.scalar_one() == 1


@contextmanager
def reporting_tool(place: Place) -> Iterator[Callable[..., list[int]]]:
    """Ask several questions in one transaction, over one connection that waits for nobody."""
    connection: Any
    if isinstance(place, Server):
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        connection = psycopg.connect(
            place.url, autocommit=True, options="-c search_path=mirror -c lock_timeout=1"
        )
    else:
        begin = "BEGIN"
        uri = mirror_path(place).as_uri() + "?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)
    with closing(connection):

        def ask(*queries: str) -> list[int]:
            connection.execute(begin)
            answers = [connection.execute(query).fetchone()[0] for query in queries]
            connection.execute("COMMIT")
            return answers

        yield ask


async def test_a_reporting_tool_reads_while_batches_are_written(house: Any) -> None:
    for id_ in range(400):
        await house.post(house.customer(id_ % 40 + 1, first_name=f"Name {id_}"))
    stop = threading.Event()
    seen: list[tuple[int, int, int]] = []

    def report() -> None:
        with reporting_tool(house.place) as ask:
            while not stop.is_set():
                changes, last, live, rows = ask(
                    "SELECT count(*) FROM customer_changes",
                    "SELECT coalesce(max(seq), 0) FROM customer_changes",
                    "SELECT live FROM mirror_status",
                    "SELECT count(*) FROM customers",
                )
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
        if re.search(r"FROM (mirror\.)?delivery_verdicts", statement):
            asked.append((statement, parameters))

    event.listen(house.mirror._reading.sync_engine, "before_cursor_execute", note)
    await figures_of(house.mirror)
    await deliveries_with(house.mirror, "failed")
    assert len(asked) == 2
    for statement, parameters in asked:
        index = r"Index.* _delivery_verdicts_(in_trouble|unusual|by_time)"  # each is as good
        assert re.search(index, plan(house, statement, parameters), re.IGNORECASE)


def plan(house: Any, statement: str, parameters: Any) -> str:
    """Say how a statement is executed, when the tables are not so small that no index is worth its while."""
    if not isinstance(house.place, Server):
        (step,) = house.rows(f"EXPLAIN QUERY PLAN {statement}", *parameters)
        assert "COVERING" in step["detail"]
        return str(step["detail"])
    with psycopg.connect(house.place.url, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SET enable_seqscan = off")
        return str(connection.execute(f"EXPLAIN {statement}".encode(), parameters).fetchall())
