"""Both stores move from SQLite to PostgreSQL, whole or not at all, and go on there."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config

from receiver.copying import CopiesDiffer, CopyFailed
from receiver.database import NewerDatabase, Server
from receiver.digest import digest
from receiver.inbox import InboxReader, InboxWriter
from receiver.inbox.schema import metadata as INBOX_TABLES  # noqa: N812 - as the mirror's
from receiver.ownership import OwnedElsewhere, Ownership
from receiver.postgresql import Schema
from receiver.postgresql import looking as schema
from receiver.sqlite import looking, migration
from sync.merge.customers import Customer
from sync.merge.decisions import accept
from sync.merge.snapshots import Source
from sync.migration import COMPARING, COPYING, move
from sync.mirror.schema import METADATA
from sync.mirror.sweeps import begin_sweep, newest_sweep
from sync.replay import replay


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The houses of this file begin on SQLite."""
    return tmp_path / "data"


@pytest.fixture
def server(postgresql: Any, tmp_path: Path) -> Server:
    return Server(tmp_path / "data", postgresql.fresh())


@pytest.fixture
async def other_house(empty_house: Any, tmp_path: Path) -> AsyncIterator[Any]:
    """A house that stays on SQLite."""
    async with AsyncExitStack() as stack:
        other = type(empty_house)(tmp_path / "other", stack)
        await other.open()
        yield other


def nobody(*_: object) -> None:
    """Nobody looks on."""


def rows(server: Server, query: str) -> list[Any]:
    with psycopg.connect(server.url) as connection:
        return connection.execute(query.encode()).fetchall()


def change(file: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement, values)


def content(directory: Path) -> dict[str, str]:
    return {one.name: sha256(one.read_bytes()).hexdigest() for one in directory.glob("*.db")}


async def live_a_little(house: Any) -> None:
    """Leave something in every part of the stores that deliveries, reads and sweeps reach."""
    names = [await house.post(house.customer(id_)) for id_ in range(1, 6)]
    await house.post(b"no JSON \x00\xff")
    await house.post(
        house.customer(6, first_name="Zoë \N{GRINNING FACE}\u2028", loyalty={"b": 1e20, "a": [1]})
    )
    await house.apply()
    house.at(60.123)
    await house.post(house.customer(1, 60, first_name="Bea", tags=["gold", "vip", "gold"]))
    await house.post({"id": 2}, "deleted")
    await house.post(house.customer(3, 0.5, first_name="Doubtful"))
    await house.apply()
    await begin_sweep(house.mirror, "schedule", house.now)
    await replay_some(house, names[:3])
    await read(house, 4)


async def replay_some(house: Any, names: list[str]) -> None:
    class Settings:
        place = house.place
        company_id = 5678

    class Engine:
        mirror, applier, settings = house.mirror, house.applier, Settings

    engine: Any = Engine
    await replay(engine, names)


async def read(house: Any, id_: int) -> None:
    lens = house.applier._lens
    customer = Customer.model_validate(house.customer(id_, 60, email="read@kounta.example"))
    position = house.mirror.progress.position
    snapshot = lens.customer(customer, arrived_at=house.now, position=position, source=Source.VERIFICATION)
    async with house.mirror.batch([id_], house.now) as batch:
        decision = accept(batch.records.get(id_), snapshot, lens.subscription)
        batch.decide(decision, source=Source.VERIFICATION, at=house.now)
        batch.settle(id_)


async def live_on(house: Any) -> None:
    """Apply what waits, and what comes then."""
    house.at(120)
    await house.apply()
    await house.post(house.customer(5, 120, last_name="Later"))
    await house.post({"id": 1}, "deleted")
    await house.apply()


async def shut(house: Any) -> None:
    await house.mirror.close()
    await house.inbox.close()


async def test_a_mirror_that_moves_halfway_ends_as_one_that_stays(
    house: Any, other_house: Any, server: Server
) -> None:
    for one in (house, other_house):
        change(one.directory / "inbox.db", "UPDATE identity SET identity = 'the same'")
        await live_a_little(one)
        await one.post(one.customer(3, 61, first_name="Pending"))
    await shut(house)
    move(house.directory, server, nobody)

    async with AsyncExitStack() as stack:
        moved = type(house)(server, stack, now=house.now)
        moved._named_at, moved._names = house._named_at, house._names
        await moved.open()
        await live_on(moved)
        assert moved.verdicts()[-3:] == ["applied", "applied", "tombstoned"]
        assert moved.row("SELECT missing FROM _progress") == {"missing": 0}
        sweep = await newest_sweep(moved.mirror)
        assert sweep is not None
        assert (sweep.reason, sweep.finished_at) == ("schedule", None)

    await live_on(other_house)
    await shut(other_house)
    with looking(other_house.directory / "mirror.db") as connection:
        stayed = {name: digest(connection, table) for name, table in METADATA.tables.items()}
    with schema(Schema(server.url, "mirror")) as connection:
        assert {name: digest(connection, table) for name, table in METADATA.tables.items()} == stayed


