"""Reconciliation: a sweep and the verifications it asks for, awaited by a person."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from sync.kounta import Kounta
from sync.merge.doubts import ASKED, Reason, Timing
from sync.mirror.deletions import held_deletes
from sync.mirror.queue import ask_about, ask_about_doubts, doubt_every_live, due_doubts, waiting_doubts
from sync.mirror.store import Mirror
from sync.reconcile.deletions import Deletions
from sync.reconcile.sweep import Sweeper, Swept
from sync.reconcile.verify import Outcome, Verifier

AT_ONCE: Final = 200
LOOK_AGAIN: Final = 0.25
"""Seconds between two looks for a customer that may be read by now: the read lag is seconds."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for: everything, every customer in full, one customer, held deletions let go."""

    deep: bool = False
    customer_id: int | None = None
    allow_deletes: int = 0


@dataclass(slots=True)
class Report:
    """What a reconciliation did; numbers of customers, but for `calls`: the calls that upstream answered."""

    listed: int = 0
    read: int = 0
    created: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    failed: int = 0
    held_deletes: int = 0
    calls: int = 0

    @property
    def whole(self) -> bool:
        """Whether nothing was left undone."""
        return not self.failed and not self.held_deletes

    def as_json(self) -> dict[str, int]:
        """Give the report as the command prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Step:
    """How far a reconciliation has come: `done` of `total` in `stage`; None: not known."""

    stage: str
    done: int
    total: int | None


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

    async def reconcile(self, request: Request, tell: Callable[[Step], None] = lambda _: None) -> Report:
        """Do what was asked and wait for the end of it.

        Raises KountaError or ForeignListError when upstream kept it from being done at all.
        """
        calls = self._kounta.calls
        outcomes: Counter[Outcome] = Counter()
        report = Report()
        async with self.reading:
            swept = await self._ask(request, tell)
            await self._read(outcomes, tell)
            settled = await self._deletions.settle(request.allow_deletes)
        report.listed = swept.listed
        report.read = outcomes.total() - outcomes[Outcome.FAILED] - outcomes[Outcome.FENCED]
        report.created = swept.created + outcomes[Outcome.CREATED]
        report.updated = swept.updated + outcomes[Outcome.UPDATED]
        report.deleted = settled.deleted
        report.failed = swept.failed + outcomes[Outcome.FAILED]
        looked_at = max(swept.listed + swept.unlisted, report.read)
        changed = report.created + report.updated + report.deleted + report.failed
        report.unchanged = max(0, looked_at - changed)
        report.held_deletes = len([one for one in await held_deletes(self._mirror) if one.live])
        report.calls = self._kounta.calls - calls
        return report

    async def _ask(self, request: Request, tell: Callable[[Step], None]) -> Swept:
        if request.customer_id is not None:
            await ask_about(self._mirror, [request.customer_id], self._clock())
            return Swept()
        if request.allow_deletes:
            await self._deletions.ask_again(request.allow_deletes)

        def met(swept: Swept) -> None:
            tell(Step("list", swept.listed, swept.pages and swept.pages * 25))

        swept = await self._sweeper.sweep("asked", priority=ASKED, met=met)
        if request.deep:
            await doubt_every_live(self._mirror, Reason.ASKED, self._clock(), asked=True)
        await ask_about_doubts(self._mirror)
        return swept

    async def _read(self, outcomes: Counter[Outcome], tell: Callable[[Step], None]) -> None:
        total = await waiting_doubts(self._mirror, asked_only=True)

        def done(outcome: Outcome) -> None:
            outcomes[outcome] += 1
            tell(Step("read", outcomes.total() - outcomes[Outcome.FENCED], total))

        while await waiting_doubts(self._mirror, asked_only=True):
            due = await due_doubts(self._mirror, self._clock(), self._timing, AT_ONCE, asked_only=True)
            if due:
                await self._verifier.verify_all(due, done)
            else:
                await asyncio.sleep(LOOK_AGAIN)
