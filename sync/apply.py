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
from sync.merge.decisions import Verdict, heard, merge
from sync.merge.doubts import Reason, Timing
from sync.merge.mentions import mentioned
from sync.merge.snapshots import Lens, Snapshot, Source, UnreadableError
from sync.mirror.batch import Batch
from sync.mirror.erased import REASON as ERASED
from sync.mirror.gaps import note_gap
from sync.mirror.store import BusyElsewhere, Mirror
from sync.mirror.verdicts import Ruling, verdicts_given, verdicts_of
from sync.stretch import NOTHING, Ahead, Gap, Stretch, first_gap

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

    def __init__(self, mirror: Mirror, lens: Lens, timing: Timing, clock: Callable[[], datetime]) -> None:
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
                    await self._merge(batch, stretch.deliveries, again=False, readings=stretch.readings)
            except Exception as error:
                if _is_no_fault(error) or not stretch.deliveries:  # it broke before any was looked at
                    raise
                await self._apply_singly(stretch.deliveries, error, again=False)
            if gap is not None and not stretch.deliveries:
                await self._note_gap(gap)
                return await self._apply_batch(inbox, NOTHING, last=last, wait=wait)
            return len(stretch.deliveries), await ahead.found()

    async def _look(self, inbox: InboxReader, after: int) -> Stretch:
        return Stretch(after, await inbox.read(self._lens.company_id, after, AT_ONCE))

    async def _look_ahead(self, inbox: InboxReader, after: int) -> Stretch:
        """Read the next deliveries and what they say. An error is met again by whoever applies them."""
        stretch = await self._look(inbox, after)
        readings: list[Snapshot | str] = []
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

    async def apply(self, deliveries: Sequence[Delivery], *, again: bool = False) -> None:
        """Apply these, in one transaction if it can be; a delivery that breaks it is tried alone.

        With `again`, they have a verdict: they get a new one at their old position, and the old one is kept.
        """
        try:
            async with self._mirror.batch((), self._clock()) as batch:
                await self._merge(batch, deliveries, again=again)
        except Exception as error:
            if _is_no_fault(error):
                raise
            await self._apply_singly(deliveries, error, again=again)

    async def _apply_singly(self, deliveries: Sequence[Delivery], error: Exception, *, again: bool) -> None:
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
                    await self._merge(batch, [delivery], again=again)
            except Exception as alone:
                if _is_no_fault(alone):
                    raise
                await self._give_up(delivery, alone, again=again)

    async def _merge(
        self,
        batch: Batch,
        deliveries: Sequence[Delivery],
        *,
        again: bool,
        readings: Sequence[Snapshot | str] | None = None,
    ) -> None:
        """Merge what these say into the batch; those that have their verdict already are passed over."""
        if readings is None:
            readings = [self._read(delivery) for delivery in deliveries]
        await batch.load([reading.customer_id for reading in readings if isinstance(reading, Snapshot)])
        kept_out = await _kept_out(batch, deliveries, readings)
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
                self._decide(batch, delivery, reading, now, due_at, again=again)

    def _read(self, delivery: Delivery) -> Snapshot | str:
        if delivery.topic == PING:
            return A_PING
        try:
            return self._lens.body(
                delivery.body,
                deleted=delivery.topic.endswith("/deleted"),
                arrived_at=delivery.received_at,
                position=delivery.position,
                mobile=self._mirror.progress.mobile_read,
            )
        except UnreadableError as error:
            return str(error)

    def _decide(
        self,
        batch: Batch,
        delivery: Delivery,
        reading: Snapshot | str,
        now: datetime,
        due_at: datetime,
        *,
        again: bool,
    ) -> None:
        if isinstance(reading, str):
            verdict = Verdict.UNCHANGED if delivery.topic == PING else Verdict.QUARANTINED
            _rule(batch, delivery, verdict, now, reason=reading, again=again)
            return
        customer_id = reading.customer_id
        record = batch.records.get(customer_id)
        decision = merge(record, reading, self._lens.subscription, self._lens.window)
        batch.decide(decision, source=Source.WEBHOOK, at=now, delivery_id=delivery.id)
        if decision.doubt is not None:
            batch.doubt(customer_id, decision.doubt, due_at)
        missed = record is None and delivery.topic.endswith("/updated")
        reason = MISSED_CREATED if missed else decision.doubt and decision.doubt.value
        _rule(batch, delivery, decision.verdict, now, customer_id, reason, again=again)

    async def _give_up(self, delivery: Delivery, error: Exception, *, again: bool) -> None:
        """Set a delivery aside that an error of ours keeps from being applied; it can be replayed."""
        _log.error(
            f"Delivery {delivery.id} could not be applied and is set aside: {_complaint(error)}",
            action="delivery_failed",
            delivery_id=delivery.id,
        )
        customer_id = self._customer_of(delivery)
        try:
            await self._set_aside(delivery, customer_id, _complaint(error), again=again)
        except Exception as other:
            if customer_id is None or _is_no_fault(other):
                raise
            # what the mirror has of this customer is what fails: leave it, and let the others be applied
            await self._set_aside(delivery, None, _complaint(error), again=again)

    async def _set_aside(
        self, delivery: Delivery, customer_id: int | None, reason: str, *, again: bool
    ) -> None:
        ids = [] if customer_id is None else [customer_id]
        now = self._clock()
        async with self._mirror.batch(ids, now) as batch:
            if not again and delivery.position <= batch.position:
                return
            if await _kept_out(batch, [delivery], [reason]):
                batch.drop_body(delivery.id)
                _rule(batch, delivery, Verdict.STALE, now, reason=ERASED, again=again)
                return
            for known_id in ids:
                if known_id in batch.records:
                    batch.records[known_id] = heard(batch.records[known_id], delivery.received_at)
                batch.doubt(known_id, Reason.FAILED, now + self._timing.read_after)
            _rule(batch, delivery, Verdict.FAILED, now, customer_id, reason, again=again)

    def _customer_of(self, delivery: Delivery) -> int | None:
        try:
            reading = self._read(delivery)
        except Exception:  # noqa: BLE001 - reading it may be the very thing that fails
            return None
        return reading.customer_id if isinstance(reading, Snapshot) else None


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


async def _kept_out(
    batch: Batch, deliveries: Sequence[Delivery], readings: Sequence[Snapshot | str]
) -> set[str]:
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