async def test_every_table_is_compared_and_bodies_are_the_same_byte_for_byte(
    house: Any, server: Server
) -> None:
    await live_a_little(house)
    every_byte = bytes(range(256))
    await house.post(every_byte)
    await shut(house)
    stages: list[tuple[str, int, int]] = []
    copied = move(house.directory, server, lambda *stage: stages.append(stage))

    assert {one.table for one in copied.tables} == {
        *(f"inbox.{name}" for name in INBOX_TABLES.tables),
        *(f"mirror.{name}" for name in METADATA.tables),
    }
    assert all(one.is_equal for one in copied.tables)
    number = {one.table: one.here.rows for one in copied.tables}
    assert (number["inbox.deliveries"], number["mirror._customers"]) == (11, 6)
    assert number["mirror._past_verdicts"] == 3
    assert {stage for stage, _, _ in stages} == {COPYING, COMPARING}
    assert stages[-1][1:] == (stages[-1][2], 2 * sum(number.values()))
    assert rows(server, "SELECT body FROM inbox.deliveries ORDER BY position DESC LIMIT 1") == [(every_byte,)]
    assert rows(server, "SELECT first_name, other FROM mirror.customers WHERE id = 6") == [
        ("Zoë \N{GRINNING FACE}\u2028", {"loyalty": {"b": 10**20, "a": [1]}})
    ]
    assert rows(server, "SELECT changed_at FROM mirror.customers WHERE id = 1") == [
        (datetime(2026, 11, 24, 12, 1, 0, 123_000, tzinfo=UTC),)
    ]
    tags = rows(server, "SELECT tag FROM mirror.customer_tags WHERE customer_id = 1 ORDER BY tag")
    assert tags == [("gold",), ("gold",), ("vip",)]


async def test_deliveries_lie_in_the_partitions_of_their_days(house: Any, server: Server) -> None:
    await house.post(house.customer(1))
    house.at(86_400)
    await house.post(house.customer(1))
    await shut(house)
    move(house.directory, server, nobody)
    found = rows(server, "SELECT tableoid::regclass::text FROM inbox.deliveries ORDER BY position")
    assert found == [("inbox.deliveries_20261124",), ("inbox.deliveries_20261125",)]


async def test_numbers_that_the_database_gives_go_on_behind_those_that_were_ever_given(
    house: Any, server: Server
) -> None:
    for _ in range(2):
        await house.inbox.close()
        house.inbox = await house.new_inbox()
    await shut(house)
    change(house.directory / "inbox.db", "DELETE FROM starts WHERE number = 3")
    move(house.directory, server, nobody)
    async with await InboxWriter.open(Schema(server.url, "inbox")):
        pass
    async with InboxReader.open(Schema(server.url, "inbox")) as reader:
        assert [start.number for start in await reader.starts()] == [1, 2, 4]


async def test_what_postgresql_cannot_store_in_a_text_is_replaced_and_counted(
    house: Any, server: Server
) -> None:
    await live_a_little(house)
    await shut(house)
    change(
        house.directory / "inbox.db",
        "INSERT INTO failed_commits (first_at, last_at, refused, reason) VALUES (?, ?, 1, ?)",
        *["2026-11-24T12:00:00.001Z"] * 2,
        "disk\x00full",
    )
    change(
        house.directory / "mirror.db",
        "UPDATE _customers SET other = ? WHERE id = 1",
        json.dumps({"a\x00": ["\ud800", "C:\\u0000"]}),
    )
    copied = move(house.directory, server, nobody)
    assert copied.mended == 2
    assert rows(server, "SELECT reason FROM inbox.failed_commits") == [("disk\ufffdfull",)]
    assert rows(server, "SELECT other FROM mirror.customers WHERE id = 1") == [
        ({"a\ufffd": ["\ufffd", "C:\\u0000"]},)
    ]


async def test_files_of_an_older_version_are_brought_up_to_date_in_a_copy(house: Any, server: Server) -> None:
    await shut(house)
    for name, package in (("inbox", "receiver"), ("mirror", "sync")):
        (house.directory / f"{name}.db").unlink()
        make_the_first_version(house.directory / f"{name}.db", f"{package}:{name}/migrations")
    change(
        house.directory / "inbox.db",
        "INSERT INTO deliveries VALUES (7, 'a', 5678, 'customers/updated', ?, '{}', x'00')",
        "2026-11-24T12:00:00.000Z",
    )
    change(house.directory / "inbox.db", "INSERT INTO accepted VALUES (5678, 7)")
    change(
        house.directory / "mirror.db",
        "INSERT INTO _progress (company_id, position, missing, seq, revision) VALUES (5678, 6, 0, 0, 0)",
    )
    before = content(house.directory)
    move(house.directory, server, nobody)
    assert content(house.directory) == before
    assert [one.name for one in house.directory.iterdir() if one.is_dir()] == []
    assert rows(server, "SELECT position, body FROM inbox.deliveries") == [(7, b"\x00")]
    assert rows(server, "SELECT position, starts_seen FROM mirror._progress") == [(6, 0)]


