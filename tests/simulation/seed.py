"""One seed from its beginning to its end, and what it came to."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
import tempfile
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import structlog

from receiver.database import migrate
from receiver.inbox.schema import MIGRATIONS
from sync.inbox import inbox_path
from sync.mirror.reader import mirror_path
from sync.mirror.store import migrate_mirror
from sync.sandbox import running
from tests.simulation.course import Course
from tests.simulation.disk import inline_sqlite
from tests.simulation.judge import Broken
from tests.simulation.loop import VirtualLoop
from tests.simulation.oddly import USUAL, Chosen
from tests.simulation.plan import PROCESSES, Plan, plan
from tests.simulation.world import ToReceiver, World, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(slots=True)
class Outcome:
    """What one seed came to; `broken` is the sentence of what did not hold, "" if all did."""

    seed: int
    broken: str = ""
    digest: str = ""
    odd: tuple[str, ...] = ()
    """The behaviours of the catalogue that it brought."""
    customers: int = 0
    changes: int = 0
    deliveries: int = 0
    calls: int = 0
    kills: int = 0
    disk_failures: int = 0
    wrong_before: int = 0
    wrong_after: int = 0
    virtual_seconds: float = 0.0
    seconds: float = 0.0
    trace: list[str] = field(default_factory=list)


def simulate(
    seed: int,
    chosen: Chosen = USUAL,
    *,
    keep_trace: bool = False,
    at_end: Callable[[Path], None] = lambda _: None,
) -> Outcome:
    """Run one seed. The trace is every step with its time: boiled down to a digest, and kept if asked for.

    `chosen`: which behaviours of the catalogue may be drawn.
    `at_end` may look at the directory of both files, before they go.
    """
    began = time.process_time()
    random.seed(seed)  # what tenacity draws its pauses from
    outcome = Outcome(seed)
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=_quick_directory()) as name, _quiet():
        _Run(outcome, plan(seed, chosen), Path(name), keep_trace=keep_trace).run()
        at_end(Path(name))
    outcome.seconds = time.process_time() - began
    return outcome


class _Run:
    def __init__(self, outcome: Outcome, given: Plan, directory: Path, *, keep_trace: bool) -> None:
        self._outcome = outcome
        self._keep_trace = keep_trace
        self._trace = hashlib.sha256()
        self._loop: VirtualLoop | None = None
        outcome.odd = given.odd.names
        self._world = World(given, directory, self._seconds, self._tell)
        if not self._world.plan.from_nothing:
            for file, schema in _schemas().items():
                (directory / file).write_bytes(schema)

    def run(self) -> None:
        try:
            with inline_sqlite(), asyncio.Runner(loop_factory=VirtualLoop) as runner:
                runner.run(self._play())
        except Broken as broken:
            self._outcome.broken = str(broken)
        except Exception as error:  # noqa: BLE001 - the other seeds go on
            self._outcome.broken = f"it ended in an error: {words(error)}"
            self._outcome.trace += traceback.format_exception(error) if self._keep_trace else []
        self._sum_up()

    async def _play(self) -> None:
        """Run through the plan, and judge. Raises Broken."""
        loop = asyncio.get_running_loop()
        self._loop = loop if isinstance(loop, VirtualLoop) else None
        world, course = self._world, Course(self._world)
        try:
            async with (
                httpx2.AsyncClient(transport=ToReceiver(world)) as deliveries,
                running(world.sandbox, deliveries) as courier,
                asyncio.TaskGroup() as tasks,
            ):
                world.open_upstream(courier)
                supervisors = [tasks.create_task(world.supervise(name)) for name in PROCESSES]
                await course.suffer(tasks)
                await course.end(courier)
                for one in supervisors:
                    one.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from group
        finally:
            self._outcome.wrong_before, self._outcome.wrong_after = course.wrong_before, course.wrong_after
        world.judge.check_conservation(world.answered)
        world.judge.check_figures()
        world.judge.check_ties()
        self._tell(f"stored {world.judge.digest()}")

    def _seconds(self) -> float:
        return self._loop.time() if self._loop is not None else 0.0

    def _tell(self, what: str) -> None:
        line = f"{self._seconds():.6f} {what}"
        self._trace.update(f"{line}\n".encode())
        if self._keep_trace:
            self._outcome.trace.append(line)

    def _sum_up(self) -> None:
        world, outcome = self._world, self._outcome
        report = world.sandbox.report()
        outcome.digest = self._trace.hexdigest()[:16]
        outcome.customers = report["customers"]
        outcome.changes = sum(len(changes) for changes in world.ledger.changes.values())
        outcome.deliveries = len(world.answered)
        outcome.calls = report["calls"]["total"]
        outcome.kills = world.kills
        outcome.disk_failures = sum(disk.failures for disk in world.disks.values())
        outcome.virtual_seconds = self._seconds()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the logs to themselves, and the collector of garbage from ending things at times of its own."""
    former, collecting = structlog.get_config(), gc.isenabled()
    structlog.configure(processors=[_drop])
    gc.disable()
    try:
        yield
    finally:
        structlog.configure(**former)
        if collecting:
            gc.enable()


def _drop(_logger: Any, _name: str, _line: Any) -> Any:
    raise structlog.DropEvent


@cache
def _schemas() -> dict[str, bytes]:
    """Make both files as they are before the first row: that takes as long as everything else in a seed."""
    with tempfile.TemporaryDirectory(dir=_quick_directory()) as name:
        directory = Path(name)
        migrate_mirror(directory)
        migrate(inbox_path(directory), MIGRATIONS)
        return {path.name: path.read_bytes() for path in (mirror_path(directory), inbox_path(directory))}


def _quick_directory() -> str | None:
    """Choose a directory in memory, where there is one: each commit waits for the disk."""
    memory = Path("/dev/shm")  # noqa: S108 - a fresh directory of our own is made in it
    return str(memory) if memory.is_dir() else None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the one that says what did not hold, if there is one."""
    broken, _ = group.split(Broken)
    while isinstance(broken, BaseExceptionGroup):
        inner = broken.exceptions[0]
        if not isinstance(inner, BaseExceptionGroup):
            return inner
        broken = inner
    return group
