"""Verification: reading customers in doubt, and letting the answer stand only where it may."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import structlog

from sync.kounta import (
    Customer,
    Kounta,
    KountaAccessLost,
    KountaError,
    KountaThrottled,
    KountaUnavailable,
    Read,
)
from sync.merge.decisions import accept, accept_missing_unknown, changed_columns, is_change, merge
from sync.merge.doubts import Doubt, Reason, Timing, is_fenced
from sync.merge.records import Record
from sync.merge.snapshots import Lens, Snapshot, Source, UnreadableError
from sync.mirror.batch import Batch
from sync.mirror.progress import Progress
from sync.mirror.store import Mirror
from sync.reconcile.deletions import Deletions, Missing
from sync.reconcile.drift import count_repair, count_sampled
from sync.reconcile.report import Note, Outcome, outcome_of

IN_FLIGHT: Final = 8
"""Reads at once: upstream may take seconds to answer, and the budget alone should decide the rate."""
MOST_TRIES: Final = 5
"""Reads of a customer that a person waits for, before it is left to the queue."""

_log = structlog.get_logger()


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
        self._missed: dict[int, int] = {}
        """Customer -> `Read.sent` of the 404 that nothing had announced: it is asked for once more."""

    async def verify_all(self, doubts: Sequence[Doubt], note: Note = lambda *_: None) -> None:
        """Read these customers, some at once, in their order. No customer may be among them twice.

        Raises KountaAccessLost, KountaThrottled or, if nobody was answered meanwhile, KountaUnavailable, as
        soon as a read ends so: the rest would end alike. What was not settled stays in doubt.
        """
        waiting = iter(doubts)

        async def work() -> None:
            for doubt in waiting:
                await self._verify(doubt, note)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(IN_FLIGHT, len(doubts))):
                    group.create_task(work())
        except ExceptionGroup as errors:
            raise _gravest(errors) from None

    async def refresh(self, customer_id: int, *, sampled: bool) -> None:
        """Read a customer that nothing is known against; `sampled`: it was drawn at random.

        Raises as `verify_all` does. A read that fails leaves a doubt, so that it is tried again later.
        """
        revision = (await self._mirror.refresh()).revision
        doubt = Doubt(customer_id, Reason.REFRESH, self._clock(), revision, born=revision)
        await self._verify(doubt, lambda *_: None, sampled=sampled)

    async def _verify(self, doubt: Doubt, note: Note, *, sampled: bool = False) -> None:
        """Read one customer. The answer stands, unless it is fenced: then it is one word among others."""
        customer_id = doubt.customer_id
        progress, successes = await self._mirror.refresh(), self._kounta.successes
        try:
            if customer_id in self._missed:
                await self._deletions.prove_access_since(self._missed[customer_id])
            read = await self._kounta.read(customer_id, priority=doubt.priority)
        except KountaThrottled:
            raise
        except KountaAccessLost as error:
            await self._put_off(doubt, str(error), asked=doubt.asked)
            raise
        except KountaUnavailable as error:
            is_down = self._kounta.successes == successes
            await self._put_off(doubt, str(error), asked=doubt.asked and is_down)
            if is_down:
                raise
            note(customer_id, Outcome.FAILED, str(error))
            return
        except KountaError as error:
            await self._put_off(doubt, str(error), asked=False)
            note(customer_id, Outcome.FAILED, str(error))
            return
        try:
            outcome = await self._take(doubt, read, progress, sampled=sampled)
        except UnreadableError as error:
            why = f"customer {customer_id} cannot be stored: {error}"
            await self._put_off(doubt, why, asked=False)
            note(customer_id, Outcome.FAILED, why)
            return
        note(customer_id, outcome, "it changes too often to be read" if outcome is Outcome.FAILED else "")

    async def _put_off(self, doubt: Doubt, why: str, *, asked: bool) -> None:
        _log.warning(f"A read settled nothing: {why}", action="read_failed", customer_id=doubt.customer_id)
        now = self._clock()
        async with self._mirror.batch([doubt.customer_id], now) as batch:
            if doubt.customer_id not in batch.doubts:  # a refresh: nothing was known against it so far
                batch.doubt(doubt.customer_id, doubt.reason, now)
            batch.put_off(doubt.customer_id, now, self._timing, asked=asked)

    async def _take(self, read_for: Doubt, read: Read, seen: Progress, *, sampled: bool) -> Outcome:
        customer_id = read_for.customer_id
        async with self._mirror.batch([customer_id], self._clock()) as batch:
            if customer_id in batch.erased:
                self._missed.pop(customer_id, None)
                return Outcome.UNKNOWN
            if read.customer is not None:
                self._note_mobile(batch, read.customer)
            fenced = is_fenced(
                batch.records.get(customer_id),
                batch.doubts.get(customer_id),
                began_at=read.asked_at,
                seen_revision=seen.revision,
                timing=self._timing,
            )
            if fenced:
                return self._fence(batch, customer_id, read, seen)
            if read.customer is None:
                return self._miss(batch, read_for, read, seen, sampled=sampled)
            return self._accept(batch, read.customer, read, seen, sampled=sampled)

    def _note_mobile(self, batch: Batch, customer: Customer) -> None:
        if "mobile" in self._lens.subscription.columns:
            carried = "mobile" in customer.model_fields_set or "mobile" in customer.unread
            batch.note_mobile(carried=carried)

    def _accept(
        self, batch: Batch, customer: Customer, read: Read, seen: Progress, *, sampled: bool
    ) -> Outcome:
        self._missed.pop(customer.id, None)
        record = batch.records.get(customer.id)
        decision = accept(record, self._snapshot(customer, read, seen), self._lens.subscription)
        count_repair(batch, decision, record, batch.doubts.get(customer.id))
        if sampled:
            differs = is_change(decision, record)
            count_sampled(batch, differs=differs, columns=changed_columns(decision, record))
        batch.decide(decision, source=Source.VERIFICATION, at=self._clock())
        batch.settle(customer.id)
        return outcome_of(decision, record)

    def _miss(self, batch: Batch, read_for: Doubt, read: Read, seen: Progress, *, sampled: bool) -> Outcome:
        customer_id = read_for.customer_id
        record, doubt = batch.records.get(customer_id), batch.doubts.get(customer_id)
        if sampled:
            count_sampled(batch, differs=True)
        was_missed = read_for.reason is Reason.UNLISTED or customer_id in self._missed
        if record is not None and record.deleted_at is None and not was_missed:
            self._missed[customer_id] = read.sent
            return self._miss_first(batch, record, doubt)
        self._missed.pop(customer_id, None)
        if record is not None:
            batch.hold_delete(customer_id, read.answered_at)
            missing = Missing(read.asked_at, read.answered_at, seen.position, seen.revision, read.sent)
            self._deletions.note_missing(customer_id, missing)
            return Outcome.MISSING if record.deleted_at is None else Outcome.GONE
        if doubt is not None and doubt.reason is Reason.FAILED:
            decision = accept_missing_unknown(
                customer_id, self._lens.subscription, arrived_at=read.answered_at, position=seen.position
            )
            batch.decide(decision, source=Source.VERIFICATION, at=self._clock())
        batch.settle(customer_id)
        return Outcome.UNKNOWN

    def _miss_first(self, batch: Batch, record: Record, doubt: Doubt | None) -> Outcome:
        """Ask again for a customer that no list has left out: access may be lost for a moment."""
        now = self._clock()
        batch.records[record.customer_id] = replace(record, read_at=now)
        asked = doubt is not None and doubt.asked
        batch.settle(record.customer_id)
        batch.doubt(record.customer_id, Reason.CONTRADICTED, now + self._timing.read_after, asked=asked)
        return Outcome.FENCED

    def _fence(self, batch: Batch, customer_id: int, read: Read, seen: Progress) -> Outcome:
        now = self._clock()
        self._missed.pop(customer_id, None)
        if read.customer is not None:
            snapshot = self._snapshot(read.customer, read, seen)
            record = batch.records.get(customer_id)
            decision = merge(record, snapshot, self._lens.subscription, self._lens.window)
            batch.decide(decision, source=Source.VERIFICATION, at=now)
            if decision.doubt is not None:
                batch.doubt(customer_id, decision.doubt, now + self._timing.read_after)
        known = batch.records.get(customer_id)
        if known is not None:
            batch.records[customer_id] = replace(known, read_at=now)
        doubt = batch.doubts.get(customer_id)
        awaited = doubt is not None and doubt.asked
        again = doubt is not None and doubt.tries + 1 < MOST_TRIES
        batch.put_off(customer_id, now, self._timing, asked=again)
        return Outcome.FAILED if awaited and not again else Outcome.FENCED

    def _snapshot(self, customer: Customer, read: Read, seen: Progress) -> Snapshot:
        return self._lens.customer(
            customer,
            arrived_at=read.answered_at,
            position=seen.position,
            source=Source.VERIFICATION,
            mobile=seen.mobile_read,
        )


def _gravest(errors: ExceptionGroup[Exception]) -> Exception:
    """Choose the one to be told: what is no refusal of upstream's first."""
    ours = [error for error in errors.exceptions if not isinstance(error, KountaError)]
    return (ours or list(errors.exceptions))[0]
