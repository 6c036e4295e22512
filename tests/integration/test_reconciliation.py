"""Reconciliations over the local Kounta, by HTTP on loopback, at twenty times the speed of life."""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from receiver.inbox import Delivery
from sync.demo.comparison import wrong_rows
from sync.engine import Engine, open_engine
from sync.kounta import Kounta, KountaAccessLost, KountaError, Read
from sync.merge.doubts import Reason
from sync.mirror.figures import figures_of
from sync.mirror.queue import ask_about
from sync.mirror.reader import mirror_path
from sync.mirror.sweeps import newest_sweep
from sync.reconcile.reconciler import Report, Request
from sync.reconcile.sweep import ForeignListError
from sync.sandbox import Faults, Sandbox, Settings, serving
from sync.settings import WorkerSettings

COMPANY = 5678
SPEED = 20
BEGAN = time.time()


def seconds() -> float:
    return BEGAN + (time.time() - BEGAN) * SPEED


def clock() -> datetime:
    now = datetime.fromtimestamp(seconds(), UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def upstream(customers: int, *, seed: int = 1, **settings: Any) -> Sandbox:
    options = replace(Settings(), requests_per_minute=60_000, **settings)
    return Sandbox(options, Faults(), seed, customers, clock=seconds)


@asynccontextmanager
async def mirror_of(url: str, directory: Path, **settings: str) -> AsyncIterator[Engine]:
    given = {
        "MIRROR_DATA_DIR": str(directory),
        "KOUNTA_COMPANY_ID": str(COMPANY),
        "KOUNTA_API_URL": url,
        "KOUNTA_CLIENT_ID": "sandbox-client",
        "KOUNTA_CLIENT_SECRET": "sandbox-secret",
        "KOUNTA_REQUESTS_PER_MINUTE": "60000",
        **settings,
    }
    async with open_engine(WorkerSettings.model_validate(given), "the test", clock=clock) as engine:
        yield engine


def wrong(engine: Engine, sandbox: Sandbox) -> dict[int, str]:
    truth = json.loads(json.dumps(list(sandbox.company.truth(None)), default=str))
    return wrong_rows(mirror_path(engine.settings.data_dir), truth, list(sandbox.company.customers.deleted))


def ids(sandbox: Sandbox) -> list[int]:
    return sorted(customer["id"] for customer in sandbox.company.truth(None))


async def reconcile(engine: Engine, **request: Any) -> Report:
    return await engine.reconciler.reconcile(Request(**request))


def pages(customers: int) -> int:
    return max(1, ceil(customers / 25))


@pytest.fixture
async def filled(tmp_path: Path) -> AsyncIterator[tuple[Sandbox, Engine]]:
    """A Kounta of 60 customers whose mirror is right and quiet."""
    sandbox = upstream(60)
    async with serving(sandbox) as url, mirror_of(url, tmp_path / "data") as engine:
        await reconcile(engine)
        assert wrong(engine, sandbox) == {}
        yield sandbox, engine


@pytest.mark.parametrize("shape", ["abridged", "legacy", "complete"])
async def test_an_empty_mirror_is_filled_from_every_shape_of_list(tmp_path: Path, shape: str) -> None:
    sandbox = upstream(60, list_shape=shape)
    async with serving(sandbox) as url, mirror_of(url, tmp_path / "data") as engine:
        report = await reconcile(engine)
        assert (report.listed, report.created, report.failed) == (60, 60, 0)
        assert report.read == (0 if shape == "complete" else 60)
        assert report.calls == pages(60) + report.read
        assert wrong(engine, sandbox) == {}
        figures = await figures_of(engine.mirror)
        assert figures is not None
        assert (figures.live, figures.verified, figures.partial, figures.doubts) == (60, 60, 0, {})


async def test_a_quiet_mirror_costs_the_pages_of_the_list_and_nothing_more(
    filled: tuple[Sandbox, Engine],
) -> None:
    _, engine = filled
    report = await reconcile(engine)
    assert report == Report(listed=60, unchanged=60, calls=pages(60))


async def test_silent_changes_that_the_list_shows_cost_one_read_each(filled: tuple[Sandbox, Engine]) -> None:
    sandbox, engine = filled
    first, second, *_ = ids(sandbox)
    sandbox.company.update(first, {"first_name": "Silent"}, announce=False)
    sandbox.company.update(second, {"email": "silent@kounta.example"}, announce=False)
    sandbox.company.create({"first_name": "New", "email": "new@kounta.example"}, announce=False)
    report = await reconcile(engine)
    assert report == Report(listed=61, read=3, created=1, updated=2, unchanged=58, calls=pages(61) + 3)
    assert wrong(engine, sandbox) == {}


async def test_silent_deletions_are_found_and_proven(filled: tuple[Sandbox, Engine]) -> None:
    sandbox, engine = filled
    for customer_id in ids(sandbox)[:3]:
        sandbox.company.delete(customer_id, announce=False)
    report = await reconcile(engine)
    assert (report.listed, report.read, report.deleted, report.unchanged) == (57, 3, 3, 57)
    assert report.calls == pages(57) + 3 + 1  # the proof, since the last answer of all was a 404
    assert wrong(engine, sandbox) == {}


async def test_the_read_of_a_changed_customer_proves_a_deletion_without_another_call(
    filled: tuple[Sandbox, Engine],
) -> None:
    sandbox, engine = filled
    gone, changed, *_ = ids(sandbox)
    sandbox.company.delete(gone, announce=False)
    sandbox.company.update(changed, {"first_name": "Silent"}, announce=False)
    report = await reconcile(engine)
    assert (report.deleted, report.updated) == (1, 1)
    assert report.calls in {pages(59) + 2, pages(59) + 3}  # both are read at once: either may end last
    assert wrong(engine, sandbox) == {}


async def test_what_the_list_does_not_show_is_found_by_reading_everyone(
    filled: tuple[Sandbox, Engine],
) -> None:
    sandbox, engine = filled
    sandbox.company.update(ids(sandbox)[0], {"phone": "000"}, announce=False)
    assert (await reconcile(engine)).updated == 0
    report = await reconcile(engine, deep=True)
    assert report == Report(listed=60, read=60, updated=1, unchanged=59, calls=pages(60) + 60)
    assert wrong(engine, sandbox) == {}


async def test_one_customer_is_read_when_a_person_asks(filled: tuple[Sandbox, Engine]) -> None:
    sandbox, engine = filled
    customer_id = ids(sandbox)[0]
    sandbox.company.update(customer_id, {"phone": "000"}, announce=False)
    report = await reconcile(engine, customer_id=customer_id)
    assert report == Report(read=1, updated=1, calls=1)
    assert await reconcile(engine, customer_id=999_999) == Report(read=1, unchanged=1, calls=1)


async def test_many_deletions_at_once_are_held_until_a_person_lets_them_go(
    filled: tuple[Sandbox, Engine],
) -> None:
    sandbox, engine = filled
    for customer_id in ids(sandbox)[:20]:
        sandbox.company.delete(customer_id, announce=False)
    report = await reconcile(engine)
    assert (report.deleted, report.held_deletes, report.whole) == (0, 20, False)
    assert (await reconcile(engine)).held_deletes == 20
    some = await reconcile(engine, allow_deletes=5)
    assert (some.deleted, some.held_deletes) == (5, 15)
    rest = await reconcile(engine, allow_deletes=15)
    assert (rest.deleted, rest.held_deletes, rest.whole) == (15, 0, True)
    assert wrong(engine, sandbox) == {}


async def test_held_deletions_survive_a_restart_and_give_way_to_a_customer_that_is_back(
    tmp_path: Path,
) -> None:
    sandbox = upstream(60)
    async with serving(sandbox) as url:
        async with mirror_of(url, tmp_path / "data") as engine:
            await reconcile(engine)
            removed = ids(sandbox)[:20]
            for customer_id in removed:
                sandbox.company.delete(customer_id, announce=False)
            assert (await reconcile(engine)).held_deletes == 20
        async with mirror_of(url, tmp_path / "data") as engine:
            values = {"first_name": "Back", "email": "back@kounta.example"}
            sandbox.company.create(values, announce=False, customer_id=removed[0])
            assert (await reconcile(engine)).held_deletes == 19
            assert (await reconcile(engine, allow_deletes=19)).deleted == 19
            assert wrong(engine, sandbox) == {}


@pytest.mark.parametrize("answer", ["401", "403", "404"])
async def test_lost_access_deletes_nothing(filled: tuple[Sandbox, Engine], answer: str) -> None:
    sandbox, engine = filled
    sandbox.change(sandbox.faults, {"lost_access": answer})
    with pytest.raises(KountaAccessLost):
        await reconcile(engine)
    sandbox.change(sandbox.faults, {"lost_access": "no"})
    assert wrong(engine, sandbox) == {}


async def test_access_lost_between_the_list_and_the_reads_deletes_nothing(
    filled: tuple[Sandbox, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox, engine = filled
    gone, *_ = ids(sandbox)
    sandbox.company.delete(gone, announce=False)
    read = Kounta.read

    async def read_without_access(self: Kounta, customer_id: int, *, priority: int = 0) -> Read:
        sandbox.change(sandbox.faults, {"lost_access": "404"})
        return await read(self, customer_id, priority=priority)

    monkeypatch.setattr(Kounta, "read", read_without_access)
    with pytest.raises(KountaError):
        await reconcile(engine)
    figures = await figures_of(engine.mirror)
    assert figures is not None
    assert (figures.live, figures.held_deletes) == (60, 1)


async def test_a_list_that_is_empty_holds_every_deletion(filled: tuple[Sandbox, Engine]) -> None:
    sandbox, engine = filled
    for customer_id in ids(sandbox):
        sandbox.company.delete(customer_id, announce=False)
    report = await reconcile(engine)
    assert (report.listed, report.deleted, report.held_deletes) == (0, 0, 60)


async def test_another_companys_list_is_not_taken_over(tmp_path: Path) -> None:
    ours, theirs = upstream(60), upstream(60, seed=2)
    for sandbox, names in ((ours, "ours"), (theirs, "theirs")):
        for number in range(40):
            values = {"first_name": names, "email": f"{names}{number}@kounta.example"}
            offset = 10_000_000 if sandbox is theirs else 20_000_000
            sandbox.company.create(values, announce=False, customer_id=offset + number)
    async with serving(ours) as url, mirror_of(url, tmp_path / "data") as engine:
        await reconcile(engine)
        right = wrong(engine, ours)
    for customer_id in ids(theirs):
        if customer_id < 10_000_000 or customer_id > 20_000_000:
            theirs.company.delete(customer_id, announce=False)
    async with serving(theirs) as url, mirror_of(url, tmp_path / "data") as engine:
        with pytest.raises(ForeignListError, match="KOUNTA_COMPANY_ID"):
            await reconcile(engine)
        assert wrong(engine, ours) == right == {}


@pytest.mark.parametrize("fault", ["server_errors", "html_answers", "cut_bodies", "too_many"])
async def test_an_upstream_that_fails_all_the_time_changes_nothing_and_is_one_error(
    filled: tuple[Sandbox, Engine], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox, engine = filled
    sandbox.company.delete(ids(sandbox)[0], announce=False)
    sandbox.change(sandbox.faults, {fault: 1})
    retries = engine.kounta._connection.retries
    monkeypatch.setattr(engine.kounta._connection, "retries", replace(retries, patience=0.5))
    with pytest.raises(KountaError):
        await reconcile(engine)
    sandbox.change(sandbox.faults, {fault: 0})
    figures = await figures_of(engine.mirror)
    assert figures is not None
    assert (figures.live, figures.deleted) == (60, 0)


async def test_an_interrupted_sweep_goes_on_at_its_page(
    filled: tuple[Sandbox, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox, engine = filled
    retries = engine.kounta._connection.retries
    monkeypatch.setattr(engine.kounta._connection, "retries", replace(retries, patience=0.3))
    fetched = 0
    take = engine.sweeper._take

    async def taken(*arguments: Any) -> None:
        nonlocal fetched
        await take(*arguments)
        fetched += 1
        if fetched == 2:
            sandbox.change(sandbox.faults, {"server_errors": 1})

    monkeypatch.setattr(engine.sweeper, "_take", taken)
    with pytest.raises(KountaError):
        await reconcile(engine)
    stopped = await newest_sweep(engine.mirror)
    assert stopped is not None
    assert (stopped.finished_at, stopped.listed) == (None, 50)
    sandbox.change(sandbox.faults, {"server_errors": 0})
    calls = engine.kounta.calls
    report = await reconcile(engine)
    assert (report.listed, engine.kounta.calls - calls) == (60, 1)


async def test_rows_that_shift_between_pages_are_never_deleted(tmp_path: Path) -> None:
    sandbox = upstream(120)
    sandbox.change(sandbox.faults, {"shifted_rows": 1})
    async with serving(sandbox) as url, mirror_of(url, tmp_path / "data") as engine:
        await reconcile(engine)
        report = await reconcile(engine)
        assert (report.deleted, report.held_deletes) == (0, 0)
        assert {what for what in wrong(engine, sandbox).values() if "deleted" in what} == set()


def delivery(customer: dict[str, Any], position: int, topic: str = "customers/updated") -> Delivery:
    body = json.dumps({**customer, "updated_at": clock().isoformat()}).encode()
    return Delivery(position, f"delivery-{position}", COMPANY, topic, clock(), {}, body)


async def test_a_read_is_fenced_by_a_delivery_that_comes_while_it_is_under_way(
    filled: tuple[Sandbox, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox, engine = filled
    customer_id = ids(sandbox)[0]
    read = Kounta.read
    answers: list[Callable[[], None]] = []

    async def read_slowly(self: Kounta, wanted: int, *, priority: int = 0) -> Read:
        answer = await read(self, wanted, priority=priority)
        if not answers:
            answers.append(lambda: None)
            updated = sandbox.company.update(customer_id, {"first_name": "Later"}, announce=False)
            seen = json.loads(json.dumps(updated.seen_by("sandbox-client"), default=str))
            await engine.applier.apply([delivery(seen, 1)])
        return answer

    monkeypatch.setattr(Kounta, "read", read_slowly)
    report = await reconcile(engine, customer_id=customer_id)
    assert (report.calls, report.failed) == (2, 0)
    assert wrong(engine, sandbox) == {}


async def test_a_lagging_read_settles_nothing_that_is_newer(tmp_path: Path) -> None:
    sandbox = upstream(30)
    lag = {"MIRROR_READ_LAG_SECONDS": "20"}
    async with serving(sandbox) as url, mirror_of(url, tmp_path / "data", **lag) as engine:
        await reconcile(engine)
        sandbox.change(sandbox.faults, {"read_lag_seconds": 18})
        customer_id = ids(sandbox)[0]
        updated = sandbox.company.update(customer_id, {"first_name": "Newer"}, announce=False)
        seen = json.loads(json.dumps(updated.seen_by("sandbox-client"), default=str))
        await engine.applier.apply([delivery(seen, 1)])
        await ask_about(engine.mirror, [customer_id], clock())
        assert (await reconcile(engine)).updated == 0
        assert wrong(engine, sandbox) == {}


async def test_a_delivery_that_stands_alone_is_left_to_be_confirmed(filled: tuple[Sandbox, Engine]) -> None:
    sandbox, engine = filled
    updated = sandbox.company.update(ids(sandbox)[0], {"first_name": "Told"}, announce=False)
    seen = json.loads(json.dumps(updated.seen_by("sandbox-client"), default=str))
    await engine.applier.apply([delivery(seen, 1)])
    figures = await figures_of(engine.mirror)
    assert figures is not None
    assert (figures.verified, figures.doubts) == (59, {Reason.CONFIRMATION.value: 1})


async def test_the_budget_goes_on_after_a_restart(tmp_path: Path) -> None:
    sandbox = upstream(1)
    async with serving(sandbox) as url:
        async with mirror_of(url, tmp_path / "data") as engine:
            await reconcile(engine)
            engine.kounta.budget.close_until(clock() + timedelta(seconds=600))
        async with mirror_of(url, tmp_path / "data") as engine:
            state = engine.kounta.budget.state
            assert state.last_call_at is not None
            assert state.closed_until is not None
