"""The call budget of a company: calls evenly spaced, none while upstream has closed it.

aiolimiter would space calls too, but it spins for ever under a virtual clock (its level is left at 1e-16 by
rounding, and it asks to be woken "now"), it knows no priorities, and its state cannot be kept over a restart.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import Final

from sync.kounta.errors import KountaThrottled
from sync.kounta.limits import LEAST_LIMIT, LONGEST_PAUSE, Limits

LONGEST_CLOSING: Final = timedelta(hours=1)
MOST_EMPTY_WINDOWS: Final = 3
"""So often "nothing remaining" is believed in a row although upstream answers calls each time."""
AGAIN: Final = -1
"""The priority of a call's second and later attempts: before everything that has not begun."""


@dataclass(frozen=True)
class BudgetState:
    """What must survive a restart: when a call was last allowed, and until when upstream wants none."""

    last_call_at: datetime | None = None
    closed_until: datetime | None = None


@dataclass(order=True)
class _Waiting:
    priority: int
    order: int
    turn: asyncio.Future[None] = field(compare=False)
    patience: float | None = field(compare=False)


def utc_now() -> datetime:
    return datetime.now(UTC)


class Budget:
    """One call each 60/`calls_per_minute` seconds, never a burst; the most urgent goes first.

    Waiting goes by the time of the event loop; `clock` gives the wall time, for what is kept over a restart.
    What upstream says of its limit may slow it down, and never makes it faster.
    A closing never lasts longer than `longest_closing` from the moment it is asked for (an hour), whatever
    upstream names: one call an hour then finds out whether a reset years ahead was meant.
    """

    def __init__(
        self,
        calls_per_minute: float = 60,
        *,
        state: BudgetState | None = None,
        clock: Callable[[], datetime] = utc_now,
        longest_closing: timedelta = LONGEST_CLOSING,
    ) -> None:
        if not calls_per_minute > 0:
            raise ValueError(f"a budget needs more than 0 calls a minute, not {calls_per_minute}")
        self.calls_per_minute = calls_per_minute
        self.used = 0
        """How many turns were given since this object was made."""
        self._limit = float("inf")
        """What upstream says it allows a minute, infinite while it says nothing."""
        self._slow_interval = 0.0
        self._slow_until = float("-inf")
        self._last_at = float("-inf")
        self._empty_windows = 0
        self._empty_until = float("-inf")
        self._clock = clock
        self._longest = longest_closing
        self._state = BudgetState()
        self._restored = state
        self._next_at = float("-inf")
        self._opens_at = float("-inf")
        self._waiting: list[_Waiting] = []
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def endless(cls) -> "Budget":
        """Give a budget that never makes anyone wait, not even while it is closed: for tests."""
        return cls(float("inf"), longest_closing=timedelta(0))

    def __repr__(self) -> str:
        return f"Budget({self.calls_per_minute} a minute, {self.used} used, {self.state})"

    @property
    def state(self) -> BudgetState:
        """What to keep over a restart; give it to the next Budget, or to `restore`."""
        return self._restored if self._restored is not None else self._state

    def restore(self, state: BudgetState) -> None:
        """Go on from `state`, which another process or an earlier run has left."""
        self._restored = state

    def pace(self, calls_per_minute: float) -> None:
        """Allow so many calls a minute from the next one on: other credentials have another limit."""
        self.calls_per_minute = calls_per_minute
        self._limit = float("inf")

    def heed(self, said: Limits) -> None:
        """Slow down where upstream allows less than this budget does; what it allows beyond is not used.

        Calls that remain until a reset are spread over that time, LEAST_LIMIT a minute at least; when none
        remains, there is none until then (5 minutes at most). An upstream that goes on to say so and answers
        all the same is not believed.
        """
        if self.calls_per_minute == float("inf"):
            return
        loop = asyncio.get_running_loop()
        if said.per_minute is not None:
            self._limit = said.per_minute
        if said.remaining is not None and said.reset is not None:
            self._spread(loop, said.remaining, min(said.reset, LONGEST_PAUSE.total_seconds()))
        self._next_at = max(self._next_at, self._last_at + self._interval(loop))
        self._give_turns(loop)

    def _spread(self, loop: asyncio.AbstractEventLoop, remaining: int, reset: float) -> None:
        if remaining == 0:
            if loop.time() >= self._empty_until:
                self._empty_windows += 1
                self._empty_until = loop.time() + reset
            if self._empty_windows <= MOST_EMPTY_WINDOWS:
                self.close_until(self._clock() + timedelta(seconds=reset))
            return
        self._empty_windows = 0
        self._slow_until = float("-inf")
        usual = self._interval(loop)
        if remaining * usual < reset - usual:  # they would be used up more than a call too early
            self._slow_interval = min(reset / remaining, 60 / LEAST_LIMIT)
            self._slow_until = loop.time() + reset

    def _interval(self, loop: asyncio.AbstractEventLoop) -> float:
        """Give the seconds between two calls, as of now."""
        usual = max(60 / self.calls_per_minute, 60 / self._limit)
        return max(usual, self._slow_interval) if loop.time() < self._slow_until else usual

    async def take(self, priority: int = 0, *, patience: float | None = None) -> None:
        """Wait for a turn; the lower `priority` goes first, and who came first among equals.

        Raises KountaThrottled at once when the budget is, or gets, closed for more than `patience` seconds.
        A turn that was given counts as used, also when the one who waited has been cancelled meanwhile.
        """
        loop = asyncio.get_running_loop()
        self._take_over_restored(loop)
        if self._is_hopeless(loop, patience):
            raise self._closed(loop)
        waiting = _Waiting(priority, next(self._order), loop.create_future(), patience)
        heappush(self._waiting, waiting)
        self._give_turns(loop)
        await waiting.turn

    def close_until(self, until: datetime) -> None:
        """Give no turn before `until`, unless an earlier closing ends later. A past time changes nothing."""
        loop = asyncio.get_running_loop()
        self._take_over_restored(loop)
        self._close(loop, until)
        for waiting in self._waiting:
            if not waiting.turn.done() and self._is_hopeless(loop, waiting.patience):
                waiting.turn.set_exception(self._closed(loop))
        self._give_turns(loop)

    def _close(self, loop: asyncio.AbstractEventLoop, until: datetime) -> None:
        now = self._clock()
        until = min(until, now + self._longest)
        opens_at = loop.time() + (until - now).total_seconds()
        if until > now and opens_at > self._opens_at:
            self._opens_at = opens_at
            self._state = BudgetState(self._state.last_call_at, until)

    def _take_over_restored(self, loop: asyncio.AbstractEventLoop) -> None:
        state, self._restored = self._restored, None
        if state is None:
            return
        if state.last_call_at is not None:
            known = self._state.last_call_at or state.last_call_at
            self._state = BudgetState(max(known, state.last_call_at), self._state.closed_until)
            # A clock that was set back must not keep the budget waiting longer than one call does.
            since = max(0.0, (self._clock() - state.last_call_at).total_seconds())
            self._next_at = max(self._next_at, loop.time() + self._interval(loop) - since)
        if state.closed_until is not None:
            self._close(loop, state.closed_until)

    def _give_turns(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._drop_those_gone():
            opens_at = max(self._next_at, self._opens_at)
            if opens_at > loop.time():
                self._timer = loop.call_at(opens_at, self._on_open, loop)
                return
            self._give_turn(loop)

    def _on_open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._drop_those_gone():
            self._give_turn(loop)
            self._give_turns(loop)

    def _give_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        heappop(self._waiting).turn.set_result(None)
        self.used += 1
        self._last_at = max(loop.time(), self._next_at, self._opens_at)
        self._next_at = self._last_at + self._interval(loop)
        self._state = BudgetState(self._clock(), self._state.closed_until)

    def _drop_those_gone(self) -> bool:
        while self._waiting and self._waiting[0].turn.done():
            heappop(self._waiting)
        return bool(self._waiting)

    def _is_hopeless(self, loop: asyncio.AbstractEventLoop, patience: float | None) -> bool:
        return patience is not None and self._opens_at - loop.time() > patience

    def _closed(self, loop: asyncio.AbstractEventLoop) -> KountaThrottled:
        wait = self._opens_at - loop.time()
        until = self._clock() + timedelta(seconds=wait)
        error = KountaThrottled(
            429,
            None,
            f"upstream allows this company no call before {until:%H:%M:%S} UTC",
            "Wait until then; lower KOUNTA_REQUESTS_PER_MINUTE if this happens often",
            until,
        )
        error.wait = wait
        return error
