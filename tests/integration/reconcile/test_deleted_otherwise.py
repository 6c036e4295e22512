"""Deletions that upstream says otherwise than by 404, and answers that are about another customer."""

import json
from typing import Any

import pytest

from sync.merge.doubts import MOST_FAILURES, Reason
from sync.status import status_of
from tests.integration.reconcile.conftest import COMPANY, Shop, answered

SAYS = [{"deleted": True}, {"is_deleted": "1"}, {"deleted_at": "2026-11-24T11:00:00+00:00"}]


async def test_a_410_is_a_404(quiet: Shop) -> None:
    customer_id = quiet.ids[7]
    quiet.delete(customer_id)
    quiet.twist.reads[customer_id] = answered(410)
    report = await quiet.reconcile()
    assert (report.deleted, quiet.wrong) == (1, {})


@pytest.mark.parametrize("field", SAYS)
async def test_a_200_that_says_deleted_goes_the_way_of_a_404(quiet: Shop, field: dict[str, Any]) -> None:
    customer_id = quiet.ids[7]
    quiet.twist.reads[customer_id] = answered(200, {**await quiet.seen(customer_id), **field})
    quiet.delete(customer_id)
    report = await quiet.reconcile()
    assert (report.deleted, quiet.wrong) == (1, {})


@pytest.mark.parametrize(
    "field", [{"deleted": False}, {"is_deleted": []}, {"deleted_at": "0000-00-00 00:00:00"}]
)
async def test_a_200_that_says_it_is_not_deleted_is_one_like_any_other(
    quiet: Shop, field: dict[str, Any]
) -> None:
    customer_id = quiet.ids[7]
    quiet.twist.reads[customer_id] = answered(200, {**await quiet.seen(customer_id), **field})
    report = await quiet.reconcile(customer_id=customer_id)
    assert (report.deleted, report.failed) == (0, 0)
    assert customer_id not in quiet.wrong


async def test_one_that_no_list_left_out_is_read_twice(quiet: Shop) -> None:
    customer_id = quiet.ids[50]  # not on the page that proves access
    quiet.twist.reads[customer_id] = answered(200, {**await quiet.seen(customer_id), "deleted": 1})
    quiet.delete(customer_id)
    calls = quiet.engine.kounta.calls_by_kind["read"]
    report = await quiet.reconcile(customer_id=customer_id)
    assert (report.deleted, quiet.wrong) == (1, {})
    assert quiet.engine.kounta.calls_by_kind["read"] == calls + 2


async def test_many_are_held(quiet: Shop) -> None:
    gone = quiet.ids[:15]
    for customer_id in gone:
        quiet.twist.reads[customer_id] = answered(200, {**await quiet.seen(customer_id), "deleted": True})
    quiet.delete(*gone)
    report = await quiet.reconcile()
    assert (report.deleted, report.held_deletes) == (0, 15)


async def test_a_webhook_that_says_deleted_is_only_a_doubt(quiet: Shop) -> None:
    customer_id = quiet.ids[7]
    await quiet.deliver({**await quiet.seen(customer_id), "deleted": True, "first_name": "Gone"})
    assert quiet.wrong == {}
    assert (await quiet.figures()).doubts == {"said_deleted": 1}
    assert (await quiet.figures()).verdicts["contradicted"] == 1
    quiet.skip(30)
    report = await quiet.reconcile()
    assert (report.whole, quiet.wrong) == (True, {})
    assert (await quiet.figures()).doubts == {}


async def test_a_list_item_that_says_deleted_is_only_a_doubt(quiet: Shop) -> None:
    known, unknown = quiet.ids[7], quiet.create(phone="+61400000001")
    quiet.twist.items = {known: {"deleted": "true"}, unknown: {"deleted": "true"}}
    await quiet.engine.sweeper.sweep("the test")
    for customer_id in (known, unknown):
        doubt = await quiet.doubt(customer_id)
        assert doubt is not None
        assert doubt.reason is Reason.SAID_DELETED
    report = await quiet.reconcile()
    assert (report.deleted, report.created, quiet.wrong) == (0, 1, {})


