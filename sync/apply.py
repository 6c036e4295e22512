"""From the inbox to the mirror: each delivery in order, once, with one verdict.

A batch of deliveries is read, merged and written in one transaction together with the position behind it, so
a kill at any instruction leaves either all of it or nothing.
"""

import asyncio
import gc
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

import structlog

from receiver.database import is_unavailable
from receiver.errors import MirrorError
from receiver.inbox import Delivery, InboxReader
from receiver.topics import PING
from sync.copied import COPIED, copied_deletions
from sync.kounta.observations import Observations
from sync.merge.contested import distrust_deletion, doubt_said_deleted
from sync.merge.decisions import Decision, Verdict, heard, merge
from sync.merge.doubts import Reason, Timing
from sync.merge.mentions import known_by, mentioned, named_in
from sync.merge.records import Record
from sync.merge.snapshots import AnotherCompanyError, Lens, Snapshot, Source, UnreadableError
from sync.mirror.batch import Batch
from sync.mirror.erased import REASON as ERASED
from sync.mirror.gaps import note_gap
from sync.mirror.store import BusyElsewhere, Mirror
from sync.mirror.verdicts import Ruling, verdicts_given, verdicts_of
from sync.oddities import oddities_of
from sync.stretch import NOTHING, Ahead, Gap, Reading, Stretch, Unread, first_gap

AT_ONCE: Final = 3000
"""Deliveries in one transaction: enough to make its cost small, few enough that nobody waits (0.5 s)."""
IN_A_ROW: Final = 5
"""Batches of one company before the next one's turn: while one is written, the next is read."""
READ_AT_ONCE: Final = 100
"""Bodies that are read ahead before the batch that is written may go on."""
ANOTHER_AFTER: Final = timedelta(minutes=1)
"""After so long an inbox on PostgreSQL is looked at anew: a schema is restored under those who read it."""
GAP: Final = "gap"
"""Why a sweep is due when deliveries are missing."""
A_PING: Final = "a ping of webhooks test, about no customer"
MISSED_CREATED: Final = "no created delivery had come"

_log = structlog.get_logger()


