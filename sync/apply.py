"""From the inbox to the mirror: each delivery in order, once, with one verdict.

A batch of deliveries is read, merged and written in one transaction together with the position behind it, so
a kill at any instruction leaves either all of it or nothing.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import structlog

from receiver.database import is_unavailable
from receiver.inbox import Delivery, InboxReader
from sync.merge.decisions import Verdict, heard, merge
from sync.merge.doubts import Reason, Timing
from sync.merge.snapshots import Lens, Snapshot, Source, UnreadableError
from sync.mirror.batch import Batch
from sync.mirror.store import Mirror
from sync.mirror.verdicts import Ruling, verdicts_given

AT_ONCE: Final = 2000
"""Deliveries in one transaction: enough to make its cost small, few enough that nobody waits for it."""
GAP: Final = "gap"
"""Why a sweep is due when deliveries are missing."""
MISSED_CREATED: Final = "no created delivery had come"

_log = structlog.get_logger()


class Applier:
    """Applies the deliveries of one company. It alone moves the mirror's position."""

    def __init__(self, mirror: Mirror, lens: Lens, timing: Timing, clock: Callable[[], datetime]) -> None:
        self._mirror = mirror
        self._lens = lens
        self._timing = timing
        self._clock = clock

    async def apply_pending(self, inbox: InboxReader) -> int:
        """Apply everything that is in the inbox now; give the number of deliveries."""
        await self.check_identity(inbox)
        total = 0
        while count := await self.apply_batch(inbox):
            total += count
        return total

    async def check_identity(self, inbox: InboxReader) -> None:
        """Begin at the start of an inbox that is not the one known, and ask for a sweep: a gap."""
        identity = await inbox.identity()
        known = self._mirror.progress.inbox_id
        if known == identity:
            return
        if known is None:
            await self._mirror.note(inbox_id=identity)
            return
        _log.warning(
            f"The inbox is another one than before ({identity}, not {known}): deliveries are missing.",
            action="inbox_replaced",
        )
        ruled = await verdicts_given(self._mirror)
        await self._mirror.note(
            inbox_id=identity, position=0, missing=0, ruled_elsewhere=ruled, sweep_due=GAP
        )

    async def apply_batch(self, inbox: InboxReader) -> int:
        """Apply the next deliveries, at most AT_ONCE; give their number.

        Raises what the store raises while it cannot be written: then nothing was applied, nothing is lost.
        """
        position = self._mirror.progress.position
        deliveries = await inbox.read(self._lens.company_id, position, AT_ONCE)
        if not deliveries:
            return 0
        if deliveries[0].position != position + 1:
            await self._notice_missing(inbox)
        await self.apply(deliveries)
        return len(deliveries)

    async def apply(self, deliveries: Sequence[Delivery]) -> None:
        """Apply these, in one transaction if it can be; a delivery that breaks it is tried alone."""
        try:
            await self._apply(deliveries)
        except Exception as error:
            if is_unavailable(error):
                raise
            if len(deliveries) == 1:
                await self._give_up(deliveries[0], error)
                return
            _log.warning(
                f"{len(deliveries)} deliveries could not be applied together and are tried alone: {error!r}",
                action="batch_failed",
            )
            for delivery in deliveries:
                await self.apply([delivery])

    async def _apply(self, deliveries: Sequence[Delivery]) -> None:
        readings = [(delivery, self._read(delivery)) for delivery in deliveries]
        ids = [reading.customer_id for _, reading in readings if isinstance(reading, Snapshot)]
        now = self._clock()
        due_at = now + self._timing.read_after
        async with self._mirror.batch(ids, now) as batch:
            for delivery, reading in readings:
                if isinstance(reading, Snapshot):
                    self._merge(batch, delivery, reading, now, due_at)
                else:
                    _rule(batch, delivery, Verdict.QUARANTINED, now, reason=reading)

    def _read(self, delivery: Delivery) -> Snapshot | str:
        try:
            return self._lens.body(
                delivery.body,
                deleted=delivery.topic.endswith("/deleted"),
                arrived_at=delivery.received_at,
                position=delivery.position,
            )
        except UnreadableError as error:
            return str(error)

    def _merge(
        self, batch: Batch, delivery: Delivery, snapshot: Snapshot, now: datetime, due_at: datetime
    ) -> None:
        record = batch.records.get(snapshot.customer_id)
        decision = merge(record, snapshot, self._lens.subscription, self._lens.window)
        batch.decide(decision, source=Source.WEBHOOK, at=now, delivery_id=delivery.id)
        if decision.doubt is not None:
            batch.doubt(snapshot.customer_id, decision.doubt, due_at)
        missed = record is None and delivery.topic.endswith("/updated")
        reason = MISSED_CREATED if missed else decision.doubt and decision.doubt.value
        _rule(batch, delivery, decision.verdict, now, snapshot.customer_id, reason)

    async def _give_up(self, delivery: Delivery, error: Exception) -> None:
        """Set a delivery aside that an error of ours keeps from being applied; it can be replayed."""
        _log.error(
            f"Delivery {delivery.id} could not be applied and is set aside: {error!r}",
            action="delivery_failed",
            delivery_id=delivery.id,
            exc_info=error,
        )
        reading = self._read_quietly(delivery)
        ids = [reading.customer_id] if isinstance(reading, Snapshot) else []
        now = self._clock()
        async with self._mirror.batch(ids, now) as batch:
            for known_id in ids:
                if known_id in batch.records:
                    batch.records[known_id] = heard(batch.records[known_id], delivery.received_at)
                batch.doubt(known_id, Reason.FAILED, now + self._timing.read_after)
            reason = f"{type(error).__name__}: {error}"
            _rule(batch, delivery, Verdict.FAILED, now, ids[0] if ids else None, reason)

    def _read_quietly(self, delivery: Delivery) -> Snapshot | str:
        try:
            return self._read(delivery)
        except Exception as error:  # noqa: BLE001 - reading it may be the very thing that fails
            return str(error)

    async def _notice_missing(self, inbox: InboxReader) -> None:
        progress = self._mirror.progress
        first = await inbox.first_position(progress.position)
        missing = 0 if first is None else first - progress.position - 1
        if missing > 0:
            _log.warning(
                f"{missing} deliveries are missing from the inbox behind position {progress.position}.",
                action="deliveries_missing",
            )
            await self._mirror.note(
                position=progress.position + missing, missing=progress.missing + missing, sweep_due=GAP
            )


def _rule(
    batch: Batch,
    delivery: Delivery,
    verdict: Verdict,
    now: datetime,
    customer_id: int | None = None,
    reason: str | None = None,
) -> None:
    ruling = Ruling(delivery.id, customer_id, delivery.topic, verdict, reason, delivery.received_at, now)
    batch.rule(ruling, delivery.position)
