"""Claims about the worker as a process: how it stops, wakes, rests, is asked, and ends when it is broken."""

import asyncio
import json
import os
import resource
import signal
import sqlite3
import statistics
from contextlib import closing, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from receiver.doorbell import Bell
from sync.engine import open_engine
from sync.inbox import InboxView
from sync.settings import WorkerSettings
from sync.worker import POLL_SECONDS, TICK_SECONDS, Worker
from tests.promptness import stop_seconds

LISTED = "SELECT count(*) FROM _customers WHERE listed_in > 0"
TROUBLE = {"warning", "error", "critical"}


def is_clean(process: Any) -> bool:
    """Whether it said nothing but what is no trouble."""
    return not process.sentences and not any(line["level"] in TROUBLE for line in process.log)


async def stops_well(process: Any) -> None:
    code, seconds = await process.stops()
    assert (code, process.sentences) == (0, [])
    assert is_clean(process), process.log
    assert process.log[-1]["event"] == "worker_stopping"
    assert seconds < stop_seconds()  # what it must not wait for lasts 20 s


# how it stops


async def test_a_stop_during_the_backfill_keeps_whole_pages_and_the_next_start_goes_on(shop: Any) -> None:
    await shop.open(customers=1000)
    slow = {"KOUNTA_REQUESTS_PER_MINUTE": "1200"}
    worker = await shop.worker(**slow)
    await shop.until(lambda: shop.calls("list") >= 5)
    await stops_well(worker)
    (sweep,) = shop.rows("SELECT * FROM _sweeps")
    assert sweep["finished_at"] is None
    assert 0 < sweep["listed"] < 1000
    assert sweep["listed"] % 25 == 0
    assert shop.value(LISTED) == sweep["listed"] == shop.value("SELECT live FROM mirror_status")

    await shop.quiet_worker()
    assert shop.value("SELECT count(*) FROM customers") == 1000
    assert shop.value("SELECT count(*) FROM _sweeps") == 1
    assert shop.calls("list") <= 40 + 1  # the page that was under way is asked for again


@pytest.mark.parametrize("kind", ["list", "get"])
async def test_a_stop_does_not_wait_for_an_upstream_that_hangs(shop: Any, kind: str) -> None:
    await shop.open(customers=10, list_shape="abridged")
    shop.hang(kind)
    worker = await shop.worker()
    await shop.until_one_hangs()
    await stops_well(worker)


async def test_a_stop_does_not_wait_for_a_look_at_the_registration(shop: Any) -> None:
    await shop.open(customers=1)
    assert (await shop.type("webhooks ensure")).child.returncode == 0
    shop.hang("webhooks")
    worker = await shop.worker()
    await shop.until_one_hangs()
    await stops_well(worker)


async def test_a_stop_does_not_wait_for_new_tokens(shop: Any) -> None:
    await shop.open(customers=1)
    tokens = shop.sandbox.tokens
    form = {
        "client_id": "sandbox-client",
        "client_secret": "sandbox-secret",
        "grant_type": "authorization_code",
        "redirect_uri": "https://mirror.example",
        "code": tokens.authorize("sandbox-client", "https://mirror.example"),
    }
    granted = tokens.grant(form)["refresh_token"]
    shop.hang("token")
    worker = await shop.worker(KOUNTA_REFRESH_TOKEN=granted, MIRROR_SECRET_KEY="k" * 40)
    await shop.until_one_hangs()
    await stops_well(worker)


async def test_signals_after_the_first_do_no_harm(shop: Any) -> None:
    """The second ones meet it at every step of its way out, down to the end of the interpreter."""
    await shop.open(customers=10)
    shop.hang("list")
    worker = await shop.worker()
    await shop.until_one_hangs()
    async with asyncio.timeout(5 * stop_seconds()):
        while worker.lives:  # as somebody does who is impatient
            for number in (signal.SIGTERM, signal.SIGINT):
                with suppress(ProcessLookupError):  # the child's own methods would take its exit code
                    os.kill(worker.child.pid, number)
            await asyncio.sleep(0.002)
    assert await worker.ends() == 0
    assert is_clean(worker)


