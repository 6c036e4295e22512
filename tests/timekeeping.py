"""The system clock as the product sees it in a test, and the rule that a test has one time only.

A test that sets a clock (`tests.clock`) while other code reads the system clock passes on some days only. So
a test fails at its end if an object of the product was given a clock that is set, and the system clock was
read too: by `receiver.clock`, by `sync.kounta.throttle`, by a local Kounta or an inbox without a clock of its
own, or by a process of the product.

Such a test has two ways out: `system_clock.follow(clock)` shows its time to all code of this process, and
`tests.at` runs a command at its time.

The tests that read the system clock are noted in pytest's cache, for `scripts/faketime`.
"""

import inspect
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
import uuid_utils

import receiver.clock
import receiver.inbox.writer
import sync.kounta.throttle

NEAR: Final = timedelta(minutes=45)
"""A clock that is nearer to the system clock than this goes by it."""
ROOT: Final = Path(__file__).parents[1]
NOTES_FOR_PEOPLE: Final = ("receiver/ownership.py",)
"""They write when a process began, for people to read; nothing compares it."""
OF_THE_PRODUCT: Final = re.compile(r"(^|[\s'\"/])(kounta-mirror|sync|receiver)\b")
AT: Final = "tests.at"
READS: Final = "reads_the_clock"
NOTED: Final = "kounta-mirror/reads-the-clock"


class SystemClock:
    """Takes the place of the system clock, notes what reads it, and shows the time of a test on request."""

    def __init__(self) -> None:
        self._followed: Callable[[], datetime] | None = None
        self._numbers = count()
        self._watched: set[str] = set()
        self.set_for: list[str] = []
        """Objects of the product that were given a clock that is set."""
        self.read_by: list[str] = []
        """What read the system clock."""
        self.processes: list[str] = []
        """Processes of the product that were started, and read it too."""

    def begin(self) -> None:
        self._followed = None
        self.set_for, self.read_by, self.processes = [], [], []
        self._watch_new_modules()

    def follow(self, clock: Callable[[], datetime]) -> None:
        """Show the time of this clock to all code of this process that reads the system clock."""
        self._followed = clock

    # as the product reads it

    def now(self, zone: tzinfo) -> datetime:
        return self._read().astimezone(zone)

    def time(self) -> float:
        return self._read().timestamp()

    def uuid7(self) -> UUID | uuid_utils.UUID:
        now = self._read()
        if self._followed is None:
            return uuid_utils.uuid7()
        milliseconds = int(now.timestamp() * 1000)
        return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | next(self._numbers))

    def _read(self) -> datetime:
        if self._followed is not None:
            return self._followed()
        reader = _reader()
        if reader not in NOTES_FOR_PEOPLE and reader not in self.read_by:
            self.read_by.append(reader)
        return datetime.now(UTC)

    # what a test does

    def started(self, command: Sequence[str]) -> None:
        """Note that a process of the product was started, unless it runs at the time of the test."""
        if AT not in command and any(OF_THE_PRODUCT.search(word) for word in command):
            self.processes.append(repr(" ".join(command)[:80]))

    def given(self, owner: str, clock: Callable[[], datetime | float]) -> None:
        """Note that an object was given this clock."""
        shown = clock()
        at = datetime.fromtimestamp(shown, UTC) if isinstance(shown, int | float) else shown
        if abs(at - datetime.now(UTC)) > NEAR and owner not in self.set_for:
            self.set_for.append(owner)

    def mixture(self) -> str | None:
        """Say what is wrong with a test that has two times; None if it has one."""
        readers = [*self.read_by, *self.processes]
        if not (self.set_for and readers):
            return None
        return (
            f"A clock is set for {', '.join(self.set_for)}, and the system clock is read by "
            f"{', '.join(readers)}: this test passes on some days only. See tests/timekeeping.py."
        )

    def _watch_new_modules(self) -> None:
        for name in sys.modules.keys() - self._watched:
            self._watched.add(name)
            if name.partition(".")[0] not in {"receiver", "sync"}:
                continue
            for found in list(vars(sys.modules[name]).values()):
                if inspect.isclass(found) and found.__module__ == name:
                    self._watch(found)

    def _watch(self, owner: type) -> None:
        """Look at each clock that an object of this class is given."""
        made: Any = vars(owner).get("__init__")
        if made is None or "clock" not in inspect.signature(made).parameters:
            return
        signature = inspect.signature(made)
        parameter = signature.parameters["clock"]

        @wraps(made)
        def watched(*args: Any, **kwargs: Any) -> None:
            given = signature.bind(*args, **kwargs)
            if "clock" in given.arguments:
                self.given(owner.__name__, given.arguments["clock"])
            elif parameter.default is time.time:
                given.arguments["clock"] = self.time
            made(*given.args, **given.kwargs)

        owner.__init__ = watched  # type: ignore[misc] # what is made later is looked at


def _reader() -> str:
    """Name the file that asks for the time."""
    frame: Any = sys._getframe(1)
    clocks = {__file__, receiver.clock.__file__}
    while frame.f_back is not None and (
        frame.f_code.co_filename in clocks or frame.f_code.co_name == "utc_now"
    ):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


_CLOCK: Final = SystemClock()


def note_process(command: Sequence[str]) -> None:
    """Note a process that no audit event tells of: one that was forked."""
    _CLOCK.started(command)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        _CLOCK.started([str(word) for word in arguments[1]])


sys.addaudithook(_hear)


@pytest.fixture(autouse=True)
def system_clock(request: pytest.FixtureRequest) -> Iterator[SystemClock]:
    """The system clock as the product sees it in this test; see this module."""
    _CLOCK.begin()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receiver.clock, "datetime", _CLOCK)
        patch.setattr(sync.kounta.throttle, "datetime", _CLOCK)
        patch.setattr(receiver.inbox.writer, "uuid_utils", _CLOCK)
        yield _CLOCK
    if _CLOCK.read_by:
        request.node.user_properties.append((READS, not _CLOCK.processes))
    mixture = _CLOCK.mixture()
    if mixture is not None:
        pytest.fail(mixture, pytrace=False)


# the tests that read the clock: noted in one run, chosen in another


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--reads-the-clock",
        action="store_true",
        help="only tests that read the system clock and start no process, as the last run of each noted",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--reads-the-clock"):
        return
    known = _noted(config)
    if not known:
        raise pytest.UsageError("No test is noted yet as one that reads the clock: run scripts/test first.")
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in known])
    items[:] = [item for item in items if item.nodeid in known]


class Notes:
    """Notes which of the tests that ran read the system clock."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._ran: set[str] = set()
        self._read: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._ran.add(report.nodeid)
        if (READS, True) in report.user_properties:
            self._read.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        cache = getattr(self._config, "cache", None)  # there is none with -p no:cacheprovider
        if cache is not None:
            cache.set(NOTED, sorted(_noted(self._config) - self._ran | self._read))


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # a worker of xdist reports to the one who notes
        config.pluginmanager.register(Notes(config), "tests.timekeeping.notes")


def _noted(config: pytest.Config) -> set[str]:
    cache = getattr(config, "cache", None)
    return set() if cache is None else set(cache.get(NOTED, []))
