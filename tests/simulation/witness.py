"""What upstream really served, and what was true when: by which a field shown as verified is judged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sync.sandbox.customer import Customer
    from tests.simulation.ledger import Ledger

ADDRESSES = ("primary", "shipping")
PARTS = ("address", "city", "state", "postal_code", "country")
TEXTS = ("first_name", "last_name", "email", "phone", "mobile", "image", "reference_id")
DIALLED = frozenset({"phone", "mobile", *(f"{kind}_postal_code" for kind in ADDRESSES)})
FIELDS = (*TEXTS, "accepts_marketing", "tags", *(f"{kind}_address" for kind in ADDRESSES))
_FLAGS = (True, False, None, 0, 1, "0", "1", "true", "false", "")


@dataclass(frozen=True, slots=True)
class Served:
    """One record in one answer. Times are epoch seconds; `carried`: the fields that have a meaning."""

    asked_at: float
    answered_at: float
    carried: frozenset[str]


class Witness:
    """Sees every answer that reached the worker. It stands outside the local Kounta and the mirror."""

    def __init__(self, ledger: Ledger, initial: Iterable[Customer], application: str) -> None:
        self._ledger = ledger
        self._application = application
        self._initial = {customer.id: customer for customer in initial}
        self._served: dict[int, list[Served]] = {}
        self._listed: dict[int, frozenset[str]] = {}

    def note(self, path: str, body: bytes, asked_at: float, answered_at: float) -> None:
        """Note the records of an answer 2xx to a call about customers."""
        if "/customers" not in path:
            return
        try:
            said = json.loads(body)
        except ValueError:
            return
        for record in said if isinstance(said, list) else [said]:
            if isinstance(record, dict) and (customer_id := _id(record.get("id"))) is not None:
                served = Served(asked_at, answered_at, frozenset(_carried(record)))
                self._served.setdefault(customer_id, []).append(served)
                if isinstance(said, list):
                    self._listed[customer_id] = served.carried

    def served_at(self, customer_id: int, verified_at: float) -> list[Served]:
        """Give the answers about a customer that came at that time (to the millisecond)."""
        served = self._served.get(customer_id, ())
        return [one for one in served if abs(one.answered_at - verified_at) < 0.0011]

    def listed(self, customer_id: int) -> frozenset[str]:
        """Return the fields that the customer's newest list item carried; all, if it was in no list."""
        return self._listed.get(customer_id, frozenset(FIELDS))

    def states(self, customer_id: int, since: float, until: float) -> Iterator[Mapping[str, Any]]:
        """Walk what was true of a customer at some time of an interval, as columns."""
        current = self._initial.get(customer_id)
        for change in self._ledger.changes.get(customer_id, ()):
            if change.at > until:
                break
            if change.at > since and current is not None:
                yield columns(current.seen_by(self._application))
            current = None if change.topic == "customers/deleted" else change.customer
        if current is not None:
            yield columns(current.seen_by(self._application))


def columns(record: Mapping[str, Any]) -> dict[str, Any]:
    """Give a record's values as the columns of the mirror hold them."""
    values = {name: record.get(name) for name in (*TEXTS, "accepts_marketing", "tags")}
    for kind in ADDRESSES:
        address = record.get(f"{kind}_address") or {}
        values |= {f"{kind}_{part}": address.get(part) for part in PARTS}
    return values


def field_of(column: str) -> str:
    """Name the field of Kounta that a column is read from."""
    kind = column.partition("_")[0]
    return f"{kind}_address" if kind in ADDRESSES else column


def is_same(column: str, shown: Any, true: Any, *, dialled: bool, none_is_empty: bool) -> bool:
    """Tell whether two values are the same, but for what the oddities of this seed cannot tell apart.

    `dialled`: numbers may have lost leading zeros and +. `none_is_empty`: "", [] and none are one.
    """
    if shown == true:
        return True
    if none_is_empty and not shown and not true and column != "accepts_marketing":
        return True
    if dialled and column in DIALLED and isinstance(shown, str) and isinstance(true, str):
        return shown.lstrip("+0") == true.lstrip("+0")
    return False


def _id(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _carried(record: Mapping[str, Any]) -> Iterator[str]:
    if "primary_email_address" in record:
        record = {**record, "email": record["primary_email_address"]}
    for name in FIELDS:
        if name in record and _means(name, record[name]):
            yield name


def _means(name: str, value: Any) -> bool:
    """Tell whether a value has a meaning for its field, as issue 13 says."""
    if value is None or value is False or value == "":
        return True
    if name == "accepts_marketing":
        return value in _FLAGS
    if name == "tags":
        tags = value.values() if isinstance(value, dict) else value
        return isinstance(value, list | dict) and all(map(_is_text, tags))
    if name in TEXTS:
        return _is_text(value)
    return isinstance(value, dict) or value == []


def _is_text(value: Any) -> bool:
    if isinstance(value, str):
        return value.isprintable() or not any("\ud800" <= sign <= "\udfff" for sign in value)
    return isinstance(value, int | float) and not isinstance(value, bool)
