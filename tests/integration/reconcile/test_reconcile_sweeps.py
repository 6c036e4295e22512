"""What a sweep of the local Kounta's list finds, what it costs, and how it goes on after it was cut off."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from sync.kounta import IncompleteListError, Kounta, KountaError, KountaUnavailable, KountaWrongShape
from sync.kounta.paging import Walk
from sync.merge.doubts import Reason
from sync.mirror.queue import waiting_doubts
from sync.mirror.schema import SWEEPS
from sync.reconcile.report import Report
from sync.reconcile.sweep import RESUMABLE, ForeignListError, GaveWayError
from sync.sandbox import Sandbox, Settings
from sync.worker import Worker


async def stop_after(shop: Any, pages: int, monkeypatch: pytest.MonkeyPatch, *, anew: bool = False) -> None:
    """Sweep, and let upstream go down behind so many pages."""
    taken = 0
    take = type(shop.engine.sweeper)._take

    async def take_and_count(self: Any, *what: Any) -> None:
        nonlocal taken
        await take(self, *what)
        taken += 1
        if taken == pages:
            shop.break_down(server_errors=1)

    with monkeypatch.context() as patch:
        patch.setattr(type(shop.engine.sweeper), "_take", take_and_count)
        with pytest.raises(KountaUnavailable):
            await (shop.reconcile() if anew else shop.engine.sweeper.sweep("schedule"))
    shop.break_down(server_errors=0)


@pytest.mark.parametrize("shape", ["abridged", "legacy", "complete"])
async def test_an_empty_mirror_is_filled_from_every_shape_of_list(shop: Any, shape: str) -> None:
    await shop.build(60, list_shape=shape)
    reads = 0 if shape == "complete" else 60
    assert await shop.reconcile() == Report(listed=60, read=reads, created=60, calls=3 + reads)
    assert shop.wrong == {}
    figures = await shop.figures()
    assert (figures.live, figures.verified, figures.partial, figures.doubts) == (60, 60, 0, {})
    assert (await shop.newest_sweep()).reason == "backfill"


async def test_names_and_emails_are_there_before_anyone_was_read(shop: Any) -> None:
    await shop.build(60)
    await shop.engine.sweeper.sweep("backfill")
    figures = await shop.figures()
    assert (figures.live, figures.partial, figures.verified) == (60, 60, 0)
    assert figures.doubts == {Reason.PARTIAL.value: 60}
    assert not any("name" in what or "email" in what for what in shop.wrong.values())


@pytest.mark.parametrize("customers", [0, 1, 25, 26])
async def test_a_quiet_mirror_costs_the_pages_of_the_list_and_nothing_more(shop: Any, customers: int) -> None:
    await shop.fill(customers)
    calls = shop.sandbox.calls.answered
    assert await shop.reconcile() == Report(listed=customers, unchanged=customers, calls=shop.pages())
    assert shop.sandbox.calls.answered - calls == shop.pages()


async def test_silent_changes_that_the_list_shows_cost_one_read_each(quiet: Any) -> None:
    first, second, *_ = quiet.ids
    quiet.update(first, first_name="Silent")
    quiet.update(second, email="silent@kounta.example")
    quiet.create()
    expected = Report(listed=61, read=3, created=1, updated=2, unchanged=58, calls=3 + 3)
    assert await quiet.reconcile() == expected
    assert quiet.wrong == {}


async def test_a_complete_list_needs_no_reads(shop: Any) -> None:
    await shop.fill(60, list_shape="complete")
    first, second, *_ = shop.ids
    shop.update(first, phone="000")
    shop.delete(second)
    shop.create(id=second)
    shop.create()
    report = await shop.reconcile()
    assert report == Report(listed=61, created=1, updated=2, unchanged=58, calls=3)
    assert shop.wrong == {}


async def test_a_mirror_of_what_the_list_carries_needs_no_reads(shop: Any) -> None:
    shop.settings["MIRROR_ATTRIBUTES"] = "name,email,image"
    await shop.build(60)
    assert await shop.reconcile() == Report(listed=60, created=60, calls=3)
    shop.skip(60)
    shop.update(shop.ids[0], first_name="Silent")
    assert await shop.reconcile() == Report(listed=60, updated=1, unchanged=59, calls=3)


async def test_what_the_list_does_not_show_is_found_by_reading_everyone(quiet: Any) -> None:
    quiet.update(quiet.ids[0], phone="000")
    assert (await quiet.reconcile()).updated == 0
    expected = Report(listed=60, read=60, updated=1, unchanged=59, calls=3 + 60)
    assert await quiet.reconcile(deep=True) == expected
    assert quiet.wrong == {}


def leave_out(monkeypatch: pytest.MonkeyPatch, customer_id: int) -> None:
    """Let the list be without this customer."""
    pages = Kounta.pages

    async def incomplete(self: Any, *what: Any, **how: Any) -> Any:
        async for one in pages(self, *what, **how):
            one.customers[:] = [customer for customer in one.customers if customer.id != customer_id]
            yield one

    monkeypatch.setattr(Kounta, "pages", incomplete)


async def test_a_live_customer_that_the_list_leaves_out_is_read_and_stays(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out(monkeypatch, quiet.ids[7])
    assert await quiet.reconcile() == Report(listed=59, read=1, unchanged=60, calls=3 + 1)
    assert quiet.wrong == {}


async def test_a_new_customer_that_a_lagging_list_leaves_out_is_not_deleted_by_one_404(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = quiet.create(first_name="New")
    await quiet.deliver(quiet.update(new, last_name="Here"), "customers/created")
    leave_out(monkeypatch, new)
    read = Kounta.read
    denied: list[int] = []

    async def deny_once(self: Any, customer_id: int, *, priority: int = 0) -> Any:
        answer = await read(self, customer_id, priority=priority)
        if customer_id != new or denied:
            return answer
        denied.append(customer_id)
        return replace(answer, customer=None)  # access was lost for a moment

    monkeypatch.setattr(Kounta, "read", deny_once)
    await quiet.reconcile()
    assert denied == [new]
    assert quiet.wrong == {}


async def test_a_tombstone_that_is_listed_is_read_and_restored(quiet: Any) -> None:
    back = quiet.ids[0]
    seen = quiet.update(back, first_name="Back")
    await quiet.deliver(seen, "customers/deleted")
    assert quiet.wrong == {back: "deleted in the mirror, live upstream"}
    quiet.skip(60)
    report = await quiet.reconcile()
    assert (report.updated, report.unchanged, report.calls) == (1, 59, 4)
    assert quiet.wrong == {}


async def test_rows_that_shift_between_pages_are_never_deleted(shop: Any) -> None:
    await shop.fill(120)
    shop.break_down(shifted_rows=1)
    for _ in range(3):
        report = await shop.reconcile()
        assert (report.deleted, report.held_deletes, report.failed) == (0, 0, 0)
        assert report.listed + report.read == report.unchanged == 120
    assert shop.wrong == {}


async def test_a_sweep_goes_on_at_its_page_after_a_kill(quiet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await stop_after(quiet, 2, monkeypatch)
    stopped = await quiet.newest_sweep()
    assert (stopped.finished_at, stopped.listed, stopped.complete) == (None, 50, False)
    assert stopped.failure is not None
    await quiet.reopen()
    calls = quiet.engine.kounta.calls
    swept = await quiet.engine.sweeper.sweep("schedule")
    assert (swept.listed, quiet.engine.kounta.calls - calls) == (60, 1)
    ended = await quiet.newest_sweep()
    assert (ended.id, ended.complete, ended.listed) == (stopped.id, True, 60)


async def test_a_sweep_that_was_killed_behind_its_last_page_asks_nothing_again(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: Any) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(type(quiet.engine.sweeper), "_doubt_unlisted", killed)
        with pytest.raises(asyncio.CancelledError):
            await quiet.engine.sweeper.sweep("schedule")
    await quiet.reopen()
    swept = await quiet.engine.sweeper.sweep("schedule")
    assert (swept.listed, quiet.engine.kounta.calls) == (60, 0)


async def test_what_was_not_yet_listed_when_a_sweep_stopped_is_not_missing(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stop_after(quiet, 1, monkeypatch)
    assert await waiting_doubts(quiet.engine.mirror) == 0
    assert (await quiet.figures()).live == 60


async def test_a_sweep_whose_beginning_is_old_starts_anew(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stop_after(quiet, 2, monkeypatch)
    quiet.skip(RESUMABLE.total_seconds() + 1)
    calls = quiet.engine.kounta.calls_by_kind["list"]
    swept = await quiet.engine.sweeper.sweep("schedule")
    assert (swept.listed, (await quiet.newest_sweep()).listed) == (60, 60)
    assert quiet.engine.kounta.calls_by_kind["list"] - calls == quiet.pages()


async def test_a_sweep_that_was_left_at_another_address_starts_anew(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stop_after(quiet, 2, monkeypatch)
    async with quiet.engine.mirror.transaction() as connection:
        await connection.execute(update(SWEEPS).values(next_page="https://old.example/v1/page"))
    assert (await quiet.engine.sweeper.sweep("schedule")).listed == 60


async def test_a_person_gets_a_sweep_of_their_own_from_the_first_page(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stop_after(quiet, 2, monkeypatch)
    changed = quiet.ids[0]  # on a page that the stopped sweep has met
    quiet.update(changed, first_name="Silent")
    report = await quiet.reconcile()
    assert (report.listed, report.updated, report.calls) == (60, 1, 4)
    assert quiet.wrong == {}


async def test_a_sweep_that_nobody_waits_for_gives_way_to_a_person(quiet: Any) -> None:
    begun = asyncio.Event()
    begin = quiet.engine.sweeper._begin

    async def begin_and_tell(*what: Any, **how: Any) -> Any:
        begun.set()
        return await begin(*what, **how)

    quiet.engine.sweeper._begin = begin_and_tell
    sweeping = asyncio.create_task(quiet.engine.sweeper.sweep("schedule"))
    await begun.wait()
    report = await quiet.reconcile()
    with pytest.raises(GaveWayError):
        await sweeping
    assert report == Report(listed=60, unchanged=60, calls=3)


@pytest.mark.parametrize("fault", ["server_errors", "cut_bodies", "too_many", "html_answers"])
async def test_a_page_that_does_not_come_ends_the_reconciliation_and_changes_nothing(
    quiet: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    quiet.delete(quiet.ids[-1])
    quiet.break_down(**{fault: 1})
    with pytest.raises(KountaError, match=r"GET /v1/companies/5678/customers\.json: .+\. .+\."):
        await quiet.reconcile()
    figures = await quiet.figures()
    assert (figures.live, figures.deleted, figures.held_deletes) == (60, 0, 0)
    assert not (await quiet.newest_sweep()).complete


async def test_a_list_of_a_wrong_shape_is_begun_anew_by_the_next_sweep(quiet: Any) -> None:
    quiet.sandbox.calls.ask(["none", "wrong_answers"])
    with pytest.raises(KountaWrongShape):
        await quiet.reconcile()
    assert (await quiet.newest_sweep()).finished_at is not None
    assert (await quiet.engine.sweeper.sweep("schedule")).listed == 60


async def test_a_field_that_cannot_be_read_costs_only_itself_and_is_not_asked_for_by_every_sweep(
    quiet: Any,
) -> None:
    bad, good, *_ = quiet.ids
    quiet.update(bad, first_name=["not", "a", "name"], email="new@kounta.example")
    quiet.update(good, first_name="Silent")
    report = await quiet.reconcile()
    assert report == Report(listed=60, read=2, updated=2, unchanged=58, calls=3 + 2)
    (row,) = quiet.rows("SELECT * FROM customers WHERE id = ?", bad)
    assert (row["first_name"], row["email"], row["partial"]) == (None, "new@kounta.example", 1)
    assert row["verified_at"] is not None
    quiet.skip(60)
    assert await quiet.reconcile() == Report(listed=60, unchanged=60, calls=3)
    quiet.update(bad, first_name="Good again")
    quiet.skip(60)
    await quiet.reconcile(deep=True)
    assert quiet.wrong == {}
    assert not quiet.rows("SELECT id FROM customers WHERE partial")


async def test_an_item_that_names_no_customer_hides_nobody(quiet: Any) -> None:
    hidden, other, *_ = quiet.ids
    listed = quiet.sandbox.company.listed

    def list_without_id(customer: Any, application: str) -> dict[str, Any]:
        item: dict[str, Any] = listed(customer, application)
        return {**item, "id": None} if customer.id == hidden else item

    quiet.sandbox.company.listed = list_without_id
    quiet.delete(other)
    report = await quiet.reconcile()
    assert (report.listed, report.deleted, report.failed) == (59, 1, 1)
    assert "id" in report.why
    assert quiet.wrong == {}


def cut_list(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let the next page not be named after so many pages, as behind a proxy that drops headers."""
    name_next = Walk._next
    pages: list[str] = []

    def cut(self: Walk, url: str, answer: Any) -> str | None:
        pages.append(url)
        return None if len(pages) >= after else name_next(self, url, answer)

    monkeypatch.setattr(Walk, "_next", cut)


