"""All customers of the company, with enough of their past to answer as a replica that lags would."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sync.sandbox.customer import Customer

KEPT_SECONDS = 660
"""How long the past is kept: a little longer than the largest read lag."""


class Customers:
    """The live customers by id, the last state of deleted ones, and what either was a short while ago."""

    def __init__(self) -> None:
        self._live: dict[int, Customer] = {}
        self._ids: list[int] = []
        self._deleted: dict[int, Customer] = {}
        self._mobiles: dict[str, int] = {}
        # (when, the id, what it was before), oldest first
        self._past: deque[tuple[float, int, Customer | None]] = deque()

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Customer]:
        """Walk the live customers by id."""
        return (self._live[id_] for id_ in self._ids)

    def get(self, id_: int) -> Customer | None:
        return self._live.get(id_)

    def nth(self, index: int) -> Customer:
        """Give the live customer at a place in the order of ids."""
        return self._live[self._ids[index]]

    @property
    def deleted(self) -> list[int]:
        """Ids of customers that were deleted, in that order."""
        return list(self._deleted)

    def last(self, id_: int) -> Customer:
        """Give the last state of a deleted customer. Raises KeyError for any other."""
        return self._deleted[id_]

    def is_deleted(self, id_: int) -> bool:
        return id_ in self._deleted

    @property
    def highest_id(self) -> int:
        """The highest id ever given, 0 if there was none."""
        return max(max(self._deleted, default=0), self._ids[-1] if self._ids else 0)

    def mobile_taken(self, mobile: str, by_other_than: int | None = None) -> bool:
        """Tell whether another customer has this mobile."""
        return self._mobiles.get(mobile, by_other_than) != by_other_than

    def put(self, customer: Customer, at: float | None) -> None:
        """Make this the state of the customer from now on or, without a time, from long ago."""
        before = self._live.get(customer.id)
        if at is not None:
            self._remember(customer.id, before, at)
        if before is None:
            insort(self._ids, customer.id)
            self._deleted.pop(customer.id, None)
        else:
            self._free_mobile(before)
        self._live[customer.id] = customer
        if customer.mobile is not None:
            self._mobiles[customer.mobile] = customer.id

    def remove(self, id_: int, at: float) -> Customer:
        """Delete a live customer and give its last state."""
        customer = self._live.pop(id_)
        self._remember(id_, customer, at)
        self._deleted[id_] = customer
        del self._ids[bisect_left(self._ids, id_)]
        self._free_mobile(customer)
        return customer

    def at(self, when: float) -> Moment:
        """Show the customers as they were at that time."""
        overlay: dict[int, Customer | None] = {}
        for changed_at, id_, before in reversed(self._past):
            if changed_at <= when:
                break
            overlay[id_] = before
        return Moment(self._live, self._ids, overlay)

    def _free_mobile(self, customer: Customer) -> None:
        if customer.mobile is not None and self._mobiles.get(customer.mobile) == customer.id:
            del self._mobiles[customer.mobile]

    def _remember(self, id_: int, before: Customer | None, at: float) -> None:
        self._past.append((at, id_, before))
        while self._past[0][0] < at - KEPT_SECONDS:
            self._past.popleft()


class Moment:
    """The customers as they were at one time: today's, but for those that changed since."""

    def __init__(
        self, live: dict[int, Customer], ids: list[int], overlay: dict[int, Customer | None]
    ) -> None:
        self._live = live
        self._overlay = overlay
        self._ids = ids
        if any((then is None) != (id_ not in live) for id_, then in overlay.items()):
            kept = (id_ for id_ in live if overlay.get(id_, live[id_]) is not None)
            back = (id_ for id_, then in overlay.items() if then is not None and id_ not in live)
            self._ids = sorted([*kept, *back])

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[Customer]:
        """Walk by id."""
        return (self._one(id_) for id_ in self._ids)

    def get(self, id_: int) -> Customer | None:
        return self._overlay.get(id_, self._live.get(id_))

    def slice(self, order: str, start: int, stop: int) -> list[Customer]:
        """Give a stretch of the list in one of the orders of `Settings.list_order`."""
        if order == "name":
            return sorted(self, key=_name)[start:stop]
        if order == "newest":
            count = len(self._ids)
            return [self._one(id_) for id_ in self._ids[max(0, count - stop) : max(0, count - start)]][::-1]
        return [self._one(id_) for id_ in self._ids[start:stop]]

    def matching(self, matches: Callable[[Customer], bool]) -> list[Customer]:
        return [customer for customer in self if matches(customer)]

    def _one(self, id_: int) -> Customer:
        customer = self._overlay.get(id_) or self._live.get(id_)
        if customer is None:
            raise KeyError(id_)
        return customer


def _name(customer: Customer) -> tuple[str, str, int]:
    return (customer.last_name or "", customer.first_name or "", customer.id)
