"""Reads beside deliveries: what comes in meanwhile is not lost, and nothing ends silently wrong."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sync.merge.doubts import ASKED, Reason
from sync.mirror.queue import ask_about, due_doubts, waiting_doubts
from sync.reconcile import reconciler
from sync.reconcile.report import Report
from sync.reconcile.verify import MOST_TRIES
from sync.worker import Worker

Arrange = Callable[[Callable[[int], Any]], None]


def count_to(number: int) -> Callable[[], bool]:
    """Say yes so often, and no from then on."""
    left = iter(range(number))
    return lambda: next(left, None) is not None


async def test_a_delivery_that_comes_while_a_read_is_under_way_stands(quiet: Any, when_read: Arrange) -> None:
    customer_id, first = quiet.ids[0], count_to(1)

    async def change(_: int) -> None:
        if first():
            await quiet.deliver(quiet.update(customer_id, first_name="Later", phone="111"))

    when_read(change)
    report = await quiet.reconcile(customer_id=customer_id)
    assert (report.read, report.calls, report.failed) == (1, 2, 0)
    assert quiet.wrong == {}
    figures = await quiet.figures()
    assert (figures.verified, figures.doubts) == (60, {})


async def test_a_doubt_that_arises_while_a_read_is_under_way_outlives_it(
    quiet: Any, when_read: Arrange
) -> None:
    customer_id, first = quiet.ids[0], count_to(1)

    async def ask_too(_: int) -> None:
        if first():
            await ask_about(quiet.engine.mirror, [customer_id], quiet.clock())

    when_read(ask_too)
    assert (await quiet.reconcile(customer_id=customer_id)).calls == 2


async def test_a_deletion_that_comes_while_a_read_is_under_way_stands(quiet: Any, when_read: Arrange) -> None:
    customer_id, first = quiet.ids[0], count_to(1)

    async def remove(_: int) -> None:
        if first():
            seen = quiet.update(customer_id, first_name="Leaving")
            quiet.delete(customer_id)
            await quiet.deliver(seen, "customers/deleted")

    when_read(remove)
    await quiet.reconcile(customer_id=customer_id)
    assert quiet.wrong == {}


async def test_a_customer_who_changes_under_every_read_is_left_to_the_queue(
    quiet: Any, when_read: Arrange
) -> None:
    customer_id = quiet.ids[0]

    async def change(_: int) -> None:
        await quiet.deliver(quiet.update(customer_id, phone=str(quiet.delivered)))

    when_read(change)
    report = await quiet.reconcile(customer_id=customer_id)
    assert (report.read, report.failed, report.calls) == (0, 1, MOST_TRIES)
    assert report.why == "it changes too often to be read"
    assert quiet.wrong == {}
    assert (await quiet.figures()).doubts != {}
    assert await waiting_doubts(quiet.engine.mirror, asked_only=True) == 0


async def test_a_customer_of_whom_deliveries_never_cease_does_not_keep_anyone_waiting_for_ever(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no read would count: the rest is read, and the report says who was not."""
    busy, calm, *_ = quiet.ids
    quiet.update(busy, first_name="Busy")
    quiet.update(calm, first_name="Calm")
    sleep = quiet.sleep

    async def deliver_and_sleep(seconds: float) -> None:
        await quiet.deliver(quiet.update(busy, phone=str(quiet.delivered)))
        await sleep(seconds)

    monkeypatch.setattr(quiet, "sleep", deliver_and_sleep)
    monkeypatch.setattr(reconciler, "LOOK_AGAIN", 1.5)
    report = await quiet.reconcile()
    assert (report.updated, report.failed, report.read) == (1, 1, 1)
    assert report.why == "deliveries about it came too often for a read to count"
    assert quiet.wrong == {}


@pytest.mark.parametrize("lag", [0, 1.9])
async def test_a_lagging_read_settles_nothing_that_is_newer(quiet: Any, lag: float) -> None:
    quiet.break_down(read_lag_seconds=lag)
    customer_id = quiet.ids[0]
    await quiet.deliver(quiet.update(customer_id, first_name="Newer"))
    report = await quiet.reconcile(customer_id=customer_id)
    assert report == Report(read=1, unchanged=1, calls=1)
    assert quiet.wrong == {}


async def test_a_lagging_list_puts_nothing_back(shop: Any) -> None:
    await shop.fill(60, list_shape="complete")
    shop.break_down(read_lag_seconds=1.9)
    changed, gone, *_ = shop.ids
    await shop.deliver(shop.update(changed, first_name="Newer"))
    seen = shop.update(gone, first_name="Leaving")
    shop.delete(gone)
    await shop.deliver(seen, "customers/deleted")
    report = await shop.reconcile()
    assert report.failed == report.held_deletes == 0
    assert shop.wrong == {}


