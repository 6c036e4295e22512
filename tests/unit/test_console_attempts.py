"""Guesses at the console's password: each run costs more and more time, and is logged."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from sync.console.attempts import (
    FORGOTTEN_SECONDS,
    LONGEST_SECONDS,
    MOST_SOURCES,
    MOST_WAITING,
    Attempts,
    TooManyAttemptsError,
    source_of,
)

GUESSER, PERSON = "203.0.113.9", "203.0.113.10"


class Clock:
    """A time that passes when someone sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(clock, clock.sleep)


def wrong() -> bool:
    return False


def right() -> bool:
    return True


async def test_the_delay_grows_with_failures_and_has_a_bound(attempts: Attempts, clock: Clock) -> None:
    for _ in range(12):
        assert not await attempts.admit(GUESSER, wrong)
    assert clock.slept == [1, 2, 4, 8, 16, *[LONGEST_SECONDS] * 3]


async def test_the_right_password_waits_too_or_its_haste_would_tell(attempts: Attempts, clock: Clock) -> None:
    for _ in range(5):
        await attempts.admit(GUESSER, wrong)
    clock.slept.clear()
    assert await attempts.admit(GUESSER, right)
    assert clock.slept == [2]
    assert await attempts.admit(GUESSER, right)
    assert not await attempts.admit(GUESSER, wrong)
    assert clock.slept == [2]  # it was let in, so the run is over


async def test_others_are_not_delayed(attempts: Attempts, clock: Clock) -> None:
    for _ in range(5):
        await attempts.admit(GUESSER, wrong)
    clock.slept.clear()
    assert await attempts.admit(PERSON, right)
    assert clock.slept == []


async def test_a_run_is_forgotten_after_a_while(attempts: Attempts, clock: Clock) -> None:
    for _ in range(5):
        await attempts.admit(GUESSER, wrong)
    clock.slept.clear()
    clock.now += FORGOTTEN_SECONDS + 1
    await attempts.admit(GUESSER, wrong)
    assert clock.slept == []


async def test_attempts_at_once_are_looked_at_one_after_the_other_and_few_may_wait() -> None:
    gate = asyncio.Event()
    slept: list[float] = []
    looked: list[int] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await gate.wait()

    def look() -> bool:
        looked.append(1)
        return False

    attempts = Attempts(lambda: 0.0, sleep)
    for _ in range(4):
        await attempts.admit(GUESSER, look)
    looked.clear()
    waiting = [asyncio.create_task(attempts.admit(GUESSER, look)) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0)
    assert looked == []
    assert slept == sorted(set(slept))  # each has a turn of its own
    with pytest.raises(TooManyAttemptsError):
        await attempts.admit(GUESSER, look)
    gate.set()
    await asyncio.gather(*waiting)
    assert len(looked) == MOST_WAITING


async def test_a_run_is_logged_once_for_each_power_of_ten_and_when_it_is_let_in(attempts: Attempts) -> None:
    with capture_logs() as lines:
        for _ in range(12):
            await attempts.admit(GUESSER, wrong)
        await attempts.admit(GUESSER, right)
        await attempts.admit(GUESSER, right)
    logged = [(line["action"], line["source"], line["failures"]) for line in lines]
    assert logged == [
        ("console_password_wrong", GUESSER, 1),
        ("console_password_wrong", GUESSER, 10),
        ("console_password_right", GUESSER, 12),
    ]


async def test_sources_are_bounded(attempts: Attempts) -> None:
    for number in range(MOST_SOURCES + 10):
        await attempts.admit(f"10.1.{number // 250}.{number % 250}", wrong)
    kept: Any = attempts
    assert len(kept._runs) == MOST_SOURCES


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("testclient", "unknown"),
        (None, "unknown"),
    ],
)
def test_an_ipv6_network_is_one_source(host: str | None, source: str) -> None:
    assert source_of(host) == source
