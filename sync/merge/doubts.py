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
    UNREADABLE = "unreadable"
    SAID_DELETED = "said_deleted"
    STILL_LISTED = "still_listed"
    UNLISTED = "unlisted"
    LISTED_DIFFERENTLY = "listed_differently"
    LISTED_THOUGH_DELETED = "listed_though_deleted"
    PARTIAL = "partial"
    CONFIRMATION = "confirmation"
    REFRESH = "refresh"


_NOTED_HERE_ALONE: Final = frozenset({Reason.FAILED, Reason.UNREADABLE, Reason.SAID_DELETED, Reason.UNLISTED})
"""Doubts about customers that may have no record: nothing but their due time says when they arose."""

BEARS_TOMBSTONE: Final = frozenset({Reason.FAILED, Reason.SAID_DELETED})
"""Doubts that prove that there was such a customer: if it is gone, a customer without a record gets one."""

ASKED: Final = 0
_ORDER: Final = (
    (
        *(Reason.CONTRADICTED, Reason.AMBIGUOUS, Reason.STALE, Reason.FAILED),
        *(Reason.UNREADABLE, Reason.SAID_DELETED, Reason.STILL_LISTED),
    ),
    (Reason.UNLISTED, Reason.LISTED_DIFFERENTLY, Reason.LISTED_THOUGH_DELETED, Reason.PARTIAL),
    (Reason.CONFIRMATION,),
    (Reason.REFRESH, Reason.ASKED),
)
PRIORITY: Final = {reason: place for place, reasons in enumerate(_ORDER, start=1) for reason in reasons}
"""Reason -> priority. Lower comes first; before them all comes what a person waits for: ASKED."""
SWEEP: Final = PRIORITY[Reason.PARTIAL]
MOST_FAILURES: Final = 5
"""Reads that failed, one after the other, after which a doubt is a problem that a person should know of."""
AHEAD: Final = timedelta(seconds=60)
"""A stored time that is further ahead of now shows that a clock has stepped back (decision 0064)."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long upstream's answers may lag, and how often one customer may be read."""

    window: timedelta = timedelta(seconds=2)
    """Two different snapshots this close cannot be ordered: stamps are whole seconds."""
    read_lag: timedelta = timedelta(seconds=20)
    pause: timedelta = timedelta(seconds=30)
    longest_pause: timedelta = timedelta(hours=1)
    problem_pause: timedelta = timedelta(days=1)
    """The longest between two tries to read a customer that is a problem."""

    @property
    def read_after(self) -> timedelta:
        """Give how long after the last word of a customer a read of it counts."""
        return max(self.window, self.read_lag)

    def pause_after(self, tries: int, failures: int = 0) -> timedelta:
        """Give the pause after that many reads that settled nothing; it doubles.

        `failures`: how many of the last ones failed; from MOST_FAILURES on it may grow to a day.
        """
        longest = self.problem_pause if failures >= MOST_FAILURES else self.longest_pause
        return min(self.pause * (1 << min(max(tries, 1) - 1, 20)), longest)


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
    failures: int = 0
    """Reads in a row that failed: refused, of a wrong shape, about another customer."""
    failure: str | None = None
    """Why the last of them failed."""
    other_first_at: datetime | None = None
    """When a read first answered another customer; None: none did."""
    other_again_at: datetime | None = None
    """When one did so again, a read lag later or more."""

    @property
    def is_problem(self) -> bool:
        """Whether reads of it have failed so often that a person should know."""
        return self.failures >= MOST_FAILURES

    @property
    def is_of_a_loss(self) -> bool:
        """Whether a delivery or a list named the customer, of which there may be no record."""
        return self.reason in _NOTED_HERE_ALONE

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
    return replace(
        known,
        reason=reason if _outranks(reason, known.reason) else known.reason,
        due_at=_due_at(known, reason, due_at),
        revision=revision,
        asked=asked or known.asked,
    )


def _outranks(reason: Reason, known: Reason) -> bool:
    """Say whether a reason takes the place of the known one: only STILL_LISTED does among equals."""
    if reason is Reason.STILL_LISTED:
        return PRIORITY[reason] <= PRIORITY[known]
    return PRIORITY[reason] < PRIORITY[known]


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


def put_off(
    doubt: Doubt, now: datetime, timing: Timing, failure: str | None = None, *, is_answered: bool = True
) -> Doubt:
    """Keep the doubt after a read that settled nothing, and wait before the next.

    `failure`: why upstream's answer about this very customer is of no use; None: it was of use. Not
    `is_answered`: nobody was answered, which says nothing of this customer.
    """
    tries = doubt.tries + 1
    if not is_answered:
        return replace(doubt, tries=tries, not_before=now + timing.pause_after(tries, doubt.failures))
    failures = 0 if failure is None else doubt.failures + 1
    return replace(
        doubt,
        tries=tries,
        not_before=now + timing.pause_after(tries, failures),
        failures=failures,
        failure=failure,
    )


def note_other(doubt: Doubt, began_at: datetime, answered_at: datetime, timing: Timing) -> Doubt:
    """Note that a read answered another customer: of itself this is no deletion (decision 0063)."""
    if doubt.other_first_at is None:
        return replace(doubt, other_first_at=answered_at)
    if doubt.other_again_at is None and began_at >= doubt.other_first_at + timing.read_after:
        return replace(doubt, other_again_at=answered_at)
    return doubt


def brought_back(doubt: Doubt, now: datetime, timing: Timing) -> Doubt:
    """Bring times that no clock but one ahead of ours can have set back to now; a full read lag follows."""
    due_at, not_before = doubt.due_at, doubt.not_before
    if due_at > now + timing.read_after + AHEAD:
        due_at = now + timing.read_after
    if not_before is not None and not_before > now + timing.pause_after(doubt.tries, doubt.failures) + AHEAD:
        not_before = now
    if (due_at, not_before) == (doubt.due_at, doubt.not_before):
        return doubt
    return replace(doubt, due_at=due_at, not_before=not_before)
