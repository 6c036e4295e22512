"""The course of the demonstration: start, let everything go wrong, settle, reconcile, compare, report."""

import asyncio
import json
import random
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx2

from receiver.local import connect_locally
from sync.demo.comparison import counted, wrong_rows
from sync.demo.processes import ProcessFailedError, Service, run
from sync.mirror.store import OWNER

COMPANY: Final = 5678
CALLS_A_MINUTE: Final = 6000
WEBHOOK_FAULTS: Final = {"lost": 0.12, "doubled": 0.15, "disordered": 0.2, "delayed": 0.1}
ANSWER_FAULTS: Final = {"too-many": 0.01, "server-errors": 0.02, "cut-bodies": 0.02, "html-answers": 0.005}
EDITS_A_SECOND: Final = 25
START_SECONDS: Final = 30
DRAIN_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Plan:
    """How long all of it takes about (seconds), how many customers there are, and what chance comes from."""

    seconds: int = 30
    customers: int = 200
    seed: int = 0
    kill: bool = False


class Demonstration:
    """A local Kounta, the receiver and the worker in a directory of their own."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._stack = AsyncExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix="kounta-mirror-demo-"))
        self.data_dir = self.directory / "data"
        self.kounta_url = f"http://127.0.0.1:{_free_port()}"
        self.receiver_url = f"http://127.0.0.1:{_free_port()}"
        token = secrets.token_hex(16)
        self.environment = {
            "MIRROR_DATA_DIR": str(self.data_dir),
            "KOUNTA_COMPANY_ID": str(COMPANY),
            "KOUNTA_SIGNATURE_TOKENS": token,
            "KOUNTA_API_URL": self.kounta_url,
            "KOUNTA_CLIENT_ID": "demo",
            "KOUNTA_CLIENT_SECRET": secrets.token_hex(16),
            "KOUNTA_REQUESTS_PER_MINUTE": str(CALLS_A_MINUTE),
            "MIRROR_READ_LAG_SECONDS": "1",
            "MIRROR_HOLD_DELETES": "100%",
            "MIRROR_CONSOLE_PORT": "0",
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        if error is None:
            shutil.rmtree(self.directory, ignore_errors=True)

    async def run(self, tell: Callable[[str], None]) -> dict[str, Any]:
        """Do all of it and give the report; raises ProcessFailedError when a part does not start."""
        started = asyncio.get_running_loop().time()
        receiver = await self._start("receiver", _port_arguments(self.receiver_url))
        await self._answers(f"{self.receiver_url}/readyz", receiver)
        kounta = await self._start("sandbox", self._kounta_arguments())
        await self._answers(f"{self.kounta_url}/sandbox/report", kounta)
        worker = await self._start("worker", [])
        async with asyncio.TaskGroup() as group:
            killing = group.create_task(self._kill(receiver, worker)) if self._plan.kill else None
            while (passed := asyncio.get_running_loop().time() - started) < self._plan.seconds * 0.7:
                tell(await self._so_far(passed))
                await asyncio.sleep(0.5)
            if killing is not None:
                killing.cancel()
        tell("Kounta delivers what is left; the worker applies it")
        upstream = await self._control("POST", "settle")
        await self._drained(worker)
        before = await self._wrong()
        tell("kounta-mirror reconcile --deep")
        code, out, complaints = await run(["reconcile", "--deep", "--json"], self.environment, self.directory)
        if not out:
            raise ProcessFailedError(f"The reconciliation ended with {code}: {complaints}")
        return await self._report(upstream, json.loads(out), before, [receiver, worker])

    async def wait_for_interrupt(self) -> None:
        """Wait for Ctrl+C or SIGTERM."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await stop.wait()

    def console_url(self) -> str | None:
        """Give the console's URL, as the worker that runs has logged it."""
        said = (self.directory / "worker.log").read_text(errors="replace").splitlines()
        lines = [json.loads(line) for line in said if line.startswith("{") and '"console_started"' in line]
        return str(lines[-1]["url"]) if lines else None

    async def _start(self, name: str, arguments: list[str]) -> Service:
        service = Service(name, [name, *arguments], self.environment, self.directory)
        return await self._stack.enter_async_context(service)

    def _kounta_arguments(self) -> list[str]:
        given: dict[str, object] = {
            "customers": self._plan.customers,
            "seed": self._plan.seed,
            "deliver-to": self.receiver_url,
            "company-id": COMPANY,
            "client-id": self.environment["KOUNTA_CLIENT_ID"],
            "client-secret": self.environment["KOUNTA_CLIENT_SECRET"],
            "signature-token": self.environment["KOUNTA_SIGNATURE_TOKENS"],
            "requests-per-minute": CALLS_A_MINUTE,
            "edits-per-second": EDITS_A_SECOND,
            "read-lag-seconds": 1,
            "limit-headers": "none",
            "max-delay-seconds": 3,
            **WEBHOOK_FAULTS,
            **ANSWER_FAULTS,
        }
        return [
            *_port_arguments(self.kounta_url),
            *(part for name, value in given.items() for part in (f"--{name}", str(value))),
        ]

    async def _kill(self, *services: Service) -> None:
        chance = random.Random(self._plan.seed)  # noqa: S311 - a seeded demonstration
        for service in cycle(services):
            await asyncio.sleep(chance.uniform(1, 3))
            service.kill()

    async def _so_far(self, passed: float) -> str:
        report = await self._control("GET", "report")
        deliveries = report["deliveries"]
        verdicts = counted(self.data_dir / "mirror.db", _VERDICTS)
        return (
            f"{passed:.0f} s: {deliveries['announced']:,} changes announced, {deliveries['lost']:,} lost, "
            f"{deliveries['doubled']:,} doubled, {deliveries['disordered']:,} disordered; "
            f"{sum(verdicts.values()):,} deliveries applied, {report['calls']['total']:,} calls"
        )

    async def _report(
        self,
        upstream: dict[str, Any],
        reconciliation: dict[str, int],
        before: dict[int, str],
        killed: list[Service],
    ) -> dict[str, Any]:
        database = self.data_dir / "mirror.db"
        wrong = await self._wrong()
        truth = await self._control("GET", "customers")
        calls = (await self._control("GET", "report"))["calls"]["total"]
        return {
            "customers_upstream": len(truth["customers"]),
            "customers_mirrored": counted(database, "SELECT 'live', count(*) FROM customers").get("live", 0),
            "deliveries": counted(database, _VERDICTS),
            "webhooks": upstream["deliveries"],
            "repaired": counted(database, _REPAIRED),
            "killed": {service.name: service.deaths for service in killed},
            "calls": calls,
            "reconciliation": reconciliation,
            "wrong_rows_before_reconciliation": len(before),
            "wrong_rows": len(wrong),
            "wrong": {str(id_): what for id_, what in wrong.items()},
        }

    async def _wrong(self) -> dict[int, str]:
        truth = await self._control("GET", "customers")
        return wrong_rows(self.data_dir / "mirror.db", truth["customers"], truth["deleted"])

    async def _drained(self, worker: Service) -> None:
        """Wait until every delivery that was stored has its verdict."""
        inbox, mirror = self.data_dir / "inbox.db", self.data_dir / "mirror.db"
        async with _deadline(DRAIN_SECONDS, f"The worker does not come to an end. {worker.last_words()}"):
            while True:
                stored = counted(inbox, "SELECT 'stored', count(*) FROM deliveries").get("stored", 0)
                if stored <= sum(counted(mirror, _VERDICTS).values()) and await self._worker_answers():
                    return
                await asyncio.sleep(0.1)

    async def _worker_answers(self) -> bool:
        """Say whether the worker is there: one that was just killed is on its way back."""
        client = connect_locally(self.data_dir, OWNER)
        if client is not None:
            await client.aclose()
        return client is not None

    async def _answers(self, url: str, service: Service) -> None:
        async with (
            httpx2.AsyncClient(timeout=2, trust_env=False) as client,
            _deadline(START_SECONDS, f"The {service.name} does not start. {service.last_words()}"),
        ):
            while True:
                try:
                    if (await client.get(url)).is_success:
                        return
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(0.1)

    async def _control(self, method: str, what: str) -> dict[str, Any]:
        async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:
            answer = await client.request(method, f"{self.kounta_url}/sandbox/{what}")
            said: dict[str, Any] = answer.raise_for_status().json()
            return said


_VERDICTS: Final = "SELECT verdict, count(*) FROM delivery_verdicts GROUP BY verdict"
_REPAIRED: Final = (
    "SELECT kind, count(*) FROM customer_changes WHERE source IN ('verification', 'sweep') GROUP BY kind"
)


class _deadline:  # noqa: N801 - it reads as what it does
    """A time-out that says what it waited for."""

    def __init__(self, seconds: float, sentence: str) -> None:
        self._timeout = asyncio.timeout(seconds)
        self._sentence = sentence

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise ProcessFailedError(self._sentence) from None


def _port_arguments(url: str) -> list[str]:
    return ["--port", url.rsplit(":", 1)[1]]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
