"""What upstream says of its call limit: how it is read, and what the budget makes of it."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from sync.kounta import BasicAuth, Budget, Kounta, KountaThrottled, Retries
from sync.kounta.limits import Closings, Limits, limits_in, reset_in
from tests.clock import NOON

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Clock = Callable[[], datetime]

EPOCH = int(NOON.timestamp())


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        (str(EPOCH + 42), 42),
        (str((EPOCH + 42) * 1000), 42),
        ("42", 42),
        (str(EPOCH - 5), None),
        (str((EPOCH - 5) * 1000), None),
        ("0", None),
        ("soon", None),
        ("nan", None),
        ("", None),
    ],
)
def test_a_reset_is_read_in_seconds_or_milliseconds(reset: str, seconds: float | None) -> None:
    assert reset_in(httpx2.Headers({"X-Ratelimit-Reset": reset}), NOON) == seconds


@pytest.mark.parametrize(
    ("limit", "remaining", "read"),
    [
        ("60", "12", Limits(60, 12, 42)),
        ("5", "0", Limits(None, 0, 42)),
        ("-60", "-1", Limits(None, 0, 42)),
        ("many", "some", Limits(None, None, 42)),
    ],
)
def test_what_makes_no_sense_says_nothing(limit: str, remaining: str, read: Limits) -> None:
    headers = {
        "X-Ratelimit-Limit": limit,
        "X-Ratelimit-Remaining": remaining,
        "X-Ratelimit-Reset": str(EPOCH + 42),
    }
    assert limits_in(httpx2.Headers(headers), NOON) == read


def test_a_long_pause_is_cut_to_five_minutes_and_doubles_as_it_repeats() -> None:
    closings, now, waits = Closings(), 0.0, []
    for _ in range(6):
        waits.append(closings.wait(3600, at(now)))
        now += waits[-1]
    assert waits == [300, 600, 1200, 2400, 3600, 3600]
    assert closings.wait(45, at(now)) == 45
    closings.answered(at(now))
    assert closings.wait(3600, at(now)) == 300


def test_refusals_of_calls_that_were_under_way_at_once_are_one() -> None:
    closings = Closings()
    assert [closings.wait(3600, at(second)) for second in (0, 1, 2)] == [300, 299, 298]
    closings.answered(at(3))  # an answer that was on its way
    assert closings.wait(3600, at(300)) == 600


class Saying:
    """An upstream that answers every call, and says of its limit what `say` gives at that moment."""

    def __init__(self, clock: Clock, say: Callable[[float], dict[str, Any]], status: int = 200) -> None:
        self.asked_at: list[float] = []
        self._clock = clock
        self._say = say
        self._status = status

    def __call__(self, _request: httpx2.Request) -> httpx2.Response:
        self.asked_at.append(asyncio.get_running_loop().time())
        headers = {f"X-Ratelimit-{name}": str(value) for name, value in self._say(self.asked_at[-1]).items()}
        return httpx2.Response(self._status, headers=headers, json=[])

    def epoch(self, seconds: float) -> int:
        return int((self._clock() + timedelta(seconds=seconds)).timestamp())


def asked(run: Run, clock: Clock, say: Callable[[float], dict[str, Any]], calls: int) -> list[float]:
    """Make so many calls one after the other, at 60 a minute; give when upstream got them."""
    upstream = Saying(clock, say)

    async def all_of_them() -> None:
        async with Kounta(
            5678,
            auth=BasicAuth("shop", "s3cret"),
            budget=Budget(60, clock=clock),
            retries=Retries(patience=600),
            transport=httpx2.MockTransport(upstream),
            clock=clock,
        ) as kounta:
            for _ in range(calls):
                await kounta.customers_by_reference_id("7")

    run(all_of_them())
    return upstream.asked_at


def test_a_limit_below_the_budget_is_kept_and_one_above_it_is_not_used(run: Run, clock: Clock) -> None:
    assert asked(run, clock, lambda _: {"Limit": 20}, 4) == pytest.approx([0, 3, 6, 9])


def test_a_limit_above_the_budget_is_not_used(run: Run, clock: Clock) -> None:
    assert asked(run, clock, lambda _: {"Limit": 600}, 4) == pytest.approx([0, 1, 2, 3])


def test_a_limit_that_grows_again_is_used_up_to_the_budget(run: Run, clock: Clock) -> None:
    said = asked(run, clock, lambda now: {"Limit": 20 if now < 5 else 60}, 5)
    assert said == pytest.approx([0, 3, 6, 9, 10])


def test_calls_that_remain_are_spread_until_the_reset(run: Run, clock: Clock) -> None:
    def say(now: float) -> dict[str, Any]:
        return {"Remaining": 5, "Reset": 20} if now == 0 else {}

    assert asked(run, clock, say, 7) == pytest.approx([0, 4, 8, 12, 16, 20, 21])


def test_one_call_that_remains_for_long_does_not_keep_the_next_one_waiting_for_long(
    run: Run, clock: Clock
) -> None:
    said = asked(run, clock, lambda _: {"Remaining": 1, "Reset": 3000}, 4)
    assert said == pytest.approx([0, 10, 20, 30])


def test_enough_calls_that_remain_change_nothing(run: Run, clock: Clock) -> None:
    said = asked(run, clock, lambda now: {"Remaining": 59 - int(now), "Reset": 60 - int(now)}, 30)
    assert said == pytest.approx(list(range(30)))


def test_when_no_call_remains_there_is_none_until_the_reset(run: Run, clock: Clock) -> None:
    def say(now: float) -> dict[str, Any]:
        return {"Remaining": 0, "Reset": 30} if now == 1 else {}

    assert asked(run, clock, say, 4) == pytest.approx([0, 1, 31, 32])


def test_an_upstream_that_always_says_that_none_remains_is_not_believed_for_ever(
    run: Run, clock: Clock
) -> None:
    said = asked(run, clock, lambda _: {"Remaining": 0, "Reset": 3000}, 7)
    assert said == pytest.approx([0, 300, 600, 900, 901, 902, 903])


def test_a_pause_of_an_hour_closes_the_budget_for_five_minutes(run: Run, clock: Clock) -> None:
    upstream = Saying(clock, lambda _: {"Reset": upstream.epoch(3600) * 1000}, 429)

    async def refused() -> list[float]:
        async with Kounta(
            5678,
            auth=BasicAuth("shop", "s3cret"),
            budget=Budget(60, clock=clock),
            transport=httpx2.MockTransport(upstream),
            clock=clock,
        ) as kounta:
            closed = []
            for _ in range(3):
                with pytest.raises(KountaThrottled) as caught:
                    await kounta.customer(7)
                assert caught.value.retry_at is not None
                closed.append((caught.value.retry_at - clock()).total_seconds())
                await asyncio.sleep(closed[-1])
            return closed

    assert run(refused()) == pytest.approx([300, 600, 1200], abs=2)