async def test_what_list_and_reads_call_deleted_is_deleted_and_costs_nothing_more(quiet: Shop) -> None:
    known, unknown = quiet.ids[7], quiet.create(phone="+61400000001")
    for customer_id in (known, unknown):
        quiet.twist.items[customer_id] = {"deleted": True}
        quiet.twist.reads[customer_id] = answered(
            200, {**json.loads(json.dumps(quiet.update(customer_id))), "deleted": True}
        )
    report = await quiet.reconcile()
    assert report.deleted == 1
    record = await quiet.record(unknown)
    assert record is not None
    assert record.deleted_at is not None
    quiet.skip(3600)
    assert (await quiet.reconcile()).calls == quiet.pages()


@pytest.mark.parametrize("status", [404, 200])
async def test_whom_a_later_page_still_lists_is_no_deletion_but_a_problem(quiet: Shop, status: int) -> None:
    customer_id = quiet.ids[0]  # on the page that proves access
    shown = {**await quiet.seen(customer_id), "deleted": True}
    quiet.twist.reads[customer_id] = answered(status, shown)
    await quiet.reconcile(customer_id=customer_id)
    await is_a_problem(quiet, customer_id)
    quiet.skip(25 * 3600)
    report = await quiet.reconcile()  # lists it again
    assert (report.deleted, report.failed, report.whole) == (0, 1, False)
    await is_a_problem(quiet, customer_id)
    quiet.twist.items[customer_id] = None  # no longer listed: gone
    quiet.skip(3600)
    assert (await quiet.reconcile()).deleted == 1
    assert (await status_of(quiet.engine.settings, quiet.clock())).problem_count == 0


async def test_a_tombstone_that_sweeps_still_list_comes_back_as_a_problem(quiet: Shop) -> None:
    customer_id = quiet.ids[40]  # the proof does not show it
    quiet.twist.reads[customer_id] = answered(404)
    assert (await quiet.reconcile(customer_id=customer_id)).deleted == 1
    quiet.skip(3600)
    report = await quiet.reconcile()
    assert report.failed == 1
    record = await quiet.record(customer_id)
    assert record is not None
    assert (record.deleted_at, record.partial) == (None, True)
    await is_a_problem(quiet, customer_id)
    del quiet.twist.reads[customer_id]
    quiet.skip(3600)
    assert ((await quiet.reconcile()).whole, quiet.wrong) == (True, {})
    assert (await quiet.figures()).doubts == {}


async def is_a_problem(shop: Shop, customer_id: int) -> None:
    record, doubt = await shop.record(customer_id), await shop.doubt(customer_id)
    assert record is not None
    assert doubt is not None
    assert (record.deleted_at, record.verified_at) == (None, None)
    assert (doubt.reason, doubt.failures >= MOST_FAILURES) == (Reason.STILL_LISTED, True)


async def test_a_deletion_that_the_list_bears_out_is_not_undone_by_one_200(quiet: Shop) -> None:
    customer_id = quiet.ids[7]
    await quiet.deliver(await quiet.seen(customer_id), "customers/deleted")
    quiet.twist.items[customer_id] = None
    quiet.twist.reads[customer_id] = answered(404)
    quiet.skip(60)
    await quiet.reconcile()
    record = await quiet.record(customer_id)
    assert record is not None
    assert record.deleted_at is not None
    del quiet.twist.reads[customer_id]
    reads = quiet.engine.kounta.calls_by_kind["read"]
    quiet.skip(60)
    await quiet.reconcile(customer_id=customer_id)
    assert quiet.engine.kounta.calls_by_kind["read"] == reads + 2
    record = await quiet.record(customer_id)
    assert record is not None
    assert record.deleted_at is None  # both say so, a read lag apart


