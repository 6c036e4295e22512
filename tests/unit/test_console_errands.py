"""Errands: what a page has started, and what is remembered of it."""

import asyncio

import structlog

from receiver.errors import MirrorError
from sync.console.pages.errands import KEPT, Errand, Errands
from sync.console.pages.notices import MOST, Notice, Notices
from tests.clock import NOON


def errands() -> Errands:
    return Errands(lambda: NOON)


async def done(_: Errand) -> Notice:
    return Notice("Done.")


async def test_one_says_how_far_it_has_come_and_then_what_came_of_it() -> None:
    go_on, kept = asyncio.Event(), errands()

    async def work(errand: Errand) -> Notice:
        errand.stage, errand.done, errand.total = "list", 25, 1_000
        await go_on.wait()
        return Notice("Done.")

    errand = kept.begin(7, "Reconciliation", work)
    await asyncio.sleep(0)
    assert errand.notice().sentence == (
        "Reconciliation is under way (list: 25 of 1,000); this page will say what comes of it."
    )
    assert kept.under_way(7, "Reconciliation")
    assert not kept.under_way(8, "Reconciliation")
    go_on.set()
    await errand.over.wait()
    assert errand.notice() == Notice("Done.")
    assert not kept.under_way(7, "Reconciliation")


async def test_what_fails_is_told_and_no_fault_of_ours_is_hidden() -> None:
    async def refuse(_: Errand) -> Notice:
        raise MirrorError("It cannot be done.")

    async def lose(_: Errand) -> Notice:
        raise OSError("no such disk")

    async def stumble(_: Errand) -> Notice:
        raise ZeroDivisionError

    kept = errands()
    with structlog.testing.capture_logs() as log:
        begun = [kept.begin(7, "It", work) for work in (refuse, lose, stumble)]
        for errand in begun:
            await errand.over.wait()
    assert [errand.notice().sentence for errand in begun] == [
        "It cannot be done.",
        "The database cannot be used: no such disk.",
        "A fault of the worker: ZeroDivisionError. Its log says more.",
    ]
    assert not any(errand.notice().is_good for errand in begun)
    assert [line["action"] for line in log] == ["errand_broken"]


async def test_the_last_ones_are_remembered_and_none_that_is_under_way_is_forgotten() -> None:
    kept, forever = errands(), asyncio.Event()

    async def wait(_: Errand) -> Notice:
        await forever.wait()
        return Notice("Never.")

    first = kept.begin(7, "first", wait)
    for number in range(2 * KEPT):
        await kept.begin(7, str(number), done).over.wait()
    names = [errand.what for errand in kept.of(7)]
    assert names == [*map(str, range(2 * KEPT - 1, KEPT - 1, -1)), "first"]
    await kept.close()
    assert first.notice().sentence == "The worker was stopped before it was over."
    assert kept.of(8) == []


def test_the_last_notices_are_remembered() -> None:
    notices = Notices()
    first = notices.leave(lambda: Notice("First."))
    assert notices.find(first) == Notice("First.")
    for _ in range(MOST):
        last = notices.leave(lambda: Notice("Last."))
    assert notices.find(first) is None
    assert notices.find(last) == Notice("Last.")
    assert notices.find(None) is None
