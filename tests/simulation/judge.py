"""What must be true of the files, whatever happened: read with plain SQL, judged by upstream's truth."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sync.demo.comparison import wrong_rows
from tests.simulation.witness import columns, field_of, is_same

if TYPE_CHECKING:
    from pathlib import Path

    from sync.sandbox import Sandbox
    from tests.simulation.ledger import Ledger
    from tests.simulation.plan import Plan
    from tests.simulation.witness import Witness

LISTED = frozenset({"first_name", "last_name", "email", "image", "reference_id"})
"""What an abridged list carries."""
CLEAR_SECONDS = 3.5
"""Two changes this far apart have stamps further apart than the window: whole seconds, and 2 s."""


WINDOW_SECONDS = 2
DIFFERS = "differs in "
ROUNDED = 0.001
"""Times of the mirror are in milliseconds."""
DELETED = "deleted in the mirror, live upstream"
PROOFS = 2
"""So often a 404 that nothing had announced is asked for (decision 0006)."""
_RULED = """
SELECT ruled.delivery_id, ruled.customer_id, ruled.verdict, ruled.reason, ruled.applied_at, changed.as_of
FROM delivery_verdicts AS ruled LEFT JOIN customer_changes AS changed
ON changed.delivery_id = ruled.delivery_id AND changed.applied_at = ruled.applied_at
"""


@dataclass(frozen=True, slots=True)
class _Known:
    """What the mirror says of its own faults: customers, changes by their number, sweeps, gaps."""

    applied: set[int]
    lost: set[int]
    """Changes of which a delivery was stored and could not be used."""
    unordered: set[int]
    doubted: set[int]
    unread: set[int]
    sweeping: bool
    swept: bool
    gap: bool
    owed: bool
    """Whether a sweep or a round of reads is owed because of lost deliveries that name no customer."""


class Broken(Exception):  # noqa: N818 - it says what is the case
    """Something that must always hold does not; the sentence says what."""


class Judge:
    """Looks at the files of one simulation, and knows upstream's truth."""

    def __init__(
        self, directory: Path, sandbox: Sandbox, ledger: Ledger, witness: Witness, given: Plan
    ) -> None:
        self._mirror = directory / "mirror.db"
        self._inbox = directory / "inbox.db"
        self._sandbox = sandbox
        self._ledger = ledger
        self._witness = witness
        self._ordered = given.ordered
        self._odd = given.odd
        self._read_lag = given.faults["read_lag_seconds"]
        self._believed_lag = given.read_lag
        self._denied: Counter[int] = Counter()
        """How often a read of a customer was answered 404 while access was lost."""
        self.excused: dict[int, str] = {}
        """Customers that were wrong at the last look, and why that may be."""

    def wrong(self) -> dict[int, str]:
        """Compare every row with upstream's truth, but for what the oddities of now cannot tell apart."""
        company = self._sandbox.company
        truth = [one.seen_by(company.settings.client_id) for one in company.customers]
        by_id = {one["id"]: one for one in truth}
        if not company.settings.mobile_field:
            for one in truth:
                one["mobile"] = None
        wrong = wrong_rows(self._mirror, truth, company.customers.deleted)
        if not wrong or not self._blurs():
            return wrong
        rows = self._rows()
        seen = {id_: self._unblurred(what, rows.get(id_), by_id.get(id_)) for id_, what in wrong.items()}
        return {id_: what for id_, what in seen.items() if what}

    def _blurs(self) -> bool:
        faults = self._sandbox.faults
        return faults.numbers_for_text > 0 or faults.none_as_text > 0

    def missed(self) -> dict[int, str]:
        """Name the rows that a reconciliation has to make right: wrong in what its list carried.

        What the last read left unread is not wrong: NULL, and the row is partial (the claim).
        """
        wrong = self.wrong()
        rows = self._rows() if wrong else {}
        return {
            id_: what
            for id_, what in wrong.items()
            if not what.startswith(DIFFERS)
            or LISTED & self._witness.listed(id_) & set(differing(what)) - _unread_of(rows[id_])
        }

    def _unblurred(self, what: str, row: dict[str, Any] | None, truth: dict[str, Any] | None) -> str:
        """Leave out the columns that only seem to differ; "": there is no other."""
        if row is None or truth is None or not what.startswith(DIFFERS):
            return what
        expected = columns(truth)
        names = [name for name in differing(what) if not self._is_same(name, row[name], expected[name])]
        return DIFFERS + ", ".join(names) if names else ""

    def _is_same(self, column: str, shown: Any, true: Any) -> bool:
        return is_same(
            column,
            shown,
            true,
            dialled="numbers_for_text" in self._odd.faults,
            none_is_empty="none_as_text" in self._odd.faults,
        )

    def _rows(self) -> dict[int, dict[str, Any]]:
        """Give the live rows by id, their values as columns."""
        with closing(_opened(self._mirror)) as mirror:
            mirror.row_factory = sqlite3.Row
            rows = {row["id"]: dict(row) for row in mirror.execute("SELECT * FROM customers")}
        for row in rows.values():
            row["tags"] = None if row["tags"] is None else json.loads(row["tags"])
            accepts = row["accepts_marketing"]
            row["accepts_marketing"] = None if accepts is None else bool(accepts)
        return rows

    def check_lies(self) -> None:
        """Check every row that says that it was verified. Raises Broken.

        An answer about the customer came at that time; what the row shows was carried by it (NULL may also
        be unread, in a partial row); and it was so upstream at some time since the read lag before the call.
        """
        for id_, row in self._rows().items():
            if row["verified_at"] is not None:
                self._check_row(id_, row)

    def _check_row(self, id_: int, row: dict[str, Any]) -> None:
        verified_at = datetime.fromisoformat(row["verified_at"]).timestamp()
        served = self._witness.served_at(id_, verified_at)
        if not served:
            raise Broken(f"a lie: customer {id_} is verified at {row['verified_at']}, when no answer came")
        carried = frozenset[str]().union(*(one.carried for one in served))
        since = min(one.asked_at for one in served) - self._read_lag
        states = list(self._witness.states(id_, since - ROUNDED, verified_at + ROUNDED))
        for name in states[0] if states else ():
            if field_of(name) not in carried:
                unread = row[name] is None and (row["partial"] or name == "mobile")
                if not unread and not (name == "reference_id" and not row[name]):
                    raise Broken(
                        f"a lie: {name} of customer {id_} is verified, and the read did not carry it"
                    )
            elif not any(self._is_same(name, row[name], state[name]) for state in states):
                raise Broken(f"a lie: {name} of customer {id_} was not so when it was verified")
        if not states:
            raise Broken(f"a lie: customer {id_} is verified, and was not there")

    def note_denied(self, path: str) -> None:
        """Note what a call asked for that was answered 404 because access was lost."""
        if found := re.search(r"/customers/(\d+)\.json$", path):
            self._denied[int(found[1])] += 1

    def look(self) -> int:
        """Check that no row is silently wrong, and give how many are wrong. Raises Broken.

        A wrong row is in doubt, or held, or a sweep is asked for or under way; else its last change has not
        been applied, so that nothing here could know. Where stamps tell the order, a row whose last change
        has been applied and lies clear of the one before is right at once; but not if it rests on a list,
        whose items have no stamps. That access was lost just when a customer was read, twice, with answers
        between, nobody can tell from a deletion (assumption E): the next sweep brings it back.
        """
        known = self._known()
        if known is None:
            return 0
        self.check_lies()
        self.excused = {}
        wrong = self.wrong()
        empty = self._empty(wrong)
        for customer_id, what in wrong.items():
            changes = self._ledger.changes.get(customer_id, [])
            last = changes[-1].number if changes else 0
            clear = len(changes) < 2 or changes[-1].at - changes[-2].at > CLEAR_SECONDS
            if customer_id in known.unread & empty:
                self.excused[customer_id] = "unread"
                continue
            if self._ordered and last in known.applied and clear and customer_id not in known.unordered:
                raise Broken(f"customer {customer_id} was told in order, and yet: {what}")
            excuse = self._excuse(known, customer_id, what, last)
            if excuse is None:
                raise Broken(f"customer {customer_id} is silently wrong: {what}")
            self.excused[customer_id] = excuse
        return len(wrong)

    def _excuse(self, known: _Known, customer_id: int, what: str, last: int) -> str | None:
        """Say why a customer may be wrong; `last` is its last change, 0 if it has none."""
        if customer_id in known.doubted:
            return "in doubt"
        if known.sweeping:
            return "a sweep is pending"
        if last in known.lost and (known.gap or known.owed):
            return "a gap is open"
        if last and last not in known.applied | known.lost:
            return "not told"
        if what == DELETED and self._denied[customer_id] >= PROOFS:
            return "denied twice"
        return "never listed" if not known.swept or (what == "missing" and not last) else None

    def _known(self) -> _Known | None:
        """Read what the mirror knows of its own faults; None while there is no mirror."""
        if not self._mirror.exists():
            return None
        with closing(_opened(self._mirror)) as mirror:
            if not _has(mirror, "_verifications"):
                return None
            held = mirror.execute("SELECT customer_id FROM _held_deletes").fetchall()
            return _Known(
                applied=self._applied(mirror),
                lost=self._lost(mirror),
                unordered=self._resting_on_a_list(mirror),
                doubted={
                    row[0] for row in [*mirror.execute("SELECT customer_id FROM _verifications"), *held]
                },
                unread={row[0] for row in mirror.execute("SELECT id FROM customers WHERE partial")},
                sweeping=_is_sweeping(mirror),
                swept=_count(mirror, "SELECT count(*) FROM _sweeps WHERE complete") > 0,
                gap=_count(mirror, "SELECT count(*) FROM _gaps WHERE mended_at IS NULL") > 0,
                owed=_is_owed(mirror, max(WINDOW_SECONDS, self._believed_lag)),
            )

    def check_conservation(self, answered: set[str]) -> None:
        """Check that what was answered 200 is stored, and what is stored has one verdict. Raises Broken."""
        with closing(_opened(self._inbox)) as inbox:
            stored = [row[0] for row in inbox.execute("SELECT id FROM deliveries")]
            accepted = inbox.execute("SELECT coalesce(sum(count), 0) FROM accepted").fetchone()[0]
        with closing(_opened(self._mirror)) as mirror:
            ruled = [row[0] for row in mirror.execute("SELECT delivery_id FROM delivery_verdicts")]
            counted = mirror.execute("SELECT sum(count) FROM _verdict_counts").fetchone()[0] or 0
        if lost := answered - set(stored):
            raise Broken(f"{len(lost)} deliveries were answered 200 and are not stored")
        if sorted(ruled) != sorted(stored):
            raise Broken(f"{len(stored)} deliveries are stored, and {len(ruled)} have a verdict")
        if not len(stored) == accepted == counted:
            raise Broken(f"{len(stored)} are stored, {accepted} counted, {counted} counted by verdict")

    def check_ties(self) -> None:
        """Check that two changes too close to be ordered by their stamps are known for that. Raises Broken.

        Judged are deliveries about one customer that were applied in one transaction, one behind the other:
        what the record was between them is known then. Only where stamps tell the order.
        """
        if not self._ordered:
            return
        with closing(_opened(self._inbox)) as inbox:
            bodies = dict(inbox.execute("SELECT id, body FROM deliveries ORDER BY position").fetchall())
        with closing(_opened(self._mirror)) as mirror:
            resting = mirror.execute(
                "SELECT id FROM _customers WHERE rests_on_arrival AND EXISTS (SELECT 1 FROM delivery_verdicts"
                " WHERE customer_id = _customers.id AND received_at = _customers.as_of)"
            ).fetchone()
            ruled = {row[0]: row for row in mirror.execute(_RULED)}
        if resting is not None:
            raise Broken(f"customer {resting[0]} rests on an arrival, though its stamp was in order")
        before: dict[int, tuple[str, str | None]] = {}
        for name, body in bodies.items():
            _, customer_id, verdict, reason, applied_at, as_of = ruled[name]
            at, known = before.get(customer_id, ("", None))
            if verdict in {"applied", "stale"} and at == applied_at and known is not None:
                said = json.loads(body.decode(errors="replace"), strict=False)
                stamp = datetime.fromisoformat(said["updated_at"])
                apart = abs(stamp - datetime.fromisoformat(known))
                if apart.total_seconds() <= WINDOW_SECONDS and reason != "ambiguous":
                    raise Broken(f"delivery {name} lies {apart} from the one before: {verdict}, {reason}")
            before[customer_id] = (applied_at, as_of)

    def check_figures(self) -> None:
        """Check that the figures of the status are those of the rows. Raises Broken."""
        with closing(_opened(self._mirror)) as mirror:
            told = mirror.execute(
                "SELECT live, deleted, verified, partial, verifications_due FROM mirror_status"
            ).fetchone()
            counted = mirror.execute(
                "SELECT count(*) FILTER (WHERE deleted_at IS NULL),"
                " count(*) FILTER (WHERE deleted_at IS NOT NULL),"
                " count(*) FILTER (WHERE deleted_at IS NULL AND verified_at IS NOT NULL),"
                " count(*) FILTER (WHERE deleted_at IS NULL AND partial),"
                " (SELECT count(*) FROM _verifications) FROM all_customers"
            ).fetchone()
        if tuple(told) != tuple(counted):
            raise Broken(f"the status says {tuple(told)}, the rows say {tuple(counted)}")

    def pending(self) -> int:
        """Count the stored deliveries that are not applied yet."""
        if not self._inbox.exists():
            return 0
        with closing(_opened(self._inbox)) as inbox, closing(_opened(self._mirror)) as mirror:
            head = inbox.execute("SELECT coalesce(max(position), 0) FROM deliveries").fetchone()[0]
            position = mirror.execute("SELECT position FROM _progress").fetchone()[0]
        return int(head - position)

    def doubts(self) -> int:
        """Count the customers in doubt."""
        with closing(_opened(self._mirror)) as mirror:
            return int(mirror.execute("SELECT count(*) FROM _verifications").fetchone()[0])

    def known(self) -> int:
        """Count the customers that the mirror shows or doubts."""
        shown_or_doubted = "SELECT id FROM customers UNION SELECT customer_id FROM _verifications"
        with closing(_opened(self._mirror)) as mirror:
            return len(mirror.execute(shown_or_doubted).fetchall())

    def digest(self) -> str:
        """Boil down everything that is stored, but for the random name of the inbox."""
        digest = hashlib.sha256()
        for path in (self._inbox, self._mirror):
            with closing(_opened(path)) as database:
                names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
                for (name,) in names.fetchall():
                    columns = [
                        row[1]
                        for row in database.execute(f"PRAGMA table_info('{name}')")
                        if row[1] not in {"identity", "inbox_id"}
                    ]
                    rows = database.execute(f'SELECT {", ".join(columns)} FROM "{name}"').fetchall()  # noqa: S608 - names of our own tables
                    digest.update(repr((name, sorted(map(repr, rows)))).encode())
        return digest.hexdigest()[:16]

    def _applied(self, mirror: sqlite3.Connection) -> set[int]:
        """Name the changes whose delivery has been applied."""
        rows = mirror.execute(
            "SELECT delivery_id FROM delivery_verdicts WHERE verdict NOT IN ('quarantined', 'failed')"
        )
        return {self._ledger.stored_as[row[0]] for row in rows}

    def _lost(self, mirror: sqlite3.Connection) -> set[int]:
        """Name the changes of which a delivery was stored and could not be used."""
        rows = mirror.execute(
            "SELECT delivery_id FROM delivery_verdicts WHERE verdict IN ('quarantined', 'failed')"
        )
        return {self._ledger.stored_as[row[0]] for row in rows}

    def _empty(self, wrong: dict[int, str]) -> set[int]:
        """Name the customers of which nothing is shown that is wrong: what differs is NULL."""
        if not any(what.startswith(DIFFERS) for what in wrong.values()):
            return set()
        rows = self._rows()
        return {
            id_
            for id_, what in wrong.items()
            if what.startswith(DIFFERS) and all(rows[id_][name] is None for name in differing(what))
        }

    def _resting_on_a_list(self, mirror: sqlite3.Connection) -> set[int]:
        """Name the customers whose row is as old as its arrival, and that did not arrive as a delivery."""
        rows = mirror.execute(
            "SELECT id FROM _customers WHERE rests_on_arrival AND NOT EXISTS (SELECT 1 FROM delivery_verdicts"
            " WHERE customer_id = _customers.id AND received_at = _customers.as_of)"
        )
        return {row[0] for row in rows}


