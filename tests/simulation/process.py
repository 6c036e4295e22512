"""A process of the system as it is simulated: what it has in memory ends with it, its files stay."""

from __future__ import annotations

import asyncio
import sqlite3
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import httpx2

from tests.simulation.disk import ACTING, unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextvars import Context
    from random import Random

CODES = {
    "begin": (sqlite3.SQLITE_BUSY, "database is locked"),
    "commit": (sqlite3.SQLITE_FULL, "database or disk is full"),
    "statement": (sqlite3.SQLITE_IOERR, "disk I/O error"),
}


class Disk:
    """How often the disk under a process fails: the share of its steps, while there is trouble."""

    def __init__(self, chance: Random) -> None:
        self.share = 0.0
        self.failures = 0
        self._chance = chance

    def touch(self, what: str) -> None:
        """Raise what SQLite would raise, if it fails now."""
        if self.share and self._chance.random() < self.share:
            self.failures += 1
            kind = what if what in CODES else "statement"
            raise unavailable(*CODES[kind])


class Process:
    """One run of a process, from its start to its end.

    When it is killed, from that instant on nothing that it does reaches a file or the network: every step
    fails, and what it was doing is cancelled. Its locks and connections go as the system lets them go, even
    if its own code did not get there: it may be killed while it stops. One that ends in another way has to
    give them up itself.
    """

    def __init__(self, name: str, disk: Disk, tell: Callable[[str], None], dies_at: int | None) -> None:
        self.name = name
        self.dead = False
        self.steps = 0
        self._disk = disk
        self._tell = tell
        self._dies_at = dies_at
        self._main: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._held: list[Callable[[], object]] = []
        self.context: Context = copy_context()
        self.context.run(ACTING.set, self)

    async def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Be this process until it ends. Raises what ended it, unless it was killed or stopped."""

        async def whole() -> None:
            await main()

        self._main = asyncio.get_running_loop().create_task(whole(), context=self.context)
        try:
            await asyncio.wait([self._main])
        finally:
            self._main.cancel()
            for task in list(self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.wait(list(self._tasks))
            if self.dead:
                for give_up in reversed(self._held):
                    give_up()
        if not self._main.cancelled() and not self.dead:
            self._main.result()

    def spawn(self, work: Coroutine[Any, Any, Any], context: Context | None = None) -> asyncio.Task[Any]:
        """Let it do something beside its main work; its end ends that too."""
        task = asyncio.get_running_loop().create_task(work, context=context or self.context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def hold(self, give_up: Callable[[], object]) -> None:
        """Note what the system takes back when it is killed. `give_up` does so, and may find it done."""
        self._held.append(give_up)

    def kill(self) -> None:
        """End it between two steps, like SIGKILL."""
        if not self.dead:
            self.dead = True
            self._tell(f"{self.name} is killed")
            self.stop()

    def stop(self) -> None:
        """Ask it to end, like SIGTERM."""
        if self._main is not None:
            self._main.cancel()
        for task in list(self._tasks):
            task.cancel()

    def spare(self) -> None:
        """Let it live from now on."""
        self._dies_at = None

    def step(self, what: str) -> None:
        """Take one step on the disk: here it may be killed, and its disk may fail."""
        if not self._survives(what):
            raise unavailable(sqlite3.SQLITE_IOERR, "the process is gone")
        self._disk.touch(what)

    def reach(self, what: str) -> None:
        """Take one step on the network: here it may be killed."""
        if not self._survives(what):
            raise httpx2.ConnectError("The process is gone.")

    def _survives(self, what: str) -> bool:
        if not self.dead:
            self.steps += 1
            self._tell(f"{self.name} {what[:40]}")
            if self.steps == self._dies_at:
                self.kill()
        return not self.dead