class Applier:
    """Applies the deliveries of one company. It alone moves the mirror's position."""

    def __init__(
        self,
        mirror: Mirror,
        lens: Lens,
        timing: Timing,
        clock: Callable[[], datetime],
        observations: Observations | None = None,
    ) -> None:
        """`observations`: what deliveries show of upstream's habits is counted there."""
        self._observations = observations or Observations(clock)
        self._mirror = mirror
        self._lens = lens
        self._timing = timing
        self._clock = clock
        self._inbox: InboxReader | None = None
        self._known_at = clock()

    async def apply_pending(self, inbox: InboxReader) -> int:
        """Apply everything that is in the inbox now; give the number of deliveries."""
        total = 0
        while count := await self.apply_next(inbox):
            total += count
        return total

    async def apply_next(self, inbox: InboxReader, *, wait: bool = True) -> int:
        """Apply the next deliveries, IN_A_ROW batches at most; give their number, 0: there is none.

        Without `wait`, BusyElsewhere is raised while somebody else writes of this company.
        """
        if inbox is not self._inbox or self._may_be_another():
            await self.check_identity(inbox)
            self._inbox, self._known_at = inbox, self._clock()
        if not await inbox.is_behind(self._lens.company_id, self._mirror.progress.position):
            return 0
        total, ahead = 0, NOTHING
        with _no_search_for_cycles():
            for batch in range(1, IN_A_ROW + 1):
                try:
                    count, ahead = await self._apply_batch(inbox, ahead, last=batch == IN_A_ROW, wait=wait)
                except BusyElsewhere:
                    if not total:
                        raise
                    break
                total += count
                if not ahead.deliveries:
                    break
        return total

    def _may_be_another(self) -> bool:
        """Whether somebody may have put another inbox in its place: of a file, whoever opens it sees that."""
        return self._mirror.store.is_shared and abs(self._clock() - self._known_at) > ANOTHER_AFTER

    async def check_identity(self, inbox: InboxReader) -> None:
        """Begin at the start of an inbox that is not the one known, and ask for a sweep: a gap.

        What begins anew knows deliveries that have a verdict, and leaves them alone.
        """
        identity = await inbox.identity()
        known = (await self._mirror.refresh()).inbox_id
        ruled = await verdicts_given(self._mirror)
        if known is None:
            await self._mirror.note(inbox_id=identity)
            return
        if known != identity:
            what = f"The inbox is another one than before ({identity}, not {known})"
        elif await self._is_set_back(inbox, ruled):
            what = "The inbox is an older copy of the one before"
        else:
            return
        _log.warning(f"{what}: deliveries are missing.", action="inbox_replaced")
        await note_gap(
            self._mirror,
            "The inbox was replaced",
            self._clock(),
            inbox_id=identity,
            position=0,
            missing=0,
            ruled_elsewhere=ruled,
            starts_seen=0,
            failed_commits_seen=0,
            sweep_due=GAP,
        )

    async def _is_set_back(self, inbox: InboxReader, ruled: int) -> bool:
        """Say whether the inbox knows less than the mirror has seen of it, as a restored backup does."""
        company_id, progress = self._lens.company_id, self._mirror.progress
        if await inbox.accepted(company_id) < ruled - progress.ruled_elsewhere:
            return True
        last = await inbox.read(company_id, progress.position - 1, 1)
        names = [one.id for one in last if one.position == progress.position]
        return bool(names) and not await verdicts_of(self._mirror, names)

    async def _apply_batch(
        self, inbox: InboxReader, given: Stretch, *, last: bool, wait: bool
    ) -> tuple[int, Stretch]:
        """Apply a batch of what was read ahead, or is read now; give its size, and what was read meanwhile.

        While the store cannot be written, its error is raised and nothing is lost.
        """
        stretch, gap = NOTHING, None
        async with Ahead() as ahead:
            try:
                async with self._mirror.batch((), self._clock(), wait=wait) as batch:
                    stretch = given.behind(batch.position)
                    if not stretch.deliveries:
                        stretch = await self._look(inbox, batch.position)
                    gap = first_gap(stretch)
                    if gap is not None:
                        before = [one for one in stretch.deliveries if one.position <= gap.after]
                        stretch = Stretch(stretch.after, before)
                    elif not last and len(stretch.deliveries) == AT_ONCE:
                        ahead.start(self._look_ahead(inbox, stretch.deliveries[-1].position))
                    readings = stretch.readings
                    await self._merge(batch, stretch.deliveries, inbox, again=False, readings=readings)
            except Exception as error:
                if _is_no_fault(error) or not stretch.deliveries:  # it broke before any was looked at
                    raise
                await self._apply_singly(stretch.deliveries, error, inbox, again=False)
            if gap is not None and not stretch.deliveries:
                await self._note_gap(gap)
                return await self._apply_batch(inbox, NOTHING, last=last, wait=wait)
            return len(stretch.deliveries), await ahead.found()

    async def _look(self, inbox: InboxReader, after: int) -> Stretch:
        return Stretch(after, await inbox.read(self._lens.company_id, after, AT_ONCE))

    async def _look_ahead(self, inbox: InboxReader, after: int) -> Stretch:
        """Read the next deliveries and what they say. An error is met again by whoever applies them."""
        stretch = await self._look(inbox, after)
        readings: list[Reading] = []
        for start in range(0, len(stretch.deliveries), READ_AT_ONCE):
            await asyncio.sleep(0)
            try:
                readings += map(self._read, stretch.deliveries[start : start + READ_AT_ONCE])
            except Exception:  # noqa: BLE001 - see above
                return stretch
        return stretch._replace(readings=readings)

    async def _note_gap(self, gap: Gap) -> None:
        missing = gap.first - gap.after - 1
        _log.warning(
            f"{missing} deliveries are missing from the inbox behind position {gap.after}.",
            action="deliveries_missing",
        )
        await note_gap(
            self._mirror,
            "Deliveries are missing from the inbox",
            self._clock(),
            position=gap.first - 1,
            missing=self._mirror.progress.missing + missing,
            sweep_due=GAP,
        )

    async def apply(
        self, deliveries: Sequence[Delivery], *, again: bool = False, inbox: InboxReader | None = None
    ) -> None:
        """Apply these, in one transaction if it can be; a delivery that breaks it is tried alone.

        With `again`, they have a verdict: they get a new one at their old position, and the old one is kept.
        `inbox` is where they came from; None: the one that was read last.
        """
        inbox = inbox or self._inbox
        try:
            async with self._mirror.batch((), self._clock()) as batch:
                await self._merge(batch, deliveries, inbox, again=again)
        except Exception as error:
            if _is_no_fault(error):
                raise
            await self._apply_singly(deliveries, error, inbox, again=again)

    async def _apply_singly(
        self, deliveries: Sequence[Delivery], error: Exception, inbox: InboxReader | None, *, again: bool
    ) -> None:
        """Apply each in a transaction of its own, after an `error` of all together."""
        _log.warning(
            f"{len(deliveries)} deliveries could not be applied together and are tried alone: "
            f"{_complaint(error)}",
            action="batch_failed",
            exc_info=error,
        )
        for delivery in deliveries:
            try:
                async with self._mirror.batch((), self._clock()) as batch:
                    await self._merge(batch, [delivery], inbox, again=again)
            except Exception as alone:
                if _is_no_fault(alone):
                    raise
                await self._give_up(delivery, alone, again=again)

    async def _merge(
        self,
        batch: Batch,
        deliveries: Sequence[Delivery],
        inbox: InboxReader | None,
        *,
        again: bool,
        readings: Sequence[Reading] | None = None,
    ) -> None:
        """Merge what these say into the batch; those that have their verdict already are passed over."""
        if readings is None:
            readings = [self._read(delivery) for delivery in deliveries]
        await batch.load([customer_id for reading in readings for customer_id in _ids_of(reading)])
        kept_out = await _kept_out(batch, deliveries, readings)
        copied = await copied_deletions(batch, inbox, deliveries, readings)
        if copied:
            self._observations.see("replayed-elsewhere", len(copied))
        now = self._clock()
        due_at = now + self._timing.read_after
        done = () if again else await batch.ruled_elsewhere([one.id for one in deliveries])
        for delivery, reading in zip(deliveries, readings, strict=True):
            if delivery.id in kept_out and not delivery.is_erased:
                batch.drop_body(delivery.id)
            if delivery.id in done:
                batch.recognise(delivery.position)
            elif delivery.id in kept_out and (again or delivery.position > batch.position):
                _rule(batch, delivery, Verdict.STALE, now, reason=ERASED, again=again)
            elif again or delivery.position > batch.position:
                is_copied = delivery.id in copied
                self._decide(batch, delivery, reading, now, due_at, again=again, is_copied=is_copied)

    def _read(self, delivery: Delivery) -> Reading:
        if delivery.topic == PING:
            return Unread(A_PING, is_loss=False)
        try:
            return self._lens.body(
                delivery.body,
                deleted=delivery.topic.endswith("/deleted"),
                arrived_at=delivery.received_at,
                position=delivery.position,
                mobile=self._mirror.progress.mobile_read,
            )
        except AnotherCompanyError as error:
            return Unread(str(error), is_loss=False)
        except UnreadableError as error:
            return Unread(str(error), named_in(delivery.body))

    def _decide(
        self,
        batch: Batch,
        delivery: Delivery,
        reading: Reading,
        now: datetime,
        due_at: datetime,
        *,
        again: bool,
        is_copied: bool,
    ) -> None:
        for name in oddities_of(delivery, reading):
            self._observations.see(name)
        if isinstance(reading, Unread):
            verdict = Verdict.UNCHANGED if delivery.topic == PING else Verdict.QUARANTINED
            if reading.is_loss:
                _doubt_lost(batch, delivery, reading.ids, due_at)
            _rule(batch, delivery, verdict, now, reason=reading.reason, again=again)
            return
        customer_id = reading.customer_id
        record = batch.records.get(customer_id)
        if reading.says_deleted and not reading.deleted and record is None:
            batch.doubt(customer_id, Reason.SAID_DELETED, due_at)
            why = Reason.SAID_DELETED.value
            _rule(batch, delivery, Verdict.CONTRADICTED, now, customer_id, why, again=again)
            return
        decision = self._decision(record, reading, is_copied=is_copied)
        batch.decide(decision, source=Source.WEBHOOK, at=now, delivery_id=delivery.id)
        if decision.doubt is not None:
            batch.doubt(customer_id, decision.doubt, due_at)
        missed = record is None and delivery.topic.endswith("/updated")
        reason = MISSED_CREATED if missed else decision.doubt and decision.doubt.value
        if is_copied and decision.verdict is Verdict.CONTRADICTED:
            reason = COPIED
        _rule(batch, delivery, decision.verdict, now, customer_id, reason, again=again)

    def _decision(self, record: Record | None, reading: Snapshot, *, is_copied: bool) -> Decision:
        if record is not None and reading.says_deleted and not reading.deleted:
            return doubt_said_deleted(record, reading)
        if record is not None and record.deleted_at is None and reading.deleted and is_copied:
            return distrust_deletion(record, reading)
        return merge(record, reading, self._lens.subscription, self._lens.window)

    async def _give_up(self, delivery: Delivery, error: Exception, *, again: bool) -> None:
        """Set a delivery aside that an error of ours keeps from being applied; it can be replayed."""
        _log.error(
            f"Delivery {delivery.id} could not be applied and is set aside: {_complaint(error)}",
            action="delivery_failed",
            delivery_id=delivery.id,
        )
        ids, customer_id = self._about(delivery)
        try:
            await self._set_aside(delivery, ids, customer_id, _complaint(error), again=again)
        except Exception as other:
            if not ids or _is_no_fault(other):
                raise
            # what the mirror has of this customer is what fails: leave it, and let the others be applied
            await self._set_aside(delivery, (), None, _complaint(error), again=again)

    async def _set_aside(
        self,
        delivery: Delivery,
        ids: tuple[int, ...],
        customer_id: int | None,
        reason: str,
        *,
        again: bool,
    ) -> None:
        now = self._clock()
        async with self._mirror.batch(ids, now) as batch:
            if not again and delivery.position <= batch.position:
                return
            if await _kept_out(batch, [delivery], [Unread(reason)]):
                batch.drop_body(delivery.id)
                _rule(batch, delivery, Verdict.STALE, now, reason=ERASED, again=again)
                return
            if delivery.topic != PING:
                _doubt_lost(batch, delivery, ids, now + self._timing.read_after)
            _rule(batch, delivery, Verdict.FAILED, now, customer_id, reason, again=again)

    def _about(self, delivery: Delivery) -> tuple[tuple[int, ...], int | None]:
        """Return the customers that a delivery names, and the one that it was read to be about, if it was."""
        try:
            reading = self._read(delivery)
        except Exception:  # noqa: BLE001 - reading it may be the very thing that fails
            return named_in(delivery.body), None
        if isinstance(reading, Snapshot):
            return (reading.customer_id,), reading.customer_id
        return reading.ids, None