async def test_one_200_that_another_answer_contradicts_undoes_nothing(quiet: Shop) -> None:
    customer_id = quiet.ids[7]
    await quiet.deliver(await quiet.seen(customer_id), "customers/deleted")
    quiet.twist.items[customer_id] = None
    quiet.twist.reads[customer_id] = answered(404)
    quiet.skip(60)
    await quiet.reconcile()
    answers = iter([None, answered(404)])
    quiet.twist.reads[customer_id] = lambda request: (found := next(answers)) and found(request)
    quiet.skip(60)
    await quiet.reconcile(customer_id=customer_id)
    record = await quiet.record(customer_id)
    assert record is not None
    assert record.deleted_at is not None


async def other(shop: Shop, customer_id: int, other_id: int, *, redirect: bool) -> None:
    path = f"/v1/companies/{COMPANY}/customers/{other_id}.json"
    shop.twist.reads[customer_id] = (
        answered(301, Location=path) if redirect else answered(200, await shop.seen(other_id))
    )


@pytest.mark.parametrize("redirect", [False, True])
async def test_an_answer_about_another_customer_is_held_for_a_person(quiet: Shop, *, redirect: bool) -> None:
    customer_id, other_id = quiet.ids[7], quiet.create(phone="+61400000001")
    await other(quiet, customer_id, other_id, redirect=redirect)
    quiet.twist.items = {other_id: None}
    for _ in range(2):
        report = await quiet.reconcile(customer_id=customer_id)
        assert (report.deleted, report.failed, report.held_deletes) == (0, 1, 0)
        quiet.skip(60)
    assert (await quiet.reconcile()).held_deletes == 0  # the list still has it
    quiet.twist.items[customer_id] = None
    quiet.skip(60)
    report = await quiet.reconcile()
    assert (report.deleted, report.held_deletes) == (0, 1)
    told = await status_of(quiet.engine.settings, quiet.clock())
    assert any("answers another customer" in one.sentence for one in told.concerns())
    quiet.skip(3600)
    assert (await quiet.reconcile()).held_deletes == 1  # and stays so
    assert await quiet.record(other_id) is None  # never a row for the other
    quiet.skip(60)
    assert (await quiet.reconcile(allow_deletes=1)).deleted == 1


async def test_two_such_answers_within_the_read_lag_are_one(quiet: Shop) -> None:
    customer_id = quiet.ids[7]
    await other(quiet, customer_id, quiet.ids[8], redirect=False)
    await quiet.reconcile(customer_id=customer_id)
    await quiet.reconcile(customer_id=customer_id)
    doubt = await quiet.doubt(customer_id)
    assert doubt is not None
    assert doubt.other_first_at is not None
    assert doubt.other_again_at is None


async def test_it_is_released_when_the_list_has_it_again(quiet: Shop) -> None:
    customer_id = quiet.ids[7]
    await other(quiet, customer_id, quiet.ids[8], redirect=True)
    for _ in range(2):
        await quiet.reconcile(customer_id=customer_id)
        quiet.skip(60)
    quiet.twist.items[customer_id] = None
    assert (await quiet.reconcile()).held_deletes == 1
    quiet.twist.reads.clear()
    quiet.twist.items.clear()
    quiet.skip(60)
    report = await quiet.reconcile()
    assert (report.whole, quiet.wrong) == (True, {})


async def test_a_redirect_to_the_same_customer_on_the_same_origin_is_followed(quiet: Shop) -> None:
    customer_id = quiet.ids[7]
    path = f"/v1/companies/{COMPANY}/customers/{customer_id}"
    redirect = answered(302, Location=path)
    quiet.twist.reads[customer_id] = lambda asked: redirect(asked) if asked.url.path != path else None
    quiet.update(customer_id, phone="+61400000001")
    report = await quiet.reconcile(customer_id=customer_id)
    assert (report.updated, report.failed) == (1, 0)
    assert quiet.twist.asked[-1].endswith(f"/{customer_id}")


async def test_a_redirect_to_another_origin_is_not(quiet: Shop) -> None:
    customer_id = quiet.ids[7]
    quiet.twist.reads[customer_id] = answered(
        302, Location=f"https://example.test/v1/companies/{COMPANY}/customers/{customer_id}.json"
    )
    report = await quiet.reconcile(customer_id=customer_id)
    assert report.failed == 1
    assert not any("example.test" in path for path in quiet.twist.asked)
