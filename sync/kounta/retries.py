"""The one policy of retries: what is tried again, when, and for how long."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from sync.kounta.errors import KountaError, Retry
from sync.kounta.limits import here, moment, number, reset_in
from sync.kounta.throttle import LONGEST_CLOSING

T = TypeVar("T")

BRIEF_TRIES: Final = 3
_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 20.0


async def no_sleep(_seconds: float) -> None:
    await asyncio.sleep(0)


@dataclass(frozen=True)
class Retries:
    """How long one call is tried.

    429, 5xx, time-outs, cut connections and cut bodies are tried again until `patience` seconds have passed
    since the call's first turn in the budget; an answer that is no JSON (HTML, empty, cut without upstream
    saying so) three times in all, for a page of maintenance often lasts longer than anyone wants to wait;
    every other 4xx and JSON of a wrong shape never: the same would come again. One attempt lasts at most
    `attempt` seconds. A wait that would end after the patience is not begun: the error is raised at once.
    """

    patience: float = 60.0
    attempt: float = 20.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.SystemRandom().random
    read_lag: float = 20.0
    """How many seconds a read may still show what was before a write: a guess, it has a setting.

    Look-ups 5, 8 and 11 s after a write were seen to find nothing (kounta-api.md).
    """
    write_lag: float = 40.0
    """How many seconds upstream may go on with a write after it failed to answer: a guess.

    A time-out comes after 20 s, so a creation is given a minute, which is what proxies commonly allow.
    """

    @classmethod
    def sleepless(cls, patience: float = 60.0, attempt: float = 20.0) -> "Retries":
        """Give the same policy without any waiting, for tests; use it with `Budget.endless()`."""
        return cls(patience, attempt, no_sleep, lambda: 0.0)

    async def run(self, once: Callable[[int, float], Awaitable[T]]) -> T:
        """Call `once` with the number of the attempt (from 1) and the seconds left, until it gives something.

        Raises the KountaError of the last attempt, which then knows how many there were.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self.patience
        tries = 0

        def is_over(state: RetryCallState) -> bool:
            # tenacity's own stops go by the monotonic clock, which a virtual clock does not move. What was
            # to be slept counts where nothing really sleeps.
            spent = max(self.patience - (ends_at - loop.time()), state.idle_for)
            return spent + state.upcoming_sleep >= self.patience

        async def attempt() -> T:
            nonlocal tries
            tries += 1
            return await once(tries, ends_at - loop.time())

        policy = AsyncRetrying(
            retry=retry_if_exception(lambda error: _again(error, tries)),
            wait=self._wait,
            stop=is_over,
            sleep=self.sleep,
            reraise=True,
        )
        try:
            return await policy(attempt)
        except KountaError as error:
            error.tries = tries
            raise

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        named = error.wait if isinstance(error, KountaError) else None
        return named if named is not None else self.backoff(state.attempt_number)

    async def pause(self, tries: int) -> None:
        """Wait as long as after so many attempts, for what is tried again elsewhere."""
        await self.sleep(self.backoff(tries))

    def backoff(self, tries: int) -> float:
        """Give the seconds to wait after `tries` attempts: 1, 2, 4 … 20, of which the last half is random."""
        step = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(tries - 1, 10))
        return step * (1 + self.random()) / 2


def _again(error: BaseException, tries: int) -> bool:
    if not isinstance(error, KountaError):
        return False
    return error.retry is Retry.PATIENTLY or (error.retry is Retry.BRIEFLY and tries < BRIEF_TRIES)


def named_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Give the seconds that a 429 asks to wait, None when it names no time that makes sense.

    `Retry-After` goes before `X-Ratelimit-Reset`. Moments are compared with the answer's own `Date`, when it
    has one, so that a wrong clock here does no harm. What is past, zero or garbage names no time; what is
    further away than an hour counts as an hour.
    """
    wait = retry_after(headers, now)
    if wait is None and (reset := reset_in(headers, now)) is not None:
        wait = _bounded(reset)
    return wait


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Give the seconds of `Retry-After` (RFC 9110: seconds, or an HTTP date), bounded like `named_wait`."""
    text = headers.get("Retry-After")
    seconds = number(text)
    if seconds is None and (at := moment(text)):
        seconds = (at - here(headers, now)).total_seconds()
    return None if seconds is None else _bounded(seconds)


def ahead(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Say how far `now` is ahead of the answer's own `Date`; None when it has none."""
    there = moment(headers.get("Date"))
    return None if there is None else now - there


def _bounded(seconds: float) -> float | None:
    return min(seconds, LONGEST_CLOSING.total_seconds()) if seconds > 0 else None
