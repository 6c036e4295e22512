"""One transaction of the mirror: what is known of the customers it touches, and all that it writes of them.

Whatever changes a customer (a delivery, a read, a page of a sweep) goes through here, so that the row, its
history, its doubt, the verdict and the position are written together or not at all.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import BindParameter, Table, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.merge.contested import brought_back as record_brought_back
from sync.merge.decisions import Decision, is_change
from sync.merge.doubts import (
    MOST_FAILURES,
    Doubt,
    Reason,
    Timing,
    brought_back,
    note_other,
    put_off,
    raise_doubt,
)
from sync.merge.records import Record
from sync.merge.snapshots import Source
from sync.mirror.bulk import Lookup, among, json_array, time_text, upserting
from sync.mirror.counts import Counted, add_counts
from sync.mirror.erased import BODIES, erased_among
from sync.mirror.history import Journal
from sync.mirror.losses import note_lost
from sync.mirror.marks import Marker
from sync.mirror.progress import Progress
from sync.mirror.rows import doubt_of, moment_of, record_of, row_of, row_of_doubt
from sync.mirror.schema import CUSTOMERS, HELD_DELETES, PROGRESS, STATUS, VERIFICATIONS
from sync.mirror.verdicts import Ruling, have_verdict, write_rulings

LONGEST_FAILURE: Final = 500
"""Characters that are kept of why a read failed."""


class Held(NamedTuple):
    """A deletion that is held: when the customer was missing, and why a person has to decide, if so."""

    missing_at: datetime
    why: str | None


class Batch:
    """What one transaction reads first and writes last; between them the customers are changed in memory."""

    def __init__(
        self,
        connection: AsyncConnection,
        company_id: int,
        progress: Progress,
        *,
        holding: bool,
        now: datetime,
        keeping_out: Marker | None = None,
    ) -> None:
        """Begin with what is stored at the moment `now`; `holding`: whether any deletion is held.

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
        self._now = now
        self._losses: list[str | None] = []
        self._holding = holding
        self.held: dict[int, Held] = {}
        """Of the customers that were looked at, those whose deletion was held when this began."""
        self._held: dict[int, Held] = {}
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
            self.records[record.customer_id] = record_brought_back(record, self._now)
            self._last_seq[record.customer_id] = last_seq
            self._listed_in[record.customer_id] = listed_in
        for row in await _DOUBTS.rows(self.connection, self.company_id, numbers):
            doubt = doubt_of(row)
            self.doubts[doubt.customer_id] = self._doubts_before[doubt.customer_id] = doubt
        if self._holding:
            for customer_id, missing_at, why in await _HELD.rows(self.connection, self.company_id, numbers):
                self.held[customer_id] = Held(moment_of(missing_at), why)

    def bring_back_times(self, timing: Timing) -> None:
        """Set times of doubts that a clock ahead of ours has set to now, as `load` does of records."""
        for customer_id, doubt in self.doubts.items():
            self.doubts[customer_id] = brought_back(doubt, self._now, timing)

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

    def doubt_instead(self, customer_id: int, reason: Reason, due_at: datetime) -> None:
        """Ask for a read for this reason, which says more than all before: only failures are remembered."""
        known = self.doubts.pop(customer_id, None)
        self.doubt(customer_id, reason, due_at)
        if known is None or customer_id not in self.doubts:
            return
        doubt = replace(
            self.doubts[customer_id],
            failures=known.failures,
            failure=known.failure,
            other_first_at=known.other_first_at,
            other_again_at=known.other_again_at,
        )
        if known.is_problem and known.reason is not Reason.STILL_LISTED:
            doubt = replace(doubt, tries=known.tries, not_before=known.not_before)
        self.doubts[customer_id] = doubt

    def put_off(
        self,
        customer_id: int,
        now: datetime,
        timing: Timing,
        *,
        asked: bool,
        failure: str | None = None,
        is_answered: bool = True,
    ) -> None:
        """Keep the doubt after a read that settled nothing; `asked`: a person still waits for it.

        `failure` and `is_answered` are those of `sync.merge.doubts.put_off`. A customer whose reads have
        failed too often is not verified any more.
        """
        doubt = self.doubts.get(customer_id)
        if doubt is None:
            return
        why = None if failure is None else failure[:LONGEST_FAILURE]
        waiting = put_off(doubt, now, timing, why, is_answered=is_answered)
        self.doubts[customer_id] = replace(waiting, asked=asked and doubt.asked)
        record = self.records.get(customer_id)
        if waiting.is_problem and record is not None and record.verified_at is not None:
            self.records[customer_id] = replace(record, verified_at=None)

    def make_problem(
        self,
        customer_id: int,
        reason: Reason,
        why: str,
        now: datetime,
        timing: Timing,
        *,
        asked: bool = False,
    ) -> None:
        """Let a person know at once that this customer cannot be read, and try again as for any problem."""
        if customer_id in self.erased:
            return
        self.doubt(customer_id, reason, now)
        doubt = self.doubts[customer_id]
        least = MOST_FAILURES - 1
        self.doubts[customer_id] = replace(
            doubt, failures=max(doubt.failures, least), tries=max(doubt.tries, least)
        )
        self.put_off(customer_id, now, timing, asked=asked, failure=why)

    def note_other(self, customer_id: int, began_at: datetime, answered_at: datetime, timing: Timing) -> None:
        """Note that a read of this customer answered another one."""
        doubt = self.doubts.get(customer_id)
        if doubt is not None:
            self.doubts[customer_id] = note_other(doubt, began_at, answered_at, timing)

    def remember_other(self, customer_id: int, moment: datetime) -> None:
        """Remember in the doubt that reads had answered another customer twice until this moment."""
        doubt = self.doubts.get(customer_id)
        if doubt is not None:
            self.doubts[customer_id] = replace(doubt, other_first_at=moment, other_again_at=moment)

    def hold_delete(self, customer_id: int, missing_at: datetime, why: str | None = None) -> None:
        """Gather a customer that upstream says is gone, in place of its doubt.

        `why`: what else it says, so that a person has to decide; None: it answered 404, or what is as good.
        """
        self.doubts.pop(customer_id, None)
        if customer_id not in self.erased:
            self._held[customer_id] = Held(missing_at, why)

    def lose(self, digest: str | None) -> None:
        """Note that a delivery was lost that names no customer; `digest` as `note_lost` takes it."""
        self._losses.append(digest)

    def listed_in(self, customer_id: int) -> int:
        """Return the newest sweep that has met this customer; 0: none has."""
        return self._listed_in.get(customer_id, 0)

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
        lost = bool(self._losses) and await note_lost(self.connection, self.company_id, self._losses, now)
        self.progress = replace(
            self.progress,
            lost_at=now if lost else self.progress.lost_at,
            position=self.position,
            seq=self._journal.seq,
            revision=self._revision,
            mobile_read=self._mobile_read,
            ruled_elsewhere=self.progress.ruled_elsewhere - self._recognised,
        )
        names = ("position", "seq", "revision", "ruled_elsewhere", "mobile_read", "lost_at")
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
        held = [(self.company_id, key, time_text(one.missing_at), one.why) for key, one in self._held.items()]
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
_HELD: Final = Lookup(
    select(HELD_DELETES.c.customer_id, HELD_DELETES.c.missing_at, HELD_DELETES.c.why).where(
        HELD_DELETES.c.company_id == bindparam("company"), among(HELD_DELETES.c.customer_id, _numbers)
    ),
    ["company", "numbers"],
)
_OLDEST: Final = select(func.min(CUSTOMERS.c.verified_at)).where(CUSTOMERS.c.deleted_at.is_(None))
_CUSTOMERS: Final = upserting(CUSTOMERS)
_VERIFICATIONS: Final = upserting(VERIFICATIONS)
_HELD_DELETES: Final = upserting(HELD_DELETES)
