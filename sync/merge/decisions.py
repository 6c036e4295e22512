"""The merge: what a snapshot does to a record. The design's table of rules, row by row.

Arrival order proves nothing and stamps are whole seconds, so a difference that cannot be ordered leaves a
doubt (a reason to read the customer) instead of a guess that nobody checks.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from sync.merge.customers import Subscription, Value, Values
from sync.merge.doubts import Reason
from sync.merge.records import Record
from sync.merge.snapshots import Snapshot, Source

_WITH_EXPONENT: Final = 1e16
"""From there on a float is written with an exponent."""
_PART_OF_ADDRESS: Final = {"primary_address": "primary_city", "shipping_address": "shipping_city"}
"""Field of an address -> a column that is carried whenever the address is."""


class Verdict(StrEnum):
    """What became of a delivery."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    STALE = "stale"
    TOMBSTONED = "tombstoned"
    CONTRADICTED = "contradicted"
    QUARANTINED = "quarantined"
    FAILED = "failed"


class Kind(StrEnum):
    """What a change of the mirror was, as `customer_changes.kind` names it."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    RESTORED = "restored"
    ERASED = "erased"


@dataclass(slots=True)
class Decision:
    """What a snapshot does: the verdict, the record from now on, the change, and the doubt it leaves."""

    verdict: Verdict
    record: Record
    kind: Kind | None = None
    """None when nothing that the history shows has changed."""
    columns: tuple[str, ...] = ()
    """Columns whose value changed."""
    doubt: Reason | None = None


def merge(
    record: Record | None, snapshot: Snapshot, subscription: Subscription, window: timedelta
) -> Decision:
    """Decide what an ordinary snapshot does: a delivery, a write, a fenced read or list item."""
    if record is None:
        return _first(snapshot, subscription)
    if record.deleted_at is not None:
        return _onto_tombstone(record, snapshot, window)
    if snapshot.deleted:
        return _deletion(record, snapshot, window)
    return _onto_live(record, snapshot, window)


def accept(record: Record | None, snapshot: Snapshot, subscription: Subscription) -> Decision:
    """Decide what an authoritative answer does (an unfenced read, a list item that covers all): it stands."""
    if record is None:
        first = _first(snapshot, subscription)
        return replace(first, record=_verified(first.record, snapshot), doubt=None)
    columns = _differing(record.values, snapshot.values)
    back = record.deleted_at is not None
    now = replace(
        _verified(record, snapshot),
        values=_overlaid(record.values, snapshot.values) if columns else record.values,
        as_of=snapshot.as_of,
        rests_on_arrival=snapshot.rests_on_arrival,
        position=snapshot.position,
        settled_at=_settled(record, snapshot),
        changed_at=snapshot.arrived_at if columns or back else record.changed_at,
        partial=False,
        deleted_at=None,
    )
    if back:
        return Decision(Verdict.APPLIED, now, Kind.RESTORED, columns)
    if columns:
        return Decision(Verdict.APPLIED, now, Kind.UPDATED, columns)
    return Decision(Verdict.UNCHANGED, now)


def accept_missing(record: Record, *, arrived_at: datetime, position: int) -> Decision:
    """Decide what a proven 404 does: a tombstone, or the confirmation of one."""
    gone = record.deleted_at is not None
    now = replace(
        record,
        as_of=arrived_at,
        rests_on_arrival=True,
        position=position,
        settled_at=max(record.settled_at, arrived_at),
        changed_at=record.changed_at if gone else arrived_at,
        deleted_at=record.deleted_at or arrived_at,
        verified_at=arrived_at,
        read_at=arrived_at,
        read_as_of=arrived_at,
        read_position=position,
    )
    if gone:
        return Decision(Verdict.UNCHANGED, now)
    return Decision(Verdict.TOMBSTONED, now, Kind.DELETED)


def accept_missing_unknown(
    customer_id: int, subscription: Subscription, *, arrived_at: datetime, position: int
) -> Decision:
    """Decide what a proven 404 does to a customer of whom only a failed delivery tells: an empty tombstone.

    Without a record nothing would fence an older picture of it that a read or a list is still bringing.
    """
    record = Record(
        customer_id=customer_id,
        values=dict.fromkeys(subscription.columns),
        as_of=arrived_at,
        rests_on_arrival=True,
        position=position,
        settled_at=arrived_at,
        first_seen_at=arrived_at,
        first_seen_by=Source.VERIFICATION,
        changed_at=arrived_at,
        verified_at=arrived_at,
        read_at=arrived_at,
        read_as_of=arrived_at,
        read_position=position,
        deleted_at=arrived_at,
    )
    return Decision(Verdict.TOMBSTONED, record, Kind.DELETED)


def compare_listed(record: Record, snapshot: Snapshot) -> Decision:
    """Decide what a list item that carries only part of the fields does: nothing, but it may leave a doubt.

    It is a word of the customer like any other: a read that began before it, or too soon after it, may
    still show what was before, and must not settle what the list has shown.
    """
    doubt = Reason.PARTIAL if record.partial else None
    if record.deleted_at is not None:
        doubt = Reason.LISTED_THOUGH_DELETED
    elif _differing(record.values, snapshot.values):
        doubt = Reason.LISTED_DIFFERENTLY
    return Decision(Verdict.UNCHANGED, heard(record, snapshot.arrived_at), doubt=doubt)


def compare_unlisted(record: Record, arrived_at: datetime, *, shows: datetime | None = None) -> Decision:
    """Decide what it does that a complete sweep did not list a customer; `arrived_at`: when it ended.

    `shows`: what was heard later than that may not have been in the list yet, so that the list says nothing
    of whether the customer is there. None: it shows everything.
    """
    doubt = None
    if record.deleted_at is None:
        doubt = Reason.UNLISTED if shows is None or record.settled_at <= shows else Reason.AMBIGUOUS
    return Decision(Verdict.UNCHANGED, heard(record, arrived_at), doubt=doubt)


def heard(record: Record, at: datetime) -> Record:
    """Remember only that something came in: a read counts once upstream has had time to show it.

    For whatever changes no record yet says something new of it, as a delivery that failed.
    """
    return replace(record, settled_at=max(record.settled_at, at))


def _first(snapshot: Snapshot, subscription: Subscription) -> Decision:
    values: Values = dict.fromkeys(subscription.columns)
    values |= snapshot.values
    record = Record(
        customer_id=snapshot.customer_id,
        values=values,
        as_of=snapshot.as_of,
        rests_on_arrival=snapshot.rests_on_arrival,
        position=snapshot.position,
        settled_at=max(snapshot.as_of, snapshot.arrived_at),
        first_seen_at=snapshot.arrived_at,
        first_seen_by=snapshot.source,
        changed_at=snapshot.arrived_at,
        partial=not snapshot.complete,
        deleted_at=snapshot.arrived_at if snapshot.deleted else None,
    )
    if snapshot.deleted:
        return Decision(Verdict.TOMBSTONED, record, Kind.DELETED, (), Reason.CONFIRMATION)
    doubt = Reason.CONFIRMATION if snapshot.complete else Reason.PARTIAL
    columns = tuple(column for column, value in values.items() if value is not None)
    return Decision(Verdict.APPLIED, record, Kind.CREATED, columns, doubt)


def _verified(record: Record, snapshot: Snapshot) -> Record:
    return replace(
        record,
        verified_at=snapshot.arrived_at,
        read_at=snapshot.arrived_at,
        read_as_of=snapshot.as_of,
        read_position=snapshot.position,
    )


def _onto_live(record: Record, snapshot: Snapshot, window: timedelta) -> Decision:
    columns = _differing(record.values, snapshot.values)
    fills = record.partial and snapshot.complete
    if not columns:
        now = _advanced(record, snapshot) if snapshot.complete else _heard(record, snapshot)
        return Decision(Verdict.UNCHANGED, replace(now, partial=False) if fills else now)
    if fills and all(record.values[column] is None for column in columns):
        return _applied(record, snapshot, columns, Reason.CONFIRMATION)
    ambiguous = _ambiguous(record, snapshot, window)
    if _later(record, snapshot) and not _known_to_read(record, snapshot):
        doubt = Reason.AMBIGUOUS if ambiguous else Reason.CONFIRMATION
        return _applied(record, snapshot, columns, doubt)
    doubt = Reason.AMBIGUOUS if ambiguous else Reason.STALE
    return Decision(Verdict.STALE, _heard(record, snapshot), doubt=doubt)


def _deletion(record: Record, snapshot: Snapshot, window: timedelta) -> Decision:
    ambiguous = _ambiguous(record, snapshot, window)
    overtaken = record.read_as_of is not None and snapshot.as_of < record.read_as_of
    if _known_to_read(record, snapshot) or (overtaken and not ambiguous):
        return Decision(Verdict.STALE, _heard(record, snapshot), doubt=Reason.STALE)
    doubt = Reason.AMBIGUOUS if ambiguous else Reason.CONFIRMATION
    if not ambiguous and record.as_of > snapshot.as_of:
        doubt = Reason.CONTRADICTED
    now = _advanced(
        record,
        snapshot,
        values=_later_values(record, snapshot),
        changed_at=snapshot.arrived_at,
        verified_at=None,
        deleted_at=snapshot.arrived_at,
    )
    return Decision(Verdict.TOMBSTONED, now, Kind.DELETED, (), doubt)


def _onto_tombstone(record: Record, snapshot: Snapshot, window: timedelta) -> Decision:
    if snapshot.deleted:
        now = replace(_advanced(record, snapshot), values=_later_values(record, snapshot))
        differs = _ambiguous(record, snapshot, window) and _differing(record.values, snapshot.values)
        return Decision(Verdict.UNCHANGED, now, doubt=Reason.AMBIGUOUS if differs else None)
    if _known_to_read(record, snapshot):
        return Decision(Verdict.STALE, _heard(record, snapshot), doubt=Reason.STALE)
    rests_on_arrival = record.rests_on_arrival or snapshot.rests_on_arrival
    if not rests_on_arrival and record.as_of - snapshot.as_of > window:
        return Decision(Verdict.STALE, _heard(record, snapshot), doubt=Reason.STALE)
    return Decision(Verdict.CONTRADICTED, _heard(record, snapshot), doubt=Reason.CONTRADICTED)


def _applied(record: Record, snapshot: Snapshot, columns: tuple[str, ...], doubt: Reason) -> Decision:
    now = _advanced(
        record,
        snapshot,
        values=_overlaid(record.values, snapshot.values),
        changed_at=snapshot.arrived_at,
        verified_at=None,
        partial=record.partial and not snapshot.complete,
    )
    return Decision(Verdict.APPLIED, now, Kind.UPDATED, columns, doubt)


def _overlaid(values: Values, carried: Values) -> Values:
    """Put `carried` over `values`. Unknown fields are overlaid one by one: an absent one says nothing.

    Only those of an address go with it: an address is carried whole or not at all.
    """
    overlaid = {**values, **carried}
    gone = _gone_with_addresses(values, carried)
    if gone or "other" in carried:
        kept = {name: value for name, value in _fields(values.get("other")).items() if name not in gone}
        overlaid["other"] = {**kept, **_fields(carried.get("other"))} or None
    return overlaid


def _differing(values: Values, carried: Values) -> tuple[str, ...]:
    """Name the columns in which `carried` says something else."""
    columns = [name for name, value in carried.items() if values.get(name) != value and name != "other"]
    if _gone_with_addresses(values, carried) or (
        "other" in carried and _other_differs(values.get("other"), carried["other"])
    ):
        columns.append("other")
    return tuple(columns)


def _gone_with_addresses(values: Values, carried: Values) -> list[str]:
    """Name the addresses whose unknown fields are known, and which `carried` has without any."""
    known = values.get("other")
    if not isinstance(known, dict):
        return []
    fields = _fields(carried.get("other"))
    return [
        name
        for name, part in _PART_OF_ADDRESS.items()
        if name in known and part in carried and name not in fields
    ]


def _other_differs(known: Value, carried: Value) -> bool:
    fields = _fields(known)
    return any(
        name not in fields or _canonical(fields[name]) != _canonical(value)
        for name, value in _fields(carried).items()
    )


def _canonical(value: object) -> str:
    return json.dumps(_stored(value), sort_keys=True)  # 1 and true are equal in Python, not in JSON


def _stored(value: object) -> object:
    """Give a value of JSON as PostgreSQL gives it back: 1e16 with all its digits, zero without a sign."""
    if isinstance(value, dict):
        return {name: _stored(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_stored(one) for one in value]
    if isinstance(value, float) and abs(value) >= _WITH_EXPONENT:
        return int(Decimal(repr(value)))
    return abs(value) if value == 0 and isinstance(value, float) else value


def _fields(value: Value) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _ambiguous(record: Record, snapshot: Snapshot, window: timedelta) -> bool:
    return (
        record.rests_on_arrival or snapshot.rests_on_arrival or abs(record.as_of - snapshot.as_of) <= window
    )


def _later(record: Record, snapshot: Snapshot) -> bool:
    return (snapshot.as_of, snapshot.position) > (record.as_of, record.position)


def _later_values(record: Record, snapshot: Snapshot) -> Values:
    return _overlaid(record.values, snapshot.values) if _later(record, snapshot) else record.values


def _known_to_read(record: Record, snapshot: Snapshot) -> bool:
    """Say whether it had been applied before the last authoritative read began: then it never overrides."""
    return 0 < snapshot.position <= record.read_position


def _settled(record: Record, snapshot: Snapshot) -> datetime:
    return max(record.settled_at, snapshot.as_of, snapshot.arrived_at)


def _heard(record: Record, snapshot: Snapshot) -> Record:
    return heard(record, _settled(record, snapshot))


def _advanced(record: Record, snapshot: Snapshot, **also: Any) -> Record:
    settled_at = _settled(record, snapshot)
    if not _later(record, snapshot):
        return replace(record, settled_at=settled_at, **also)
    return replace(
        record,
        as_of=snapshot.as_of,
        rests_on_arrival=snapshot.rests_on_arrival,
        position=snapshot.position,
        settled_at=settled_at,
        **also,
    )
