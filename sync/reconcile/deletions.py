"""The brake: deletions that nothing but a 404 says are proven, gathered, and held when they are too many."""

import re
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor
from typing import Final, Self

import structlog

from sync.kounta import Kounta
from sync.merge.decisions import accept_missing
from sync.merge.doubts import Reason, Timing
from sync.merge.snapshots import Source
from sync.mirror.deletions import HeldDelete, deletions_since, held_deletes, let_go, live_customers
from sync.mirror.store import Mirror

PERIOD: Final = timedelta(hours=24)
AT_LEAST: Final = 11
AT_ONCE: Final = 500
_BRAKE: Final = re.compile(r"(\d{1,9})\s*(%?)")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Brake:
    """How many deletions by 404 may happen in 24 h: a share of the live customers, or a number."""

    amount: int = 5
    is_share: bool = True

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "5%" or "20"; raises ValueError with a sentence for anything else."""
        match = _BRAKE.fullmatch(text.strip())
        if match is None or (match[2] and int(match[1]) > 100):  # noqa: PLR2004 - of a hundred
            raise ValueError(f"expected a share such as 5% or a number such as 20, not {text!r}")
        return cls(int(match[1]), is_share=bool(match[2]))

    def allows(self, live: int) -> int:
        """Say how many of `live` customers may go; never fewer than AT_LEAST."""
        return max(AT_LEAST, floor(live * self.amount / 100) if self.is_share else self.amount)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the gathered deletions."""

    deleted: int = 0
    held: int = 0


class Deletions:
    """Turns proven 404s into tombstones, all of them or, above the brake, none."""

    def __init__(
        self,
        mirror: Mirror,
        kounta: Kounta,
        brake: Brake,
        *,
        timing: Timing,
        clock: Callable[[], datetime],
    ) -> None:
        self._mirror = mirror
        self._kounta = kounta
        self._brake = brake
        self._timing = timing
        self._clock = clock
        self._sent: dict[int, int] = {}

    def note_missing(self, customer_id: int, sent: int) -> None:
        """Remember which call answered 404: only a later 200 proves that access was not lost."""
        self._sent[customer_id] = sent

    async def settle(self, allowed: int = 0) -> Settled:
        """Apply what was gathered if the brake lets it; `allowed`: how many a person lets go in any case.

        Raises KountaError when the call that would prove access is refused, too: then nothing is deleted.
        """
        waiting = await held_deletes(self._mirror)
        if not waiting:
            return Settled()
        await self._prove_access(waiting)
        live = [one for one in waiting if one.live]
        recent = await deletions_since(self._mirror, self._clock() - PERIOD)
        limit = self._brake.allows(await live_customers(self._mirror))
        going = live if len(live) + recent <= limit else live[:allowed]
        deleted = await self._apply([one for one in waiting if not one.live] + going)
        held = len(live) - len(going)
        if held:
            _log.warning(
                f"{held} deletions are held: with {recent} in the last 24 h they are more than {limit}. "
                f"If they are right: kounta-mirror reconcile --allow-deletes {held}",
                action="deletes_held",
            )
        return Settled(deleted, held)

    async def ask_again(self, number: int) -> int:
        """Ask for another read of up to `number` held deletions, the oldest; give how many."""
        ids = [one.customer_id for one in await held_deletes(self._mirror) if one.live][:number]
        for start in range(0, len(ids), AT_ONCE):
            await let_go(self._mirror, ids[start : start + AT_ONCE], self._clock())
        return len(ids)

    async def _prove_access(self, waiting: list[HeldDelete]) -> None:
        """See to it that a later call of the same company and credentials gave 200."""
        latest = max(self._sent.get(one.customer_id, 0) for one in waiting)
        if not self._kounta.proven_after(latest):
            async with aclosing(self._kounta.pages()) as pages:
                await anext(pages)

    async def _apply(self, going: list[HeldDelete]) -> int:
        deleted = 0
        for start in range(0, len(going), AT_ONCE):
            part = {one.customer_id: one.missing_at for one in going[start : start + AT_ONCE]}
            now = self._clock()
            async with self._mirror.batch(part.keys(), now) as batch:
                for customer_id, missing_at in part.items():
                    record = batch.records[customer_id]
                    if customer_id in batch.doubts:
                        continue
                    if record.settled_at + self._timing.read_after > missing_at:
                        batch.doubt(customer_id, Reason.CONTRADICTED, now + self._timing.read_after)
                        continue
                    decision = accept_missing(record, arrived_at=missing_at, position=batch.progress.position)
                    batch.decide(decision, source=Source.VERIFICATION, at=now)
                    batch.settle(customer_id)
                    deleted += decision.kind is not None
        for one in going:
            self._sent.pop(one.customer_id, None)
        return deleted
