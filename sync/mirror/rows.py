"""Records and doubts as rows, and back: tuples in the order of the table's columns."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sync.merge.customers import COLUMNS, Values
from sync.merge.doubts import Doubt, Reason
from sync.merge.records import Record
from sync.merge.snapshots import Source
from sync.mirror.bulk import json_text, time_text

_NAMES: Final = tuple(COLUMNS)
_PLACES: Final = tuple(enumerate(_NAMES))
_JSON: Final = tuple(name in {"tags", "other"} for name in _NAMES)
_BOOLEAN: Final = _NAMES.index("accepts_marketing")
_TAGS: Final = _NAMES.index("tags")
_OTHER: Final = _NAMES.index("other")
_META: Final = 2 + len(_NAMES)

_SOURCES: Final = {source.value: source for source in Source}
_REASONS: Final = {reason.value: reason for reason in Reason}


def stored_values(values: Values) -> list[Any]:
    """Write the values of a customer's columns; what is not kept is NULL."""
    row: list[Any] = list(map(values.get, _NAMES))
    row[_TAGS] = json_text(row[_TAGS])
    row[_OTHER] = json_text(row[_OTHER])
    return row


def row_of(company_id: int, record: Record, last_seq: int | None, listed_in: int) -> tuple[Any, ...]:
    """Write a record as a row of `_customers`."""
    return (
        company_id,
        record.customer_id,
        *stored_values(record.values),
        time_text(record.as_of),
        time_text(record.first_seen_at),
        str(record.first_seen_by),
        time_text(record.changed_at),
        time_text(record.verified_at),
        record.partial,
        time_text(record.deleted_at),
        record.rests_on_arrival,
        record.position,
        time_text(record.settled_at),
        time_text(record.read_at),
        time_text(record.read_as_of),
        record.read_position,
        last_seq,
        listed_in,
        json_text(record.unread or None),
    )


def record_of(row: Sequence[Any]) -> tuple[Record, int | None, int]:
    """Read a row of `_customers` as the driver gives it: the record, `last_seq` and `listed_in`."""
    values: Values = dict(zip(_NAMES, row[2:_META], strict=True))
    if values["accepts_marketing"] is not None:
        values["accepts_marketing"] = bool(values["accepts_marketing"])
    values["tags"] = _json(values["tags"])
    values["other"] = _json(values["other"])
    (
        as_of,
        first_seen_at,
        first_seen_by,
        changed_at,
        verified_at,
        partial,
        deleted_at,
        rests_on_arrival,
        position,
        settled_at,
        read_at,
        read_as_of,
        read_position,
        last_seq,
        listed_in,
        unread,
    ) = row[_META:]
    record = Record(
        customer_id=row[1],
        values=values,
        as_of=moment_of(as_of),
        rests_on_arrival=bool(rests_on_arrival),
        position=position,
        settled_at=moment_of(settled_at),
        first_seen_at=moment_of(first_seen_at),
        first_seen_by=_SOURCES[first_seen_by],
        changed_at=moment_of(changed_at),
        verified_at=_time(verified_at),
        read_at=_time(read_at),
        read_as_of=_time(read_as_of),
        read_position=read_position,
        partial=bool(partial),
        deleted_at=_time(deleted_at),
        unread=_json(unread) or {},
    )
    return record, last_seq, listed_in


def row_of_doubt(company_id: int, doubt: Doubt) -> tuple[Any, ...]:
    """Write a doubt as a row of `_verifications`."""
    return (
        company_id,
        doubt.customer_id,
        str(doubt.reason),
        doubt.asked,
        doubt.priority,
        time_text(doubt.due_at),
        doubt.revision,
        doubt.born,
        doubt.tries,
        time_text(doubt.not_before),
        doubt.failures,
        doubt.failure,
        time_text(doubt.other_first_at),
        time_text(doubt.other_again_at),
    )


def doubt_of(row: Sequence[Any]) -> Doubt:
    """Read a row of `_verifications` as the driver gives it."""
    (
        _,
        customer_id,
        reason,
        asked,
        _,
        due_at,
        revision,
        born,
        tries,
        not_before,
        failures,
        failure,
        *others,
    ) = row
    return Doubt(
        customer_id=customer_id,
        reason=_REASONS[reason],
        due_at=moment_of(due_at),
        revision=revision,
        born=born,
        asked=bool(asked),
        tries=tries,
        not_before=_time(not_before),
        failures=failures,
        failure=failure,
        other_first_at=_time(others[0]),
        other_again_at=_time(others[1]),
    )


def _time(stored: str | datetime | None) -> datetime | None:
    return None if stored is None else moment_of(stored)


def moment_of(stored: str | datetime) -> datetime:
    """Read a time: SQLite's drivers give text, PostgreSQL's a datetime in the zone of its session."""
    return datetime.fromisoformat(stored) if isinstance(stored, str) else stored.astimezone(UTC)


def _json(stored: Any) -> Any:
    """Read a JSON array or object: SQLite's drivers give text, PostgreSQL's has read it."""
    return json.loads(stored) if isinstance(stored, str) else stored
