"""What the worker serves at its console's port."""

import socket
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families


async def test_a_worker_that_works_is_ready_and_gives_metrics_for_the_password(shop: Any) -> None:
    await shop.open(2)
    worker = await shop.start("worker", MIRROR_CONSOLE_PASSWORD="let me in")
    url = (await worker.says("console_started"))["url"]
    await worker.says("sweep_complete")
    async with httpx2.AsyncClient(base_url=url) as client:
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", auth=("any", "wrong"))).status_code == 401
        scrape = await client.get("/metrics", auth=("any", "let me in"))
    assert scrape.status_code == 200
    samples = [one for family in text_string_to_metric_families(scrape.text) for one in family.samples]
    live = {"company": "5678", "state": "live"}
    assert [one.value for one in samples if one.labels == live] == [2]
    assert {one.labels["company"] for one in samples} == {"5678"}
    code, seconds = await worker.stops()
    assert code == 0
    assert seconds < 4


async def test_a_port_that_is_taken_stops_the_start_with_a_sentence(shop: Any) -> None:
    await shop.open(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        worker = await shop.start("worker", MIRROR_CONSOLE_PORT=port)
        assert await worker.ends() != 0
    (sentence,) = worker.sentences
    assert port in sentence
    assert "MIRROR_CONSOLE_PORT" in sentence
