"""The budget against the local Kounta's own limit: many minutes of it, under virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

import httpx2
import pytest

from sync.kounta import BasicAuth, Budget, Kounta, Retries
from sync.sandbox import AppTransport, Courier, Faults, Sandbox, Settings, create_app

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Clock = Callable[[], datetime]


async def reads_by_a_hundred(
    clock: Clock, *, calls_per_minute: float, faults: Faults | None = None, **settings: Any
) -> Sandbox:
    """Let a hundred callers at once read three hundred customers, all of them rightly; give the sandbox."""
    sandbox = Sandbox(
        Settings(**settings),
        faults or Faults(),
        seed=3,
        customers=300,
        clock=lambda: clock().timestamp(),
    )
    async with (
        httpx2.AsyncClient() as unused,
        Kounta(
            5678,
            auth=BasicAuth("sandbox-client", "sandbox-secret"),
            transport=AppTransport(create_app(sandbox, Courier(sandbox, unused))),
            budget=Budget(calls_per_minute, clock=clock),
            retries=Retries(random=lambda: 0.5),
            clock=clock,
        ) as kounta,
    ):
        places = asyncio.Semaphore(100)

        async def read(number: int) -> None:
            async with places:
                customer = await kounta.customer(number)
            assert customer is not None
            assert customer.id == number

        await asyncio.gather(*(read(customer.id) for customer in sandbox.company.customers))
        assert kounta.budget.used == sandbox.calls.total
    return sandbox


@pytest.mark.parametrize("limit_window", ["fixed", "sliding"])
@pytest.mark.parametrize("per_minute", [60, 180, 2400])
def test_a_budget_as_large_as_the_limit_is_never_throttled(
    run: Run, clock: Clock, per_minute: int, limit_window: str
) -> None:
    sandbox = run(
        reads_by_a_hundred(
            clock, calls_per_minute=per_minute, requests_per_minute=per_minute, limit_window=limit_window
        )
    )
    assert sandbox.calls.by_status == {"200": 300}


@pytest.mark.parametrize("limit_headers", ["none", "retry-after", "reset", "both"])
def test_a_budget_that_is_too_large_is_throttled_and_every_call_still_ends_right(
    run: Run, clock: Clock, limit_headers: str
) -> None:
    sandbox = run(
        reads_by_a_hundred(clock, calls_per_minute=240, requests_per_minute=200, limit_headers=limit_headers)
    )
    assert sandbox.calls.by_status["429"] > 0
    assert sandbox.calls.answered == 300


def test_forty_calls_a_second_over_faults_all_end_right_within_the_budget(run: Run, clock: Clock) -> None:
    faults = Faults(too_many=0.01, server_errors=0.02, cut_bodies=0.01, hangs=0.01)
    sandbox = run(reads_by_a_hundred(clock, calls_per_minute=2400, requests_per_minute=2400, faults=faults))
    assert sandbox.calls.answered == 300
    assert sandbox.calls.by_fault.total() > 5
