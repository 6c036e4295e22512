"""A batch is applied whole or not at all, and once, whatever ends it at whatever step."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy.exc import DBAPIError

from sync.inbox import InboxView
from sync.mirror.reader import mirror_path

Step = Callable[..., Awaitable[Any]]


FULL = sqlite3.OperationalError("database or disk is full")
FULL.sqlite_errorcode = sqlite3.SQLITE_FULL


class Fault:
    """Counts the steps that connections take, and brings about a fault at one of them."""

    def __init__(self, kind: str, at: int) -> None:
        self.kind = kind
        self.at = at
        self.steps: list[str] = []
        self.task: asyncio.Task[int] | None = None

    async def take(
        self, step: Step, connection: aiosqlite.Connection, act: Any, *given: Any, **named: Any
    ) -> Any:
        name = getattr(act, "__name__", "")
        if self.kind == "the disk fills" and name in {"close", "rollback"}:  # these need no room
            return await step(connection, act, *given, **named)
        self.steps.append(name)
        if len(self.steps) == self.at:
            if self.kind == "the disk fills":
                raise FULL
            assert self.task is not None
            self.task.cancel()  # while the step is under way in its thread
        elif self.task is not None and len(self.steps) == self.at + 1 and self.kind == "cancelled twice":
            self.task.cancel()
        return await step(connection, act, *given, **named)


def dump(directory: Path) -> dict[str, list[Any]]:
    """Give everything that the mirror holds."""
    with closing(sqlite3.connect(mirror_path(directory))) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
        ).fetchall()
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables}  # noqa: S608 - names of our tables


def copy_mirror(source: Path, target: Path) -> None:
    target.mkdir()
    shutil.copy(mirror_path(source), mirror_path(target))


@pytest.fixture
async def full_house(house: Any) -> AsyncIterator[Any]:
    """Thirteen deliveries with a verdict and seven that wait, of each kind."""
    for id_ in range(1, 13):
        await house.post(house.customer(id_), "created")
    await house.post(b"no JSON")
    await house.apply()
    house.at(60)
    await house.post(house.customer(1, 60, first_name="Ann", tags=["gold"]))
    await house.post(house.customer(1, 60, first_name="Bea"))
    await house.post(house.customer(2, 60), "deleted")
    await house.post(b"[]")
    await house.post(house.customer(20, 60), "created")
    await house.post(house.customer(3, 0, first_name="Tie"))
    await house.post(house.customer(4, 60))
    await house.mirror.close()
    yield house
    house.mirror = await house.new_mirror()


async def apply_with(house: Any, directory: Path, fault: Fault, patch: pytest.MonkeyPatch) -> str:
    """Apply what waits to a copy of the mirror, with one fault; give how far it came before the next try."""
    copy_mirror(house.directory, directory)
    mirror = await house.new_mirror(directory)
    applier = house.new_applier(mirror)
    step: Step = aiosqlite.Connection._execute
    try:
        async with InboxView(house.directory) as view:
            reader = await view.reader()
            with patch.context() as faulty:
                faulty.setattr(
                    aiosqlite.Connection,
                    "_execute",
                    lambda *given, **named: fault.take(step, *given, **named),
                )
                applying = asyncio.create_task(applier.apply_pending(reader))
                fault.task = applying if fault.at else None
                await asyncio.wait([applying])
            assert fault.at or applying.exception() is None
            assert applying.cancelled() or isinstance(applying.exception(), DBAPIError | None)
            came = await settled(mirror, directory)
            await applier.apply_pending(reader)
    finally:
        await mirror.close()
    return came


async def settled(mirror: Any, directory: Path) -> str:
    async with mirror.transaction():
        pass  # behind whatever the writing thread still had to do
    held = dump(directory)
    return f"{len(held['delivery_verdicts'])} verdicts, position {held['_progress'][0][2]}"


@pytest.mark.parametrize("kind", ["the disk fills", "cancelled", "cancelled twice"])
async def test_a_fault_at_any_step_leaves_all_or_nothing_and_the_next_try_ends_the_same(
    full_house: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    whole = Fault(kind, 0)
    await apply_with(full_house, tmp_path / "whole", whole, monkeypatch)
    expected = dump(tmp_path / "whole")
    assert whole.steps.count("commit") == 1
    ends = set()
    for at in range(1, len(whole.steps) + 1):
        directory = tmp_path / f"{at}"
        ends.add(await apply_with(full_house, directory, Fault(kind, at), monkeypatch))
        assert dump(directory) == expected, f"{kind} at step {at}, {whole.steps[at - 1]}"
        shutil.rmtree(directory)
    assert ends == {"13 verdicts, position 13", "20 verdicts, position 20"}
