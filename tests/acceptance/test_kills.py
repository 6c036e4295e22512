"""Receiver and worker are killed again and again while Kounta delivers; nothing that was answered is lost."""

import asyncio
import json
import random
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync.demo.comparison import wrong_rows
from sync.demo.processes import Service, run
from tests.budget import tries

COMPANY = 5678
KILLS = tries(6, 20)
EFFECTS = (
    "SELECT delivery_id, count(*) FROM customer_changes WHERE delivery_id IS NOT NULL GROUP BY delivery_id"
)


class Relay:
    """Stands between Kounta and the receiver, and remembers which deliveries were answered with 200."""

    def __init__(self, port: int) -> None:
        self.answered: list[str] = []
        self.refused = 0
        self._heard = asyncio.Event()
        self._client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False)

    async def pass_on(self, request: Request) -> Response:
        headers = {name: request.headers[name] for name in ("content-type", "x-kounta-signature")}
        try:
            answer = await self._client.post(request.url.path, content=await request.body(), headers=headers)
        except httpx2.TransportError:
            self.refused += 1
            return Response(status_code=502)
        if answer.status_code == 200:
            self.answered.append(answer.json()["delivery"])
            self._heard.set()
        else:
            self.refused += 1
        return Response(answer.content, answer.status_code)

    async def hears(self, number: int) -> None:
        """Wait until that many more deliveries were answered."""
        wanted = len(self.answered) + number
        async with asyncio.timeout(60):
            while len(self.answered) < wanted:
                self._heard.clear()
                await self._heard.wait()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        app = Starlette(routes=[Route("/{path:path}", self.pass_on, methods=["POST"])])
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve([listener]))
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True
            await serving
        await self._client.aclose()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def answers(url: str) -> None:
    async with httpx2.AsyncClient(timeout=2, trust_env=False) as client, asyncio.timeout(60):
        while True:
            try:
                if (await client.get(url)).is_success:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.05)


def query(database: Path, statement: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(database.as_uri() + "?mode=ro", uri=True, timeout=10)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


async def until_drained(data: Path) -> None:
    async with asyncio.timeout(60):
        while True:
            (stored,) = query(data / "inbox.db", "SELECT count(*) FROM deliveries")[0]
            (ruled,) = query(data / "mirror.db", "SELECT count(*) FROM delivery_verdicts")[0]
            if stored == ruled:
                return
            await asyncio.sleep(0.1)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "MIRROR_DATA_DIR": str(tmp_path / "data"),
        "KOUNTA_COMPANY_ID": str(COMPANY),
        "KOUNTA_SIGNATURE_TOKENS": "token",
        "KOUNTA_API_URL": f"http://127.0.0.1:{free_port()}",
        "KOUNTA_CLIENT_ID": "client",
        "KOUNTA_CLIENT_SECRET": "secret",
        "KOUNTA_REQUESTS_PER_MINUTE": "6000",
        "MIRROR_READ_LAG_SECONDS": "0",
        "MIRROR_HOLD_DELETES": "100%",
        "MIRROR_CONSOLE_PORT": "0",
    }


def kounta_arguments(environment: dict[str, str], deliver_to: str) -> list[str]:
    given = {
        "port": environment["KOUNTA_API_URL"].rsplit(":", 1)[1],
        "customers": 100,
        "seed": 1,
        "deliver-to": deliver_to,
        "company-id": COMPANY,
        "client-id": environment["KOUNTA_CLIENT_ID"],
        "client-secret": environment["KOUNTA_CLIENT_SECRET"],
        "signature-token": environment["KOUNTA_SIGNATURE_TOKENS"],
        "requests-per-minute": environment["KOUNTA_REQUESTS_PER_MINUTE"],
        "edits-per-second": 60,
        "lost": 0.05,
        "doubled": 0.1,
        "disordered": 0.1,
    }
    return ["sandbox", *(part for name, value in given.items() for part in (f"--{name}", str(value)))]


async def test_twenty_kills_under_load_lose_nothing_that_was_answered_and_apply_nothing_twice(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    data = tmp_path / "data"
    port = free_port()
    relay = Relay(port)
    chance = random.Random(7)
    receiver = Service("receiver", ["receiver", "--port", str(port)], environment, tmp_path)
    worker = Service("worker", ["worker"], environment, tmp_path)
    async with receiver, worker, relay.listening() as url:
        await answers(f"http://127.0.0.1:{port}/readyz")
        kounta = Service("kounta", kounta_arguments(environment, url), environment, tmp_path)
        async with kounta:
            control = f"{environment['KOUNTA_API_URL']}/sandbox"
            await answers(f"{control}/report")
            for number in range(KILLS):
                await relay.hears(5)
                await asyncio.sleep(chance.uniform(0, 0.3))
                victim = receiver if number % 2 else worker
                await victim.until_alive()  # the kill before this one may be just over
                victim.kill()
            async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:
                await client.post(f"{control}/settle")
                await answers(f"http://127.0.0.1:{port}/readyz")
                await until_drained(data)
                code, out, complaints = await run(["reconcile", "--deep", "--json"], environment, tmp_path)
                truth = (await client.get(f"{control}/customers")).json()
    assert (receiver.deaths, worker.deaths) == (KILLS // 2, KILLS // 2)

    verdicts = dict(query(data / "mirror.db", "SELECT delivery_id, verdict FROM delivery_verdicts"))
    stored = {name for (name,) in query(data / "inbox.db", "SELECT id FROM deliveries")}
    assert len(relay.answered) > 5 * KILLS
    assert set(relay.answered) <= verdicts.keys()
    assert verdicts.keys() == stored

    effects = dict(query(data / "mirror.db", EFFECTS))
    assert set(effects.values()) == {1}
    changing = {name for name, verdict in verdicts.items() if verdict in {"applied", "tombstoned"}}
    assert effects.keys() == changing

    report = json.loads(out)
    assert (code, complaints) == (0, ""), report
    assert wrong_rows(data / "mirror.db", truth["customers"], truth["deleted"]) == {}
