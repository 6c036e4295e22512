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
    KountaOtherCustomer,
    KountaThrottled,
    KountaUnavailable,
    Read,
    for_log,
)
from sync.merge.contested import STILL_LISTED, is_borne_out, keep_listed
from sync.merge.decisions import accept, changed_columns, is_change, merge
from sync.merge.doubts import BEARS_TOMBSTONE, Doubt, Reason, Timing, is_fenced
from sync.merge.records import Record
from sync.merge.snapshots import Lens, Snapshot, Source, UnreadableError
from sync.mirror.batch import Batch
from sync.mirror.progress import Progress
from sync.mirror.store import Mirror
from sync.mirror.sweeps import SweepRow, newest_sweep
from sync.reconcile.deletions import OTHER_CUSTOMER, Deletions, Missing
from sync.reconcile.drift import count_repair, count_sampled
from sync.reconcile.report import Note, Outcome, outcome_of

IN_FLIGHT: Final = 8
"""Reads at once: upstream may take seconds to answer, and the budget alone should decide the rate."""
CHANGES_TOO_OFTEN: Final = "it changes too often to be read"
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
        self._missed: dict[int, Read] = {}
        """Customer -> the 404 that nothing had announced: it is asked for once more."""
        self._failed_at: dict[int, int] = {}
        """Customer whose read was not answered -> `Kounta.successes` at that time."""
        self._back: dict[int, datetime] = {}
        """Customer -> when a read was answered that contradicts a deletion which the list bears out."""

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
                await self._deletions.prove_access_since(self._missed[customer_id].sent)
            read = await self._kounta.read(customer_id, priority=doubt.priority)
        except KountaThrottled:
            raise
        except KountaAccessLost as error:
            await self._put_off(doubt, error, asked=doubt.asked, is_answered=False)
            raise
        except KountaOtherCustomer as error:
            note(customer_id, *await self._take_other(doubt, error, progress))
            return
        except KountaUnavailable as error:
            is_down = self._kounta.successes == successes
            is_answered = not is_down or self._were_others_answered(customer_id)
            await self._put_off(doubt, error, asked=doubt.asked and is_down, is_answered=is_answered)
            if is_down:
                raise
            note(customer_id, Outcome.FAILED, str(error))
            return
        except KountaError as error:
            await self._put_off(doubt, error, asked=False)
            note(customer_id, Outcome.FAILED, str(error))
            return
        try:
            outcome, why = await self._take(doubt, read, progress, sampled=sampled)
        except UnreadableError as error:
            why = f"customer {customer_id} cannot be stored: {error}"
            await self._put_off(doubt, why, asked=False)
            note(customer_id, Outcome.FAILED, why)
            return
        note(customer_id, outcome, why)

    def _were_others_answered(self, customer_id: int) -> bool:
        """Return whether others were answered since this read failed last: then it is no outage."""
        before = self._failed_at.get(customer_id)
        self._failed_at[customer_id] = self._kounta.successes
        return before is not None and self._kounta.successes > before

    async def _put_off(
        self, doubt: Doubt, why: KountaError | str, *, asked: bool, is_answered: bool = True
    ) -> None:
        now = self._clock()
        async with self._mirror.batch([doubt.customer_id], now) as batch:
            self._fail(batch, doubt, why, now, asked=asked, is_answered=is_answered)

    def _fail(
        self,
        batch: Batch,
        doubt: Doubt,
        why: KountaError | str,
        now: datetime,
        *,
        asked: bool,
        is_answered: bool = True,
    ) -> None:
        sentence = f"A read settled nothing: {for_log(why)}"
        _log.warning(sentence, action="read_failed", customer_id=doubt.customer_id)
        if doubt.customer_id not in batch.doubts:  # a refresh: nothing was known against it so far
            batch.doubt(doubt.customer_id, doubt.reason, now)
        batch.put_off(
            doubt.customer_id, now, self._timing, asked=asked, failure=str(why), is_answered=is_answered
        )

    async def _take_other(
        self, read_for: Doubt, error: KountaOtherCustomer, seen: Progress
    ) -> tuple[Outcome, str]:
        """Take a read that answered another customer: a doubt, and in the end a deletion for a person.

        It is held once two such answers lay a read lag apart, and a complete sweep that began later has left
        the customer out (decision 0063). Nothing is taken of the other customer.
        """
        customer_id, now = read_for.customer_id, self._clock()
        began_at, answered_at = error.asked_at or now, error.answered_at or now
        complete = await newest_sweep(self._mirror, complete=True)
        async with self._mirror.batch([customer_id], now) as batch:
            if customer_id in batch.erased:
                return Outcome.UNKNOWN, ""
            record, doubt = batch.records.get(customer_id), batch.doubts.get(customer_id)
            again_at = None if doubt is None else doubt.other_again_at
            if (
                record is not None
                and record.deleted_at is None
                and again_at is not None
                and complete is not None
                and complete.started_at > again_at
                and batch.listed_in(customer_id) < complete.id
                and not self._is_fenced(batch, customer_id, began_at, seen)
            ):
                batch.hold_delete(customer_id, answered_at, OTHER_CUSTOMER)
                missing = Missing(began_at, answered_at, seen.position, seen.revision, error.sent)
                self._deletions.note_missing(customer_id, missing)
                return Outcome.MISSING, ""
            self._fail(batch, read_for, error, now, asked=False)
            batch.note_other(customer_id, began_at, answered_at, self._timing)
        return Outcome.FAILED, str(error)

    def _is_fenced(self, batch: Batch, customer_id: int, began_at: datetime, seen: Progress) -> bool:
        return is_fenced(
            batch.records.get(customer_id),
            batch.doubts.get(customer_id),
            began_at=began_at,
            seen_revision=seen.revision,
            timing=self._timing,
        )

    async def _take(
        self, read_for: Doubt, read: Read, seen: Progress, *, sampled: bool
    ) -> tuple[Outcome, str]:
        """Let the answer do what it may; return what came of it, and why if that is a failure."""
        customer_id = read_for.customer_id
        complete = await newest_sweep(self._mirror, complete=True)
        async with self._mirror.batch([customer_id], self._clock()) as batch:
            if customer_id in batch.erased:
                self._missed.pop(customer_id, None)
                return Outcome.UNKNOWN, ""
            if read.customer is not None:
                self._note_mobile(batch, read.customer)
            if self._is_fenced(batch, customer_id, read.asked_at, seen):
                outcome = self._fence(batch, customer_id, read, seen)
                return outcome, CHANGES_TOO_OFTEN if outcome is Outcome.FAILED else ""
            if read.customer is None:
                if self._is_still_listed(batch, customer_id):
                    return Outcome.FAILED, self._keep_listed(batch, customer_id)
                return self._miss(batch, read_for, read, seen, complete, sampled=sampled), ""
            if self._needs_second_look(batch, customer_id, read, complete):
                return self._look_again(batch, customer_id, read), ""
            return self._accept(batch, read.customer, read, seen, sampled=sampled), ""

    def _needs_second_look(
        self, batch: Batch, customer_id: int, read: Read, complete: SweepRow | None
    ) -> bool:
        """Return whether one answer is too little: it contradicts a deletion which the list bears out."""
        record = batch.records.get(customer_id)
        if record is None or not is_borne_out(
            record,
            None if complete is None else complete.started_at,
            listed=complete is not None and batch.listed_in(customer_id) >= complete.id,
            read_after=self._timing.read_after,
        ):
            return False
        first_at = self._back.get(customer_id)
        return first_at is None or read.asked_at < first_at + self._timing.read_after

    def _look_again(self, batch: Batch, customer_id: int, read: Read) -> Outcome:
        now = self._clock()
        self._missed.pop(customer_id, None)
        self._back.setdefault(customer_id, read.answered_at)
        doubt = batch.doubts.get(customer_id)
        asked = doubt is not None and doubt.asked
        batch.settle(customer_id)
        batch.doubt(customer_id, Reason.CONTRADICTED, now + self._timing.read_after, asked=asked)
        batch.records[customer_id] = replace(batch.records[customer_id], read_at=now)
        return Outcome.FENCED

    def _note_mobile(self, batch: Batch, customer: Customer) -> None:
        if "mobile" in self._lens.subscription.columns:
            carried = "mobile" in customer.model_fields_set or "mobile" in customer.unread
            batch.note_mobile(carried=carried)

    def _accept(
        self, batch: Batch, customer: Customer, read: Read, seen: Progress, *, sampled: bool
    ) -> Outcome:
        self._missed.pop(customer.id, None)
        self._back.pop(customer.id, None)
        record = batch.records.get(customer.id)
        decision = accept(record, self._snapshot(customer, read, seen), self._lens.subscription)
        count_repair(batch, decision, record, batch.doubts.get(customer.id))
        if sampled:
            differs = is_change(decision, record)
            count_sampled(batch, differs=differs, columns=changed_columns(decision, record))
        batch.decide(decision, source=Source.VERIFICATION, at=self._clock())
        batch.settle(customer.id)
        return outcome_of(decision, record)

    def _miss(
        self,
        batch: Batch,
        read_for: Doubt,
        read: Read,
        seen: Progress,
        complete: SweepRow | None,
        *,
        sampled: bool,
    ) -> Outcome:
        customer_id = read_for.customer_id
        record, doubt = batch.records.get(customer_id), batch.doubts.get(customer_id)
        self._back.pop(customer_id, None)
        if sampled:
            count_sampled(batch, differs=True)
        was_missed = read_for.reason is Reason.UNLISTED or customer_id in self._missed
        if record is not None and record.deleted_at is None and not was_missed:
            self._missed[customer_id] = read
            return self._miss_first(batch, record, doubt)
        first = self._missed.pop(customer_id, read)
        missing = Missing(
            read.asked_at, read.answered_at, seen.position, seen.revision, read.sent, first.answered_at
        )
        if record is not None:
            batch.hold_delete(customer_id, read.answered_at)
            self._deletions.note_missing(customer_id, missing)
            return Outcome.MISSING if record.deleted_at is None else Outcome.GONE
        if doubt is None or not doubt.is_of_a_loss:
            batch.settle(customer_id)  # a person asked about a number: no delivery and no list has named it
            return Outcome.UNKNOWN
        if not was_missed and not self._is_left_out(doubt, complete):
            self._missed[customer_id] = read
            self._ask_again(batch, customer_id, doubt.reason, asked=doubt.asked)
            return Outcome.FENCED
        missing = replace(missing, bears=doubt.reason in BEARS_TOMBSTONE)
        batch.hold_delete(customer_id, read.answered_at)
        self._deletions.note_missing(customer_id, missing)
        return Outcome.UNKNOWN

    def _is_left_out(self, doubt: Doubt, complete: SweepRow | None) -> bool:
        """Return whether a complete sweep bears out that a customer without a record is gone.

        Whoever such a sweep could have shown and did not list is due at its end, and not later.
        """
        if complete is None or complete.finished_at is None:
            return False
        return doubt.due_at <= complete.finished_at

    def _is_still_listed(self, batch: Batch, customer_id: int) -> bool:
        """Return whether a list that was asked for after an earlier read of this kind has the customer."""
        doubt = batch.doubts.get(customer_id)
        return customer_id in batch.records and doubt is not None and doubt.reason is Reason.STILL_LISTED

    def _keep_listed(self, batch: Batch, customer_id: int) -> str:
        """Delete nobody whom a list asked for later still has, and return why that is a problem."""
        now = self._clock()
        self._missed.pop(customer_id, None)
        self._back.pop(customer_id, None)
        batch.decide(keep_listed(batch.records[customer_id], now), source=Source.VERIFICATION, at=now)
        why = f"customer {customer_id}: {STILL_LISTED}"
        batch.make_problem(customer_id, Reason.STILL_LISTED, why, now, self._timing)
        return why

    def _miss_first(self, batch: Batch, record: Record, doubt: Doubt | None) -> Outcome:
        """Ask again for a customer that no list has left out: access may be lost for a moment."""
        batch.records[record.customer_id] = replace(record, read_at=self._clock())
        asked = doubt is not None and doubt.asked
        self._ask_again(batch, record.customer_id, Reason.CONTRADICTED, asked=asked)
        return Outcome.FENCED

    def _ask_again(self, batch: Batch, customer_id: int, reason: Reason, *, asked: bool) -> None:
        batch.settle(customer_id)
        batch.doubt(customer_id, reason, self._clock() + self._timing.read_after, asked=asked)

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
