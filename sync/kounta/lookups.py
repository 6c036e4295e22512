"""Look-ups by what people know of a customer: the 302 to the one record, followed with care."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sync.kounta.connection import Answer
from sync.kounta.errors import KountaRefused
from sync.kounta.origin import Origin
from sync.kounta.shapes import CUSTOMER, shaped, wrong_shape
from sync.merge.customers import Customer

NOT_FOUND: Final = 404
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS: Final = 5

_ID: Final = re.compile(r"/([0-9]{1,19})(?:\.json)?$")


@dataclass(frozen=True)
class Read:
    """What upstream says of one customer: None when it answered 404.

    A 404 also comes when access is lost: it is to be believed once `Kounta.proven_after(sent)`. `asked_at`
    and `answered_at` are by our clock (UTC).
    """

    customer: Customer | None
    asked_at: datetime
    answered_at: datetime
    sent: int


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
        if answer.status == NOT_FOUND:
            return None
        if answer.status in REDIRECTS:
            return Elsewhere(self._next(url, answer))
        return one_customer(answer, named_in(url))

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


def one_customer(answer: Answer, customer_id: int | None) -> Customer:
    """Read a 200 that must be the customer of this id, or any one when the id is None."""
    customer = shaped(CUSTOMER, answer, "a customer")
    if customer_id is not None and customer.id != customer_id:
        raise wrong_shape(answer, f"customer {customer_id}", f"customer {customer.id} came")
    return customer


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
