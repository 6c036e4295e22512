"""The receiver as a process beside a PostgreSQL that is stopped, killed, frozen and started again."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx2
import pytest

from receiver.inbox import InboxReader
from receiver.postgresql import Schema
from receiver.signature import sign
from tests.databases import Cluster
from tests.promptness import stop_seconds

TOKEN = "sandbox-signature-token"
URL = "/webhooks/5678/customers/updated"
PASSWORD = "s3cret"


@dataclass
class Site:
    """A receiver at one port, killed and started as often as a test likes, and who delivers to it."""

    shop: Any
    cluster: Cluster
    database: str
    port: int
    process: Any = None
    log: list[dict[str, Any]] = field(default_factory=list)
    answered: dict[str, bytes] = field(default_factory=dict)
    refused: list[int] = field(default_factory=list)
    slowest: float = 0.0
    _numbers: Iterator[int] = field(default_factory=count)

    async def start(self) -> None:
        self.process = await self.shop.start(f"receiver --port {self.port}")
        await self.process.says("receiver_started")

    async def is_killed(self) -> None:
        await self.process.is_killed()
        self.log += self.process.log

    async def deliver(self, stop: asyncio.Event) -> None:
        """Deliver one after another, each once, whatever becomes of it."""
        loop = asyncio.get_running_loop()
        async with self.client() as client:
            while not stop.is_set():
                body = json.dumps({"id": next(self._numbers), "first_name": "ü"}).encode()
                headers = {"X-Kounta-Signature": sign(body, TOKEN.encode())}
                began = loop.time()
                try:
                    answer = await client.post(URL, content=body, headers=headers)
                except httpx2.TransportError:
                    await asyncio.sleep(0.05)  # it is being killed
                    continue
                self.slowest = max(self.slowest, loop.time() - began)
                if answer.status_code == 200:
                    self.answered[answer.json()["delivery"]] = body
                else:
                    self.refused.append(answer.status_code)

    async def more(self, deliveries: int) -> None:
        """Wait until so many more were answered."""
        until = len(self.answered) + deliveries
        async with asyncio.timeout(30):
            while len(self.answered) < until:  # noqa: ASYNC110 - several tasks answer
                await asyncio.sleep(0.01)

    async def readiness(self) -> dict[str, Any]:
        async with self.client() as client:
            answer = await client.get("/readyz")
        assert answer.status_code == 200
        said: dict[str, Any] = answer.json()
        return said

    async def until_forwarded(self) -> None:
        async with asyncio.timeout(60):
            said = await self.readiness()
            while said["spooled"] or said["stored_in"] != "postgresql":
                said = await self.readiness()
                await asyncio.sleep(0.05)

    async def stored(self) -> dict[str, bytes]:
        async with InboxReader.open(Schema(self.cluster.url_of(self.database), "inbox")) as reader:
            found = await reader.read(5678, 0, 1_000_000)
            assert [delivery.position for delivery in found] == list(range(1, len(found) + 1))
            assert await reader.accepted(5678) == len(found)
        assert len({delivery.body for delivery in found}) == len(found)
        return {delivery.id: delivery.body for delivery in found}

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=20)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


@pytest.fixture
async def site(shop: Any, cluster: Cluster) -> AsyncIterator[Site]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    database = cluster.fresh()
    url = cluster.url_of(database).replace("postgres@", f"postgres:{PASSWORD}@")
    shop.settings |= {"KOUNTA_COMPANY_ID": "5678", "KOUNTA_SIGNATURE_TOKENS": TOKEN, "DATABASE_URL": url}
    yield Site(shop, cluster, database, port)
    cluster.thaw()
    if not cluster.runs:
        cluster.start()


async def test_whatever_is_killed_when_each_200_has_one_row_in_the_end(site: Site) -> None:
    await site.start()
    stop = asyncio.Event()
    senders = [asyncio.create_task(site.deliver(stop)) for _ in range(6)]
    await site.more(100)
    for _ in range(2):
        site.cluster.kill()  # in the middle of commits
        await site.more(200)
        await site.is_killed()  # with a spool
        await site.start()  # without PostgreSQL
        await site.more(200)
        site.cluster.start()
        await site.is_killed()  # while it forwards, perhaps
        await site.start()
        await site.more(100)
        site.cluster.freeze()
        await site.more(100)
        await site.is_killed()
        site.cluster.thaw()
        await site.start()
        await site.more(100)
        site.cluster.stop()
        await site.more(100)
        site.cluster.start()
        await site.more(100)
    stop.set()
    await asyncio.gather(*senders)
    await site.until_forwarded()
    await site.process.stops()
    stored = await site.stored()
    assert {name: stored.get(name) for name in site.answered} == site.answered
    assert site.refused == []
    assert site.slowest < 5
    assert not any("exception" in line for line in site.log + site.process.log)


async def test_a_stop_while_it_hangs_leaves_the_rest_for_the_next_start(site: Site) -> None:
    await site.start()
    stop = asyncio.Event()
    senders = [asyncio.create_task(site.deliver(stop)) for _ in range(6)]
    await site.more(50)
    site.cluster.freeze()
    code, took = await site.process.stops(signal.SIGTERM)
    stop.set()
    await asyncio.gather(*senders)
    assert code == 0
    assert took < stop_seconds()
    site.cluster.thaw()
    await site.start()
    await site.until_forwarded()
    stored = await site.stored()
    assert {name: stored.get(name) for name in site.answered} == site.answered


async def test_readyz_status_and_the_log_say_that_deliveries_wait_here(site: Site) -> None:
    site.cluster.stop()
    await site.start()
    nothing_yet = await site.readiness()
    assert (nothing_yet["stored_in"], nothing_yet["spooled"]) == ("spool", 0)
    stop = asyncio.Event()
    sender = asyncio.create_task(site.deliver(stop))
    await site.more(3)
    stop.set()
    await sender
    waiting = len(site.answered)
    said = await site.readiness()
    assert said == {**said, "status": "ready", "stored_in": "spool", "spooled": waiting}
    assert said["since"] >= nothing_yet["since"]

    settings = {"KOUNTA_CLIENT_ID": "a", "KOUNTA_CLIENT_SECRET": "b", "KOUNTA_API_URL": "http://127.0.0.1:9"}
    away = await site.shop.type("status", **settings)
    (sentence,) = away.sentences
    assert f"{waiting} deliveries wait on this machine for PostgreSQL, since " in sentence
    assert away.child.returncode == 1

    site.cluster.start()
    await site.until_forwarded()
    ended = await site.process.says("spooling_ended")
    assert ended["forwarded"] == waiting
    await site.process.stops()
    assert [line["event"] for line in site.process.log].count("spooling_began") == 1
    assert PASSWORD not in str(site.process.log) + str(said) + sentence
    assert (await site.stored()) == site.answered
