"""What a reconciliation was asked for, how far it is, and what became of each customer that it looked at."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Final

from sync.merge.decisions import Decision, Kind, is_change
from sync.merge.records import Record


class Outcome(Enum):
    """What a list item or a read did to one customer, or in the end the settling of a deletion."""

    CREATED = "created"
    UPDATED = "updated"
    COMPLETED = "completed"
    UNCHANGED = "unchanged"
    MISSING = "missing"
    """404 for a customer that the mirror shows: gathered with the others."""
    GONE = "gone"
    """404 for a tombstone."""
    UNKNOWN = "unknown"
    """404 for an id that the mirror does not know either."""
    FENCED = "fenced"
    FAILED = "failed"
    DELETED = "deleted"
    HELD = "held"


def outcome_of(decision: Decision, known: Record | None) -> Outcome:
    """Say what an answer did to a customer; what fills a partial record is no update that anyone missed."""
    if decision.kind is not None and not is_change(decision, known):
        return Outcome.COMPLETED if known is not None and known.partial else Outcome.UNCHANGED
    return _OUTCOMES[decision.kind]


Note = Callable[[int, Outcome, str], None]
"""Is told of which customer, what came of it, and what kept it from being settled ("": nothing)."""

NoteItem = Callable[[int | None, Outcome, str], None]
"""The same of an item of a list; None: one that does not say which customer it is."""

_OUTCOMES: Final = {
    Kind.CREATED: Outcome.CREATED,
    Kind.UPDATED: Outcome.UPDATED,
    Kind.RESTORED: Outcome.UPDATED,
    None: Outcome.UNCHANGED,
}
_STANDING: Final = frozenset({Outcome.CREATED, Outcome.UPDATED})
_NOTHING_NEW: Final = frozenset({Outcome.UNCHANGED, Outcome.COMPLETED, Outcome.UPDATED})


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for: everything, every customer in full, one customer, held deletions let go."""

    deep: bool = False
    customer_id: int | None = None
    allow_deletes: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """How far a reconciliation has come: `done` of `total` in `stage`; None: not known."""

    stage: str
    done: int
    total: int | None


@dataclass(slots=True)
class Report:
    """What a reconciliation did, in customers, but for `calls`: the calls that upstream answered.

    Each customer that was listed, missed in the list or read is counted once among created, updated,
    deleted, unchanged and failed, unless its deletion is held or upstream and the mirror do not know it.
    """

    listed: int = 0
    read: int = 0
    created: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    failed: int = 0
    held_deletes: int = 0
    """All that are held by now, also those that were held before."""
    calls: int = 0
    why: str = field(default="", compare=False)
    """Why the first of the failed ones did; "" when none has. No part of the JSON."""

    @property
    def whole(self) -> bool:
        """Whether nothing was left undone."""
        return not self.failed and not self.held_deletes

    def as_json(self) -> dict[str, int]:
        """Give the report as the command prints it."""
        given = asdict(self)
        del given["why"]
        return given


class Tally:
    """Counts each customer once, whatever a list and several reads have said of it."""

    def __init__(self) -> None:
        self.why = ""
        """Why the first of those that failed did."""
        self._listed: set[int] = set()
        self._read: set[int] = set()
        self._outcomes: dict[int, Outcome] = {}
        self._nameless = 0

    @property
    def reads(self) -> int:
        """How many customers were read so that the answer could stand."""
        return len(self._read)

    def note_listed(self, customer_id: int | None, outcome: Outcome, why: str) -> None:
        """Note what an item of the list did; `why`: what kept it from being stored, else ""."""
        if customer_id is None:
            self._nameless += 1
            self.why = self.why or why
            return
        self._listed.add(customer_id)
        if outcome is Outcome.FAILED:
            self.note_failed([customer_id], why)
        else:
            self._note(customer_id, outcome)

    def note_read(self, customer_id: int, outcome: Outcome, why: str) -> None:
        """Note what a read did; `why`: what kept it from settling anything."""
        if outcome is Outcome.FAILED:
            self.note_failed([customer_id], why)
        elif outcome is not Outcome.FENCED:
            self._read.add(customer_id)
            self._note(customer_id, outcome)

    def note_failed(self, customer_ids: Collection[int], why: str) -> None:
        """Note that these could not be read, because of `why`."""
        self._outcomes |= dict.fromkeys(customer_ids, Outcome.FAILED)
        self.why = self.why or why

    def note_settled(self, deleted: Collection[int], held: Collection[int]) -> None:
        """Note what became of those that were missing; whoever is neither was heard of meanwhile."""
        for customer_id in deleted:
            self._outcomes[customer_id] = Outcome.DELETED
        for customer_id, outcome in self._outcomes.items():
            if outcome is Outcome.MISSING:
                self._outcomes[customer_id] = Outcome.HELD if customer_id in held else Outcome.FAILED

    def report(self, *, held_deletes: int, calls: int) -> Report:
        """Give the sums."""
        counts = Counter(self._outcomes.values())
        return Report(
            listed=len(self._listed) + self._nameless,
            read=len(self._read),
            created=counts[Outcome.CREATED],
            updated=counts[Outcome.UPDATED],
            deleted=counts[Outcome.DELETED],
            unchanged=sum(counts[one] for one in (Outcome.UNCHANGED, Outcome.COMPLETED, Outcome.GONE)),
            failed=counts[Outcome.FAILED] + self._nameless,
            held_deletes=held_deletes,
            calls=calls,
            why=self.why,
        )

    def _note(self, customer_id: int, outcome: Outcome) -> None:
        if self._outcomes.get(customer_id) in _STANDING and outcome in _NOTHING_NEW:
            return
        self._outcomes[customer_id] = outcome
