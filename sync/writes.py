"""Writes of customers, at upstream and in the mirror at once."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from receiver.database import is_unavailable
from receiver.errors import MirrorError
from sync.kounta import Customer, Fields, Kounta, KountaError, Written
from sync.merge.decisions import accept, merge
from sync.merge.doubts import Reason, Timing
from sync.merge.records import Record
from sync.merge.snapshots import Lens, Source, UnreadableError
from sync.mirror.store import LeaseLostError, Mirror
from sync.mirror.sweeps import newest_sweep

_FAILURES: Final = 500


class NotMirroredError(MirrorError):
    """A customer was written at upstream, but could not be stored here."""

    def __init__(self, sentence: str, written_id: int) -> None:
        super().__init__(sentence)
        self.written_id = written_id


class Writer:
    """Creates and updates customers of one company, and merges the answers.

    Nothing that came meanwhile can be older than what upstream answered before it was asked: if the record is
    still the one from before the write, the answer stands. Otherwise (its own webhook may be faster) the
    answer is one word among others, as the merge decides. Either way a read confirms it later.
    """

    def __init__(
        self, mirror: Mirror, kounta: Kounta, *, lens: Lens, timing: Timing, clock: Callable[[], datetime]
    ) -> None:
        self._mirror = mirror
        self._kounta = kounta
        self._lens = lens
        self._timing = timing
        self._clock = clock

    async def create(self, fields: Fields) -> Customer:
        """Create a customer. Raises KountaError, and NotMirroredError when it was made all the same."""
        return await self._write(None, self._kounta.write_new(fields, was_there=self._was_there))

    async def update(self, customer_id: int, fields: Fields) -> Customer:
        """Change these fields of a customer. Raises as `create` does."""
        return await self._write(customer_id, self._kounta.write_changes(customer_id, fields))

    async def _write(self, customer_id: int | None, writing: Awaitable[Written]) -> Customer:
        before = None if customer_id is None else await self._record(customer_id)
        position = (await self._mirror.refresh()).position
        try:
            written = await writing
        except KountaError as error:
            perhaps = customer_id if _may_have_been_done(error) else None
            await self._doubt(error.written_id or error.likely_id or perhaps)
            raise
        await self._mirror_it(written, before, position)
        return written.customer

    async def _was_there(self, customer_id: int, at: datetime) -> bool | None:
        """Whether the mirror had heard of a customer before `at`; None if it does not know them all."""
        record = await self._record(customer_id)
        if record is not None and record.first_seen_at < at:
            return True
        return None if await newest_sweep(self._mirror, complete=True) is None else False

    async def _record(self, customer_id: int) -> Record | None:
        async with self._mirror.batch([customer_id], self._clock()) as batch:
            return batch.records.get(customer_id)

    async def _mirror_it(self, written: Written, before: Record | None, position: int) -> None:
        customer = written.customer
        try:
            await self._merge(written, before, position)
        except UnreadableError as error:
            why: Any = error
        except Exception as error:
            if not (is_unavailable(error) or isinstance(error, LeaseLostError)):
                raise
            why = getattr(error, "orig", None) or error
        else:
            return
        raise NotMirroredError(
            f"Customer {customer.id} was written at Kounta, but could not be stored here: {why}. "
            "Do not write it again; a reconciliation will bring it.",
            customer.id,
        )

    async def _merge(self, written: Written, before: Record | None, position: int) -> None:
        customer_id, now = written.customer.id, self._clock()
        snapshot = self._lens.customer(
            written.customer,
            arrived_at=written.answered_at,
            position=position,
            source=Source.WRITE,
            mobile=self._mirror.progress.mobile_read,
        )
        subscription = self._lens.subscription
        async with self._mirror.batch([customer_id], now) as batch:
            if customer_id in batch.erased:
                return  # written at Kounta, and kept out here
            record = batch.records.get(customer_id)
            if record == before:
                decision = accept(record, snapshot, subscription)
            else:
                decision = merge(record, snapshot, subscription, self._lens.window)
            batch.decide(decision, source=Source.WRITE, at=now)
            doubt = decision.doubt or Reason.CONFIRMATION
            batch.doubt(customer_id, doubt, now + self._timing.read_after)

    async def _doubt(self, customer_id: int | None) -> None:
        """Ask for a read of a customer that may have been written without an answer that can be merged."""
        if customer_id is None:
            return
        now = self._clock()
        async with self._mirror.batch([customer_id], now) as batch:
            batch.doubt(customer_id, Reason.CONFIRMATION, now + self._timing.read_after)


def _may_have_been_done(error: KountaError) -> bool:
    """Whether an update may have been made though its answer was none: nothing, a failure, an odd yes."""
    if error.unsent:
        return False
    return error.status is None or error.status >= _FAILURES or error.status < 300  # noqa: PLR2004 - HTTP
