"""One transaction of the mirror: what is known of the customers it touches, and all that it writes of them.

Whatever changes a customer (a delivery, a read, a page of a sweep) goes through here, so that the row, its
history, its doubt, the verdict and the position are written together or not at all.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BindParameter, Table, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.merge.decisions import Decision, is_change
from sync.merge.doubts import Doubt, Reason, Timing, put_off, raise_doubt
from sync.merge.records import Record
from sync.merge.snapshots import Source
from sync.mirror.bulk import Lookup, among, json_array, time_text, upserting
from sync.mirror.counts import Counted, add_counts
from sync.mirror.erased import BODIES, erased_among
from sync.mirror.history import Journal
from sync.mirror.marks import Marker
from sync.mirror.progress import Progress
from sync.mirror.rows import doubt_of, record_of, row_of, row_of_doubt
from sync.mirror.schema import CUSTOMERS, HELD_DELETES, PROGRESS, STATUS, VERIFICATIONS
from sync.mirror.verdicts import Ruling, have_verdict, write_rulings


class Batch:
    """What one transaction reads first and writes last; between them the customers are changed in memory."""

    def __init__(
        self,
        connection: AsyncConnection,
        company_id: int,
        progress: Progress,
        *,
        holding: bool,
        keeping_out: Marker | None = None,
    ) -> None:
        """Begin with what is stored; `holding`: whether any deletion is held.

        `keeping_out` tells who was erased; None: nobody was.
        """
        self.connection = connection
        self.company_id = company_id
        self.progress = self._progress_before = progress
        self.position = progress.position
        self.records: dict[int, Record] = {}
        self.doubts: dict[int, Doubt] = {}
        self.counts: Counter[str] = Counter()
        self.erased: set[int] = set()
        """Of the customers that were looked at, those who were erased: nothing of them is written."""
        self.keeps_out = keeping_out is not None
        """Whether anybody was erased."""
        self._marker = keeping_out
        self._bodies: list[tuple[int, str]] = []
        self._revision = progress.revision
        self._before: dict[int, tuple[Record | None, int | None, int]] = {}
        self._doubts_before: dict[int, Doubt] = {}
        self._last_seq: dict[int, int | None] = {}
        self._listed_in: dict[int, int] = {}
        self._journal = Journal(company_id, progress.seq)
        self._rulings: list[Ruling] = []
        self._ruled_again: list[str] = []
        self._recognised = 0
        self._last_delivery_at: datetime | None = None
        self._announced = 0
        self._mobile_read = progress.mobile_read
        self._mobile_appears = False
        self._holding = holding
        self._held: dict[int, datetime] = {}
        self._no_longer_held: set[int] = set()

    async def load(self, customer_ids: Collection[int]) -> None:
        """Read what is known of these customers."""
        ids = set(customer_ids)
        if not ids:
            return
        await self.look_for_erased(ids)
        ids -= self.erased
        numbers = json_array(ids)
        self._before |= dict.fromkeys(ids, (None, None, 0))
        for row in await _KNOWN.rows(self.connection, self.company_id, numbers):
            record, last_seq, listed_in = known = record_of(row)
            self._before[record.customer_id] = known
            self.records[record.customer_id] = record
            self._last_seq[record.customer_id] = last_seq
            self._listed_in[record.customer_id] = listed_in
        for row in await _DOUBTS.rows(self.connection, self.company_id, numbers):
            doubt = doubt_of(row)
            self.doubts[doubt.customer_id] = self._doubts_before[doubt.customer_id] = doubt

    async def look_for_erased(self, customer_ids: Collection[int]) -> None:
        """Find out which of these customers were erased."""
        if self._marker is not None and customer_ids:
            self.erased |= await erased_among(self.connection, self.company_id, self._marker, customer_ids)

    def decide(
        self, decision: Decision, *, source: Source, at: datetime, delivery_id: str | None = None
    ) -> None:
        """Take over what the merge decided: the record, and the change if there is one."""
        customer_id = decision.record.customer_id
        if customer_id in self.erased:
            return
        known = self.records.get(customer_id)
        if delivery_id is not None and is_change(decision, known):
            self._announced += 1
        self.records[customer_id] = decision.record
        if decision.kind is not None:
            self._last_seq[customer_id] = self._journal.note(
                known,
                decision,
                source=source,
                at=at,
                delivery_id=delivery_id,
                previous=self._last_seq.get(customer_id),
            )

    def doubt(self, customer_id: int, reason: Reason, due_at: datetime, *, asked: bool = False) -> None:
        """Ask for a read of this customer. Whatever it was held for is in doubt again, too."""
        if customer_id in self.erased:
            return
        self._revision += 1
        self.doubts[customer_id] = raise_doubt(
            self.doubts.get(customer_id), customer_id, reason, due_at, self._revision, asked=asked
        )
        self._no_longer_held.add(customer_id)

    def settle(self, customer_id: int) -> None:
        """Drop the doubt of this customer: an authoritative answer came."""
        self.doubts.pop(customer_id, None)
        self._no_longer_held.add(customer_id)

    def put_off(self, customer_id: int, now: datetime, timing: Timing, *, asked: bool) -> None:
        """Keep the doubt after a read that settled nothing; `asked`: a person still waits for it."""
        doubt = self.doubts.get(customer_id)
        if doubt is not None:
            self.doubts[customer_id] = replace(put_off(doubt, now, timing), asked=asked and doubt.asked)

    def hold_delete(self, customer_id: int, missing_at: datetime) -> None:
        """Gather a customer that upstream answered 404 for, in place of its doubt."""
        self.doubts.pop(customer_id, None)
        if customer_id not in self.erased:
            self._held[customer_id] = missing_at

    def note_mobile(self, *, carried: bool) -> None:
        """Note whether a read carried `mobile`: from the first one that does, all others have to."""
        if self._mobile_read is None or carried > self._mobile_read:
            self._mobile_appears = self._mobile_read is False
            self._mobile_read = carried

    def listed(self, customer_id: int, sweep_id: int) -> None:
        """Note that the sweep has met this customer."""
        if customer_id not in self.erased:
            self._listed_in[customer_id] = sweep_id

    def drop_body(self, delivery_id: str) -> None:
        """Have the inbox drop what a delivery says, because it is about somebody who was erased."""
        self._bodies.append((self.company_id, delivery_id))

    def rule(self, ruling: Ruling, position: int | None) -> None:
        """Give a delivery its verdict; `position` None: another one, and the one before is kept as past."""
        self._rulings.append(ruling)
        if position is None:
            self._ruled_again.append(ruling.delivery_id)
        else:
            self.position = position
            self._last_delivery_at = ruling.received_at

    async def ruled_elsewhere(self, delivery_ids: Collection[str]) -> Collection[str]:
        """Name those that got their verdict when the inbox, or another copy of it, was read before."""
        if not self.progress.ruled_elsewhere:
            return ()
        return await have_verdict(self.connection, self.company_id, delivery_ids)

    def recognise(self, position: int) -> None:
        """Pass over a delivery that is ruled elsewhere: its verdict counts for this inbox from now on."""
        self._recognised += 1
        self.position = position

    async def flush(self, now: datetime) -> None:
        """Write everything, in a handful of statements however many customers there are."""
        changed = [key for key, before in self._before.items() if self._after(key) != before]
        rows = [
            row_of(self.company_id, self.records[key], self._last_seq.get(key), self._listed_in.get(key, 0))
            for key in changed
        ]
        if self._mobile_appears:
            await self._require_mobile()
        await _CUSTOMERS.run(self.connection, rows)
        await self._journal.write(self.connection)
        if self._rulings:
            await write_rulings(self.connection, self.company_id, self._rulings, self._ruled_again)
            self.counts[Counted.ANNOUNCED] += self._announced
        await add_counts(self.connection, self.company_id, self.counts, now)
        await BODIES.run(self.connection, self._bodies)
        await self._flush_doubts()
        await self._flush_status(changed, now)
        self.progress = replace(
            self.progress,
            position=self.position,
            seq=self._journal.seq,
            revision=self._revision,
            mobile_read=self._mobile_read,
            ruled_elsewhere=self.progress.ruled_elsewhere - self._recognised,
        )
        names = ("position", "seq", "revision", "ruled_elsewhere", "mobile_read")
        if self.progress == self._progress_before:
            return
        await self.connection.execute(
            update(PROGRESS)
            .where(PROGRESS.c.company_id == self.company_id)
            .values({name: getattr(self.progress, name) for name in names})
        )

    def _after(self, customer_id: int) -> tuple[Record | None, int | None, int]:
        return (
            self.records.get(customer_id),
            self._last_seq.get(customer_id),
            self._listed_in.get(customer_id, 0),
        )

    async def _flush_doubts(self) -> None:
        settled = self._doubts_before.keys() - self.doubts.keys()
        if settled:
            await self._delete(VERIFICATIONS, settled)
        known = self._doubts_before
        raised = [doubt for key, doubt in self.doubts.items() if known.get(key) != doubt]
        await _VERIFICATIONS.run(self.connection, [row_of_doubt(self.company_id, one) for one in raised])
        if self._no_longer_held and self._holding:
            await self._delete(HELD_DELETES, self._no_longer_held)
        held = [(self.company_id, key, time_text(missing_at)) for key, missing_at in self._held.items()]
        await _HELD_DELETES.run(self.connection, held)

    async def _flush_status(self, changed: Collection[int], now: datetime) -> None:
        delta: Counter[str] = Counter()
        for customer_id in changed:
            before, after = _counted(self._before[customer_id][0]), _counted(self.records.get(customer_id))
            if before != after:
                delta.subtract(before)
                delta.update(after)
        delta["verifications_due"] = len(self.doubts) - len(self._doubts_before)
        values: dict[str, Any] = {name: STATUS.c[name] + count for name, count in delta.items() if count}
        if self._rulings:
            values["last_applied_at"] = now
        if self._last_delivery_at is not None:
            values["last_delivery_at"] = self._last_delivery_at
        if changed:
            values["oldest_verified_at"] = _OLDEST.where(
                CUSTOMERS.c.company_id == self.company_id
            ).scalar_subquery()
        if values:
            await self.connection.execute(
                update(STATUS).where(STATUS.c.company_id == self.company_id).values(values)
            )

    async def _require_mobile(self) -> None:
        """Let the customers that were read without `mobile` be partial, but for those of this batch."""
        numbers: BindParameter[str] = bindparam("numbers", json_array(self._before))
        now_partial = await self.connection.execute(
            update(CUSTOMERS)
            .where(
                CUSTOMERS.c.company_id == self.company_id,
                CUSTOMERS.c.deleted_at.is_(None),
                CUSTOMERS.c.mobile.is_(None),
                ~CUSTOMERS.c.partial,
                ~among(CUSTOMERS.c.id, numbers),
            )
            .values(partial=True)
        )
        await self.connection.execute(
            update(STATUS)
            .where(STATUS.c.company_id == self.company_id)
            .values(partial=STATUS.c.partial + now_partial.rowcount)
        )

    async def _delete(self, table: Table, customer_ids: Collection[int]) -> None:
        numbers: BindParameter[str] = bindparam("numbers", json_array(customer_ids))
        await self.connection.execute(
            delete(table).where(table.c.company_id == self.company_id, among(table.c.customer_id, numbers))
        )


def _counted(record: Record | None) -> tuple[str, ...]:
    """Name the figures of the status that the record counts for."""
    if record is None:
        return ()
    if record.deleted_at is not None:
        return ("deleted",)
    return ("live", *_VERIFIED[record.verified_at is not None], *_PARTIAL[record.partial])


_VERIFIED: Final[tuple[tuple[str, ...], ...]] = ((), ("verified",))
_PARTIAL: Final[tuple[tuple[str, ...], ...]] = ((), ("partial",))
_numbers = bindparam("numbers", type_=CUSTOMERS.c.first_name.type)
_KNOWN: Final = Lookup(
    select(CUSTOMERS).where(CUSTOMERS.c.company_id == bindparam("company"), among(CUSTOMERS.c.id, _numbers)),
    ["company", "numbers"],
)
_DOUBTS: Final = Lookup(
    select(VERIFICATIONS).where(
        VERIFICATIONS.c.company_id == bindparam("company"), among(VERIFICATIONS.c.customer_id, _numbers)
    ),
    ["company", "numbers"],
)
_OLDEST: Final = select(func.min(CUSTOMERS.c.verified_at)).where(CUSTOMERS.c.deleted_at.is_(None))
_CUSTOMERS: Final = upserting(CUSTOMERS)
_VERIFICATIONS: Final = upserting(VERIFICATIONS)
_HELD_DELETES: Final = upserting(HELD_DELETES)
