import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from sync.kounta import BasicAuth, Budget, Kounta, KountaThrottled, KountaUnavailable, Retries

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Clock = Callable[[], datetime]
Answer = httpx2.Response | float

OK = 200


class Script(httpx2.AsyncBaseTransport):
    """Upstream as a list of answers, the last of which stands for all after it; numbers are silence."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked_at: list[float] = []
        self.paths: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked_at.append(asyncio.get_running_loop().time())
        self.paths.append(request.url.path)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            answer = httpx2.Response(504)
        if answer.status_code == OK:
            number = int(request.url.path.rsplit("/", 1)[1].removesuffix(".json"))
            return httpx2.Response(OK, json={"id": number})
        return httpx2.Response(answer.status_code, headers=answer.headers)


def said(status: int, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


def connected(script: Script, clock: Clock, calls_per_minute: float = 60) -> Kounta:
    return Kounta(
        5678,
        auth=BasicAuth("shop", "s3cret"),
        transport=script,
        clock=clock,
        budget=Budget(calls_per_minute, clock=clock),
        retries=Retries(random=lambda: 1.0),
    )


async def read(kounta: Kounta, ids: Sequence[int], priority: int = 0) -> list[int]:
    found = await asyncio.gather(*(kounta.customer(number, priority=priority) for number in ids))
    return [customer.id for customer in found if customer]


def test_a_call_is_tried_for_a_minute_and_not_longer(run: Run, clock: Clock) -> None:
    script = Script(said(503))
    with pytest.raises(KountaUnavailable, match="7 tries"):
        run(connected(script, clock).customer(1))
    assert script.asked_at == pytest.approx([0, 1, 3, 7, 15, 31, 51])


def test_hangs_count_against_the_minute(run: Run, clock: Clock) -> None:
    script = Script(1e9)
    with pytest.raises(KountaUnavailable, match="no answer within"):
        run(connected(script, clock).customer(1))
    assert script.asked_at == pytest.approx([0, 21, 43])
    assert clock() == datetime(2026, 3, 1, 0, 1, tzinfo=UTC)


def test_a_certificate_that_is_not_to_be_trusted_is_an_error_at_once(run: Run, clock: Clock) -> None:
    class Untrusted(Script):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            self.paths.append(request.url.path)
            raise httpx2.ConnectError("failed") from ssl.SSLCertVerificationError("self-signed")

    script = Untrusted()
    with pytest.raises(KountaUnavailable, match=r"not to be trusted\. Nothing was sent"):
        run(connected(script, clock).customer(1))
    assert len(script.paths) == 1


def test_waiting_for_a_turn_does_not_count_against_the_minute(run: Run, clock: Clock) -> None:
    script = Script(said(200))
    assert run(read(connected(script, clock), range(1, 101))) == list(range(1, 101))
    assert script.asked_at == pytest.approx(range(100))


def test_a_call_that_is_tried_again_goes_before_those_that_have_not_begun(run: Run, clock: Clock) -> None:
    script = Script(said(503), said(200))
    run(read(connected(script, clock), range(1, 6)))
    assert [path[-6:] for path in script.paths] == [
        "1.json",
        "2.json",
        "1.json",
        "3.json",
        "4.json",
        "5.json",
    ]


def test_a_429_keeps_everyone_waiting_until_the_reset_upstream_names(run: Run, clock: Clock) -> None:
    script = Script(said(200), said(429, Retry_After="30"), said(200))
    assert run(read(connected(script, clock), [1, 2, 3, 4])) == [1, 2, 3, 4]
    assert script.asked_at == pytest.approx([0, 1, 31, 32, 33])


def test_a_429_without_a_time_backs_everyone_off(run: Run, clock: Clock) -> None:
    script = Script(said(429), said(429), said(200))
    assert run(read(connected(script, clock, 6000), [1, 2])) == [1, 2]
    assert script.asked_at == pytest.approx([0, 1, 2, 2.01])


def test_a_429_for_longer_than_a_minute_fails_all_that_wait_at_once(run: Run, clock: Clock) -> None:
    script = Script(said(429, X_Ratelimit_Reset="90"), said(200))
    kounta = connected(script, clock)

    async def all_at_once() -> list[Any]:
        calls = (kounta.customer(number) for number in (1, 2, 3))
        return list(await asyncio.gather(*calls, return_exceptions=True))

    assert [type(outcome) for outcome in run(all_at_once())] == [KountaThrottled] * 3
    assert script.asked_at == [0]
    assert clock() == datetime(2026, 3, 1, tzinfo=UTC)


def test_a_call_that_is_cancelled_leaves_the_next_one_its_turn(run: Run, clock: Clock) -> None:
    script = Script(said(200))
    kounta = connected(script, clock)

    async def impatient() -> None:
        await kounta.customer(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await kounta.customer(2)
        await kounta.customer(3)

    run(impatient())
    assert script.asked_at == pytest.approx([0, 1])


def test_a_200_asked_for_before_a_404_does_not_prove_it(run: Run, clock: Clock) -> None:
    class SlowFirst(Script):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            answer = await super().handle_async_request(request)
            await asyncio.sleep(5 if len(self.paths) == 1 else 0)
            return answer

    kounta = connected(SlowFirst(said(200), said(404), said(200)), clock)

    async def crossing() -> list[bool]:
        slow = asyncio.create_task(kounta.read(1))
        gone = await kounta.read(2)
        proven = [kounta.proven_after(gone.sent)]
        await slow
        proven.append(kounta.proven_after(gone.sent))
        await kounta.read(3)
        return [*proven, kounta.proven_after(gone.sent)]

    assert run(crossing()) == [False, False, True]
