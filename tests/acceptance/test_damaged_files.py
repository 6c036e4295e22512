"""A file that is damaged, removed or replaced while its owner runs: it is noticed and said."""

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from receiver.signature import sign
from tests.acceptance.conftest import END_SECONDS, TOKEN, Process, Receiver, renamed

NOTICED = timedelta(seconds=10)
"""Within which damage has to be noticed."""


def spoil(path: Path, *, keep: int = 3) -> None:
    """Overwrite part of every page behind the first ones in place, as a failing disk does."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA wal_checkpoint(PASSIVE)")
    with path.open("r+b") as file:
        for place in range(4096 * keep, path.stat().st_size, 4096):
            file.seek(place)
            file.write(b"\xff" * 512)


async def get(port: int, path: str) -> int:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://127.0.0.1:{port}{path}")).status_code


async def post(receiver: Receiver, customer_id: int) -> int:
    body = renamed(customer_id, "Anew")
    url = f"http://127.0.0.1:{receiver.port}/webhooks/5678/customers/updated"
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.post(
            url, content=body, headers={"X-Kounta-Signature": sign(body, TOKEN.encode())}
        )
    return answer.status_code


async def status(shop: Any) -> tuple[int, dict[str, Any]]:
    typed = await shop.type("status --check --json")
    return typed.child.returncode, json.loads(typed.out)


async def critical(shop: Any, since: datetime) -> dict[str, Any]:
    """Wait until `status --check` is critical because of a file; give what needs attention first.

    It was noticed soon after `since`, however long a command takes to start on a busy machine.
    """
    async with asyncio.timeout(END_SECONDS):
        while True:
            code, said = await status(shop)
            if said["damage"]:
                assert code == 2
                noticed_at = datetime.fromisoformat(said["damage"][0]["noticed_at"])
                assert noticed_at - since < NOTICED
                first: dict[str, Any] = said["attention"][0]
                return first
            await asyncio.sleep(0.2)


def events(process: Process) -> list[str]:
    return [line["event"] for line in process.log]


async def test_a_damaged_inbox_is_critical_at_once_and_its_receiver_is_never_ready(shop: Any) -> None:
    await shop.open(3)
    receiver = await shop.receiver()
    await shop.quiet_worker()
    for number in range(100):
        await receiver.post(shop.ids[0], f"Name {number}" * 100)
    assert await get(receiver.port, "/readyz") == 200
    since = datetime.now(UTC)
    spoil(shop.directory / "data/inbox.db", keep=20)  # so that a receiver can start
    first = await critical(shop, since)
    assert first["sentence"].startswith("inbox.db is damaged (")
    assert first["action"] == "kounta-mirror rebuild"
    await receiver.process.says("store_damaged")
    for _ in range(15):
        assert await get(receiver.port, "/readyz") == 503
        assert await post(receiver, shop.ids[0]) == 503
        await asyncio.sleep(0.1)
    assert "commits_recovered" not in events(receiver.process)
    assert (await receiver.process.stops())[0] == 0
    again = await shop.receiver()
    assert await get(again.port, "/readyz") == 503
    assert await post(again, shop.ids[0]) == 503


async def test_a_damaged_mirror_is_critical_at_once_and_is_rebuilt(shop: Any) -> None:
    await shop.open(5)
    receiver = await shop.receiver()
    worker = await shop.quiet_worker()
    for number in range(30):
        await receiver.post(shop.ids[0], f"Name {number}")
    await shop.until(lambda: shop.value("SELECT count(*) FROM delivery_verdicts") == 30)
    console = (await worker.says("console_started"))["port"]
    assert await get(console, "/readyz") == 200
    since = datetime.now(UTC)
    spoil(shop.directory / "data/mirror.db")
    first = await critical(shop, since)
    assert first["sentence"].startswith("mirror.db is damaged (")
    assert first["action"] == "kounta-mirror rebuild"
    await worker.says("store_damaged")
    assert await get(console, "/readyz") == 503
    acknowledged = await receiver.post(shop.ids[1], "Said meanwhile")
    assert await get(console, "/readyz") == 503
    assert worker.lives
    assert not any("othing is lost" in str(line) for line in worker.log)
    assert (await worker.stops())[0] == 0
    rebuilt = await shop.type("rebuild --json")
    assert rebuilt.sentences[0].startswith("The mirror is damaged (")
    assert (rebuilt.child.returncode, (await status(shop))[1]["damage"]) == (0, [])
    verdicts = [one["delivery_id"] for one in shop.rows("SELECT delivery_id FROM delivery_verdicts")]
    assert acknowledged in verdicts


async def test_a_damaged_inbox_is_put_aside_by_rebuild(shop: Any) -> None:
    await shop.open(3)
    receiver = await shop.receiver()
    worker = await shop.quiet_worker()
    for number in range(100):
        await receiver.post(shop.ids[0], f"Name {number}" * 100)
    assert (await worker.stops())[0] == 0
    assert (await receiver.process.stops())[0] == 0
    spoil(shop.directory / "data/inbox.db")
    rebuilt = await shop.type("rebuild --json")
    assert rebuilt.child.returncode == 0
    assert rebuilt.sentences[0].startswith("The inbox is damaged (")
    assert list((shop.directory / "data").glob("inbox.db.damaged-*"))
    receiver = await shop.receiver()
    assert await get(receiver.port, "/readyz") == 200
    assert await post(receiver, shop.ids[0]) == 200
    worker = await shop.worker()
    await worker.says("inbox_replaced")


@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_an_inbox_that_is_not_at_its_path_takes_no_delivery(shop: Any, how: str) -> None:
    await shop.open(1)
    receiver = await shop.receiver()
    worker = await shop.quiet_worker()
    await receiver.post(shop.ids[0], "Before")
    path = shop.directory / "data/inbox.db"
    away = path.with_name("away.db")
    if how == "replaced":
        shutil.copy(path, path.with_name("copy.db"))
    since = datetime.now(UTC)
    path.rename(away)
    if how == "replaced":
        path.with_name("copy.db").rename(path)
    assert await post(receiver, shop.ids[0]) == 503
    assert await get(receiver.port, "/readyz") == 503
    first = await critical(shop, since)
    assert first["sentence"].startswith(f"inbox.db was {how} while it was open. Deliveries are refused")
    away.replace(path)
    await receiver.process.says("store_whole")
    assert "commits_recovered" not in events(receiver.process)
    assert await post(receiver, shop.ids[0]) == 200
    await receiver.process.says("commits_recovered")
    assert await get(receiver.port, "/readyz") == 200
    assert worker.lives


@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_a_mirror_that_is_not_at_its_path_is_not_written(shop: Any, how: str) -> None:
    await shop.open(1)
    worker = await shop.quiet_worker()
    console = (await worker.says("console_started"))["port"]
    path = shop.directory / "data/mirror.db"
    if how == "replaced":
        shutil.copy(path, path.with_name("copy.db"))
    since = datetime.now(UTC)
    path.rename(path.with_name("away.db"))
    if how == "replaced":
        path.with_name("copy.db").rename(path)
    await worker.says("store_replaced")
    assert await get(console, "/readyz") == 503
    first = await critical(shop, since)
    assert first["sentence"].startswith(f"mirror.db was {how} while it was open. Nothing is applied")
    assert (await worker.stops())[0] == 0
    await shop.worker()
    assert (await status(shop))[1]["damage"] == []
