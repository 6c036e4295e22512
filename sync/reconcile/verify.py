"""Verification: reading customers in doubt, and letting the answer stand only where it may."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Final

import structlog

from sync.kounta import Kounta, KountaAccessLost, KountaError, KountaThrottled, Read
from sync.merge.decisions import Kind, accept, accept_missing_unknown, merge
from sync.merge.doubts import Doubt, Reason, Timing, is_fenced
from sync.merge.snapshots import Lens, Source, UnreadableError
from sync.mirror.batch import Batch
from sync.mirror.store import Mirror
from sync.reconcile.deletions import Deletions

IN_FLIGHT: Final = 8
"""Reads at once: upstream may take seconds to answer, and the budget alone should decide the rate."""
MOST_TRIES: Final = 5
"""Reads of a customer that a person waits for, before it is left to the queue."""

_log = structlog.get_logger()


class Outcome(Enum):
    """What a read did."""

    CREATED = "created"
    UPDATED = "updated"
    COMPLETED = "completed"
    UNCHANGED = "unchanged"
    MISSING = "missing"
    FENCED = "fenced"
    FAILED = "failed"


class Verifier:
    """Reads customers of one company because of a doubt, within its call budget."""

    def __init__(
        self,
        mirror: Mirror,
        kounta: Kounta,
        deletions: Deletions,
        *,
        lens: Lens,
        timing: Timing,
        clock: Callable[[], datetime],
    ) -> None:
        self._mirror = mirror
        self._kounta = kounta
        self._deletions = deletions
        self._lens = lens
        self._timing = timing
        self._clock = clock

    async def verify_all(
        self, doubts: Sequence[Doubt], done: Callable[[Outcome], None] = lambda _: None
    ) -> None:
        """Read these customers, some at once, in their order.

        Raises KountaAccessLost or KountaThrottled as soon as upstream refuses one: the rest would end alike.
        """
        waiting = iter(doubts)

        async def work() -> None:
            for doubt in waiting:
                done(await self.verify(doubt))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(IN_FLIGHT, len(doubts))):
                    group.create_task(work())
        except* (KountaAccessLost, KountaThrottled) as refused:
            raise refused.exceptions[0] from None

    async def verify(self, doubt: Doubt) -> Outcome:
        """Read one customer. The answer stands, unless it is fenced: then it is one word among others."""
        progress = self._mirror.progress
        try:
            read = await self._kounta.read(doubt.customer_id, priority=doubt.priority)
        except (KountaAccessLost, KountaThrottled):
            raise
        except KountaError as error:
            return await self._put_off(doubt, str(error))
        try:
            return await self._take(doubt, read, progress.position, progress.revision)
        except UnreadableError as error:
            return await self._put_off(doubt, f"customer {doubt.customer_id} cannot be stored: {error}")

    async def _put_off(self, doubt: Doubt, reason: str) -> Outcome:
        _log.warning(f"A read settled nothing: {reason}", action="read_failed", customer_id=doubt.customer_id)
        now = self._clock()
        async with self._mirror.batch([doubt.customer_id], now) as batch:
            batch.put_off(doubt.customer_id, now, self._timing, asked=False)
        return Outcome.FAILED

    async def _take(self, doubt: Doubt, read: Read, position: int, revision: int) -> Outcome:
        customer_id = doubt.customer_id
        now = self._clock()
        async with self._mirror.batch([customer_id], now) as batch:
            record = batch.records.get(customer_id)
            fenced = is_fenced(
                record,
                batch.doubts.get(customer_id),
                began_at=read.asked_at,
                seen_revision=revision,
                timing=self._timing,
            )
            if read.customer is None and not fenced:
                if record is None:
                    self._take_unknown(batch, doubt, read, position)
                else:
                    batch.hold_delete(customer_id, read.asked_at)
                    self._deletions.note_missing(customer_id, read.sent)
                return Outcome.MISSING
            if read.customer is not None:
                snapshot = self._lens.customer(
                    read.customer,
                    arrived_at=read.answered_at,
                    position=position,
                    source=Source.VERIFICATION,
                )
                if not fenced:
                    decision = accept(record, snapshot, self._lens.subscription)
                    batch.decide(decision, source=Source.VERIFICATION, at=now)
                    batch.settle(customer_id)
                    if record is not None and record.partial and decision.kind is Kind.UPDATED:
                        return Outcome.COMPLETED
                    return _OUTCOMES[decision.kind]
                decision = merge(record, snapshot, self._lens.subscription, self._lens.window)
                batch.decide(decision, source=Source.VERIFICATION, at=now)
                if decision.doubt is not None:
                    batch.doubt(customer_id, decision.doubt, now + self._timing.read_after)
            return self._fence(batch, customer_id, now)

    def _take_unknown(self, batch: Batch, doubt: Doubt, read: Read, position: int) -> None:
        """Settle the doubt of a customer that neither side has; a failed delivery leaves a tombstone."""
        if doubt.reason is Reason.FAILED:
            decision = accept_missing_unknown(
                doubt.customer_id, self._lens.subscription, arrived_at=read.answered_at, position=position
            )
            batch.decide(decision, source=Source.VERIFICATION, at=self._clock())
        batch.settle(doubt.customer_id)

    def _fence(self, batch: Batch, customer_id: int, now: datetime) -> Outcome:
        record = batch.records.get(customer_id)
        if record is not None:
            batch.records[customer_id] = replace(record, read_at=now)
        doubt = batch.doubts.get(customer_id)
        asked = doubt is not None and doubt.asked and doubt.tries + 1 < MOST_TRIES
        batch.put_off(customer_id, now, self._timing, asked=asked)
        return Outcome.FENCED if asked or (doubt is not None and not doubt.asked) else Outcome.FAILED


_OUTCOMES: Final = {
    Kind.CREATED: Outcome.CREATED,
    Kind.UPDATED: Outcome.UPDATED,
    Kind.RESTORED: Outcome.UPDATED,
    None: Outcome.UNCHANGED,
}
