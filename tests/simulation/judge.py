"""What must be true of the files, whatever happened: read with plain SQL, judged by upstream's truth."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING

from sync.demo.comparison import wrong_rows

if TYPE_CHECKING:
    from pathlib import Path

    from sync.sandbox import Sandbox
    from tests.simulation.ledger import Ledger

LISTED = frozenset({"first_name", "last_name", "email", "image", "reference_id"})
"""What an abridged list carries."""
CLEAR_SECONDS = 3.5
"""Two changes this far apart have stamps further apart than the window: whole seconds, and 2 s."""


WINDOW_SECONDS = 2
DELETED = "deleted in the mirror, live upstream"
PROOFS = 2
"""So often a 404 that nothing had announced is asked for (decision 0006)."""
_RULED = """
SELECT ruled.delivery_id, ruled.customer_id, ruled.verdict, ruled.reason, ruled.applied_at, changed.as_of
FROM delivery_verdicts AS ruled LEFT JOIN customer_changes AS changed
ON changed.delivery_id = ruled.delivery_id AND changed.applied_at = ruled.applied_at
"""


class Broken(Exception):  # noqa: N818 - it says what is the case
    """Something that must always hold does not; the sentence says what."""


class Judge:
    """Looks at the files of one simulation, and knows upstream's truth."""

    def __init__(self, directory: Path, sandbox: Sandbox, ledger: Ledger, *, ordered: bool) -> None:
        self._mirror = directory / "mirror.db"
        self._inbox = directory / "inbox.db"
        self._sandbox = sandbox
        self._ledger = ledger
        self._ordered = ordered
        self._denied: Counter[int] = Counter()
        """How often a read of a customer was answered 404 while access was lost."""
        self.excused: dict[int, str] = {}
        """Customers that were wrong at the last look, and why that may be."""

    def wrong(self) -> dict[int, str]:
        """Compare every row with upstream's truth."""
        company = self._sandbox.company
        truth = json.loads(json.dumps(list(company.truth()), default=str))
        return wrong_rows(self._mirror, truth, company.customers.deleted)

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
        if not self._mirror.exists():
            return 0
        with closing(_opened(self._mirror)) as mirror:
            if not _has(mirror, "_verifications"):
                return 0
            applied = self._applied(mirror)
            unordered = self._resting_on_a_list(mirror)
            doubted = {row[0] for row in mirror.execute("SELECT customer_id FROM _verifications")}
            doubted |= {row[0] for row in mirror.execute("SELECT customer_id FROM _held_deletes")}
            sweeping = _is_sweeping(mirror)
            swept = mirror.execute("SELECT count(*) FROM _sweeps WHERE complete").fetchone()[0]
        self.excused = {}
        wrong = self.wrong()
        for customer_id, what in wrong.items():
            changes = self._ledger.changes.get(customer_id, [])
            told = bool(changes) and changes[-1].number in applied
            clear = len(changes) < 2 or changes[-1].at - changes[-2].at > CLEAR_SECONDS
            if self._ordered and told and clear and customer_id not in unordered:
                raise Broken(f"customer {customer_id} was told in order, and yet: {what}")
            if customer_id in doubted:
                self.excused[customer_id] = "in doubt"
            elif sweeping:
                self.excused[customer_id] = "a sweep is pending"
            elif changes and not told:
                self.excused[customer_id] = "not told"
            elif what == DELETED and self._denied[customer_id] >= PROOFS:
                self.excused[customer_id] = "denied twice"
            elif not swept or (what == "missing" and not changes):
                self.excused[customer_id] = "never listed"
            else:
                raise Broken(f"customer {customer_id} is silently wrong: {what}")
        return len(wrong)

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
                stamp = datetime.fromisoformat(json.loads(body)["updated_at"])
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

    def _resting_on_a_list(self, mirror: sqlite3.Connection) -> set[int]:
        """Name the customers whose row is as old as its arrival, and that did not arrive as a delivery."""
        rows = mirror.execute(
            "SELECT id FROM _customers WHERE rests_on_arrival AND NOT EXISTS (SELECT 1 FROM delivery_verdicts"
            " WHERE customer_id = _customers.id AND received_at = _customers.as_of)"
        )
        return {row[0] for row in rows}


def _is_sweeping(mirror: sqlite3.Connection) -> bool:
    due = mirror.execute("SELECT sweep_due FROM _progress").fetchone()
    unfinished = mirror.execute("SELECT count(*) FROM _sweeps WHERE finished_at IS NULL").fetchone()[0]
    return bool(unfinished) or (due is not None and due[0] is not None)


def _has(database: sqlite3.Connection, table: str) -> bool:
    found = database.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    return bool(found[0])


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path.as_uri() + "?mode=ro", uri=True)


def only_listed(wrong: dict[int, str]) -> dict[int, str]:
    """Leave out the rows that are wrong only in what an abridged list does not carry."""
    return {
        customer_id: what
        for customer_id, what in wrong.items()
        if not what.startswith("differs in ") or LISTED & set(what.removeprefix("differs in ").split(", "))
    }
