"""A disk that takes everything and does not give it back: the owner's check says so, until it reads again."""

import sqlite3
from pathlib import Path

import pytest

from receiver.inbox import InboxWriter
from receiver.integrity import FileCheck
from sync.merge.customers import Subscription
from sync.mirror.store import Mirror
from tests.clock import Clock
from tests.faulty_disk import Fault, FaultyDisk


async def test_a_file_that_cannot_be_read_counts_as_damaged_until_it_can(
    tmp_path: Path, disk: FaultyDisk, clock: Clock
) -> None:
    path = tmp_path / "inbox.db"
    async with await InboxWriter.open(path, clock=clock, new_id=clock.name) as writer:
        await writer.append(5678, "customers/updated", {}, b"x" * 20_000)
    check = FileCheck(path, owns=True, clock=clock)
    disk.arm(path, Fault("error", 8, persistent=True), reads=True)
    await check.check()
    assert disk.hit == "read"
    disk.heal()
    assert check.damage is not None
    assert check.damage.finding == "disk I/O error"
    await check.check()
    assert check.damage is None


async def test_damage_of_the_inbox_that_is_met_while_the_mirror_is_written_is_not_the_mirrors(
    tmp_path: Path, clock: Clock
) -> None:
    malformed = sqlite3.DatabaseError("database disk image is malformed")
    malformed.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    mirror = await Mirror.open(tmp_path, 5678, Subscription(), "the test")
    try:
        check = mirror.store.check = FileCheck(tmp_path / "mirror.db", owns=True, clock=clock)
        with pytest.raises(sqlite3.DatabaseError):
            async with mirror.store.begin():
                raise malformed  # as reading the inbox does
        await mirror.note(alive_at=clock())
        await check.check()
        assert check.damage is None
    finally:
        await mirror.close()
