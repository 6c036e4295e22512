"""Doubts: which customers must be read, why, when, and whether a read may settle the doubt."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sync.merge.records import Record


class Reason(StrEnum):
    """Why a customer is to be read."""

    ASKED = "asked"
    CONTRADICTED = "contradicted"
    AMBIGUOUS = "ambiguous"
    STALE = "stale"
    FAILED = "failed"
    UNLISTED = "unlisted"
    LISTED_DIFFERENTLY = "listed_differently"
    LISTED_THOUGH_DELETED = "listed_though_deleted"
    PARTIAL = "partial"
    CONFIRMATION = "confirmation"
    REFRESH = "refresh"


_NOTED_HERE_ALONE: Final = frozenset({Reason.FAILED, Reason.UNLISTED})
"""Doubts about customers that may have no record: nothing but their due time says when they arose."""

ASKED: Final = 0
_ORDER: Final = (
    (Reason.CONTRADICTED, Reason.AMBIGUOUS, Reason.STALE, Reason.FAILED),
    (Reason.UNLISTED, Reason.LISTED_DIFFERENTLY, Reason.LISTED_THOUGH_DELETED, Reason.PARTIAL),
    (Reason.CONFIRMATION,),
    (Reason.REFRESH, Reason.ASKED),
)
PRIORITY: Final = {reason: place for place, reasons in enumerate(_ORDER, start=1) for reason in reasons}
"""Reason -> priority. Lower comes first; before them all comes what a person waits for: ASKED."""
SWEEP: Final = PRIORITY[Reason.PARTIAL]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long upstream's answers may lag, and how often one customer may be read."""

    window: timedelta = timedelta(seconds=2)
    """Two different snapshots this close cannot be ordered: stamps are whole seconds."""
    read_lag: timedelta = timedelta(seconds=20)
    pause: timedelta = timedelta(seconds=30)
    longest_pause: timedelta = timedelta(hours=1)

    @property
    def read_after(self) -> timedelta:
        """Give how long after the last word of a customer a read of it counts."""
        return max(self.window, self.read_lag)

    def pause_after(self, tries: int) -> timedelta:
        """Give the pause after that many reads that settled nothing; it doubles."""
        return min(self.pause * (1 << min(tries - 1, 20)), self.longest_pause)


@dataclass(slots=True)
class Doubt:
    """One customer's row of the set of verifications: 500 doubts about it are one row, one read."""

    customer_id: int
    reason: Reason
    due_at: datetime
    revision: int
    """Raised by every new doubt; a read settles only the revision that it saw when it began."""
    born: int
    """The revision with which it first arose."""
    asked: bool = False
    """A person waits for it: it comes first, and does not wait for the pause."""
    tries: int = 0
    """Reads since it arose that settled nothing: fenced or failed."""
    not_before: datetime | None = None
    """The pause after such a read."""

    @property
    def priority(self) -> int:
        """Give the place in the queue; 0 comes first."""
        return ASKED if self.asked else PRIORITY[self.reason]


def raise_doubt(
    known: Doubt | None,
    customer_id: int,
    reason: Reason,
    due_at: datetime,
    revision: int,
    *,
    asked: bool = False,
) -> Doubt:
    """Add a doubt to what is known of a customer. It never postpones; the stronger reason stays.

    `due_at` is not before a read can show what the doubt is about: now + `Timing.read_after`, or now for
    doubts that bring no news (asked, refresh). Failed and unlisted are the exception to "never": of a
    customer without a record they are noted nowhere but here, so their own due time stands.
    """
    if known is None:
        return Doubt(customer_id, reason, due_at, revision, born=revision, asked=asked)
    return Doubt(
        customer_id,
        reason if PRIORITY[reason] < PRIORITY[known.reason] else known.reason,
        _due_at(known, reason, due_at),
        revision,
        known.born,
        asked=asked or known.asked,
        tries=known.tries,
        not_before=known.not_before,
    )


def _due_at(known: Doubt, reason: Reason, due_at: datetime) -> datetime:
    if reason in _NOTED_HERE_ALONE:
        return due_at
    return known.due_at if known.reason in _NOTED_HERE_ALONE else min(known.due_at, due_at)


def readable_at(doubt: Doubt, record: Record | None, timing: Timing) -> datetime:
    """Say from when on a read may settle the doubt: neither the tie nor a lagging read may repeat itself."""
    earliest = doubt.due_at
    if record is not None:
        earliest = max(earliest, record.settled_at + timing.read_after)
    if doubt.asked:
        return earliest
    if record is not None and record.read_at is not None:
        earliest = max(earliest, record.read_at + timing.pause)
    return max(earliest, doubt.not_before or earliest)


def is_fenced(
    record: Record | None, doubt: Doubt | None, *, began_at: datetime, seen_revision: int, timing: Timing
) -> bool:
    """Say whether an answer may not settle what is known now.

    It may not if a doubt arose after the call began (its revision is above `seen_revision`), or if the
    customer was heard of so late that upstream's answer may not have shown it yet: by its record, or, where
    there may be none, by when the doubt is due.
    """
    if doubt is not None and (
        doubt.revision > seen_revision or (doubt.reason in _NOTED_HERE_ALONE and doubt.due_at > began_at)
    ):
        return True
    return record is not None and record.settled_at + timing.read_after > began_at


def put_off(doubt: Doubt, now: datetime, timing: Timing) -> Doubt:
    """Keep the doubt after a read that settled nothing, and wait before the next."""
    tries = doubt.tries + 1
    return replace(doubt, tries=tries, not_before=now + timing.pause_after(tries))
