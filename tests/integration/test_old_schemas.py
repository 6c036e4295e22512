"""Files of every version of both schemas so far: each is brought to this version, and holds what it held."""

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from receiver.database import migrate, schema_revision, scripts_of
from receiver.inbox import InboxReader, InboxWriter
from sync.apply import Applier
from sync.merge.customers import Subscription
from sync.merge.doubts import Timing
from sync.merge.snapshots import Lens
from sync.mirror import open_mirror
from sync.mirror.store import Mirror
from tests.budget import LONG
from tests.clock import NOON, Clock
from tests.old_schemas import STORES, dump_of, load
from tests.stores import held, shape
from tests.timekeeping import SystemClock

COMPANY = 5678
VERSIONS = [
    (store, script.revision)
    for store, migrations in STORES.items()
    for script in scripts_of(migrations).walk_revisions()
]
EVERY = 1 if LONG else 8
"""Of the steps of a migration so many-th ones are those at which it is killed."""


def columns(path: Path) -> dict[str, list[str]]:
    with closing(sqlite3.connect(path)) as file:
        names = file.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' "
            "AND name <> 'alembic_version'"
        ).fetchall()
        return {name: [row[1] for row in file.execute(f"PRAGMA table_info({name})")] for (name,) in names}


def rows(path: Path, wanted: dict[str, list[str]]) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as file:
        return {
            table: sorted(file.execute(f"SELECT {', '.join(names)} FROM {table}"), key=repr)  # noqa: S608 - ours
            for table, names in wanted.items()
        }


@pytest.mark.parametrize("version", VERSIONS, ids="-".join)
def test_a_file_of_an_old_version_is_brought_to_this_one_and_holds_what_it_held(
    version: tuple[str, str], tmp_path: Path
) -> None:
    store, revision = version
    assert dump_of(store, revision).exists(), "a new migration: python -m tests.old_schemas adds its file"
    path, fresh = tmp_path / f"{store}.db", tmp_path / "fresh.db"
    load(store, revision, path)
    assert schema_revision(path) == revision
    wanted = columns(path)
    before = rows(path, wanted)
    assert all(before[name] for name in ("deliveries", "customers", "_customers") if name in before)
    migrate(path, STORES[store])
    migrate(fresh, STORES[store])
    assert shape(path) == shape(fresh)
    assert rows(path, wanted) == before
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("version", VERSIONS if LONG else VERSIONS[::5], ids="-".join)
async def test_the_program_goes_on_with_files_of_an_old_version(
    version: tuple[str, str], tmp_path: Path, system_clock: SystemClock
) -> None:
    clock = Clock()
    clock.now = NOON
    system_clock.follow(clock)
    store, revision = version
    newest = {name: next(one for kind, one in VERSIONS if kind == name) for name in STORES}
    for name, chosen in (newest | {store: revision}).items():
        load(name, chosen, tmp_path / f"{name}.db")
    body = {"id": 102, "first_name": "Zola", "updated_at": (NOON + timedelta(seconds=1)).isoformat()}
    async with await InboxWriter.open(tmp_path / "inbox.db", clock=clock, new_id=clock.name) as writer:
        name = await writer.append(COMPANY, "customers/updated", {}, json.dumps(body).encode())
    clock.now += timedelta(seconds=2)
    mirror = await Mirror.open(tmp_path, COMPANY, Subscription(), "the test")
    try:
        timing = Timing()
        applier = Applier(mirror, Lens(COMPANY, Subscription(), timing.window), timing, clock)
        async with InboxReader.open(tmp_path / "inbox.db") as inbox:
            assert [one.position for one in await inbox.read(COMPANY, 0, 10)] == [1, 2, 3, 4, 5]
            assert await applier.apply_pending(inbox) == 2  # the fourth waited already
        assert (mirror.progress.position, mirror.progress.missing) == (5, 0)
    finally:
        await mirror.close()
    with open_mirror(tmp_path) as opened:
        found = {one.id: one.first_name for one in opened.customers()}
        assert found == {101: "Adaline", 102: "Zola"}
        deleted = opened.customer(103)
        assert deleted is None or deleted.deleted_at is not None
        kinds = [(one.seq, one.customer_id, one.kind) for one in opened.changes(since=0)]
    assert kinds[:4] == [(1, 101, "created"), (2, 102, "created"), (3, 101, "updated"), (4, 103, "deleted")]
    assert {(101, "updated"), (102, "updated")} <= {one[1:] for one in kinds[4:]}
    assert name


@pytest.mark.parametrize("store", STORES)
async def test_a_migration_that_is_killed_is_made_whole_by_the_next_start(store: str, tmp_path: Path) -> None:
    path = tmp_path / f"{store}.db"
    load(store, "0001", path)
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.old_schemas.killed", store, str(path), "3", str(EVERY)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await child.communicate()
    assert child.returncode == 0
    ends = dict(line.split() for line in out.decode().splitlines())
    killed = [number for number, how in ends.items() if how == "killed"]
    assert list(ends.values()).count("done") == 1
    assert len(killed) > 1
    migrate(path, STORES[store])
    for number in killed:
        left = Path(f"{path}.{number}")
        assert schema_revision(left) == "0001"
        migrate(left, STORES[store])
        assert held(left) == held(path)
        assert shape(left) == shape(path)
