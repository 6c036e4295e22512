"""Decisions where upstream contradicts itself about whether a customer is there, and where a clock did.

Each is one rule of decisions 0063 and 0064; the table of ordinary rules is in `decisions`.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sync.merge.decisions import Decision, Kind, Verdict, heard
from sync.merge.doubts import AHEAD, Reason
from sync.merge.records import Record
from sync.merge.snapshots import Snapshot

STILL_LISTED: Final = "reads say that it is deleted, and the list, asked for later, still has it"


def distrust_deletion(record: Record, snapshot: Snapshot) -> Decision:
    """Decide what a `deleted` delivery does whose bytes came before at another topic: it only leaves a doubt.

    The path names the topic and is not signed, so the same body could be sent there by anybody who has it.
    """
    return Decision(Verdict.CONTRADICTED, _heard(record, snapshot), doubt=Reason.CONTRADICTED)


def doubt_said_deleted(record: Record, snapshot: Snapshot) -> Decision:
    """Decide what a list item or a delivery does that says "deleted" in a field: it may leave a doubt."""
    if record.deleted_at is not None:
        return Decision(Verdict.UNCHANGED, _heard(record, snapshot))
    return Decision(Verdict.CONTRADICTED, _heard(record, snapshot), doubt=Reason.SAID_DELETED)


def keep_listed(record: Record, now: datetime) -> Decision:
    """Decide what it does that reads say "deleted" and a list asked for later still has the customer.

    It is not deleted, and not verified either; a tombstone becomes a live row, whose values a read has to
    complete.
    """
    if record.deleted_at is None:
        return Decision(Verdict.UNCHANGED, replace(record, verified_at=None))
    back = replace(record, deleted_at=None, verified_at=None, changed_at=now, partial=True)
    return Decision(Verdict.APPLIED, back, Kind.RESTORED)


def is_listed_later(record: Record, asked_at: datetime, read_after: timedelta) -> bool:
    """Return whether a page asked for at `asked_at` must have been without the customer, if it is gone.

    It is so for a tombstone that a read has confirmed, a full read lag before the page was asked for.
    """
    if record.deleted_at is None or record.verified_at is None:
        return False
    return asked_at >= record.verified_at + read_after


def is_borne_out(record: Record, swept_from: datetime | None, *, listed: bool, read_after: timedelta) -> bool:
    """Return whether the list bears a deletion out: a complete sweep begun later has not met the customer.

    `swept_from` is when the newest complete sweep began, None: there was none; `listed`: it met the customer.
    """
    if record.deleted_at is None or swept_from is None or listed:
        return False
    return swept_from >= record.deleted_at + read_after


def brought_back(record: Record, now: datetime) -> Record:
    """Bring times that no clock but one ahead of ours can have set back to now (decision 0064).

    `verified_at` stays: the read that follows renews it, and nothing is shown as verified that was not.
    """
    latest = now + AHEAD
    times = (record.settled_at, record.as_of, record.read_at, record.read_as_of)
    if all(moment is None or moment <= latest for moment in times):
        return record
    stamped_ahead = record.as_of > latest
    return replace(
        record,
        settled_at=now,  # a full read lag follows
        read_at=_not_ahead(record.read_at, now),
        read_as_of=_not_ahead(record.read_as_of, now),
        as_of=now if stamped_ahead else record.as_of,
        rests_on_arrival=record.rests_on_arrival or stamped_ahead,
    )


def _not_ahead(moment: datetime | None, now: datetime) -> datetime | None:
    return now if moment is not None and moment > now + AHEAD else moment


def _heard(record: Record, snapshot: Snapshot) -> Record:
    return heard(record, max(record.settled_at, snapshot.as_of, snapshot.arrived_at))
