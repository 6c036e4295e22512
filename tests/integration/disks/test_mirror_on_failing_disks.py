"""The mirror on a disk that fails at its n-th operation, for every n: each delivery takes effect once."""

import json
import shutil
import sqlite3
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from receiver.database import MigrationFailed, is_unavailable
from receiver.errors import MirrorError
from receiver.inbox import InboxReader, InboxWriter
from sync.apply import Applier
from sync.merge.customers import Subscription
from sync.merge.doubts import Timing
from sync.merge.snapshots import Lens
from sync.mirror.store import Mirror, migrate_mirror
from tests.clock import Clock
from tests.faulty_disk import FaultyDisk, Kind
from tests.stores import held, shape

COMPANY = 5678


@pytest.fixture
async def before(tmp_path: Path, clock: Clock) -> Path:
    """A directory with deliveries that wait, and a mirror that has applied some before them."""
    directory = tmp_path / "before"
    async with await InboxWriter.open(directory / "inbox.db", clock=clock, new_id=clock.name) as writer:
        for number in range(3):
            await post(writer, clock, number, f"First {number}")
        await work(directory, clock)
        for number in range(5):
            await post(writer, clock, number, f"Second {number}")
    return directory


async def post(writer: InboxWriter, clock: Clock, customer_id: int, first_name: str) -> None:
    clock.now += timedelta(seconds=10)
    body = {"id": 100 + customer_id, "first_name": first_name, "tags": ["vip"], "updated_at": None}
    await writer.append(COMPANY, "customers/updated", {}, json.dumps(body).encode())


async def work(directory: Path, clock: Clock, disk: FaultyDisk | None = None) -> list[Exception]:
    """Be the worker: apply what waits, note something, stop; give what it could not do, and why.

    Once the disk is well again, it goes on without a restart.
    """
    errors: list[Exception] = []
    try:
        mirror = await Mirror.open(directory, COMPANY, Subscription(), "the test")
    except (MirrorError, DBAPIError) as error:
        return [error]
    timing = Timing()
    applier = Applier(mirror, Lens(COMPANY, Subscription(), timing.window), timing, clock)
    try:
        async with InboxReader.open(directory / "inbox.db") as inbox:
            for _ in range(2):
                try:
                    await applier.apply_pending(inbox)
                    await mirror.note(alive_at=clock())
                except DBAPIError as error:
                    errors.append(error)
            if disk is not None and disk.hit is not None and not disk.is_cut:
                disk.heal()
                await applier.apply_pending(inbox)
                await mirror.note(alive_at=clock())
                assert mirror.progress.position == len(await inbox.read(COMPANY, 0, 100))
    finally:
        await mirror.close()
    assert all(is_unavailable(error) for error in errors)
    return errors


def content(directory: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(directory / "mirror.db")) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return held(directory / "mirror.db")


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("kind", ["error", "short", "full"])
async def test_each_delivery_takes_effect_once_whichever_operation_fails(
    before: Path,
    kind: Kind,
    persistent: bool,  # noqa: FBT001 - a parameter
    disk: FaultyDisk,
    faults: Any,
    clock: Clock,
) -> None:
    well = shutil.copytree(before, before.with_name("well"))
    assert await work(well, clock) == []
    wanted = content(well)
    for fault in faults.each(kind, persistent=persistent):
        directory = shutil.copytree(before, before.with_name(f"at {fault.at}"))
        disk.arm(directory / "mirror.db", fault)
        errors = await work(directory, clock, disk)
        disk.heal()
        assert errors or content(directory) == wanted, fault
        assert await work(directory, clock) == []
        assert content(directory) == wanted, fault
    assert faults.tried > 2


async def test_a_power_cut_takes_no_effect_and_doubles_none(
    before: Path, disk: FaultyDisk, faults: Any, clock: Clock
) -> None:
    well = shutil.copytree(before, before.with_name("well"))
    assert await work(well, clock) == []
    wanted = content(well)
    for fault in faults.each("power"):
        directory = shutil.copytree(before, before.with_name(f"at {fault.at}"))
        disk.arm(directory / "mirror.db", fault)
        await work(directory, clock, disk)
        left = [directory / name for name in ("what was synced", "some more", "some other")]
        for number, one in enumerate(left):
            one.mkdir()
            shutil.copy(directory / "inbox.db", one / "inbox.db")
            disk.image(one, Random(fault.at * 10 + number) if number else None)
        disk.heal()
        for one in left:
            assert await work(one, clock) == []
            assert content(one) == wanted, fault
    assert faults.tried > 2


@pytest.mark.parametrize("kind", ["error", "short", "full", "power"])
def test_a_schema_is_made_whole_or_not_at_all(
    kind: Kind, tmp_path: Path, disk: FaultyDisk, faults: Any
) -> None:
    well = tmp_path / "well"
    well.mkdir()
    migrate_mirror(well)
    for fault in faults.each(kind):
        directory = tmp_path / f"at {fault.at}"
        directory.mkdir()
        disk.arm(directory / "mirror.db", fault)
        with suppress(MigrationFailed):
            migrate_mirror(directory)
        left = directory
        if kind == "power":
            left = directory / "left"
            left.mkdir()
            disk.image(left, Random(fault.at))
        disk.heal()
        migrate_mirror(left)
        assert content(left) == content(well)
        assert shape(left / "mirror.db") == shape(well / "mirror.db")
    assert faults.tried > 2
