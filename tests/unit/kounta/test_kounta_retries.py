import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from sync.kounta import KountaError, KountaThrottled, KountaUnavailable, KountaWrongShape, Retries
from sync.kounta.errors import Retry
from sync.kounta.retries import named_wait, retry_after

Run = Callable[[Coroutine[Any, Any, Any]], Any]

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "17"}, 17),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"Retry-After": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30),
        ({"Retry-After": "Sunday, 01-Mar-26 12:00:30 GMT"}, 30),
        ({"X-Ratelimit-Reset": str(EPOCH + 42)}, 42),
        ({"X-Ratelimit-Reset": "42"}, 42),
        ({"Retry-After": "5", "X-Ratelimit-Reset": str(EPOCH + 42)}, 5),
        ({"Retry-After": "soon", "X-Ratelimit-Reset": str(EPOCH + 42)}, 42),
        ({"Retry-After": "0", "X-Ratelimit-Reset": str(EPOCH + 42)}, 42),
    ],
)
def test_the_wait_that_upstream_names(headers: dict[str, str], seconds: float | None) -> None:
    assert named_wait(httpx2.Headers(headers), NOW) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "0", "-3", "nan", "inf", "9" * 500, "Sun, 01 Mar 2020 00:00:00 GMT"]
)
def test_what_is_past_or_garbage_names_no_time(text: str) -> None:
    assert named_wait(httpx2.Headers({"Retry-After": text}), NOW) is None
    assert named_wait(httpx2.Headers({"X-Ratelimit-Reset": text}), NOW) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "1e300"},
        {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"X-Ratelimit-Reset": "80000"},
    ],
)
def test_what_is_far_away_counts_as_an_hour(headers: dict[str, str]) -> None:
    assert named_wait(httpx2.Headers(headers), NOW) == 3600


def test_moments_are_compared_with_upstreams_own_date() -> None:
    ours_is_late = {"Date": "Sun, 01 Mar 2026 11:50:00 GMT"}
    assert named_wait(httpx2.Headers(ours_is_late | {"X-Ratelimit-Reset": str(EPOCH - 570)}), NOW) == 30
    assert (
        retry_after(httpx2.Headers(ours_is_late | {"Retry-After": "Sun, 01 Mar 2026 11:50:09 GMT"}), NOW) == 9
    )


def unavailable() -> KountaError:
    return KountaUnavailable(503, None, "answered 503", "Try again later")


def unreadable() -> KountaError:
    error = KountaWrongShape(200, None, "an HTML page came", "Check KOUNTA_API_URL")
    error.retry = Retry.BRIEFLY
    return error


def waiting(seconds: float) -> KountaError:
    error = KountaThrottled(429, None, "answered 429", "Wait")
    error.wait = seconds
    return error


async def played(retries: Retries, *errors: KountaError) -> list[float]:
    """Run a call that fails with each of `errors` and then succeeds; give when each attempt was made."""
    loop = asyncio.get_running_loop()
    left = list(errors)
    made: list[float] = []

    async def once(tries: int, _left: float) -> list[float]:
        made.append(loop.time())
        assert tries == len(made)
        if left:
            raise left.pop(0)
        return made

    try:
        return await retries.run(once)
    except KountaError:
        return [*made, float("inf")]


def test_a_call_that_fails_once_succeeds_after_a_second(run: Run) -> None:
    assert run(played(Retries(random=lambda: 1.0), unavailable())) == pytest.approx([0, 1])


def test_the_wait_doubles_up_to_a_limit_and_ends_with_the_patience(run: Run) -> None:
    made = run(played(Retries(random=lambda: 1.0), *(unavailable() for _ in range(99))))
    assert made == pytest.approx([0, 1, 3, 7, 15, 31, 51, float("inf")])


def test_the_last_half_of_a_wait_is_random() -> None:
    shortest, longest = Retries(random=lambda: 0.0), Retries(random=lambda: 1.0)
    assert [shortest.backoff(tries) for tries in (1, 2, 3, 99)] == [0.5, 1, 2, 10]
    assert [longest.backoff(tries) for tries in (1, 2, 3, 99)] == [1, 2, 4, 20]


def test_the_wait_that_upstream_names_goes_before_the_backoff(run: Run) -> None:
    assert run(played(Retries(), waiting(12), waiting(7.5))) == pytest.approx([0, 12, 19.5])


def test_a_wait_beyond_the_patience_is_not_begun(run: Run) -> None:
    assert run(played(Retries(patience=60), waiting(61))) == [0, float("inf")]
    assert run(played(Retries(patience=60), waiting(59)))[-1] != float("inf")


def test_what_is_no_json_is_tried_three_times(run: Run) -> None:
    assert run(played(Retries(), unreadable(), unreadable()))[-1] != float("inf")
    assert len(run(played(Retries(), *(unreadable() for _ in range(9))))) == 3 + 1


def test_other_errors_are_not_tried_again(run: Run) -> None:
    refused = KountaError(422, None, "answered 422", "See what upstream says")
    assert run(played(Retries(), refused)) == [0, float("inf")]


def test_a_fault_of_ours_is_not_tried_again(run: Run) -> None:
    made: list[int] = []

    async def once(tries: int, _left: float) -> None:
        made.append(tries)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Retries().run(once))
    assert made == [1]


def test_the_error_says_how_often_was_tried(run: Run) -> None:
    async def once(_tries: int, _left: float) -> None:
        raise unavailable()

    with pytest.raises(KountaUnavailable, match=r"answered 503 \(\d+ tries\)\. Try again later\.$"):
        run(Retries().run(once))


def test_sleepless_retries_end_although_nothing_is_slept(run: Run) -> None:
    made = run(played(Retries.sleepless(), *(unavailable() for _ in range(99))))
    assert set(made[:-1]) == {0}
    assert 5 < len(made) < 15
