"""Why a customer looks as it does: a sentence, the row, its last changes and deliveries, the open doubt."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from receiver.database import utc_text
from sync.concerns import ago
from sync.kounta import Customer
from sync.merge.customers import COLUMNS, Value
from sync.merge.decisions import Decision, Kind, accept
from sync.merge.doubts import Doubt, Reason, Timing, readable_at
from sync.merge.records import Record
from sync.merge.snapshots import Lens, Source
from sync.mirror.deliveries import Wanted, newest
from sync.mirror.feed import Change, changes_of
from sync.mirror.known import Known, known_of
from sync.mirror.reader import MirrorReader
from sync.mirror.verdicts import Ruling

LAST: Final = 5
"""So many of the last changes and deliveries are shown."""

BECAUSE: Final[Mapping[Reason, str]] = {
    Reason.ASKED: "somebody asked for a read",
    Reason.CONTRADICTED: "a delivery speaks of it though it is deleted here",
    Reason.AMBIGUOUS: "two words of it came too close to each other to be ordered",
    Reason.STALE: "an older word of it came later than a newer one",
    Reason.FAILED: "a delivery about it could not be applied",
    Reason.UNREADABLE: "a delivery that could not be read names it, too",
    Reason.SAID_DELETED: "a delivery or Kounta's list says that it is deleted",
    Reason.STILL_LISTED: "reads say that it is deleted, and Kounta's list still names it",
    Reason.UNLISTED: "Kounta's list did not name it",
    Reason.LISTED_DIFFERENTLY: "Kounta's list shows it otherwise",
    Reason.LISTED_THOUGH_DELETED: "Kounta's list names it though it is deleted here",
    Reason.PARTIAL: "only what Kounta's list carries is known of it",
    Reason.CONFIRMATION: "it rests on a webhook alone",
    Reason.REFRESH: "its proof is old enough to be renewed",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One attribute in which the mirror and Kounta differ: column -> value, here and there."""

    attribute: str
    mirror: dict[str, Value]
    kounta: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Upstream:
    """What Kounta answered about a customer, against the row."""

    found: bool
    differences: tuple[Difference, ...] = ()

    def sentence(self, record: Record | None) -> str:
        """Say whether the mirror is right about it."""
        live = record is not None and record.deleted_at is None
        if not self.found:
            return "Kounta has no such customer" + (", and the mirror shows one." if live else " either.")
        if not live:
            return "Kounta has this customer, and the mirror shows none."
        if not self.differences:
            return "Kounta has the customer exactly as the mirror shows it."
        names = ", ".join(one.attribute for one in self.differences)
        return f"Kounta has it otherwise: {names}."

    def as_json(self, record: Record | None) -> dict[str, Any]:
        """Give it as the command prints it."""
        return {
            "sentence": self.sentence(record),
            "found": self.found,
            "differences": [
                {"attribute": one.attribute, "mirror": one.mirror, "kounta": one.kounta}
                for one in self.differences
            ],
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the mirror shows of one customer what it shows, at `now`."""

    customer_id: int
    now: datetime
    timing: Timing
    known: Known
    changes: tuple[Change, ...] = ()
    """The last ones, the newest last."""
    deliveries: tuple[Ruling, ...] = ()
    """The last ones, and those of the changes, the newest last."""
    upstream: Upstream | None = None

    @property
    def is_known(self) -> bool:
        """Whether the mirror knows anything of such a customer."""
        known = self.known
        return bool(known.record or known.doubt or self.changes or self.deliveries)

    def sentence(self) -> str:
        """Say in a line or two how it stands with the customer."""
        return f"Customer {self.customer_id} {self._standing()}{self._doubted()}."

    def as_json(self) -> dict[str, Any]:
        """Give the whole as the command prints it with --json; times are ISO 8601 in UTC."""
        record, doubt = self.known.record, self.known.doubt
        return {
            "sentence": self.sentence(),
            "customer": None if record is None else row_of(record),
            "doubt": None if doubt is None else self._doubt(doubt),
            "unread": {} if record is None else record.unread,
            "held_delete": _text(self.known.missing_at),
            "changes": [change.as_json() for change in self.changes],
            "deliveries": [ruling.as_json() for ruling in self.deliveries],
            "upstream": None if self.upstream is None else self.upstream.as_json(record),
        }

    def _standing(self) -> str:
        record, missing_at = self.known.record, self.known.missing_at
        if record is None:
            if self.changes and self.changes[-1].kind == Kind.ERASED:
                return f"was erased at {_clock(self.changes[-1].applied_at)}"
            return "is unknown to the mirror"
        return self._standing_of(record, missing_at)

    def _standing_of(self, record: Record, missing_at: datetime | None) -> str:
        if record.deleted_at is not None:
            proof = self._ago(record.verified_at)
            return f"is deleted since {_clock(record.deleted_at)}{proof and f', confirmed {proof} ago'}"
        if missing_at is not None:
            return (
                f"is shown as live, though Kounta answered at {_clock(missing_at)} that it has no such "
                "customer: many deletions came at once, and they are held until a person allows them "
                "(kounta-mirror reconcile --allow-deletes N)"
            )
        if record.partial and record.verified_at is not None:
            return f"is live and verified {self._ago(record.verified_at)} ago, but for {_names(record)}"
        if record.partial:
            return "is live and known in part only"
        if record.verified_at is None:
            return "is live and rests on a webhook alone"
        return f"is live and verified {self._ago(record.verified_at)} ago"

    def _doubted(self) -> str:
        doubt, record = self.known.doubt, self.known.record
        if doubt is None:
            return ""
        due_at = readable_at(doubt, record, self.timing)
        due = "due now" if due_at <= self.now else f"due at {_clock(due_at)}"
        tried = f"; {doubt.tries} before it settled nothing" if doubt.tries else ""
        if doubt.failure is not None:
            tried += f" ({' '.join(doubt.failure.split()).rstrip('.')})"
        if doubt.reason in {Reason.CONFIRMATION, Reason.PARTIAL} and record is not None:
            return f"; the read that completes or confirms it is {due}{tried}"
        if doubt.reason in {Reason.ASKED, Reason.REFRESH}:
            return f"; a read is {due}, because {BECAUSE[doubt.reason]}{tried}"
        since = _clock(self._since(doubt))
        return f"; in doubt since {since} because {BECAUSE[doubt.reason]}, a read is {due}{tried}"

    def _since(self, doubt: Doubt) -> datetime:
        """Say when a doubt arose: it is due a read's lag later, and never postponed."""
        return doubt.due_at - self.timing.read_after

    def _doubt(self, doubt: Doubt) -> dict[str, Any]:
        return {
            "reason": doubt.reason.value,
            "because": BECAUSE[doubt.reason],
            "asked": doubt.asked,
            "due_at": utc_text(readable_at(doubt, self.known.record, self.timing)),
            "tries": doubt.tries,
            "failures": doubt.failures,
            "failure": doubt.failure,
        }

    def _ago(self, moment: datetime | None) -> str:
        return "" if moment is None else ago(max(self.now - moment, timedelta()))


async def explain(mirror: MirrorReader, customer_id: int, *, timing: Timing, now: datetime) -> Explanation:
    """Look at all that the mirror knows of a customer."""
    known = await known_of(mirror, customer_id)
    changes = await changes_of(mirror, customer_id, newest=LAST)
    rulings = await newest(mirror, Wanted(customer_id=customer_id), LAST)
    return Explanation(customer_id, now, timing, known, tuple(changes), tuple(rulings[::-1]))


def compared(explanation: Explanation, customer: Customer | None, lens: Lens) -> Explanation:
    """Add what Kounta answers at this moment: the customer, or that there is none.

    They differ where a read would change the row. Raises UnreadableError for an answer that is about another
    company or cannot be stored.
    """
    if customer is None:
        return replace(explanation, upstream=Upstream(found=False))
    record = explanation.known.record
    snapshot = lens.customer(
        customer, arrived_at=explanation.now, position=0, source=Source.VERIFICATION, mobile=True
    )
    decision = accept(record, snapshot, lens.subscription)
    before: Mapping[str, Value] = record.values if record is not None else {}
    attributes: dict[str, list[str]] = {}
    for column in _told(decision, record):
        attributes.setdefault(COLUMNS[column], []).append(column)
    differences = tuple(
        Difference(
            attribute,
            {column: before.get(column) for column in columns},
            {column: decision.record.values.get(column) for column in columns},
        )
        for attribute, columns in attributes.items()
    )
    return replace(explanation, upstream=Upstream(found=True, differences=differences))


def _told(decision: Decision, record: Record | None) -> Iterator[str]:
    """Name the columns in which Kounta has another value, as far as its answer can be read."""
    if record is None:
        return
    for column in decision.columns:
        if column not in decision.record.unread:
            yield column


def _names(record: Record) -> str:
    """Name what of a record the last read has left unknown."""
    return ", ".join(name for name in COLUMNS if name in record.unread) or "some of its attributes"


def row_of(record: Record) -> dict[str, Any]:
    """Give a record as `all_customers` shows it."""
    times = ("as_of", "first_seen_at", "changed_at", "verified_at", "deleted_at")
    return {
        "id": record.customer_id,
        **record.values,
        **{name: _text(getattr(record, name)) for name in times},
        "first_seen_by": record.first_seen_by.value,
        "partial": record.partial,
    }


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(moment)