async def test_a_list_that_ends_too_early_is_not_complete_and_nobody_is_missing(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as cut:
        cut_list(cut, 2)
        with pytest.raises(IncompleteListError, match="ended after 2 of 3 pages"):
            await quiet.engine.sweeper.sweep("schedule")
    row = await quiet.newest_sweep()
    assert (row.complete, row.listed) == (False, 50)
    assert await waiting_doubts(quiet.engine.mirror) == 0
    assert (await quiet.figures()).live == 60
    assert (await quiet.engine.sweeper.sweep("schedule")).listed == 60


async def test_after_an_incomplete_list_the_worker_waits_nine_times_as_long_as_its_walk_took(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, mirror = Worker(quiet.engine), quiet.engine.mirror
    quiet.skip(quiet.engine.settings.sweep_seconds)
    lists = quiet.engine.kounta.calls_by_kind["list"]
    take = type(quiet.engine.sweeper)._take

    async def take_slowly(self: Any, *what: Any) -> None:
        quiet.skip(20)
        await take(self, *what)

    async def sweep_in_vain() -> int:
        with pytest.raises(IncompleteListError, match=r"ended after . of 3 pages"):
            await worker._sweep_if_due()
        return int(quiet.engine.kounta.calls_by_kind["list"] - lists)

    with monkeypatch.context() as cut:
        cut_list(cut, 2)
        cut.setattr(type(quiet.engine.sweeper), "_take", take_slowly)
        assert await sweep_in_vain() == 2
        quiet.skip(9 * 2 * 20 - 1)
        assert await sweep_in_vain() == 2  # nothing was asked for, and the reason is told all the same
        quiet.skip(1)
        assert await sweep_in_vain() > 2
    again_at = worker._sweeps_again_at
    assert again_at is not None
    assert not await waiting_doubts(mirror)
    quiet.skip((again_at - quiet.clock()).total_seconds() + 1)
    assert await worker._sweep_if_due()
    assert (await quiet.newest_sweep()).complete
    assert not await worker._sweep_if_due()


async def test_the_pause_after_an_incomplete_list_is_no_longer_than_that_between_two_sweeps(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(quiet.engine)
    between = quiet.engine.settings.sweep_seconds
    quiet.skip(between)
    take = type(quiet.engine.sweeper)._take

    async def take_slowly(self: Any, *what: Any) -> None:
        quiet.skip(between)
        await take(self, *what)

    with monkeypatch.context() as cut:
        cut_list(cut, 2)
        cut.setattr(type(quiet.engine.sweeper), "_take", take_slowly)
        with pytest.raises(IncompleteListError):
            await worker._sweep_if_due()
    quiet.skip(between - 1)
    with pytest.raises(IncompleteListError):
        await worker._sweep_if_due()
    quiet.skip(1)
    assert await worker._sweep_if_due()


async def test_a_sweep_that_a_person_asks_for_does_not_wait_after_an_incomplete_list(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(quiet.engine)
    quiet.skip(quiet.engine.settings.sweep_seconds)
    with monkeypatch.context() as cut:
        cut_list(cut, 2)
        with pytest.raises(IncompleteListError):
            await worker._sweep_if_due()
    assert (await quiet.reconcile()).listed == 60


async def test_a_sweep_that_goes_on_knows_how_many_pages_it_has_met(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stop_after(quiet, 1, monkeypatch)
    assert (await quiet.newest_sweep()).pages == 1
    with monkeypatch.context() as cut:
        cut_list(cut, 1)
        with pytest.raises(IncompleteListError, match="ended after 2 of 3 pages"):
            await quiet.engine.sweeper.sweep("schedule")
    assert await waiting_doubts(quiet.engine.mirror) == 0


async def test_a_sweep_that_was_killed_at_a_page_that_ends_too_early_asks_it_again(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, down = type(quiet.engine.sweeper)._take, KountaUnavailable(None, None, "no answer", "Try again")

    async def take_and_stop(self: Any, walk: Any, page: Any, *what: Any) -> None:
        await take(self, walk, page, *what)
        if page.is_short:
            raise down

    with monkeypatch.context() as cut:
        cut_list(cut, 2)
        cut.setattr(type(quiet.engine.sweeper), "_take", take_and_stop)
        with pytest.raises(KountaUnavailable):
            await quiet.engine.sweeper.sweep("schedule")
    row = await quiet.newest_sweep()
    assert (row.finished_at, row.pages) == (None, 1)
    assert row.next_page.endswith("page=2")
    await quiet.engine.sweeper.sweep("schedule")
    row = await quiet.newest_sweep()
    assert (row.complete, row.pages) == (True, 3)
    assert await waiting_doubts(quiet.engine.mirror) == 0


def rebuild_as_another_company(shop: Any, customers: int) -> None:
    """Let the same address answer for another company's customers from now on."""
    other = Sandbox(Settings(), seed=9, customers=0, clock=lambda: shop.now)
    for number in range(customers):
        values = {"first_name": "Theirs", "email": f"theirs{number}@other.example"}
        other.company.create(values, announce=False, customer_id=90_000_000 + number)
    shop.sandbox.company.customers = other.company.customers


@pytest.mark.parametrize("customers", [12, 30, 200])
async def test_another_companys_list_is_not_taken_over(quiet: Any, customers: int) -> None:
    rebuild_as_another_company(quiet, customers)
    with pytest.raises(ForeignListError, match=r"Check KOUNTA_COMPANY_ID"):
        await quiet.reconcile()
    figures = await quiet.figures()
    assert (figures.live, figures.deleted, figures.held_deletes, figures.doubts) == (60, 0, 0, {})


@pytest.mark.parametrize("way", ["garbled", "of another company"])
async def test_items_that_cannot_be_used_make_no_list_another_companys(quiet: Any, way: str) -> None:
    known = list(quiet.ids)
    for number in range(40):
        quiet.create(email=f"import{number}@kounta.example")
    if way == "garbled":
        quiet.twist.garbled = set(known)
    else:
        quiet.twist.items = {one: {"company_id": 999} for one in known}
    report = await quiet.reconcile()
    assert (report.listed, report.created) == (100, 40)
    assert {row["id"] for row in quiet.rows("SELECT id FROM customers")} > set(quiet.ids) - set(known)


async def test_garbled_items_of_another_companys_list_are_not_known(quiet: Any) -> None:
    rebuild_as_another_company(quiet, 60)
    quiet.twist.garbled = set(quiet.ids[:30])
    with pytest.raises(ForeignListError):
        await quiet.reconcile()
    assert (await quiet.figures()).live == 60


@pytest.mark.parametrize("order", ["id", "newest", "name"])
async def test_many_customers_that_nothing_announced_are_not_another_companys(shop: Any, order: str) -> None:
    await shop.fill(60, list_order=order)
    for number in range(150):
        shop.create(first_name=f"A{number}", email=f"import{number}@kounta.example")
    report = await shop.reconcile()
    assert (report.listed, report.created, report.unchanged) == (210, 150, 60)
    assert shop.wrong == {}


async def test_the_first_customers_of_an_empty_company_are_taken_over(shop: Any) -> None:
    await shop.fill(0)
    for number in range(30):
        shop.create(email=f"first{number}@kounta.example")
    assert (await shop.reconcile()).created == 30
