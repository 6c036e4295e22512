"""The history: each change of a customer, and the state it led to until the next one."""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.merge.customers import Values, attributes_of
from sync.merge.decisions import Decision, Kind
from sync.merge.records import Record
from sync.merge.snapshots import Source
from sync.mirror.bulk import inserting, json_text, time_text, updating
from sync.mirror.rows import stored_values
from sync.mirror.schema import CHANGES


class Journal:
    """The changes of one transaction, numbered on from `seq`."""

    def __init__(self, company_id: int, seq: int) -> None:
        self.seq = seq
        self._company_id = company_id
        self._first = seq + 1
        self._changes: list[tuple[Any, ...]] = []
        self._ends: dict[int, datetime] = {}

    def note(
        self,
        known: Record | None,
        decision: Decision,
        *,
        source: Source,
        at: datetime,
        delivery_id: str | None,
        previous: int | None,
    ) -> int:
        """Note a change and give its `seq`; `previous` is that of the customer's change before it."""
        if previous is not None:
            self._ends[previous] = at
        self.seq += 1
        record = decision.record
        before, after = difference(known, decision)
        self._changes.append(
            (
                self._company_id,
                self.seq,
                record.customer_id,
                str(decision.kind),
                _attributes_text(tuple(after or before)),
                json_text(before),
                json_text(after),
                time_text(record.as_of),
                str(source),
                delivery_id,
                time_text(at),
                *stored_values(record.values),
            )
        )
        return self.seq

    async def write(self, connection: AsyncConnection) -> None:
        """Add the changes, each with the time at which the next one of its customer ended its state."""
        if not self._changes:
            return
        ends = self._ends
        rows = [
            (*change, time_text(ends.get(seq))) for seq, change in enumerate(self._changes, start=self._first)
        ]
        await _CHANGES.run(connection, rows)
        earlier = [(time_text(at), self._company_id, seq) for seq, at in ends.items() if seq < self._first]
        await _ENDS.run(connection, earlier)


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


@lru_cache(maxsize=4096)
def _attributes_text(columns: tuple[str, ...]) -> str | None:
    return json_text(attributes_of(frozenset(columns)))


def _set(values: Mapping[str, Any]) -> Values:
    return {column: value for column, value in values.items() if value is not None}


_CHANGES: Final = inserting(CHANGES)
_ENDS: Final = updating(CHANGES, "valid_to")
