import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from sync.kounta import Budget, BudgetState, KountaThrottled

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Clock = Callable[[], datetime]

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


async def turns(budget: Budget, count: int, priority: int = 0, patience: float | None = None) -> list[float]:
    """Ask for `count` turns at once; give when each one came, in seconds of the loop."""

    async def one() -> float:
        await budget.take(priority, patience=patience)
        return asyncio.get_running_loop().time()

    return sorted(await asyncio.gather(*(one() for _ in range(count))))


@pytest.mark.parametrize("calls_per_minute", [1, 7, 50, 60, 180, 2400])
def test_calls_are_evenly_spaced_from_the_first_on(run: Run, clock: Clock, calls_per_minute: int) -> None:
    came = run(turns(Budget(calls_per_minute, clock=clock), 300))
    gaps = [after - before for before, after in pairwise(came)]
    assert came[0] == 0
    assert min(gaps) == pytest.approx(60 / calls_per_minute)
    assert max(gaps) == pytest.approx(60 / calls_per_minute)


def test_no_minute_holds_more_calls_than_the_budget_allows(run: Run, clock: Clock) -> None:
    came = run(turns(Budget(60, clock=clock), 200))
    assert max(sum(start <= t < start + 59.999 for t in came) for start in came) == 60


def test_time_that_was_not_used_is_not_saved_up_for_a_burst(run: Run, clock: Clock) -> None:
    budget = Budget(60, clock=clock)

    async def idle_then_busy() -> list[float]:
        await budget.take()
        await asyncio.sleep(600)
        return await turns(budget, 3)

    assert run(idle_then_busy()) == pytest.approx([600, 601, 602])


def test_the_most_urgent_goes_first_and_who_came_first_among_equals(run: Run, clock: Clock) -> None:
    budget = Budget(60, clock=clock)
    order: list[str] = []

    async def one(name: str, priority: int) -> None:
        await budget.take(priority)
        order.append(name)

    async def all_at_once() -> None:
        await budget.take()
        wanted = [("refresh 1", 4), ("doubt 1", 1), ("refresh 2", 4), ("person", 0), ("doubt 2", 1)]
        await asyncio.gather(*(one(*who) for who in wanted))

    run(all_at_once())
    assert order == ["person", "doubt 1", "doubt 2", "refresh 1", "refresh 2"]


def test_one_who_no_longer_waits_costs_no_turn(run: Run, clock: Clock) -> None:
    budget = Budget(60, clock=clock)

    async def impatient() -> list[float]:
        await budget.take()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await budget.take()
        return await turns(budget, 1)

    assert run(impatient()) == pytest.approx([1])
    assert budget.used == 2


def test_a_closed_budget_gives_no_turn_until_it_opens(run: Run, clock: Clock) -> None:
    budget = Budget(60, clock=clock)

    async def closed() -> list[float]:
        budget.close_until(at(45))
        return await turns(budget, 3, patience=60)

    assert run(closed()) == pytest.approx([45, 46, 47])


def test_one_with_less_patience_than_the_closing_fails_at_once_and_the_budget_stays_closed(
    run: Run, clock: Clock
) -> None:
    budget = Budget(60, clock=clock)

    async def closed() -> float:
        budget.close_until(at(90))
        with pytest.raises(KountaThrottled) as caught:
            await budget.take(patience=60)
        assert caught.value.retry_at == at(90)
        assert "00:01:30 UTC" in str(caught.value)
        assert asyncio.get_running_loop().time() == 0
        return (await turns(budget, 1))[0]

    assert run(closed()) == pytest.approx(90)


def test_those_who_already_wait_fail_too_when_it_closes_for_longer_than_their_patience(
    run: Run, clock: Clock
) -> None:
    budget = Budget(60, clock=clock)

    async def closing() -> list[Any]:
        await budget.take()
        waiting = asyncio.gather(turns(budget, 1, patience=60), turns(budget, 1), return_exceptions=True)
        await asyncio.sleep(0.5)
        budget.close_until(at(100))
        return list(await waiting)

    impatient, patient = run(closing())
    assert isinstance(impatient, KountaThrottled)
    assert patient == pytest.approx([100])


def test_a_long_queue_alone_is_no_reason_to_give_up(run: Run, clock: Clock) -> None:
    assert run(turns(Budget(60, clock=clock), 100, patience=60))[-1] == pytest.approx(99)


def test_a_shorter_closing_does_not_open_what_a_longer_one_closed(run: Run, clock: Clock) -> None:
    budget = Budget(60, clock=clock)

    async def closed_twice() -> list[float]:
        budget.close_until(at(30))
        budget.close_until(at(10))
        budget.close_until(at(-10))
        return await turns(budget, 1)

    assert run(closed_twice()) == pytest.approx([30])


def test_a_closing_years_ahead_lasts_an_hour(run: Run, clock: Clock) -> None:
    budget = Budget(60, clock=clock)

    async def closed() -> list[float]:
        budget.close_until(datetime(9999, 1, 1, tzinfo=UTC))
        return await turns(budget, 1)

    assert run(closed()) == pytest.approx([3600])
    assert budget.state.closed_until == at(3600)


def test_a_restart_gives_no_extra_call(run: Run, clock: Clock) -> None:
    before = BudgetState(last_call_at=at(-0.25))
    assert run(turns(Budget(60, clock=clock, state=before), 2)) == pytest.approx([0.75, 1.75])


def test_a_restart_does_not_open_a_closed_budget(run: Run, clock: Clock) -> None:
    before = BudgetState(last_call_at=at(-5), closed_until=at(20))
    budget = Budget(60, clock=clock, state=before)
    assert budget.state == before
    assert run(turns(budget, 1)) == pytest.approx([20])


def test_a_state_from_the_future_delays_no_longer_than_one_call(run: Run, clock: Clock) -> None:
    before = BudgetState(last_call_at=at(86_400))
    assert run(turns(Budget(60, clock=clock, state=before), 1)) == pytest.approx([1])


def test_the_state_of_one_that_ran_goes_on_in_the_next(run: Run, clock: Clock) -> None:
    first = Budget(60, clock=clock)
    run(turns(first, 3))
    assert first.state == BudgetState(last_call_at=at(2))
    second = Budget(60, clock=clock, state=first.state)
    assert run(turns(second, 1)) == pytest.approx([3])


def test_what_another_process_left_is_taken_over_while_running(run: Run, clock: Clock) -> None:
    budget = Budget(60, clock=clock)
    run(turns(budget, 1))
    budget.restore(BudgetState(last_call_at=at(-100), closed_until=at(7)))
    assert run(turns(budget, 1)) == pytest.approx([7])
    assert budget.state == BudgetState(last_call_at=at(7), closed_until=at(7))


def test_an_endless_budget_keeps_no_one_waiting(run: Run) -> None:
    budget = Budget.endless()

    async def many() -> list[float]:
        budget.close_until(datetime(9999, 1, 1, tzinfo=UTC))
        return await turns(budget, 1000, patience=0)

    assert set(run(many())) == {0}
    assert budget.used == 1000


@pytest.mark.parametrize("calls_per_minute", [0, -1, float("nan")])
def test_a_budget_of_nothing_is_refused(calls_per_minute: float) -> None:
    with pytest.raises(ValueError, match="more than 0 calls a minute"):
        Budget(calls_per_minute)
