"""Deliveries between the change that they announce and the receiver's answer, and what befalls them."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from sync.sandbox.customer import Customer
    from sync.sandbox.settings import Faults
    from sync.sandbox.webhooks import Webhook


@dataclass(frozen=True)
class Change:
    """One change of a customer: what webhooks announce. `customer` is its state after, or last state."""

    number: int
    at: float
    topic: str
    customer: Customer


@dataclass
class Delivery:
    """One POST that has not been answered yet. `due` is when it may leave, in epoch seconds."""

    webhook: Webhook
    change: Change
    due: float
    order: int
    garbled: bool = False
    badly_signed: bool = False
    tries: int = 0

    @property
    def lane(self) -> tuple[int, int]:
        """What must not be under way twice at once: two about the same customer to the same webhook."""
        return (self.webhook.id, self.change.customer.id)


@dataclass
class DeliveryCounts:
    """What became of the deliveries.

    announced: one for each change and webhook that wants it. lost: never left. doubled: extra copies.
    delayed: left late on purpose. disordered: left after a later change of the same customer had left.
    sent: POSTs that left, retries among them. answered_200: any 2xx. refused: another status or no answer.
    """

    announced: int = 0
    sent: int = 0
    answered_200: int = 0
    refused: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    delayed: int = 0
    retried: int = 0
    waiting: int = 0
    in_flight: int = 0


@dataclass
class _Lane:
    busy: bool = False
    queue: deque[Delivery] = field(default_factory=deque)
    last_left: int = 0


class Outbox:
    """Plans deliveries with their faults and hands them out when they are due.

    Without faults deliveries about one customer reach one webhook one after another, in the order of the
    changes; those about different customers do not wait for each other. `wake` is called whenever a delivery
    was added or got another time.
    """

    def __init__(self, faults: Faults, random: Random) -> None:
        self.counts = DeliveryCounts()
        self.wake: Callable[[], None] = _nothing
        self._faults = faults
        self._random = random
        self._order = 0
        self._heap: list[tuple[float, int, Delivery]] = []
        self._held: dict[tuple[int, int], Delivery] = {}
        self._lanes: dict[tuple[int, int], _Lane] = {}

    def announce(self, change: Change, webhooks: Iterable[Webhook]) -> None:
        """Plan the deliveries of one change to these webhooks."""
        for webhook in webhooks:
            self._plan(change, webhook)

    def repeat(self, change: Change, webhooks: Iterable[Webhook]) -> None:
        """Plan deliveries of a change that go to another address too; nothing befalls them."""
        for webhook in webhooks:
            self.counts.announced += 1
            self._push(Delivery(webhook, change, due=change.at, order=0))

    def due(self, now: float) -> list[Delivery]:
        """Take out the deliveries that leave now. Each must come back through `finished`."""
        leaving = []
        while self._heap and self._heap[0][0] <= now:
            _, order, delivery = heapq.heappop(self._heap)
            if order != delivery.order:
                continue  # it was put elsewhere since
            if self._held.get(delivery.lane) is delivery:
                del self._held[delivery.lane]
            lane = self._lanes.setdefault(delivery.lane, _Lane())
            if lane.busy:
                lane.queue.append(delivery)
            else:
                lane.busy = True
                self.counts.waiting -= 1
                self.counts.in_flight += 1
                leaving.append(delivery)
        return leaving

    def next_due(self) -> float | None:
        """Give the time from which `due` may have something, or None while nothing waits for a time."""
        return self._heap[0][0] if self._heap else None

    def left(self, delivery: Delivery) -> None:
        """Note that the POST of a delivery begins."""
        lane = self._lanes[delivery.lane]
        self.counts.sent += 1
        if delivery.change.number < lane.last_left:
            self.counts.disordered += 1
        lane.last_left = max(lane.last_left, delivery.change.number)

    def finished(self, delivery: Delivery, status: int | None, now: float) -> bool:
        """Note the receiver's answer: its status, or None when there was none. It may be tried again.

        Gives whether the answer was a 2xx.
        """
        self.counts.in_flight -= 1
        answered = status in range(200, 300)
        if answered:
            self.counts.answered_200 += 1
        else:
            self.counts.refused += 1
            if delivery.tries < self._faults.delivery_retries:
                self.counts.retried += 1
                delivery.due = now + self._faults.retry_seconds * 2**delivery.tries
                delivery.tries += 1
                self._push(delivery)
        lane = self._lanes[delivery.lane]
        lane.busy = False
        if lane.queue:
            waiting = lane.queue.popleft()
            self.counts.waiting -= 1
            waiting.due = now
            self._push(waiting)
        return answered

    def hurry(self, now: float) -> None:
        """Make everything that waits due now, in the order in which it would have left."""
        self._held.clear()
        waiting = sorted(entry for entry in self._heap if entry[1] == entry[2].order)
        self._heap = []
        for _, _, delivery in waiting:
            delivery.due = min(delivery.due, now)
            self.counts.waiting -= 1
            self._push(delivery)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return self.counts.waiting == 0 and self.counts.in_flight == 0

    def _plan(self, change: Change, webhook: Webhook) -> None:
        # Every delivery draws the same number of times, so that changing one share leaves the others' draws.
        lost, doubled, disordered, delayed, garbled, badly_signed, delay, double_delay = (
            self._random.random() for _ in range(8)
        )
        faults = self._faults
        self.counts.announced += 1
        if lost < faults.lost:
            self.counts.lost += 1
            return
        delivery = Delivery(
            webhook,
            change,
            due=change.at,
            order=0,
            garbled=garbled < faults.garbled,
            badly_signed=badly_signed < faults.badly_signed,
        )
        if delayed < faults.delayed:
            self.counts.delayed += 1
            delivery.due += delay * faults.max_delay_seconds
        held = self._held.pop(delivery.lane, None)
        if held is not None:
            self._push(delivery)
            held.due = delivery.due
            self.counts.waiting -= 1
            self._push(held)
        elif disordered < faults.disordered:
            delivery.due = change.at + faults.max_delay_seconds
            self._held[delivery.lane] = delivery
            self._push(delivery)
        else:
            self._push(delivery)
        if doubled < faults.doubled:
            self.counts.doubled += 1
            copy = Delivery(webhook, change, delivery.due + double_delay * faults.max_delay_seconds, order=0)
            self._push(copy)

    def _push(self, delivery: Delivery) -> None:
        self._order += 1
        delivery.order = self._order
        self.counts.waiting += 1
        heapq.heappush(self._heap, (delivery.due, delivery.order, delivery))
        self.wake()


def _nothing() -> None:
    """Do nothing: no loop waits for deliveries."""
