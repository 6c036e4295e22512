"""One transaction of the mirror: what is known of the customers it touches, and all that it writes of them.

Whatever changes a customer (a delivery, a read, a page of a sweep) goes through here, so that the row, its
history, its doubt, the verdict and the position are written together or not at all.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Table, bindparam, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from receiver.database import utc_text
from sync.merge.customers import COLUMNS, Values, attributes_of
from sync.merge.decisions import Decision, Kind, Verdict
from sync.merge.doubts import Doubt, Reason, Timing, put_off, raise_doubt
from sync.merge.records import Record
from sync.merge.snapshots import Source
from sync.mirror.rows import doubt_of, record_of, row_of, row_of_doubt
from sync.mirror.schema import (
    CHANGES,
    CUSTOMERS,
    HELD_DELETES,
    PAST_VERDICTS,
    PROGRESS,
    STATUS,
    VERDICT_COUNTS,
    VERDICTS,
    VERIFICATIONS,
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the mirror of a company has come; stored in the transaction that made it true."""

    inbox_id: str | None = None
    position: int = 0
    """Deliveries up to this position of the inbox have their verdict."""
    missing: int = 0
    """Deliveries that the inbox had lost before they were read."""
    seq: int = 0
    """The newest change of the feed."""
    revision: int = 0
    """The newest doubt."""
    last_call_at: datetime | None = None
    closed_until: datetime | None = None
    upstream_failure: str | None = None
    upstream_failure_since: datetime | None = None
    ruled_elsewhere: int = 0
    """Verdicts of deliveries of earlier inboxes."""
    sweep_due: str | None = None
    """Why a sweep is due beside the schedule; None when it is not."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """A delivery's verdict, as `delivery_verdicts` shows it."""

    delivery_id: str
    topic: str
    verdict: Verdict
    received_at: datetime
    applied_at: datetime
    customer_id: int | None = None
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Give it as commands print it; times are ISO 8601 in UTC."""
        return {
            "delivery_id": self.delivery_id,
            "topic": self.topic,
            "customer_id": self.customer_id,
            "verdict": str(self.verdict),
            "reason": self.reason,
            "received_at": utc_text(self.received_at),
            "applied_at": utc_text(self.applied_at),
        }


class Batch:
    """What one transaction reads first and writes last; between them the customers are changed in memory."""

    def __init__(self, connection: AsyncConnection, company_id: int, progress: Progress) -> None:
        self.connection = connection
        self.progress = progress
        self.records: dict[int, Record] = {}
        self.doubts: dict[int, Doubt] = {}
        self.company_id = company_id
        self._before: dict[int, tuple[Record | None, int | None, int]] = {}
        self._doubts_before: dict[int, Doubt] = {}
        self._last_seq: dict[int, int | None] = {}
        self._listed_in: dict[int, int] = {}
        self._changes: list[dict[str, Any]] = []
        self._ended: list[dict[str, Any]] = []
        self._rulings: list[Ruling] = []
        self._no_longer_held: set[int] = set()
        self._held: dict[int, datetime] = {}

    async def load(self, customer_ids: Collection[int]) -> None:
        """Read what is known of these customers."""
        ids = sorted(set(customer_ids) - self._before.keys())
        if not ids:
            return
        rows = await self.connection.execute(
            select(CUSTOMERS).where(CUSTOMERS.c.company_id == self.company_id, CUSTOMERS.c.id.in_(ids))
        )
        self._before |= dict.fromkeys(ids, (None, None, 0))
        for row in rows.mappings():
            record = record_of(row)
            self._before[record.customer_id] = (record, row["last_seq"], row["listed_in"])
            self.records[record.customer_id] = record
            self._last_seq[record.customer_id] = row["last_seq"]
            self._listed_in[record.customer_id] = row["listed_in"]
        doubts = await self.connection.execute(
            select(VERIFICATIONS).where(
                VERIFICATIONS.c.company_id == self.company_id, VERIFICATIONS.c.customer_id.in_(ids)
            )
        )
        for row in doubts.mappings():
            doubt = doubt_of(row)
            self.doubts[doubt.customer_id] = self._doubts_before[doubt.customer_id] = doubt

    def decide(
        self, decision: Decision, *, source: Source, at: datetime, delivery_id: str | None = None
    ) -> None:
        """Take over what the merge decided: the record, and the change if there is one."""
        record = decision.record
        known = self.records.get(record.customer_id)
        self.records[record.customer_id] = record
        if decision.kind is not None:
            self._record_change(known, decision, source, at, delivery_id)

    def doubt(self, customer_id: int, reason: Reason, due_at: datetime, *, asked: bool = False) -> None:
        """Ask for a read of this customer. Whatever it was held for is in doubt again, too."""
        self.progress = replace(self.progress, revision=self.progress.revision + 1)
        self.doubts[customer_id] = raise_doubt(
            self.doubts.get(customer_id), customer_id, reason, due_at, self.progress.revision, asked=asked
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
        self._held[customer_id] = missing_at

    def listed(self, customer_id: int, sweep_id: int) -> None:
        """Note that the sweep has met this customer."""
        self._listed_in[customer_id] = sweep_id

    def rule(self, ruling: Ruling) -> None:
        """Give a delivery its verdict."""
        self._rulings.append(ruling)

    async def flush(self, now: datetime) -> None:
        """Write everything, in a handful of statements however many customers there are."""
        changed = [key for key, before in self._before.items() if self._after(key) != before]
        if changed:
            await self._upsert(CUSTOMERS, [self._customer_row(key) for key in changed])
        if self._changes:
            await self.connection.execute(insert(CHANGES), self._changes)
        if self._ended:
            await self.connection.execute(_END_OF_STATE, self._ended)
        await self._flush_rulings()
        await self._flush_doubts()
        await self._flush_status(changed, now)
        await self.connection.execute(
            update(PROGRESS)
            .where(PROGRESS.c.company_id == self.company_id)
            .values({name: getattr(self.progress, name) for name in Progress.__slots__})
        )

    def _after(self, customer_id: int) -> tuple[Record | None, int | None, int]:
        return (
            self.records.get(customer_id),
            self._last_seq.get(customer_id),
            self._listed_in.get(customer_id, 0),
        )

    def _customer_row(self, customer_id: int) -> dict[str, Any]:
        return {
            "company_id": self.company_id,
            **row_of(self.records[customer_id]),
            "last_seq": self._last_seq.get(customer_id),
            "listed_in": self._listed_in.get(customer_id, 0),
        }

    def _record_change(
        self,
        known: Record | None,
        decision: Decision,
        source: Source,
        at: datetime,
        delivery_id: str | None,
    ) -> None:
        record = decision.record
        seq = self.progress.seq + 1
        self.progress = replace(self.progress, seq=seq)
        previous = self._last_seq.get(record.customer_id)
        if previous is not None:
            self._end_state(previous, at)
        self._last_seq[record.customer_id] = seq
        before, after = difference(known, decision)
        self._changes.append(
            {
                "company_id": self.company_id,
                "seq": seq,
                "customer_id": record.customer_id,
                "kind": decision.kind.value if decision.kind else None,
                "attributes": attributes_of(before.keys() | after.keys()),
                "before": before,
                "after": after,
                "as_of": record.as_of,
                "source": source.value,
                "delivery_id": delivery_id,
                "applied_at": at,
                **_NO_STATE,
                **record.values,
                "valid_to": None,
            }
        )

    def _end_state(self, seq: int, at: datetime) -> None:
        first = self.progress.seq - len(self._changes)  # the new change is not in the list yet
        if seq >= first:
            self._changes[seq - first]["valid_to"] = at
        else:
            self._ended.append({"of_company": self.company_id, "of_seq": seq, "ended_at": at})

    async def _flush_rulings(self) -> None:
        if not self._rulings:
            return
        names = [ruling.delivery_id for ruling in self._rulings]
        given = await self.connection.execute(
            select(VERDICTS).where(
                VERDICTS.c.company_id == self.company_id, VERDICTS.c.delivery_id.in_(names)
            )
        )
        counts: Counter[str] = Counter(ruling.verdict.value for ruling in self._rulings)
        past = []
        replaced_at = {ruling.delivery_id: ruling.applied_at for ruling in self._rulings}
        for row in given.mappings():
            counts[row["verdict"]] -= 1
            kept = {
                name: row[name] for name in ("company_id", "delivery_id", "verdict", "reason", "applied_at")
            }
            past.append({**kept, "replaced_at": replaced_at[row["delivery_id"]]})
        if past:
            await self.connection.execute(insert(PAST_VERDICTS).on_conflict_do_nothing(), past)
        await self._upsert(
            VERDICTS,
            [
                {
                    "company_id": self.company_id,
                    "delivery_id": ruling.delivery_id,
                    "customer_id": ruling.customer_id,
                    "topic": ruling.topic,
                    "verdict": ruling.verdict.value,
                    "reason": ruling.reason,
                    "received_at": ruling.received_at,
                    "applied_at": ruling.applied_at,
                }
                for ruling in self._rulings
            ],
        )
        adding = insert(VERDICT_COUNTS)
        await self.connection.execute(
            adding.on_conflict_do_update(
                index_elements=["company_id", "verdict"],
                set_={"count": VERDICT_COUNTS.c.count + adding.excluded.count},
            ),
            [
                {"company_id": self.company_id, "verdict": verdict, "count": count}
                for verdict, count in counts.items()
                if count
            ],
        )

    async def _flush_doubts(self) -> None:
        settled = self._doubts_before.keys() - self.doubts.keys()
        if settled:
            await self._delete(VERIFICATIONS, settled)
        raised = [doubt for key, doubt in self.doubts.items() if self._doubts_before.get(key) != doubt]
        if raised:
            rows = [{"company_id": self.company_id, **row_of_doubt(doubt)} for doubt in raised]
            await self._upsert(VERIFICATIONS, rows)
        if self._no_longer_held:
            await self._delete(HELD_DELETES, self._no_longer_held)
        if self._held:
            await self._upsert(
                HELD_DELETES,
                [
                    {"company_id": self.company_id, "customer_id": customer_id, "missing_at": missing_at}
                    for customer_id, missing_at in self._held.items()
                ],
            )

    async def _flush_status(self, changed: Collection[int], now: datetime) -> None:
        delta: Counter[str] = Counter()
        for customer_id in changed:
            delta.subtract(_counted(self._before[customer_id][0]))
            delta.update(_counted(self.records.get(customer_id)))
        delta["verifications_due"] = len(self.doubts) - len(self._doubts_before)
        values: dict[str, Any] = {name: STATUS.c[name] + count for name, count in delta.items() if count}
        if self._rulings:
            values["last_applied_at"] = now
            values["last_delivery_at"] = max(ruling.received_at for ruling in self._rulings)
        if changed:
            values["oldest_verified_at"] = (
                select(func.min(CUSTOMERS.c.verified_at))
                .where(CUSTOMERS.c.company_id == self.company_id, CUSTOMERS.c.deleted_at.is_(None))
                .scalar_subquery()
            )
        if values:
            await self.connection.execute(
                update(STATUS).where(STATUS.c.company_id == self.company_id).values(values)
            )

    async def _upsert(self, table: Table, rows: list[dict[str, Any]]) -> None:
        statement = insert(table)
        keys = [column.name for column in table.primary_key]
        await self.connection.execute(
            statement.on_conflict_do_update(
                index_elements=keys,
                set_={name: statement.excluded[name] for name in rows[0] if name not in keys},
            ),
            rows,
        )

    async def _delete(self, table: Table, customer_ids: Collection[int]) -> None:
        await self.connection.execute(
            delete(table).where(
                table.c.company_id == self.company_id, table.c.customer_id.in_(sorted(customer_ids))
            )
        )


def difference(known: Record | None, decision: Decision) -> tuple[Values, Values]:
    """Give the changed fields before and after, as the feed shows them: a tombstone has no fields."""
    values = decision.record.values
    if decision.kind is Kind.DELETED:
        return (_set(known.values) if known is not None else {}), {}
    if decision.kind in {Kind.CREATED, Kind.RESTORED} or known is None:
        return {}, _set(values)
    return (
        {column: known.values.get(column) for column in decision.columns},
        {column: values.get(column) for column in decision.columns},
    )


def _set(values: Mapping[str, Any]) -> Values:
    return {column: value for column, value in values.items() if value is not None}


def _counted(record: Record | None) -> dict[str, int]:
    if record is None:
        return {}
    if record.deleted_at is not None:
        return {"deleted": 1}
    return {"live": 1, "verified": int(record.verified_at is not None), "partial": int(record.partial)}


_NO_STATE = dict.fromkeys(COLUMNS)
_END_OF_STATE = (
    update(CHANGES)
    .where(CHANGES.c.company_id == bindparam("of_company"), CHANGES.c.seq == bindparam("of_seq"))
    .values(valid_to=bindparam("ended_at"))
)
