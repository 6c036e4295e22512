"""Reconciliation: a sweep and the verifications it asks for, awaited by a person."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

from sync.kounta import Kounta, KountaAccessLost, KountaUnavailable
from sync.merge.doubts import Reason, Timing
from sync.mirror.deletions import held_deletes
from sync.mirror.queue import (
    ask_about,
    ask_about_doubts,
    await_nobody,
    awaited_customers,
    bring_back_times,
    doubt_every_live,
    due_doubts,
    unlisted_unread,
    waiting_doubts,
)
from sync.mirror.store import Mirror
from sync.reconcile.deletions import Deletions
from sync.reconcile.report import Outcome, Report, Request, Step, Tally
from sync.reconcile.sweep import Sweeper, Swept
from sync.reconcile.verify import Verifier

AT_ONCE: Final = 200
LOOK_AGAIN: Final = 0.25
"""Seconds between two looks for a customer that may be read by now: the read lag is seconds."""
LONGEST_WAIT: Final = timedelta(seconds=60)
"""How long nobody may become readable before the rest is left to the queue."""


class Reconciler:
    """Makes reconciliations for people, one at a time."""

    def __init__(
        self,
        mirror: Mirror,
        kounta: Kounta,
        sweeper: Sweeper,
        verifier: Verifier,
        deletions: Deletions,
        *,
        timing: Timing,
        clock: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.reading = asyncio.Lock()
        """Held while customers are read, here or by the worker: no customer is read twice at once."""
        self._mirror = mirror
        self._kounta = kounta
        self._sweeper = sweeper
        self._verifier = verifier
        self._deletions = deletions
        self._timing = timing
        self._clock = clock
        self._sleep = sleep
        self._under_way: set[asyncio.Task[Report]] = set()

    def begin(self, request: Request, tell: Callable[[Step], None]) -> asyncio.Task[Report]:
        """Reconcile in a task of its own, which `stop` cancels."""
        work = asyncio.create_task(self.reconcile(request, tell), name="reconcile")
        self._under_way.add(work)
        work.add_done_callback(self._under_way.discard)
        return work

    def stop(self) -> None:
        """Cancel what has begun: the process is about to end."""
        for work in self._under_way:
            work.cancel()

    async def reconcile(self, request: Request, tell: Callable[[Step], None] = lambda _: None) -> Report:
        """Do what was asked and wait for the end of it.

        Raises KountaError or ForeignListError when upstream kept it from being done at all. Customers that
        could not be read stay in doubt, whatever ends it.
        """
        tally = Tally()
        async with self.reading, self._sweeper.alone(), self._awaiting():
            began_at, calls = self._clock(), self._calls()
            try:
                await self._ask(request, tally, tell)
                await self._read(tally, tell)
                settled = await self._deletions.settle(request.allow_deletes, began_at)
            except KountaAccessLost:
                await self._deletions.distrust()
                raise
            tally.note_settled(settled.deleted, settled.held)
            held = sum(one.live for one in await held_deletes(self._mirror))
            return tally.report(held_deletes=held, calls=self._calls() - calls)

    @asynccontextmanager
    async def _awaiting(self) -> AsyncIterator[None]:
        """Let nobody be waited for before, by a process that was killed, or after."""
        await await_nobody(self._mirror)
        try:
            yield
        finally:
            await await_nobody(self._mirror)

    def _calls(self) -> int:
        """Count the calls that only a reconciliation makes while it holds both locks."""
        return self._kounta.calls_by_kind["list"] + self._kounta.calls_by_kind["read"]

    async def _ask(self, request: Request, tally: Tally, tell: Callable[[Step], None]) -> None:
        if request.customer_id is not None:
            if not await ask_about(self._mirror, [request.customer_id], self._clock()):
                tally.note_failed([request.customer_id], "it was erased, and is kept out")
            return
        if request.allow_deletes:
            await self._deletions.ask_again(request.allow_deletes)

        def met(swept: Swept) -> None:
            tell(Step("list", swept.listed, swept.pages and max(swept.listed, swept.pages * 25)))

        await self._sweeper.sweep_now(met, tally.note_listed)
        if request.deep:
            now = self._clock()
            await doubt_every_live(self._mirror, Reason.ASKED, now, asked=True)
            await self._mirror.note(lost_refreshed_at=now)  # whatever was lost, each row is read now
        await ask_about_doubts(self._mirror)

    async def _read(self, tally: Tally, tell: Callable[[Step], None]) -> None:
        """Read whom a person waits for, until each is settled, has failed, or nobody can be read any more."""
        total = await waiting_doubts(self._mirror, asked_only=True)

        def note(customer_id: int, outcome: Outcome, why: str) -> None:
            tally.note_read(customer_id, outcome, why)
            tell(Step("read", min(tally.reads, total), total))

        if await unlisted_unread(self._mirror):
            await self._wait_until(self._clock() + self._timing.read_after)
        longest = max(LONGEST_WAIT, 3 * self._timing.read_after)
        idle_since = self._clock()
        while await waiting_doubts(self._mirror, asked_only=True):
            due = await due_doubts(self._mirror, self._clock(), self._timing, AT_ONCE, asked_only=True)
            if due:
                try:
                    await self._verifier.verify_all(due, note)
                except KountaUnavailable as error:
                    await self._leave(tally, str(error))
                    return
                idle_since = self._clock()
            elif self._clock() - idle_since > longest:
                await self._leave(tally, "deliveries about it came too often for a read to count")
                return
            else:
                await bring_back_times(self._mirror, self._clock(), self._timing)
                await self._sleep(LOOK_AGAIN)

    async def _wait_until(self, moment: datetime) -> None:
        """Let those become readable that the list left out: read first, the others' answers prove a 404."""
        while self._clock() < moment:
            await self._sleep(LOOK_AGAIN)

    async def _leave(self, tally: Tally, why: str) -> None:
        """Leave to the queue whoever has not been read."""
        tally.note_failed(await awaited_customers(self._mirror), why)
