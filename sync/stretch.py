"""Deliveries in their order, as they are read from the inbox: gaps between them, and those read ahead."""

import asyncio
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from receiver.inbox import Delivery
from sync.merge.snapshots import Snapshot


class Unread(NamedTuple):
    """A delivery that says nothing of a customer, and why; a ping is none of a loss."""

    reason: str
    ids: tuple[int, ...] = ()
    """Customers that its bytes name: each is in doubt."""
    is_loss: bool = True
    """Whether it may have said something of a customer of ours."""


Reading = Snapshot | Unread


class Gap(NamedTuple):
    """A stretch of an inbox from which the company's deliveries are gone."""

    after: int
    """The position before it."""
    first: int
    """The position behind it."""


class Stretch(NamedTuple):
    """Deliveries of an inbox in their order."""

    after: int
    """The position before the first of them."""
    deliveries: Sequence[Delivery]
    readings: Sequence[Reading] | None = None
    """What they say, where that was read ahead."""

    def behind(self, position: int) -> "Stretch":
        """Leave out what lies at or before a position; nothing is left of what does not reach back to it."""
        if position < self.after:
            return NOTHING
        first = position - self.after
        readings = None if self.readings is None else self.readings[first:]
        return Stretch(position, self.deliveries[first:], readings)


NOTHING: Final = Stretch(0, ())


def first_gap(stretch: Stretch) -> Gap | None:
    """Find the first gap before or between these: a company's positions have none."""
    position = stretch.after
    for delivery in stretch.deliveries:
        if delivery.position != position + 1:
            return Gap(position, delivery.position)
        position = delivery.position
    return None


class Ahead:
    """What is read while a batch is written; it ends with the block."""

    def __init__(self) -> None:
        self._reading: asyncio.Task[Stretch] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
            if not self._reading.cancelled():
                self._reading.exception()  # seen: it is met again

    def start(self, reading: Coroutine[Any, Any, Stretch]) -> None:
        self._reading = asyncio.create_task(reading, name="reading ahead")

    async def found(self) -> Stretch:
        """Wait for it; NOTHING when it failed, or was not started."""
        if self._reading is None:
            return NOTHING
        await asyncio.wait([self._reading])
        return NOTHING if self._reading.exception() is not None else self._reading.result()