def make_the_first_version(file: Path, migrations: str) -> None:
    config = Config()
    config.set_main_option("script_location", migrations)
    with migration(file) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")


async def test_the_files_are_as_they_were(house: Any, server: Server) -> None:
    await live_a_little(house)
    await shut(house)
    before = content(house.directory)
    move(house.directory, server, nobody)
    assert content(house.directory) == before


@pytest.mark.parametrize(("name", "owner"), [("inbox", "the receiver"), ("worker", "kounta-mirror worker")])
async def test_files_that_somebody_owns_are_not_copied(
    house: Any, server: Server, name: str, owner: str
) -> None:
    await live_a_little(house)
    await shut(house)
    with Ownership.take(house.directory, name, owner), pytest.raises(OwnedElsewhere, match=owner):
        move(house.directory, server, nobody)
    assert nothing_is_there(server)


async def test_schemas_that_hold_something_are_not_filled(house: Any, server: Server) -> None:
    await live_a_little(house)
    await shut(house)
    move(house.directory, server, nobody)
    held = rows(server, "SELECT count(*) FROM mirror._customers")
    with pytest.raises(CopyFailed, match=r"in schema inbox there are rows already \(accepted, deliveries"):
        move(house.directory, server, nobody)
    assert rows(server, "SELECT count(*) FROM mirror._customers") == held


async def test_a_row_that_cannot_be_stored_leaves_nothing_and_is_not_quoted(
    house: Any, server: Server
) -> None:
    await live_a_little(house)
    await shut(house)
    change(house.directory / "mirror.db", "UPDATE _changes SET other = 'Jamie' WHERE seq = 1")
    with pytest.raises(CopyFailed, match=r"A row of _changes cannot be stored.*json") as failed:
        move(house.directory, server, nobody)
    assert "Jamie" not in str(failed.value)
    assert nothing_is_there(server)


async def test_a_table_that_differs_is_named_and_nothing_is_kept(house: Any, server: Server) -> None:
    await live_a_little(house)
    await shut(house)
    with psycopg.connect(server.url) as connection:
        connection.execute(
            "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.reason := 'odd'; RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER odd BEFORE INSERT ON mirror.delivery_verdicts FOR EACH ROW "
            "WHEN (NEW.verdict = 'quarantined') EXECUTE FUNCTION odd()"
        )
    with pytest.raises(CopiesDiffer, match=r"both databases: mirror\.delivery_verdicts\. Nothing") as failed:
        move(house.directory, server, nobody)
    assert [
        one.table for one in failed.value.copied.tables if not one.is_equal
    ] == failed.value.copied.differing
    assert nothing_is_there(server)


async def test_the_schemas_are_made_if_there_are_none(house: Any, postgresql: Any, tmp_path: Path) -> None:
    await live_a_little(house)
    await shut(house)
    server = Server(tmp_path / "data", postgresql.empty())
    move(house.directory, server, nobody)
    assert rows(server, "SELECT count(*) FROM mirror.all_customers") == [(6,)]


async def test_a_directory_without_stores_is_one_sentence(tmp_path: Path, server: Server) -> None:
    with pytest.raises(CopyFailed, match=r"neither inbox\.db nor mirror\.db in .*MIRROR_DATA_DIR"):
        move(tmp_path / "missing", server, nobody)
    assert not (tmp_path / "missing").exists()
    (tmp_path / "inbox.db").touch()
    with pytest.raises(CopyFailed, match=r"inbox\.db holds no tables"):
        move(tmp_path, server, nobody)


async def test_an_inbox_whose_worker_never_ran_moves_alone(house: Any, server: Server) -> None:
    await house.post(house.customer(1))
    await shut(house)
    (house.directory / "mirror.db").unlink()
    copied = move(house.directory, server, nobody)
    assert {one.table.split(".")[0] for one in copied.tables} == {"inbox"}


async def test_files_of_a_newer_version_are_one_sentence(house: Any, server: Server) -> None:
    await shut(house)
    change(house.directory / "mirror.db", "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewerDatabase, match=r"mirror\.db has schema version 9999"):
        move(house.directory, server, nobody)
    assert [one.name for one in house.directory.iterdir() if one.is_dir()] == []


def nothing_is_there(server: Server) -> bool:
    names = [("inbox", one) for one in INBOX_TABLES.tables] + [("mirror", one) for one in METADATA.tables]
    return not any(rows(server, f'SELECT 1 FROM {schema}."{name}"') for schema, name in names)  # noqa: S608 - our own names