async def test_a_read_is_not_due_before_the_window_and_the_read_lag_have_passed(quiet: Any) -> None:
    customer_id = quiet.ids[0]
    mirror, timing = quiet.engine.mirror, quiet.engine.settings.timing
    heard_at = quiet.clock()
    await quiet.deliver(quiet.update(customer_id, first_name="Told"))
    due = await due_doubts(mirror, heard_at + timedelta(seconds=1.9), timing, 10)
    assert due == []
    due = await due_doubts(mirror, heard_at + timedelta(seconds=2), timing, 10)
    assert [(one.customer_id, one.reason) for one in due] == [(customer_id, Reason.CONFIRMATION)]


async def test_whom_a_person_asks_for_comes_before_every_other_doubt(quiet: Any) -> None:
    mirror, timing = quiet.engine.mirror, quiet.engine.settings.timing
    asked, contradicted, listed, told, *_ = quiet.ids
    async with mirror.batch([contradicted, listed, told], quiet.clock()) as batch:
        batch.doubt(told, Reason.CONFIRMATION, quiet.clock() - timedelta(hours=1))
        batch.doubt(listed, Reason.LISTED_DIFFERENTLY, quiet.clock())
        batch.doubt(contradicted, Reason.CONTRADICTED, quiet.clock())
    await ask_about(mirror, [asked], quiet.clock())
    quiet.skip(60)
    due = await due_doubts(mirror, quiet.clock(), timing, 10)
    assert [one.customer_id for one in due] == [asked, contradicted, listed, told]


async def test_a_customer_whose_reads_settle_nothing_is_read_at_longer_and_longer_intervals(
    quiet: Any, when_read: Arrange
) -> None:
    customer_id = quiet.ids[0]
    mirror, timing = quiet.engine.mirror, quiet.engine.settings.timing

    async def change(_: int) -> None:
        await quiet.deliver(quiet.update(customer_id, phone=str(quiet.delivered)))

    await quiet.deliver(quiet.update(customer_id, first_name="Told"))
    when_read(change)
    for pause in (30, 60, 120):
        quiet.skip(3600)
        (doubt,) = await due_doubts(mirror, quiet.clock(), timing, 10)
        await quiet.engine.verifier.verify_all([doubt])
        read_at = quiet.clock()
        assert await due_doubts(mirror, read_at + timedelta(seconds=pause - 1), timing, 10) == []
        assert await due_doubts(mirror, read_at + timedelta(seconds=pause), timing, 10) != []


async def test_a_customer_known_only_by_a_failed_delivery_and_gone_leaves_a_tombstone(quiet: Any) -> None:
    """Else nothing would fence an older picture of it that a list is still bringing."""
    async with quiet.engine.mirror.batch([77], quiet.clock()) as batch:
        batch.doubt(77, Reason.FAILED, quiet.clock())
    for _ in range(2):  # one 404 may be lost access (decision 0006)
        assert (await quiet.figures()).deleted == 0
        quiet.skip(120)
        assert await Worker(quiet.engine)._verify_some()
    await quiet.engine.deletions.settle()  # once a later call has shown that there is access
    figures = await quiet.figures()
    assert (figures.live, figures.deleted, figures.doubts) == (60, 1, {})


async def test_a_sweep_doubts_again_whom_it_did_not_list_and_of_whom_there_is_no_record(quiet: Any) -> None:
    async with quiet.engine.mirror.batch([77], quiet.clock()) as batch:
        batch.doubt(77, Reason.FAILED, quiet.clock())
    before = quiet.engine.mirror.progress.revision
    await quiet.engine.sweeper.sweep("schedule")
    assert quiet.engine.mirror.progress.revision == before + 1


async def test_whoever_was_awaited_is_not_any_more_when_the_reconciliation_breaks_off(quiet: Any) -> None:
    customer_id = quiet.ids[0]
    quiet.update(customer_id, first_name="Silent")
    quiet.break_down(server_errors=1, only_calls=["get"])
    report = await quiet.reconcile(deep=True)
    assert (report.listed, report.read, report.failed) == (60, 0, 60)
    quiet.break_down(server_errors=0)
    assert await waiting_doubts(quiet.engine.mirror, asked_only=True) == 0
    quiet.skip(3600)
    other = quiet.ids[1]
    assert (await quiet.reconcile(customer_id=other)).calls == 1
    due = await due_doubts(quiet.engine.mirror, quiet.clock(), quiet.engine.settings.timing, 100)
    assert due[0].customer_id == customer_id
    assert all(doubt.priority > ASKED for doubt in due)


async def test_a_delivery_that_stands_alone_is_left_to_be_confirmed(quiet: Any) -> None:
    await quiet.deliver(quiet.update(quiet.ids[0], first_name="Told"))
    figures = await quiet.figures()
    assert (figures.verified, figures.doubts) == (59, {Reason.CONFIRMATION.value: 1})


async def test_the_budget_goes_on_after_a_restart(quiet: Any) -> None:
    until = quiet.clock() + timedelta(seconds=600)
    quiet.engine.kounta.budget.close_until(until)
    used = quiet.engine.kounta.budget.state
    await quiet.reopen()
    assert quiet.engine.kounta.budget.state == used
    assert used.closed_until == until
