"""A test that sets a clock and reads another one is found."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from receiver.clock import utc_now
from receiver.inbox.writer import _new_id
from sync import engine
from sync.kounta import Budget
from sync.kounta.throttle import utc_now as utc_now_of_kounta
from sync.sandbox import Faults, Sandbox, Settings
from tests.clock import Clock
from tests.timekeeping import SystemClock

ROOT: Final = Path(__file__).parents[2]
READING: Final = re.compile(
    r"datetime\.(now|utcnow|today)\(|date\.today\(|\btime\.time\b|\btime_ns\b|uuid_utils\.uuid7\(|gmtime|localtime\("
)
CLOCKS: Final = {
    "receiver/clock.py": 1,
    "receiver/inbox/writer.py": 1,  # names of deliveries
    "sync/kounta/throttle.py": 1,
    "sync/sandbox/sandbox.py": 1,
}


def far() -> datetime:
    return datetime.now(UTC) + timedelta(days=400)


@pytest.fixture
def mixed(system_clock: SystemClock) -> Callable[[], str | None]:
    """Say what is wrong with this test, and forget it."""

    def said() -> str | None:
        mixture = system_clock.mixture()
        system_clock.begin()
        return mixture

    return said


@pytest.mark.parametrize(
    "read",
    [utc_now, engine.utc_now, utc_now_of_kounta, _new_id, lambda: Sandbox(Settings(), Faults(), 1, 1)],
    ids=["receiver", "engine", "client", "names", "sandbox"],
)
def test_a_set_clock_beside_the_system_clock_is_found(
    read: Callable[[], object], mixed: Callable[[], str | None]
) -> None:
    Budget(clock=far)
    assert mixed() is None  # one time alone is well
    read()
    assert mixed() is None
    read()
    Budget(clock=far)
    assert (mixed() or "").startswith("A clock is set for Budget, and the system clock is read by ")


async def test_a_set_clock_beside_a_process_is_found(mixed: Callable[[], str | None]) -> None:
    command = [sys.executable, "-m", "sync", "--version"]
    Budget(clock=far)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    await process.communicate()
    assert "-m sync --version" in (mixed() or "")


def test_a_command_can_run_at_the_time_of_a_test(mixed: Callable[[], str | None]) -> None:
    Budget(clock=far)
    command = [sys.executable, "-m", "tests.at", far().isoformat(), "--version"]
    assert subprocess.run(command, check=True, capture_output=True, cwd=ROOT).stdout  # noqa: S603 - our own command
    assert mixed() is None


def test_a_clock_that_goes_by_the_system_clock_is_not_set(mixed: Callable[[], str | None]) -> None:
    Budget(clock=lambda: utc_now() + timedelta(minutes=30))
    utc_now()
    assert mixed() is None


def test_what_follows_the_clock_of_a_test_reads_no_other(
    system_clock: SystemClock, mixed: Callable[[], str | None]
) -> None:
    clock = Clock()
    system_clock.follow(clock)
    Budget(clock=clock)
    assert {utc_now(), engine.utc_now(), utc_now_of_kounta()} == {clock.now}
    assert _new_id() < _new_id()
    assert Sandbox(Settings(), Faults(), 1, 1).clock() == clock.now.timestamp()
    assert mixed() is None


def test_nothing_else_of_the_product_reads_the_system_clock() -> None:
    files = (path for room in ("receiver", "sync") for path in (ROOT / room).rglob("*.py"))
    found = {str(path.relative_to(ROOT)): len(READING.findall(path.read_text())) for path in files}
    assert {name: times for name, times in found.items() if times} == CLOCKS
