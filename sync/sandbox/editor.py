"""The company's people, who edit customers all day: some of it in ways that trip a mirror."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from sync.sandbox.people import edit, person

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random
    from typing import Any

    from sync.sandbox.company import Company

CREATES, DELETES, THERE_AND_BACK, TWICE = 0.06, 0.03, 0.08, 0.08
"""Shares of the edits; the rest are updates of one attribute."""


class Editor:
    """Makes random edits. Some have a second step within a second, which `follow_up` takes when it is due."""

    def __init__(self, company: Company, random: Random) -> None:
        self._company = company
        self._random = random
        self._steps = 0
        # (when, order, the customer, what it becomes, whether it is announced)
        self._follow_ups: list[tuple[float, int, int, Mapping[str, Any], bool]] = []

    def edit(self, *, announce: bool = True) -> None:
        """Make one edit: a creation, a deletion, or an update, which another may follow within a second."""
        company, random = self._company, self._random
        kind = random.random()
        if kind < CREATES or not len(company.customers):
            company.create(person(random, company.customers.mobile_taken), announce=announce)
            return
        customer = company.customers.nth(random.randrange(len(company.customers)))
        if kind < CREATES + DELETES:
            company.delete(customer.id, announce=announce)
            return
        values = edit(random, company.customers.mobile_taken)
        company.update(customer.id, values, announce=announce)
        if kind < CREATES + DELETES + THERE_AND_BACK:
            before = customer.seen_by(company.settings.client_id)
            self._later(customer.id, {name: before[name] for name in values}, announce=announce)
        elif kind < CREATES + DELETES + THERE_AND_BACK + TWICE:
            self._later(customer.id, edit(random, company.customers.mobile_taken), announce=announce)

    def pause(self, rate: float) -> float:
        """Give how many seconds pass until the next edit, at so many a second on average."""
        return self._random.expovariate(rate)

    def follow_up(self, now: float) -> None:
        """Take the second steps that are due."""
        while self._follow_ups and self._follow_ups[0][0] <= now:
            _, _, id_, values, announce = heapq.heappop(self._follow_ups)
            mobile = values.get("mobile")
            if self._company.customers.get(id_) is None:
                continue  # it was deleted meanwhile
            if mobile and self._company.customers.mobile_taken(mobile, by_other_than=id_):
                continue
            self._company.update(id_, values, announce=announce)

    def next_follow_up(self) -> float | None:
        """Give when the next second step is due."""
        return self._follow_ups[0][0] if self._follow_ups else None

    def finish(self) -> None:
        """Take all second steps now."""
        self.follow_up(float("inf"))

    def _later(self, id_: int, values: Mapping[str, Any], *, announce: bool) -> None:
        self._steps += 1
        when = self._company.clock() + self._random.uniform(0, 0.9)
        heapq.heappush(self._follow_ups, (when, self._steps, id_, values, announce))
