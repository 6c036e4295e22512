"""A whole day of the sandbox in one process under virtual time, the same every time."""

import asyncio
import hashlib
import selectors
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync.sandbox import AppTransport, Faults, Sandbox, Settings, create_app, running

START = 1_700_000_000.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.now


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.now += timeout or 0
        return super().select(0)


class Receiver:
    """An application that keeps what it gets and when, and answers slowly."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self.received: list[tuple[float, str, str]] = []
        self._clock = clock
        self._seconds = seconds
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        self.received.append((self._clock(), request.url.path, hashlib.sha256(body).hexdigest()))
        await asyncio.sleep(self._seconds)
        return Response()


def simulated(seed: int, hours: float = 24) -> dict[str, Any]:
    async def simulate() -> dict[str, Any]:
        loop = asyncio.get_running_loop()

        def clock() -> float:
            return START + loop.time()

        faults = Faults(lost=0.1, doubled=0.1, disordered=0.2, delayed=0.2, hangs=0.1, cut_bodies=0.1)
        settings = Settings(edits_per_second=0.02)
        sandbox = Sandbox(settings, faults, seed=seed, customers=50, clock=clock)
        sandbox.deliver_to("http://receiver")
        receiver = Receiver(clock, seconds=0.3)
        outcomes: list[str] = []
        async with (
            httpx2.AsyncClient(transport=AppTransport(receiver.app)) as carrier,
            running(sandbox, carrier) as courier,
            httpx2.AsyncClient(
                transport=AppTransport(create_app(sandbox, courier)),
                base_url="http://kounta",
                auth=("sandbox-client", "sandbox-secret"),
                timeout=10,
            ) as client,
        ):
            while loop.time() < hours * 3600:
                await asyncio.sleep(60)
                try:
                    answer = await client.get("/v1/companies/5678/customers.json")
                    outcomes.append(hashlib.sha256(answer.content).hexdigest())
                except httpx2.TransportError as error:
                    outcomes.append(type(error).__name__)
            report = (await client.post("/sandbox/settle")).json()
        return {
            "received": receiver.received,
            "outcomes": outcomes,
            "report": report,
            "ended": loop.time(),
        }

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(simulate())


@pytest.fixture(scope="module")
def day() -> dict[str, Any]:
    return simulated(seed=1)


def test_a_day_has_its_edits_deliveries_and_faults(day: dict[str, Any]) -> None:
    deliveries = day["report"]["deliveries"]

    assert day["ended"] >= 24 * 3600
    assert sum(day["report"]["changes"].values()) > 1500
    assert len(day["received"]) == deliveries["answered_200"] == deliveries["sent"]
    assert min(deliveries[name] for name in ("lost", "doubled", "disordered", "delayed")) > 20
    assert {"ReadTimeout", "RemoteProtocolError"} <= set(day["outcomes"])


def test_the_same_seed_gives_the_same_day(day: dict[str, Any]) -> None:
    assert simulated(seed=1) == day


def test_another_seed_gives_another_day() -> None:
    assert simulated(seed=2, hours=1)["received"] != simulated(seed=3, hours=1)["received"]