# how it wakes


async def seconds_until_applied(shop: Any, receiver: Any, count: int) -> list[float]:
    """Deliver so often, each time when the one before has been applied."""
    took = []
    found = "SELECT received_at, applied_at FROM delivery_verdicts WHERE delivery_id = ?"
    for customer_id in shop.ids[:count]:
        delivery = await receiver.post(customer_id, "Awake")
        await shop.until(partial(shop.rows, found, delivery))
        (row,) = shop.rows(found, delivery)
        received, applied = (datetime.fromisoformat(row[name]) for name in ("received_at", "applied_at"))
        took.append((applied - received).total_seconds())
    return took


async def test_a_delivery_wakes_the_worker_at_once_whichever_of_the_two_was_started_last(shop: Any) -> None:
    await shop.open(customers=15)
    worker = await shop.quiet_worker()
    receiver = await shop.receiver()
    took = await seconds_until_applied(shop, receiver, 15)
    # by looking now and then each would take POLL_SECONDS: the one before was found by a look just now
    assert sum(took) < POLL_SECONDS, took
    assert statistics.median(took) < POLL_SECONDS / 10, took

    await receiver.process.is_killed()
    receiver = await shop.receiver()
    assert sum(await seconds_until_applied(shop, receiver, 3)) < POLL_SECONDS

    await worker.is_killed()
    await shop.worker()
    assert sum(await seconds_until_applied(shop, receiver, 3)) < POLL_SECONDS


