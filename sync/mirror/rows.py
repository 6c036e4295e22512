"""Records and doubts as rows, and back."""

from typing import Any

from sqlalchemy import RowMapping

from sync.merge.customers import COLUMNS
from sync.merge.doubts import Doubt, Reason
from sync.merge.records import Record
from sync.merge.snapshots import Source


def record_of(row: RowMapping) -> Record:
    """Read a row of `_customers`."""
    return Record(
        customer_id=row["id"],
        values={column: row[column] for column in COLUMNS},
        as_of=row["as_of"],
        rests_on_arrival=row["rests_on_arrival"],
        position=row["position"],
        settled_at=row["settled_at"],
        first_seen_at=row["first_seen_at"],
        first_seen_by=Source(row["first_seen_by"]),
        changed_at=row["changed_at"],
        verified_at=row["verified_at"],
        read_at=row["read_at"],
        read_as_of=row["read_as_of"],
        read_position=row["read_position"],
        partial=row["partial"],
        deleted_at=row["deleted_at"],
    )


def row_of(record: Record) -> dict[str, Any]:
    """Write a record as a row of `_customers`, less its company and what the mirror keeps beside it."""
    return {
        "id": record.customer_id,
        **_NO_VALUES,
        **record.values,
        "as_of": record.as_of,
        "rests_on_arrival": record.rests_on_arrival,
        "position": record.position,
        "settled_at": record.settled_at,
        "first_seen_at": record.first_seen_at,
        "first_seen_by": record.first_seen_by.value,
        "changed_at": record.changed_at,
        "verified_at": record.verified_at,
        "read_at": record.read_at,
        "read_as_of": record.read_as_of,
        "read_position": record.read_position,
        "partial": record.partial,
        "deleted_at": record.deleted_at,
    }


_NO_VALUES = dict.fromkeys(COLUMNS)


def doubt_of(row: RowMapping) -> Doubt:
    """Read a row of `_verifications`."""
    return Doubt(
        customer_id=row["customer_id"],
        reason=Reason(row["reason"]),
        due_at=row["due_at"],
        revision=row["revision"],
        born=row["born"],
        asked=row["asked"],
        tries=row["tries"],
        not_before=row["not_before"],
    )


def row_of_doubt(doubt: Doubt) -> dict[str, Any]:
    """Write a doubt as a row of `_verifications`, less its company."""
    return {
        "customer_id": doubt.customer_id,
        "reason": doubt.reason.value,
        "asked": doubt.asked,
        "priority": doubt.priority,
        "due_at": doubt.due_at,
        "revision": doubt.revision,
        "born": doubt.born,
        "tries": doubt.tries,
        "not_before": doubt.not_before,
    }
