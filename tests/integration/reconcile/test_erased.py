"""Erased people whom Kounta still lists, reads and writes: nothing comes back, and no call is spent."""

from typing import Any

import pytest

from sync.merge.doubts import Reason
from sync.mirror.queue import due_doubts
from sync.retention import forget_old
from tests.people import KEY


@pytest.fixture
async def without_ann(shop: Any) -> Any:
    shop.settings["MIRROR_SECRET_KEY"] = KEY
    await shop.fill(12)
    await shop.engine.eraser.erase(shop.ids[0])
    return shop


def has(shop: Any, customer_id: int) -> bool:
    found = shop.rows("SELECT id FROM all_customers WHERE id = ?", customer_id)
    doubts = shop.rows("SELECT customer_id FROM _verifications WHERE customer_id = ?", customer_id)
    return bool(found or doubts)


async def test_a_sweep_counts_them_as_unchanged_and_asks_nothing(without_ann: Any) -> None:
    shop, ann = without_ann, without_ann.ids[0]
    shop.update(ann, first_name="Changed")
    report = await shop.reconcile()
    assert (report.listed, report.unchanged, report.read, report.failed) == (12, 12, 0, 0)
    assert not has(shop, ann)


async def test_a_list_of_mostly_erased_people_is_not_taken_for_another_companys(without_ann: Any) -> None:
    shop = without_ann
    for customer_id in shop.ids:
        await shop.engine.eraser.erase(customer_id)
    report = await shop.reconcile()
    assert (report.listed, report.unchanged, report.created) == (12, 12, 0)
    assert shop.rows("SELECT * FROM all_customers") == []


async def test_a_read_that_was_under_way_brings_nobody_back(without_ann: Any) -> None:
    shop, bob = without_ann, without_ann.ids[1]
    async with shop.engine.mirror.batch([bob], shop.clock()) as batch:
        batch.doubt(bob, Reason.ASKED, shop.clock())
    due = await due_doubts(shop.engine.mirror, shop.clock(), shop.engine.settings.timing, 1)
    await shop.engine.eraser.erase(bob)
    counts = shop.rows("SELECT * FROM _daily_counts")
    await shop.engine.verifier.verify_all(due)
    assert not has(shop, bob)
    assert shop.rows("SELECT * FROM _daily_counts") == counts  # it was no repair


async def test_a_person_who_asks_for_them_is_told(without_ann: Any) -> None:
    shop, ann = without_ann, without_ann.ids[0]
    report = await shop.reconcile(customer_id=ann)
    assert (report.failed, report.read) == (1, 0)
    assert "erased" in report.why
    assert not has(shop, ann)


async def test_a_write_goes_to_kounta_and_stays_there(without_ann: Any) -> None:
    shop, ann = without_ann, without_ann.ids[0]
    written = await shop.engine.writer.update(ann, {"first_name": "Written"})
    assert written.first_name == "Written"
    assert not has(shop, ann)


async def test_whoever_may_come_back_is_read(without_ann: Any) -> None:
    shop, ann = without_ann, without_ann.ids[0]
    await shop.engine.eraser.allow_return(ann)
    due = await due_doubts(shop.engine.mirror, shop.clock(), shop.engine.settings.timing, 1)
    assert [doubt.customer_id for doubt in due] == [ann]
    await shop.engine.verifier.verify_all(due)
    assert has(shop, ann)
    assert shop.wrong == {}


async def test_the_feed_forgets_them_with_what_is_old(without_ann: Any) -> None:
    shop, ann = without_ann, without_ann.ids[0]
    told = "SELECT kind FROM customer_changes WHERE customer_id = ?"
    await forget_old(shop.engine)
    assert shop.rows(told, ann) == [{"kind": "erased"}]
    shop.skip(31 * 86_400)
    await forget_old(shop.engine)
    assert shop.rows(told, ann) == []
    await shop.reconcile()
    assert not has(shop, ann)
