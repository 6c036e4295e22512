"""Look-ups by what people know of a customer: the 302 to the one record, followed with care."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sync.kounta.connection import Answer
from sync.kounta.errors import KountaOtherCustomer, KountaRefused
from sync.kounta.origin import Origin
from sync.kounta.shapes import CUSTOMER, shaped, wrong_shape
from sync.merge.customers import Customer
from sync.merge.deleted import flags_in, says_deleted

NOT_FOUND: Final = 404
GONE: Final = frozenset({NOT_FOUND, 410})
"""What is not there, or not any more: the mirror takes both for the same."""
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS: Final = 5

_ID: Final = re.compile(r"/([0-9]{1,19})(?:\.json)?$")


@dataclass(frozen=True)
class Read:
    """What upstream says of one customer: None when it answered 404, 410 or "deleted" in a field.

    A 404 also comes when access is lost: it is to be believed once `Kounta.proven_after(sent)`. `asked_at`
    and `answered_at` are by our clock (UTC).
    """

    customer: Customer | None
    asked_at: datetime
    answered_at: datetime
    sent: int
    oddities: frozenset[str] = frozenset()
    """What was odd in the customer's record, by names of docs/reference/upstream.md."""


@dataclass(frozen=True)
class Elsewhere:
    """The customer is at `url`, which is on the same origin."""

    url: str


class Trail:
    """One look-up among the customers at `below`, from redirect to redirect, never twice to one place."""

    def __init__(self, origin: Origin, below: str) -> None:
        self._origin = origin
        self._below = below
        self._seen: set[str] = set()

    def step(self, url: str, answer: Answer) -> Customer | Elsewhere | None:
        """Read the answer to `url`: the customer, where else to ask, or None when there is none.

        Raises KountaWrongShape for a place that credentials must not be sent to, and for a loop.
        """
        self._seen.add(url)
        if answer.status in GONE:
            return None
        if answer.status in REDIRECTS:
            return Elsewhere(self._next(url, answer))
        return one_customer(answer, named_in(url))

    def read(self, customer_id: int, url: str, answer: Answer) -> Read | Elsewhere:
        """Read the answer to `url` as that of a read of one customer, perhaps from redirect to redirect.

        Raises KountaOtherCustomer when it is about another one, or points to it.
        """
        found = self.step(url, answer)
        if isinstance(found, Elsewhere):
            named = named_in(found.url)
            if named is not None and named != customer_id:
                raise other_customer(answer, customer_id, named)
            return found
        oddities = frozenset[str]()
        if found is not None:
            oddities = oddities_of(found)
            if found.id != customer_id:
                raise other_customer(answer, customer_id, found.id)
            if says_deleted(found.model_extra):
                found = None
        return Read(found, answer.asked_at, answer.answered_at, answer.sent, oddities)

    def _next(self, url: str, answer: Answer) -> str:
        location = answer.headers.get("Location", "").strip()
        if not location:
            raise wrong_shape(answer, "a redirect to the customer", "it names no Location")
        following = self._origin.follow(location, base=url, below=self._below)
        if following in self._seen:
            raise wrong_shape(answer, "a redirect to the customer", "it goes round in a circle")
        if len(self._seen) > MOST_REDIRECTS:
            raise wrong_shape(answer, "a redirect to the customer", f"it is the {len(self._seen)}th in a row")
        return following


def oddities_of(customer: Customer) -> frozenset[str]:
    """Name what is odd in a record, by names of docs/reference/upstream.md."""
    flags = flags_in(customer.model_extra)
    return customer.oddities if flags is None else customer.oddities | {flags}


def one_customer(answer: Answer, customer_id: int | None) -> Customer:
    """Read a 200 that must be the customer of this id, or any one when the id is None."""
    customer = shaped(CUSTOMER, answer, "a customer")
    if customer_id is not None and customer.id != customer_id:
        error = other_customer(answer, customer_id, customer.id)
        error.shows = "answers-another"
        raise error
    return customer


def other_customer(answer: Answer, customer_id: int, came: int) -> KountaOtherCustomer:
    """Return the error for an answer about another customer than the one that was asked for."""
    wrong = wrong_shape(answer, f"customer {customer_id}", f"customer {came} came")
    error = KountaOtherCustomer(wrong.status, wrong.code, wrong.description, wrong.advice)
    error.asked_at, error.answered_at, error.sent = answer.asked_at, answer.answered_at, answer.sent
    return error


def named_in(url: str) -> int | None:
    """Give the id that the path of `url` ends in, None when it ends in none."""
    found = _ID.search(url.partition("?")[0])
    return int(found[1]) if found else None


def checked(wanted: Mapping[str, str]) -> Mapping[str, str]:
    """Refuse a look-up without all its values (the seed: all three of first name, last name and phone)."""
    for name, value in wanted.items():
        if not value.strip():
            raise KountaRefused(
                f"a look-up by {', '.join(wanted)} needs a value for each, {name} has none",
                f"Give {name} too",
            )
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise KountaRefused(
                f"{name} holds half of a character (a lone surrogate)", "Type the value anew"
            ) from error
    return wanted
