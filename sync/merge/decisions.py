"""The merge: what a snapshot does to a record. The design's table of rules, row by row.

Arrival order proves nothing and stamps are whole seconds, so a difference that cannot be ordered leaves a
doubt (a reason to read the customer) instead of a guess that nobody checks.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sync.merge.customers import COLUMNS, OTHER, Subscription, Values
from sync.merge.differences import (
    come_unread,
    comparable,
    differing,
    is_unknown,
    may_be_unknown,
    overlaid,
    still_unread,
    understood,
    unread_otherwise,
    without_news,
)
from sync.merge.doubts import Reason
from sync.merge.records import Record
from sync.merge.snapshots import Snapshot, Source


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


def is_change(decision: Decision, known: Record | None) -> bool:
    """Whether something changed at upstream, as far as it can be known.

    What could not be read before or cannot be read now is no change, nor are unknown fields alone.
    """
    return decision.kind is not None and (
        decision.kind is not Kind.UPDATED or bool(changed_columns(decision, known))
    )


def changed_columns(decision: Decision, known: Record | None) -> tuple[str, ...]:
    """Return the columns that changed at upstream, as far as it can be known (see `is_change`)."""
    unread = decision.record.unread
    return tuple(
        name
        for name in decision.columns
        if name != OTHER and name not in unread and (known is None or not may_be_unknown(known, name))
    )


def merge(
    record: Record | None, snapshot: Snapshot, subscription: Subscription, window: timedelta
) -> Decision:
    """Decide what an ordinary snapshot does: a delivery, a write, a fenced read or list item.

    What it cannot be read in is a value like any other, only one that is not known: the column is None, and
    a snapshot with another one, or with a readable value, differs from it.
    """
    if record is None:
        return _first(snapshot, subscription)
    snapshot = understood(record, snapshot)
    if record.deleted_at is not None:
        return _onto_tombstone(record, snapshot, window)
    if snapshot.deleted:
        return _deletion(record, snapshot, window)
    return _onto_live(record, snapshot, window)


def accept(record: Record | None, snapshot: Snapshot, subscription: Subscription) -> Decision:
    """Decide what an authoritative answer does (an unfenced read, a list item that covers all): it stands.

    It proves only what it carries. What it lacks is None from now on, never the old value, and the record is
    partial, unless nothing that it should carry is missing.
    """
    if record is None:
        first = _first(snapshot, subscription)
        proven = replace(_verified(first.record, snapshot), unread=snapshot.unread)
        return replace(first, record=proven, doubt=None)
    snapshot = understood(record, snapshot)
    gone = {name: None for name in subscription.columns if name not in snapshot.values and name != "other"}
    carried = {**gone, **snapshot.values} if gone else snapshot.values
    columns = differing(record.values, carried, snapshot.unread)
    back = record.deleted_at is not None
    now = replace(
        _verified(record, snapshot),
        values=overlaid(record.values, carried, snapshot.unread) if columns else record.values,
        unread=snapshot.unread,
        as_of=snapshot.as_of,
        rests_on_arrival=snapshot.rests_on_arrival,
        position=snapshot.position,
        settled_at=_settled(record, snapshot),
        changed_at=snapshot.arrived_at if columns or back else record.changed_at,
        partial=not snapshot.complete,
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


def compare_listed(record: Record, snapshot: Snapshot, *, none_is_empty: bool = False) -> Decision:
    """Decide what a list item that carries only part of the fields does: nothing, but it may leave a doubt.

    It is a word of the customer like any other: a read that began before it, or too soon after it, may
    still show what was before, and must not settle what the list has shown. What either of them could not be
    read in is not compared, and a record that a read has left partial leaves no doubt: every sweep would ask
    for a read that says no more than the last one. The refresh reads it again. So it would for an unknown
    field that lists alone carry: of those, the ones are compared that the record has. `none_is_empty`: this
    upstream's lists do not tell none from "".
    """
    doubt = Reason.PARTIAL if record.partial and record.verified_at is None else None
    if record.deleted_at is not None:
        doubt = Reason.LISTED_THOUGH_DELETED
    else:
        carried = comparable(record, understood(record, snapshot))
        if differing(record.values, without_news(record, carried, none_is_empty=none_is_empty)):
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
        unread=come_unread(snapshot),
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
    columns = differing(record.values, snapshot.values, snapshot.unread)
    fills = record.partial and snapshot.complete
    otherwise = unread_otherwise(record, snapshot)
    if not columns and not otherwise:
        now = _advanced(record, snapshot)
        if snapshot.complete:
            return Decision(Verdict.UNCHANGED, replace(now, **_overlay(record, snapshot)) if fills else now)
        # what it does not say may be what it was sent for
        return Decision(Verdict.UNCHANGED, now, doubt=Reason.CONFIRMATION)
    known = _known_to_read(record, snapshot)
    if fills and not known and not otherwise and all(is_unknown(record, column) for column in columns):
        return _applied(record, snapshot, columns, Reason.CONFIRMATION)
    ambiguous = _ambiguous(record, snapshot, window)
    if _later(record, snapshot) and not known:
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
        **_later_values(record, snapshot),
        changed_at=snapshot.arrived_at,
        verified_at=None,
        deleted_at=snapshot.arrived_at,
    )
    return Decision(Verdict.TOMBSTONED, now, Kind.DELETED, (), doubt)


def _onto_tombstone(record: Record, snapshot: Snapshot, window: timedelta) -> Decision:
    if snapshot.deleted:
        now = replace(_advanced(record, snapshot), **_later_values(record, snapshot))
        differs = _ambiguous(record, snapshot, window) and differing(record.values, snapshot.values)
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
        **_overlay(record, snapshot),
        changed_at=snapshot.arrived_at if columns else record.changed_at,
        verified_at=None,
    )
    return Decision(Verdict.APPLIED, now, Kind.UPDATED if columns else None, columns, doubt)


def _overlay(record: Record, snapshot: Snapshot) -> dict[str, Any]:
    """Return what a record holds once `snapshot` is put over it: values, what is unread, whether partial."""
    unread = still_unread(record, snapshot)
    return {
        "values": overlaid(record.values, snapshot.values, snapshot.unread),
        "unread": unread,
        "partial": not snapshot.complete and (record.partial or any(name in COLUMNS for name in unread)),
    }


def _ambiguous(record: Record, snapshot: Snapshot, window: timedelta) -> bool:
    return (
        record.rests_on_arrival or snapshot.rests_on_arrival or abs(record.as_of - snapshot.as_of) <= window
    )


def _later(record: Record, snapshot: Snapshot) -> bool:
    return (snapshot.as_of, snapshot.position) > (record.as_of, record.position)


def _later_values(record: Record, snapshot: Snapshot) -> dict[str, Any]:
    return _overlay(record, snapshot) if _later(record, snapshot) else {}


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
