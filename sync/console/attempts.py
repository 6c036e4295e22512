"""Guesses at the console's password: a delay that grows with failures, and one log line for a run of them.

Sources differ by address (IPv6 by /64), since a name costs an attacker nothing and an address does.
Behind a proxy all have one: a browser that was let in once carries a mark, and is never delayed by others.
"""

import asyncio
import ipaddress
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

import structlog

FREE: Final = 3
"""Failures in a run that cost nothing: a person mistypes."""
FIRST_SECONDS: Final = 1.0
"""The delay after the next failure; each further one doubles it."""
LONGEST_SECONDS: Final = 30.0
"""At that pace a source has 2,880 guesses a day."""
FORGOTTEN_SECONDS: Final = 900.0
"""A run of failures is over once none has come for so long."""
MOST_WAITING: Final = 8
"""Attempts of a source that wait at a time; others are refused without a look at the password."""
MOST_SOURCES: Final = 1_000
_TOLD_AT: Final = frozenset({1, 10, 100, 1_000, 10_000, 100_000})

_log = structlog.get_logger()


class TooManyAttemptsError(Exception):
    """An attempt is refused unseen: as many of its source wait as may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(slots=True)
class _Run:
    """Failures of one source without a success between them; times are of the clock."""

    failures: int = 0
    last_at: float = 0.0
    next_at: float = 0.0
    """When the next attempt may be looked at."""
    waiting: int = 0


class Attempts:
    """Delays and counts attempts at a password; what is right is for `admit`'s caller to say."""

    def __init__(
        self,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._runs: dict[str, _Run] = {}
        self.mark: Final = secrets.token_urlsafe(32)
        """What a browser that was let in carries from then on, while this process runs."""

    async def admit(self, host: str | None, check: Callable[[], bool]) -> bool:
        """Wait as long as the source's failures ask for, then give what `check` says.

        Raises TooManyAttemptsError, and then nothing was checked.
        """
        source = source_of(host)
        run = self._runs.get(source)
        if run is not None and self._clock() - run.last_at > FORGOTTEN_SECONDS and not run.waiting:
            del self._runs[source]
            run = None
        if run is not None:
            await self._wait(run)
        if check():
            self._succeeded(source)
            return True
        self._failed(source)
        return False

    async def _wait(self, run: _Run) -> None:
        """Take the source's next turn: attempts that come together are looked at one after the other."""
        seconds = run.next_at - self._clock()
        if seconds <= 0:
            return
        if run.waiting >= MOST_WAITING:
            raise TooManyAttemptsError(seconds)
        run.next_at += _delay(run.failures + run.waiting + 1)
        run.waiting += 1
        try:
            await self._sleep(seconds)
        finally:
            run.waiting -= 1

    def _failed(self, source: str) -> None:
        run = self._runs.pop(source, None) or _Run()
        self._runs[source] = run  # the newest last
        while len(self._runs) > MOST_SOURCES:
            del self._runs[next(iter(self._runs))]
        run.failures += 1
        run.last_at = self._clock()
        run.next_at = max(run.next_at, run.last_at + _delay(run.failures))
        if run.failures in _TOLD_AT:
            _log.warning(
                f"Wrong console password from {source}: {run.failures} in a row.",
                action="console_password_wrong",
                source=source,
                failures=run.failures,
            )

    def _succeeded(self, source: str) -> None:
        run = self._runs.pop(source, None)
        if run is not None and run.failures:
            _log.warning(
                f"Right console password from {source} after {run.failures} wrong ones.",
                action="console_password_right",
                source=source,
                failures=run.failures,
            )


def source_of(host: str | None) -> str:
    """Give whose attempts count together: an address, of IPv6 the network that one customer has."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


def _delay(failures: int) -> float:
    """Give the seconds after this many failures in a row."""
    if failures <= FREE:
        return 0.0
    return min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - FREE - 1, 10))
