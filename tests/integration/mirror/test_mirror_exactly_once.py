"""A batch is applied whole or not at all, and once, whatever ends it at whatever step."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import aiosqlite
import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from receiver.database import mirror_of
from sync.mirror import store
from tests.budget import LONG
from tests.stores import backup, held

Step = Callable[..., Awaitable[Any]]

NEEDS_NO_ROOM = {"close", "rollback"}
STEPS = {
    "sqlite": (aiosqlite.Connection, "_execute"),
    "postgresql": (psycopg.AsyncConnection, "wait"),
}
"""Where all that a connection does passes."""


def full(database: str) -> Exception:
    if database == "postgresql":
        return psycopg.errors.DiskFull("could not extend file: No space left on device")
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


class Fault:
    """Counts the steps that connections take, and brings about a fault at one of them."""

    def __init__(self, database: str, kind: str, at: int) -> None:
        self.database = database
        self.kind = kind
        self.at = at
        self.steps: list[str] = []
        self.task: asyncio.Task[int] | None = None

    async def take(self, step: Step, connection: Any, act: Any, *given: Any, **named: Any) -> Any:
        name = getattr(act, "__name__", "").removeprefix("_").removesuffix("_gen")
        if self.kind == "the disk fills" and name in NEEDS_NO_ROOM:
            return await step(connection, act, *given, **named)
        self.steps.append(name)
        here = len(self.steps) - self.at
        match self.kind:
            case "the disk fills" if here == 0:
                raise full(self.database)
            case "the server goes away" if here == 0:
                connection.pgconn.finish()
            case "the answer is lost" if here == 0:
                await step(connection, act, *given, **named)
                connection.pgconn.finish()
                raise psycopg.OperationalError("server closed the connection unexpectedly")
            case "cancelled" | "cancelled twice" if self.task is not None and (
                here == 0 or (here == 1 and self.kind == "cancelled twice")
            ):
                self.task.cancel()  # while the step is under way
        return await step(connection, act, *given, **named)


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


async def apply_with(house: Any, fault: Fault, patch: pytest.MonkeyPatch) -> str:
    """Apply what waits with one fault; give how far it came before the next try, which has none."""
    await house.reopen()
    connections, name = STEPS[fault.database]
    step: Step = getattr(connections, name)
    try:
        reader = await house.view.reader()
        with patch.context() as faulty:
            faulty.setattr(connections, name, lambda *given, **named: fault.take(step, *given, **named))
            applying = asyncio.create_task(house.applier.apply_pending(reader))
            fault.task = applying if fault.at else None
            await asyncio.wait([applying])
        assert fault.at or applying.exception() is None
        assert applying.cancelled() or isinstance(applying.exception(), DBAPIError | None)
        came = await settled(house)
        await house.applier.apply_pending(reader)
    finally:
        await house.mirror.close()
    return came


def tried(steps: Sequence[str]) -> list[int]:
    """Choose the steps at which a fault comes, from 1: all, or each third and those around the commit."""
    commit = steps.index("commit") + 1
    return [at for at in range(1, len(steps) + 1) if LONG or at % 3 == 0 or abs(at - commit) <= 2]


async def settled(house: Any) -> str:
    async with house.mirror.transaction():
        pass  # behind whatever the fault had left under way
    stored = held(mirror_of(house.place))
    return f"{len(stored['delivery_verdicts'])} verdicts, position {stored['_progress'][0][2]}"


IN_A_FILE = ("the disk fills", "cancelled", "cancelled twice")
ON_A_SERVER = ("the disk fills", "cancelled", "the server goes away", "the answer is lost")


@pytest.mark.parametrize(
    ("database_kind", "kind"),
    [
        *(("sqlite", kind) for kind in IN_A_FILE),
        *(("postgresql", kind) for kind in ON_A_SERVER),
    ],
)
async def test_a_fault_at_any_step_leaves_all_or_nothing_and_the_next_try_ends_the_same(
    full_house: Any, monkeypatch: pytest.MonkeyPatch, database_kind: str, kind: str
) -> None:
    mirror = mirror_of(full_house.place)
    restore = backup(mirror)
    monkeypatch.setattr(store, "migrate_mirror", lambda _: None)  # which takes half of the time of a try
    whole = Fault(database_kind, kind, 0)
    await apply_with(full_house, whole, monkeypatch)
    expected = held(mirror)
    assert whole.steps.count("commit") == 1
    ends = set()
    for at in tried(whole.steps):
        restore()
        ends.add(await apply_with(full_house, Fault(database_kind, kind, at), monkeypatch))
        assert held(mirror) == expected, f"{kind} at step {at}, {whole.steps[at - 1]}"
    assert ends == {"13 verdicts, position 13", "20 verdicts, position 20"}
