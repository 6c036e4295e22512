"""What the console says of a worker: whether its loops come round, and what its mirror holds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from sync.console.app import create_console
from sync.console.metrics import exposition
from sync.console.serving import serving
from sync.watch import MOVES
from sync.worker import Worker
from tests.working import working


@asynccontextmanager
async def console_of(worker: Worker) -> AsyncIterator[httpx2.AsyncClient]:
    async def scrape() -> bytes:
        return exposition([await worker.look()])

    app = create_console(scrape, lambda: worker.gets_on, None)
    async with (
        serving(app, "127.0.0.1", 0, lambda _: None) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        yield client


async def said_by(client: httpx2.AsyncClient) -> dict[tuple[str, ...], float]:
    """Scrape; give the samples by name, and the label beside `company` if there is one."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name.removeprefix("kounta_mirror_"), *sorted(set(sample.labels.values()) - {"5678"})): (
            sample.value
        )
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_a_worker_is_ready_until_its_loops_have_stood_still_for_too_long(quiet: Any) -> None:
    worker = Worker(quiet.engine)
    first = min(MOVES.values()).total_seconds()
    async with console_of(worker) as client:
        quiet.skip(first)
        assert (await client.get("/readyz")).status_code == 200
        assert (await said_by(client))["up",] == 1
        quiet.skip(1)
        assert (await client.get("/readyz")).status_code == 503
        assert (await said_by(client))["up",] == 0
        assert (await client.get("/healthz")).status_code == 200
        async with asyncio.timeout(20), working(worker):
            while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - asked from outside
                await asyncio.sleep(0.01)


async def test_a_scrape_counts_what_the_mirror_holds(quiet: Any) -> None:
    one, other, gone = quiet.ids[:3]
    worker = Worker(quiet.engine)
    async with console_of(worker) as client:
        before = await said_by(client)
        assert before["customers", "live"] == 60
        assert before["deliveries_ruled_total",] == 0
        changed = quiet.update(one, first_name="Jamie")
        await quiet.deliver(changed)
        quiet.skip(60)
        await quiet.deliver(changed)
        await quiet.deliver(quiet.update(other, first_name="Kim"), "customers/deleted")
        quiet.delete(gone)
        assert await quiet.engine.kounta.customer(gone) is None
        after = await said_by(client)
    counted = {key[1]: value for key, value in after.items() if key[0] == "deliveries" and value}
    assert counted == {"applied": 1, "unchanged": 1, "tombstoned": 1}
    assert after["deliveries_ruled_total",] == 3
    assert (after["customers", "live"], after["customers", "deleted"]) == (59, 1)
    assert after["calls_total", "answered"] == before["calls_total", "answered"] + 1
    assert after["calls_total", "failed"] == before["calls_total", "failed"] == 0
    due = {key[1]: value for key, value in after.items() if key[0] == "verifications_due"}
    rows = quiet.rows("SELECT reason, count(*) AS count FROM _verifications GROUP BY reason")
    assert due == {row["reason"]: row["count"] for row in rows}
