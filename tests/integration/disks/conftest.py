"""A disk that fails, and the operations at which it is tried."""

from collections.abc import Iterator

import pytest

from tests.budget import LONG
from tests.clock import Clock
from tests.faulty_disk import Fault, FaultyDisk, Kind
from tests.timekeeping import SystemClock

MOST_OPERATIONS = 200
EVERY = 1 if LONG else 17
"""The check tries each so many-th operation, others for each kind of fault; `scripts/test --long` all."""


class Faults:
    """Gives one fault after the other until the scenario has fewer operations."""

    def __init__(self, disk: FaultyDisk) -> None:
        self._disk = disk
        self.tried = 0

    def each(self, kind: Kind, *, persistent: bool = False) -> Iterator[Fault]:
        at = 1 + (2 * len(kind) + persistent) % EVERY
        while at <= MOST_OPERATIONS:
            yield Fault(kind, at, persistent)
            if self._disk.hit is None:
                return
            self.tried += 1
            at += EVERY
        pytest.fail(f"a scenario has more than {MOST_OPERATIONS} operations")


@pytest.fixture(scope="module")
def disk() -> Iterator[FaultyDisk]:
    with FaultyDisk().in_use() as disk:
        yield disk


@pytest.fixture
def faults(disk: FaultyDisk) -> Faults:
    return Faults(disk)


@pytest.fixture
def clock(system_clock: SystemClock) -> Clock:
    clock = Clock()
    system_clock.follow(clock)
    return clock