def cpu_seconds(process: Any) -> float:
    fields = Path(f"/proc/{process.child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_an_idle_worker_rests_and_stops_at_a_signal(shop: Any) -> None:
    await shop.open(customers=10)
    worker = await shop.quiet_worker()
    before, calls = cpu_seconds(worker), shop.sandbox.calls.total
    await asyncio.sleep(3)
    assert cpu_seconds(worker) - before < 0.05 * 3
    assert shop.sandbox.calls.total == calls
    await stops_well(worker)
    assert not (shop.directory / "data" / "worker.socket").exists()


# worker --once


async def test_once_does_all_that_is_due_and_again_only_what_has_become_due(shop: Any) -> None:
    await shop.open(customers=30)
    inbox = await shop.inbox()
    delivered = [await inbox.append(customer_id, "Once") for customer_id in shop.ids[:3]]

    first = await shop.type("worker --once")
    assert (first.child.returncode, first.out, is_clean(first)) == (0, "", True)
    assert {row["delivery_id"] for row in shop.rows("SELECT * FROM delivery_verdicts")} == set(delivered)
    assert shop.value("SELECT complete FROM _sweeps")
    assert shop.value("SELECT count(*) FROM customers") == 30
    assert shop.sandbox.calls.by_kind == {"list": 2, "company": 1}

    doubts = shop.value("SELECT count(*) FROM _verifications")
    assert doubts <= 3
    await asyncio.sleep(
        2.1
    )  # a doubt is younger than a read's answer until then, and the clock is the world's
    assert (await shop.type("worker --once")).child.returncode == 0
    assert shop.value("SELECT count(*) FROM _verifications") == 0
    assert shop.sandbox.calls.by_kind == {"list": 2, "company": 1} | ({"get": doubts} if doubts else {})

    calls = shop.sandbox.calls.total
    assert (await shop.type("worker --once")).child.returncode == 0
    assert shop.sandbox.calls.total == calls


async def test_once_says_that_upstream_is_down_and_applies_what_is_pending_all_the_same(shop: Any) -> None:
    await shop.open(customers=30)
    await (await shop.inbox()).append(shop.ids[0], "Pending")
    shop.break_down(html_answers=1)
    once = await shop.type("worker --once")
    assert (once.child.returncode, once.out) == (1, "")
    (sentence,) = once.sentences
    assert "/customers" in sentence
    assert sentence.endswith(".")
    assert shop.rows("SELECT id, first_name FROM customers") == [{"id": shop.ids[0], "first_name": "Pending"}]
    assert shop.value("SELECT upstream_failure FROM _progress") == sentence

    shop.break_down(html_answers=0)
    again = await shop.type("worker --once")
    assert (again.child.returncode, again.sentences) == (0, [])
    assert shop.value("SELECT upstream_failure FROM _progress") is None


# how it meets what must not happen


def change(shop: Any, statement: str) -> None:
    """Break something in the mirror that only its owner may touch."""
    with closing(sqlite3.connect(shop.directory / "data" / "mirror.db", timeout=10)) as mirror, mirror:
        mirror.execute(statement)


async def test_a_loop_that_dies_ends_the_process_with_a_sentence_and_its_traceback_in_the_log(
    shop: Any,
) -> None:
    await shop.open(customers=10)
    worker = await shop.quiet_worker()
    change(shop, "DROP TABLE _verifications")
    assert await worker.ends() == 1
    (sentence,) = worker.sentences
    assert "no such table: _verifications" in sentence
    (broken,) = (line for line in worker.log if line["event"] == "loop_broken")
    assert broken["loop"] == "verify"
    assert "Traceback" in broken["exception"]


async def test_a_customer_whose_row_is_damaged_does_not_keep_the_others_from_being_applied(shop: Any) -> None:
    await shop.open(customers=3)
    inbox = await shop.inbox()
    worker = await shop.quiet_worker()
    damaged, *others = shop.ids
    change(shop, f"UPDATE _customers SET other = 'torn' WHERE id = {damaged}")  # noqa: S608 - a number
    names = [await inbox.append(customer_id, "Delivered") for customer_id in (damaged, *others)]
    found = "SELECT verdict FROM delivery_verdicts WHERE delivery_id = ?"
    await shop.until(lambda: shop.rows(found, names[-1]))
    assert [shop.value(found, name) for name in names] == ["failed", "applied", "applied"]
    assert (await worker.says("delivery_failed"))["delivery_id"] == names[0]
    assert worker.lives


async def test_a_disk_that_is_full_is_logged_and_waited_for(shop: Any) -> None:
    """The limit of a file's size, which a parent can lift, stands for the disk."""
    await shop.open(customers=3)
    inbox = await shop.inbox()
    worker = await shop.quiet_worker()
    pid = worker.child.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    delivery = await inbox.append(shop.ids[0], "Full")
    while (await worker.says("store_unavailable"))["loop"] != "apply":
        pass
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    found = "SELECT verdict FROM delivery_verdicts WHERE delivery_id = ?"
    await shop.until(lambda: shop.rows(found, delivery))
    assert shop.value(found, delivery) == "applied"
    assert worker.lives


class BugError(Exception):
    """What no code expects."""


@pytest.mark.parametrize(
    "loop", ["apply", "verify", "sweep", "budget", "retention", "erasure", "registration"]
)
async def test_a_bug_in_any_loop_ends_all_of_them(
    shop: Any, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise BugError

    await shop.open(customers=3)
    part = {
        "apply": "sync.inbox.InboxView.reader",
        "verify": "sync.worker.due_doubts",
        "sweep": "sync.reconcile.sweep.Sweeper.sweep",
        "budget": "sync.engine.Engine.keep_budget",
        "retention": "sync.worker.forget_old",
        "erasure": "sync.erasure.Eraser.go_on",
        "registration": "sync.registration.registrar.Registrar.check",
    }[loop]
    given = {**shop.settings, "MIRROR_DATA_DIR": str(shop.directory / "data")}
    async with open_engine(WorkerSettings.model_validate(given), "the test") as engine:
        with monkeypatch.context() as patched:
            patched.setattr(part, broken)
            with pytest.raises(ExceptionGroup) as ended:
                async with asyncio.timeout(10), InboxView(engine.settings.place) as inbox:
                    await Worker(engine).work(inbox, Bell())
    told = [str(error) for error in ended.value.exceptions]
    assert all("BugError" in one for one in told)
    assert any(f"in its loop {loop!r} (BugError" in one for one in told)  # samples look at the inbox, too


# the call budget


async def test_kills_do_not_begin_the_call_budget_anew(shop: Any) -> None:
    await shop.open(customers=100)
    one_a_minute = {"KOUNTA_REQUESTS_PER_MINUTE": "1"}
    worker = await shop.worker(**one_a_minute)
    await shop.until(lambda: shop.value("SELECT last_call_at FROM _progress"))
    for _ in range(2):
        await worker.is_killed()
        worker = await shop.worker(**one_a_minute)
        await asyncio.sleep(1.2 * TICK_SECONDS)  # it has wished to go on with its backfill
    assert shop.sandbox.calls.total == 1
    await stops_well(worker)


# two owners, and reconciliations that the worker makes for others


def report_of(process: Any) -> dict[str, int]:
    assert (process.child.returncode, process.sentences) == (0, [])
    report: dict[str, int] = json.loads(process.out)
    return report


async def test_a_second_worker_is_told_of_the_first(shop: Any) -> None:
    await shop.open(customers=10)
    worker = await shop.quiet_worker()
    second = await shop.type("worker")
    assert (second.child.returncode, second.out, second.log) == (1, "", [])
    (sentence,) = second.sentences
    assert f"kounta-mirror worker, process {worker.child.pid}, since" in sentence
    assert worker.lives


async def test_two_reconciliations_at_once_are_made_by_the_worker_one_after_the_other(shop: Any) -> None:
    await shop.open(customers=20)
    worker = await shop.quiet_worker()
    shop.sandbox.company.update(shop.ids[0], {"first_name": "Silent"}, announce=False)
    shop.break_down(hangs=1, hang_seconds=1.2 * TICK_SECONDS, only_calls=("list",))
    both = [await shop.start("reconcile --deep --json") for _ in range(2)]
    for process in both:
        await process.ends()
    reports = [report_of(process) for process in both]
    assert sorted(report["updated"] for report in reports) == [0, 1]
    for report in reports:
        assert (report["listed"], report["read"], report["calls"]) == (20, 20, 1 + 20)
    await asyncio.sleep(1.2 * TICK_SECONDS)  # the worker has looked whether a sweep is due, during and after
    assert shop.sandbox.calls.by_kind == {"list": 1 + 2, "get": 2 * 20, "company": 1}
    assert worker.lives


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, "get"), (signal.SIGKILL, "list")])
async def test_a_reconciliation_ends_with_whoever_asked_for_it(
    shop: Any, number: signal.Signals, kind: str
) -> None:
    await shop.open(customers=20)
    worker = await shop.quiet_worker()
    shop.hang_once(kind)
    asked = await shop.start("reconcile --deep")
    await shop.until_one_hangs()
    code, _ = await asked.stops(number)
    assert code != 0
    assert asked.sentences in ([], ["Interrupted."])
    async with asyncio.timeout(10):  # the call itself is waited for twice as long, and made again then
        if kind == "get":
            await shop.until(lambda: not shop.value("SELECT count(*) FROM _verifications WHERE asked"))
        else:
            await shop.until(lambda: shop.calls("list") > 1 + 1)  # the worker goes on where it broke off
    later = await shop.type("reconcile --deep --json")
    assert report_of(later)["read"] == 20
    await stops_well(worker)


async def test_a_worker_that_stops_tells_who_waits_for_a_reconciliation(shop: Any) -> None:
    await shop.open(customers=30)
    worker = await shop.quiet_worker()
    shop.hang("get")
    asked = await shop.start("reconcile --deep --json")
    await shop.until_one_hangs()
    await stops_well(worker)
    assert await asked.ends() == 1
    assert (asked.out, asked.log) == ("", [])
    (sentence,) = asked.sentences
    assert sentence.startswith("The worker was stopped before the reconciliation was over.")
    shop.hang()
    assert report_of(await shop.type("reconcile --json"))["listed"] == 30  # by itself: none runs