def _unread_of(row: dict[str, Any]) -> set[str]:
    """Return the columns that a read may have left unknown."""
    if not row["partial"] or row["verified_at"] is None:
        return set()
    return {name for name, value in row.items() if value is None}


def _is_sweeping(mirror: sqlite3.Connection) -> bool:
    due = mirror.execute("SELECT sweep_due FROM _progress").fetchone()
    unfinished = mirror.execute("SELECT count(*) FROM _sweeps WHERE finished_at IS NULL").fetchone()[0]
    return bool(unfinished) or (due is not None and due[0] is not None)


def _is_owed(mirror: sqlite3.Connection, read_after: float) -> bool:
    """Tell whether what was lost last is still to be looked for: in a list, and in a read of every row."""
    row = mirror.execute("SELECT lost_at, lost_refreshed_at FROM _progress").fetchone()
    if row is None or row[0] is None:
        return False
    lost_at, refreshed_at = row
    swept_at = mirror.execute("SELECT max(started_at) FROM _sweeps WHERE complete").fetchone()[0]
    shown_at = datetime.fromisoformat(lost_at).timestamp() + read_after
    done = (swept_at, refreshed_at)
    return any(at is None or datetime.fromisoformat(at).timestamp() < shown_at for at in done)


def _count(database: sqlite3.Connection, statement: str) -> int:
    return int(database.execute(statement).fetchone()[0])


def _has(database: sqlite3.Connection, table: str) -> bool:
    found = database.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    return bool(found[0])


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path.as_uri() + "?mode=ro", uri=True)


def differing(what: str) -> list[str]:
    """Name the columns in which a row differs, by the sentence that says so."""
    return what.removeprefix(DIFFERS).split(", ")
