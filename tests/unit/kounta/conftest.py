import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


class LeapingSelector(selectors.DefaultSelector):
    """A selector that does not wait until a time-out is over, but lets it be over."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self.selections = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.selections += 1
        assert timeout is not None, "nothing will ever happen"
        assert self.selections < 100_000, f"the loop spins after {self.passed} s"
        self.passed += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while anything can run, and else leaps to the next timer."""

    def __init__(self) -> None:
        self._leaping = LeapingSelector()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.passed

    def clock(self) -> datetime:
        return BEGAN + timedelta(seconds=self._leaping.passed)


@pytest.fixture
def virtual_loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


@pytest.fixture
def run(virtual_loop: VirtualLoop) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine in virtual time: it waits for nothing, and its clocks say that it did."""
    return virtual_loop.run_until_complete


@pytest.fixture
def clock(virtual_loop: VirtualLoop) -> Callable[[], datetime]:
    """The wall clock of the virtual loop; it begins on 1 March 2026, at midnight UTC."""
    return virtual_loop.clock
