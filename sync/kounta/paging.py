"""The walk of a list: from page to page by X-Next-Page alone."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from pydantic_core import from_json

from sync.kounta.connection import Answer
from sync.kounta.errors import (
    IncompleteListError,
    KountaAccessLost,
    KountaError,
    KountaRefused,
    KountaWrongShape,
)
from sync.kounta.lookups import GONE
from sync.kounta.origin import Origin
from sync.kounta.shapes import UnreadableItem, shaped_customers, wrong_shape
from sync.merge.customers import Customer

T = TypeVar("T")

MOST_PAGES: Final = 100_000
MOST_STALE_PAGES: Final = 3
"""So many pages in a row without an id that is new in this walk end it."""
MOST_ITEMS: Final = 1000
"""No page that was seen has more than 100 (kounta-api.md)."""
_COUNT: Final = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class Page:
    """One page of the list. `next` is the URL to store so that a walk can go on from there; None at the end.

    `answered_at` is when the answer arrived by our clock (UTC); `pages` is upstream's count of pages, None
    when it gives none. A page may be short or empty and yet not be the last. `unreadable` are the items that
    are no customers. `is_short`: it is the last, and fewer pages came than `pages` says.
    """

    url: str
    customers: list[Customer]
    unreadable: list[UnreadableItem]
    next: str | None
    asked_at: datetime
    answered_at: datetime
    pages: int | None
    is_short: bool = False


class Walk:
    """One walk of the list at `below` (a path below `/v1`), and what was seen of it, so that it ends.

    Each page is an array with customers in it (or an empty one), or an error; the next one is on the same
    origin, at the same list, and was not asked for before in this walk. `before` counts the pages of the
    earlier walk that this one goes on from, None: it is not known.
    """

    def __init__(self, origin: Origin, below: str, before: int | None = 0) -> None:
        self._origin = origin
        self._below = below
        self._before = before
        self._seen: set[str] = set()
        self._ids: set[int] = set()
        self._stale = 0

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
        items, following = self.read(url, answer, shaped_customers, _id_of)
        count = answer.headers.get("X-Pages", "")
        pages = int(count) if _COUNT.fullmatch(count) else None
        return Page(
            url,
            [item for item in items if isinstance(item, Customer)],
            [item for item in items if isinstance(item, UnreadableItem)],
            following,
            answer.asked_at,
            answer.answered_at,
            pages,
            following is None and self._lacks(pages),
        )

    def require_whole(self, page: Page) -> None:
        """Raise IncompleteListError when the last page says that there are more pages than came."""
        if page.is_short:
            raise IncompleteListError(
                200,
                None,
                f"the list ended after {self._count} of {page.pages} pages",
                "Nothing is taken for deleted because of it. Check whether a proxy drops X-Next-Page",
            )

    def _lacks(self, pages: int | None) -> bool:
        return pages is not None and self._count is not None and self._count < pages

    @property
    def _count(self) -> int | None:
        return None if self._before is None else self._before + len(self._seen)

    def read(
        self, url: str, answer: Answer, items: Callable[[Answer], list[T]], id_of: Callable[[T], int | None]
    ) -> tuple[list[T], str | None]:
        """Read the answer to `url` as a page of what `items` makes of it, and where the next one is.

        Raises KountaWrongShape, IncompleteListError for a list that goes on without anything new.
        """
        if answer.status in GONE:
            raise self._gone(url, answer)
        self._seen.add(url)
        require_few(answer)
        found = items(answer)
        ids = {id_ for item in found if (id_ := id_of(item)) is not None}
        self._stale = 0 if ids - self._ids else self._stale + 1
        self._ids |= ids
        return found, self._next(url, answer)

    def _next(self, url: str, answer: Answer) -> str | None:
        named = answer.headers.get("X-Next-Page", "").strip()
        if not named:
            return None
        following = self._origin.follow(named, base=url, below=self._below)
        if following in self._seen:
            raise _endless(answer, "its next page points back to a page already read")
        if self._stale >= MOST_STALE_PAGES or len(self._seen) >= MOST_PAGES:
            raise _endless(answer, f"{len(self._seen)} pages came, the last {self._stale} with nothing new")
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


def require_few(answer: Answer) -> None:
    """Raise KountaWrongShape for an array of more than MOST_ITEMS; what is no array is left to others."""
    if answer.body.count(b",") < MOST_ITEMS:
        return
    try:
        array = from_json(answer.body)
    except ValueError:
        return
    if isinstance(array, list) and len(array) > MOST_ITEMS:
        raise wrong_shape(answer, f"a page of at most {MOST_ITEMS} items", f"{len(array)} came")


def _id_of(item: Customer | UnreadableItem) -> int | None:
    return item.id if isinstance(item, Customer) else item.customer_id


def _endless(answer: Answer, came: str) -> IncompleteListError:
    error = IncompleteListError(
        answer.status,
        None,
        f"the list does not end: {came}",
        "Nothing is taken for deleted because of it. Check whether a proxy changes X-Next-Page",
    )
    error.shows = "endless-pages"
    return error
