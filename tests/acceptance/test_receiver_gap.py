"""A receiver that is killed: what was lost meanwhile is found by itself, and somebody is told."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from sync.alerts import SECONDS
from sync.demo.comparison import wrong_rows

TOLD_SECONDS = 40.0


@dataclass
class OnCall:
    """Somebody at an address of their own, who is told."""

    port: int = 0
    told: list[dict[str, Any]] = field(default_factory=list)
    beats: int = 0
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next((line for line in head.splitlines() if line.startswith("content-length:")), ":0")
        body = await reader.readexactly(int(length.split(":")[1]))
        if head.startswith("post /alert "):
            self.told.append(json.loads(body))
        elif head.startswith("get /beat "):
            self.beats += 1
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        self._heard.set()

    async def until_told(self, count: int) -> list[tuple[str, str]]:
        """Wait until so many posts have come; give what they said."""
        async with asyncio.timeout(TOLD_SECONDS):
            while len(self.told) < count:
                self._heard.clear()
                await self._heard.wait()
        return [(one["name"], one["state"]) for one in self.told]


@pytest.fixture
async def on_call() -> AsyncIterator[OnCall]:
    person = OnCall()
    server = await asyncio.start_server(person.answer, "127.0.0.1", 0)
    async with server:
        person.port = server.sockets[0].getsockname()[1]
        yield person


async def test_what_was_lost_while_the_receiver_was_dead_is_found_and_told(
    shop: Any, on_call: OnCall
) -> None:
    await shop.open(customers=40)
    address = f"http://127.0.0.1:{on_call.port}"
    worker = await shop.quiet_worker(
        MIRROR_ALERT_URL=f"{address}/alert", MIRROR_HEARTBEAT_URL=f"{address}/beat"
    )
    receiver = await shop.receiver()
    changed, gone, *_ = shop.ids
    await receiver.post(changed, "Heard")
    await shop.until(lambda: shop.value("SELECT starts_seen FROM _progress") == 1)

    await receiver.process.is_killed()
    company = shop.sandbox.company
    company.update(changed, {"first_name": "Unheard"}, announce=False)
    company.delete(gone, announce=False)
    company.create({"first_name": "New", "email": "new@kounta.example"}, announce=False)

    receiver = await shop.receiver()
    noticed = await worker.says("gap_noticed")
    mended = await worker.says("gap_mended")
    assert noticed["message"].startswith("Nobody listened from ")
    assert (mended["created"], mended["updated"], mended["deleted"]) == (1, 1, 1)
    truth = json.loads(json.dumps(list(company.truth()), default=str))
    data = shop.directory / "data"
    assert wrong_rows(data / "mirror.db", truth, list(company.customers.deleted)) == {}

    assert await on_call.until_told(2) == [("gap", "open"), ("gap", "closed")]
    assert on_call.told[0]["since"] <= noticed["timestamp"]
    assert on_call.beats >= 1

    await shop.until(lambda: not shop.rows("SELECT * FROM _alerts"))  # noted that it was told
    await worker.is_killed()  # a restart of either tells nothing again, and sweeps for nothing that is known
    worker = await shop.worker(MIRROR_ALERT_URL=f"{address}/alert")
    await shop.until(lambda: shop.value("SELECT alive_at FROM _progress") > mended["timestamp"])
    await receiver.post(changed, "Heard again")
    await shop.until(lambda: shop.value("SELECT sum(count) FROM _verdict_counts") == 2)
    status = json.loads((await shop.type("status --json")).out)
    assert status["gap"]["deleted"] == 1
    assert status["alerts"] == []
    assert shop.value("SELECT count(*) FROM _sweeps") == 2
    assert len(on_call.told) == 2


async def test_an_address_that_hangs_holds_up_neither_the_work_nor_the_stop(shop: Any) -> None:
    await shop.open(customers=5)
    asked = asyncio.Event()
    hung: list[asyncio.StreamWriter] = []

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hung.append(writer)
        asked.set()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        inbox = await shop.inbox()
        await inbox.writer.append(5678, "customers/updated", {}, b"no JSON")  # somebody must look at it
        worker = await shop.quiet_worker(MIRROR_ALERT_URL=address)
        async with asyncio.timeout(TOLD_SECONDS):
            await asked.wait()
        await inbox.append(shop.ids[0], "Awake")
        await shop.until(lambda: shop.value("SELECT sum(count) FROM _verdict_counts") == 2)
        code, seconds = await worker.stops()
        assert (code, worker.sentences) == (0, [])
        assert seconds < SECONDS - 2  # it did not wait for the answer
        assert [one["name"] for one in shop.rows("SELECT * FROM _alerts WHERE open_told_at IS NULL")] == [
            "gap",  # a delivery that names no customer is a known loss
            "quarantined",
        ]
    finally:
        server.close()
        for writer in hung:
            writer.close()
