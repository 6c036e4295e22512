"""The worker keeps what a person asked for registered, and sweeps for what was missed meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from receiver.database import directory_of
from sync.engine import Engine, open_engine
from sync.mirror.sweeps import newest_sweep
from sync.settings import WorkerSettings
from sync.status import status_of
from sync.worker import Worker
from tests.places import settings_of
from tests.working import working

PUBLIC_URL = "https://mirror.example"


@pytest.fixture
async def engine(shop: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    monkeypatch.chdir(directory_of(shop.place))
    for name, value in settings_of(shop.place).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KOUNTA_COMPANY_ID", "5678")
    monkeypatch.setenv("KOUNTA_CLIENT_ID", "sandbox-client")
    monkeypatch.setenv("KOUNTA_CLIENT_SECRET", "sandbox-secret")
    monkeypatch.setenv("KOUNTA_API_URL", shop.url)
    monkeypatch.setenv("KOUNTA_REQUESTS_PER_MINUTE", "100000")
    async with open_engine(WorkerSettings.load(), "the test") as engine:
        yield engine


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it comes true in loops that tell nobody
            await asyncio.sleep(0.01)


async def test_the_worker_registers_nothing_by_itself(shop: Any, engine: Engine) -> None:
    await Worker(engine).once()
    assert shop.shown() == {}


async def test_the_worker_registers_again_what_somebody_removed_and_sweeps(shop: Any, engine: Engine) -> None:
    made = (await engine.registrar.ensure(PUBLIC_URL)).registered
    async with working(Worker(engine, check_seconds=0.05)):
        await until(lambda: engine.mirror.progress.sweep_due is None)
        asked = engine.mirror.progress.sweeps_asked
        shop.delete(made[0])
        missed = shop.sandbox.company.create({"first_name": "Jamie", "email": "j@kounta.example"})
        await until(lambda: engine.mirror.progress.sweeps_asked == asked + 1)
        await until(lambda: engine.mirror.progress.sweep_due is None)
    assert len(shop.shown()) == 3
    async with engine.mirror.batch([missed.id], engine.clock()) as batch:
        assert missed.id in batch.records


async def test_once_repairs_and_sweeps(shop: Any, engine: Engine) -> None:
    made = (await engine.registrar.ensure(PUBLIC_URL)).registered
    await Worker(engine).once()
    assert engine.mirror.progress.sweep_due is None
    shop.change(made[1], format="xml")
    await Worker(engine).once()
    assert {webhook["format"] for webhook in shop.shown().values()} == {"json"}
    newest = await newest_sweep(engine.mirror)
    assert newest is not None
    assert newest.reason == "gap"


async def test_a_gap_that_is_found_during_a_sweep_asks_for_another_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Worker(engine).once()
    await engine.mirror.note(sweep_due="gap")
    sweep = engine.sweeper.sweep

    async def meanwhile(reason: str) -> Any:
        swept = await sweep(reason)
        await engine.mirror.note(sweep_due="gap")
        return swept

    monkeypatch.setattr(type(engine.sweeper), "sweep", lambda _, reason: meanwhile(reason))
    worker = Worker(engine)
    await worker.once()
    assert engine.mirror.progress.sweep_due == "gap"
    monkeypatch.undo()
    await worker._sweep_if_due()
    assert engine.mirror.progress.sweep_due is None


async def test_a_sweep_that_an_earlier_process_began_does_not_settle_a_gap(
    engine: Engine, shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Worker(engine).once()
    await engine.mirror.note(sweep_due="gap")
    calls = shop.sandbox.calls.total
    shop.sandbox.calls.ask(["hangs"])
    killed = asyncio.create_task(Worker(engine)._sweep_if_due())
    await until(lambda: shop.sandbox.calls.total > calls)
    killed.cancel()
    await asyncio.wait([killed])
    begun = await newest_sweep(engine.mirror)
    assert begun is not None
    assert begun.finished_at is None
    worker = Worker(engine)
    await worker._sweep_if_due()
    assert engine.mirror.progress.sweep_due == "gap"
    await worker._sweep_if_due()
    assert engine.mirror.progress.sweep_due is None


async def test_status_tells_where_they_are_registered_and_what_keeps_them_from_it(
    shop: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Worker(engine).once()
    assert (await status_of(engine.settings, engine.clock())).as_json()["registration"] is None
    await engine.registrar.ensure(PUBLIC_URL)
    shop.sandbox.faults.lost_access = "403"
    await engine.registrar.check()
    monkeypatch.setenv("MIRROR_PUBLIC_URL", "https://new.example")
    status = await status_of(WorkerSettings.load(), engine.clock())
    told = status.as_json()["registration"]
    assert told["public_url"] == PUBLIC_URL
    assert "no right" in told["failure"]
    actions = {concern.action: concern.sentence for concern in status.concerns()}
    assert "could not be kept registered since" in actions["kounta-mirror webhooks list"]
    assert PUBLIC_URL in actions["kounta-mirror webhooks ensure"]
