"""What the worker's process serves at its console's port, and when it does not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from receiver.following import Companies
from sync.console.serving import ConsoleBrokenError
from sync.process import Process
from sync.sandbox import Faults, Sandbox, Settings, serving
from sync.settings import ProcessSettings
from tests.promptness import stop_seconds


@asynccontextmanager
async def console_of(worker: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """Ask a worker that has been started."""
    url = (await worker.says("console_started"))["url"]
    async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
        yield client


async def metrics_of(client: httpx2.AsyncClient) -> dict[str, Metric]:
    scrape = await client.get("/metrics")
    assert scrape.status_code == 200, scrape.text
    return {family.name: family for family in text_string_to_metric_families(scrape.text)}


def by_company(metric: Metric) -> dict[str, float]:
    return {sample.labels["company"]: sample.value for sample in metric.samples}


async def test_a_worker_that_works_is_ready_and_gives_metrics_for_the_password(shop: Any) -> None:
    await shop.open(2)
    (shop.directory / "password").write_text("let me in\n")
    worker = await shop.start("worker", MIRROR_CONSOLE_PASSWORD_FILE="password")
    async with console_of(worker) as client:
        await worker.says("sweep_complete")
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
    assert not any("let me in" in str(line) for line in worker.log)


async def test_a_stop_does_not_wait_for_who_is_connected(shop: Any) -> None:
    await shop.open(1)
    worker = await shop.quiet_worker()
    async with console_of(worker) as client:
        await client.get("/healthz")  # and stays connected
        url = httpx2.URL(str(client.base_url))
        with socket.create_connection((url.host, url.port)) as half:
            half.sendall(b"GET /metrics HTTP/1.1\r\nHost:")
            await client.get("/healthz")
            code, seconds = await worker.stops()
    assert (code, worker.sentences) == (0, [])
    assert seconds < stop_seconds()
    assert not [line for line in worker.log if line["level"] in {"warning", "error", "critical"}]


async def test_a_port_that_is_taken_stops_the_start_with_a_sentence(shop: Any) -> None:
    await shop.open(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        worker = await shop.start("worker", MIRROR_CONSOLE_PORT=port)
        assert await worker.ends() == 1
    (sentence,) = worker.sentences
    assert port in sentence
    assert "MIRROR_CONSOLE_PORT" in sentence


async def test_what_works_once_serves_nothing(shop: Any) -> None:
    await shop.open(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        worker = await shop.type("worker --once", MIRROR_CONSOLE_PORT=str(taken.getsockname()[1]))
    assert (worker.child.returncode, worker.sentences) == (0, [])
    assert not [line for line in worker.log if line["event"] == "console_started"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("MIRROR_CONSOLE_HOST", "0.0.0.0"), ("MIRROR_CONSOLE_PORT", "many")],  # noqa: S104 - refused
)
async def test_a_wrong_setting_of_the_console_stops_the_worker_alone(
    shop: Any, name: str, value: str
) -> None:
    await shop.open(1)
    worker = await shop.start("worker", **{name: value})
    assert await worker.ends() == 2
    (sentence,) = worker.sentences
    assert sentence.startswith(f"{name} cannot be '{value}': ")
    for command in ("worker --once", "reconcile", "status"):
        done = await shop.type(command, **{name: value})
        assert (done.child.returncode, done.sentences) == (0, []), command


async def test_a_console_for_other_machines_needs_a_password(shop: Any) -> None:
    await shop.open(1)
    elsewhere = "0.0.0.0"  # noqa: S104 - it is refused
    worker = await shop.start("worker", MIRROR_CONSOLE_HOST=elsewhere)
    assert await worker.ends() == 2
    (sentence,) = worker.sentences
    assert "MIRROR_CONSOLE_PASSWORD" in sentence


async def test_a_mirror_that_was_taken_away_still_answers(shop: Any) -> None:
    await shop.open(2)
    worker = await shop.quiet_worker()
    async with console_of(worker) as client:
        assert (await metrics_of(client))["kounta_mirror_customers"].samples
        for path in (shop.directory / "data").glob("mirror.db*"):
            path.unlink()
        metrics = await metrics_of(client)
    assert metrics["kounta_mirror_customers"].samples == []
    assert by_company(metrics["kounta_mirror_up"]) == {"5678": 1}


async def open_street(shop: Any, **more: str) -> None:
    """Open the companies 11, of two customers, and 22, of five; `more` stands in the table of 22."""
    shop.settings = {"KOUNTA_REQUESTS_PER_MINUTE": "100000", "MIRROR_READ_LAG_SECONDS": "0"}
    for id_, customers in ((11, 2), (22, 5)):
        sandbox = Sandbox(
            Settings(company_id=id_, requests_per_minute=100_000, list_shape="complete"),
            Faults(),
            seed=id_,
            customers=customers,
        )
        url = await shop.stack.enter_async_context(serving(sandbox))
        table = {
            "api_url": url,
            "client_id": "sandbox-client",
            "client_secret_env": "SECRET",
            **(more if id_ == 22 else {}),
        }
        with (shop.directory / "mirror.toml").open("a") as file:
            file.write(
                f"[companies.{id_}]\n" + "".join(f'{key} = "{value}"\n' for key, value in table.items())
            )
    shop.settings["SECRET"] = "sandbox-secret"


async def test_one_scrape_has_every_company_once(shop: Any) -> None:
    await open_street(shop)
    worker = await shop.start("worker")
    async with console_of(worker) as client:
        await shop.until(lambda: [line["event"] for line in worker.log].count("sweep_complete") == 2)
        assert (await client.get("/readyz")).status_code == 200
        text = (await client.get("/metrics")).text
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(families) == len(heads)
    live = {
        sample.labels["company"]: sample.value
        for sample in families["kounta_mirror_customers"].samples
        if sample.labels["state"] == "live"
    }
    assert live == {"11": 2, "22": 5}


async def test_a_company_whose_work_has_failed_is_seen_while_the_others_go_on(shop: Any) -> None:
    await open_street(shop, refresh_token_env="REFRESH")
    worker = await shop.start("worker", REFRESH="a-token-that-could-not-be-kept")
    async with console_of(worker) as client:
        assert (await worker.says("company_failed"))["company_id"] == 22
        await worker.says("sweep_complete")
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["error"]) == (503, "no_progress")
        assert (await client.get("/healthz")).status_code == 200
        metrics = await metrics_of(client)
    assert by_company(metrics["kounta_mirror_up"]) == {"11": 1, "22": 0}
    assert by_company(metrics["kounta_mirror_attention"]).keys() == {"11"}


async def test_a_console_that_breaks_ends_the_worker_like_a_broken_loop(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()

    async def main_loop(_: Any) -> None:
        await over.wait()
        raise RuntimeError("a fault of ours")

    await shop.open(1)
    monkeypatch.chdir(shop.directory)
    for name, value in {**shop.settings, "MIRROR_CONSOLE_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sync.console.serving._Server.main_loop", main_loop)
    working = asyncio.create_task(Process(Companies(ProcessSettings)).run())
    await shop.until(lambda: shop.calls("list"))
    over.set()
    with pytest.raises(ConsoleBrokenError, match=r"in its console \(RuntimeError: a fault of ours\)"):
        await asyncio.wait_for(working, 20)


async def test_who_looks_at_a_page_keeps_no_worker_from_stopping(shop: Any) -> None:
    await shop.open(2)
    worker = await shop.quiet_worker()
    async with console_of(worker) as client:
        page = await client.get("/", headers={"Accept": "text/html"}, follow_redirects=True)
        assert page.status_code == 200
        assert "OK, 2 customers" in page.text or "No receiver has run yet." in page.text
        async with client.stream("GET", "/companies/5678/events") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 3000"
            code, seconds = await worker.stops()
            assert [line async for line in lines if line.startswith("data")] == []
    assert (code, worker.sentences) == (0, [])
    assert seconds < stop_seconds()
    assert not [line for line in worker.log if line["level"] in {"warning", "error", "critical"}]


async def test_each_company_of_a_process_has_its_pages(shop: Any) -> None:
    await open_street(shop)
    worker = await shop.start("worker")
    async with console_of(worker) as client:
        await shop.until(lambda: [line["event"] for line in worker.log].count("sweep_complete") == 2)
        door = (await client.get("/", headers={"Accept": "text/html"})).text
        assert "Company 11" in door
        assert "Company 22" in door
        page = (await client.get("/companies/22/verifications", headers={"Accept": "text/html"})).text
        seal = page.split('name="seal" value="')[1].split('"')[0]
        answer = await client.post("/companies/22/reconcile", data={"seal": seal}, follow_redirects=True)
        assert "5 listed" in answer.text
