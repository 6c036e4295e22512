"""The walk of a list: from page to page by X-Next-Page alone."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from sync.kounta.connection import Answer
from sync.kounta.errors import KountaAccessLost, KountaError, KountaRefused, KountaWrongShape
from sync.kounta.lookups import GONE
from sync.kounta.origin import Origin
from sync.kounta.shapes import UnreadableItem, shaped_customers, wrong_shape
from sync.merge.customers import Customer

T = TypeVar("T")

MOST_PAGES: Final = 100_000
MOST_EMPTY_PAGES: Final = 100
_COUNT: Final = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class Page:
    """One page of the list. `next` is the URL to store so that a walk can go on from there; None at the end.

    `answered_at` is when the answer arrived by our clock (UTC); `pages` is upstream's count of pages, None
    when it gives none. A page may be short or empty and yet not be the last. `unreadable` are the items that
    are no customers.
    """

    url: str
    customers: list[Customer]
    unreadable: list[UnreadableItem]
    next: str | None
    asked_at: datetime
    answered_at: datetime
    pages: int | None


class Walk:
    """One walk of the list at `below` (a path below `/v1`), and what was seen of it, so that it ends.

    Each page is an array with customers in it (or an empty one), or an error; the next one is on the same
    origin, at the same list, and was not asked for before in this walk.
    """

    def __init__(self, origin: Origin, below: str) -> None:
        self._origin = origin
        self._below = below
        self._seen: set[str] = set()
        self._empty = 0

    def start(self, stored: str | None) -> str:
        """Give the URL of the first page, or check one that an earlier walk has left in `Page.next`."""
        first = self._origin.at(f"{self._below}.json")
        if stored is None:
            return first
        try:
            return self._origin.follow(stored, base=first, below=self._below)
        except KountaWrongShape as error:
            raise KountaRefused(
                f"no walk of {first} goes on at {stored}", "Start the walk from the beginning"
            ) from error

    def page(self, url: str, answer: Answer) -> Page:
        """Read the answer to `url`; raises KountaWrongShape for a body or next page that cannot be right."""
        items, following = self.read(url, answer, shaped_customers)
        count = answer.headers.get("X-Pages", "")
        return Page(
            url,
            [item for item in items if isinstance(item, Customer)],
            [item for item in items if isinstance(item, UnreadableItem)],
            following,
            answer.asked_at,
            answer.answered_at,
            int(count) if _COUNT.fullmatch(count) else None,
        )

    def read(
        self, url: str, answer: Answer, items: Callable[[Answer], list[T]]
    ) -> tuple[list[T], str | None]:
        """Read the answer to `url` as a page of what `items` makes of it, and where the next one is."""
        if answer.status in GONE:
            raise self._gone(url, answer)
        self._seen.add(url)
        found = items(answer)
        self._empty = 0 if found else self._empty + 1
        return found, self._next(url, answer)

    def _next(self, url: str, answer: Answer) -> str | None:
        named = answer.headers.get("X-Next-Page", "").strip()
        if not named:
            return None
        following = self._origin.follow(named, base=url, below=self._below)
        if following in self._seen:
            raise wrong_shape(
                answer, "an X-Next-Page not seen before", "it points back to a page already read"
            )
        if self._empty >= MOST_EMPTY_PAGES or len(self._seen) >= MOST_PAGES:
            came = f"{len(self._seen)} pages came, the last {self._empty} of them empty"
            raise wrong_shape(answer, "a list that ends", came)
        return following

    def _gone(self, url: str, answer: Answer) -> KountaError:
        if url == self.start(None):
            return KountaAccessLost(
                answer.status,
                None,
                f"answered {answer.status} for the list itself: these credentials see no such company",
                "Check KOUNTA_COMPANY_ID, and that the application still has access to it",
            )
        description = f"answered {answer.status} for a page that an earlier one named"
        return KountaError(answer.status, None, description, "Start the walk from the beginning")
