"""The inbox on a disk that fails at its n-th operation, for every n: what was acknowledged is there."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver.errors import MirrorError
from receiver.inbox import CommitFailed, InboxReader, InboxWriter
from tests.clock import Clock
from tests.faulty_disk import FaultyDisk, Kind

COMPANY = 5678


@dataclass
class Seen:
    """What a receiver has answered, and complained of."""

    acknowledged: dict[str, bytes] = field(default_factory=dict)
    refused: int = 0
    complaints: list[str] = field(default_factory=list)


async def receive(path: Path, clock: Clock, disk: FaultyDisk, seen: Seen) -> None:
    """Be the receiver: store deliveries, alone and together, and stop.

    Once the disk is well again, it stores the next one without a restart.
    """
    try:
        writer = await InboxWriter.open(path, clock=clock, new_id=clock.name)
    except MirrorError as error:
        seen.complaints.append(str(error))
        return

    async def append(body: bytes) -> None:
        try:
            seen.acknowledged[await writer.append(COMPANY, "customers/updated", {}, body)] = body
        except CommitFailed as error:
            seen.refused += 1
            seen.complaints.append(str(error))

    async with writer:
        for number in range(4):
            await append(b"alone %d" % number)
        await asyncio.gather(*(append(b"together %d" % number) for number in range(4)))
        if disk.hit is not None and not disk.is_cut:
            disk.heal()
            before = len(seen.acknowledged)
            await append(b"well again")
            assert len(seen.acknowledged) == before + 1, seen.complaints


async def check(path: Path, seen: Seen, clock: Clock) -> None:
    """See that the file is whole, holds all that was acknowledged, and goes on."""
    async with await InboxWriter.open(path, clock=clock, new_id=clock.name) as writer:
        name = await writer.append(COMPANY, "customers/updated", {}, b"after it")
    async with InboxReader.open(path) as reader:
        found = await reader.read(COMPANY, 0, 1000)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    bodies = {one.id: one.body for one in found}
    assert {name: bodies.get(name) for name in seen.acknowledged} == seen.acknowledged
    assert found[-1].id == name
    assert [one.position for one in found] == list(range(1, len(found) + 1))


@pytest.fixture(params=["with nothing", "with an inbox"])
async def before(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Path:
    """A directory as it is before the receiver starts."""
    directory = tmp_path / "before"
    directory.mkdir()
    if request.param == "with an inbox":
        async with await InboxWriter.open(directory / "inbox.db", clock=clock, new_id=clock.name) as writer:
            await writer.append(COMPANY, "customers/updated", {}, b"before it")
    return directory


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("kind", ["error", "short", "full"])
async def test_nothing_acknowledged_is_lost_whichever_operation_fails(
    before: Path,
    kind: Kind,
    persistent: bool,  # noqa: FBT001 - a parameter
    disk: FaultyDisk,
    faults: Any,
    clock: Clock,
) -> None:
    for fault in faults.each(kind, persistent=persistent):
        path = shutil.copytree(before, before.with_name(f"at {fault.at}")) / "inbox.db"
        seen = Seen()
        disk.arm(path, fault)
        with capture_logs() as logged:
            await receive(path, clock, disk, seen)
        disk.heal()
        if seen.refused:
            assert any(one["action"] == "commit_failed" for one in logged), fault
        assert seen.complaints or len(seen.acknowledged) >= 8, fault
        await check(path, seen, clock)
    assert faults.tried > 2


async def test_a_power_cut_takes_nothing_that_was_acknowledged(
    before: Path, disk: FaultyDisk, faults: Any, clock: Clock
) -> None:
    for fault in faults.each("power"):
        directory = shutil.copytree(before, before.with_name(f"at {fault.at}"))
        seen = Seen()
        disk.arm(directory / "inbox.db", fault)
        await receive(directory / "inbox.db", clock, disk, seen)
        left = [directory / name for name in ("what was synced", "some more", "some other")]
        for number, one in enumerate(left):
            one.mkdir()
            disk.image(one, Random(fault.at * 10 + number) if number else None)
        disk.heal()
        for one in left:
            await check(one / "inbox.db", seen, clock)
    assert faults.tried > 2