def _ids_of(reading: Reading) -> tuple[int, ...]:
    return (reading.customer_id,) if isinstance(reading, Snapshot) else reading.ids


def _doubt_lost(batch: Batch, delivery: Delivery, ids: Sequence[int], due_at: datetime) -> None:
    """Leave a doubt on each customer that a lost delivery names, else on the gap that all others share.

    The first id is the customer's own, as upstream writes it; the others may be of something else.
    """
    if not ids:
        batch.lose(known_by(delivery.body))
    for place, customer_id in enumerate(ids):
        if customer_id in batch.records:
            batch.records[customer_id] = heard(batch.records[customer_id], delivery.received_at)
        batch.doubt(customer_id, Reason.UNREADABLE if place else Reason.FAILED, due_at)


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Pause Python's search for cycles: a batch makes 100,000s of objects in none, then drops them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _is_no_fault(error: Exception) -> bool:
    """Whether the deliveries have no part in it: the store failed, or another worker has taken over."""
    return is_unavailable(error) or isinstance(error, MirrorError)


async def _kept_out(batch: Batch, deliveries: Sequence[Delivery], readings: Sequence[Reading]) -> set[str]:
    """Name those that are about people who were erased, also where nothing could be applied of them."""
    names = {one.id for one in deliveries if one.is_erased}
    if not batch.keeps_out:
        return names
    about: dict[str, Collection[int]] = {}
    for delivery, reading in zip(deliveries, readings, strict=True):
        if isinstance(reading, Snapshot):
            about[delivery.id] = (reading.customer_id,)
        elif delivery.topic != PING:
            about[delivery.id] = mentioned(delivery.body)
    await batch.look_for_erased({customer_id for ids in about.values() for customer_id in ids})
    return names | {name for name, ids in about.items() if not batch.erased.isdisjoint(ids)}


def _complaint(error: Exception) -> str:
    """Say what failed without what it failed on: a statement's parameters are people."""
    return f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"


def _rule(
    batch: Batch,
    delivery: Delivery,
    verdict: Verdict,
    now: datetime,
    customer_id: int | None = None,
    reason: str | None = None,
    *,
    again: bool,
) -> None:
    ruling = Ruling(delivery.id, customer_id, delivery.topic, verdict, reason, delivery.received_at, now)
    batch.rule(ruling, None if again else delivery.position)
