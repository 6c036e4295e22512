"""The rolling refresh over the local Kounta: who is read when nothing is due, and what it tells."""

import asyncio
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from sync.kounta import Kounta
from sync.merge.doubts import Reason
from sync.mirror.counts import recent_counts
from sync.mirror.queue import due_doubts, waiting_doubts
from sync.reconcile.drift import Drift, drift_of
from sync.reconcile.refresh import RESTING, SAMPLED, Refresher
from sync.worker import Worker
from tests.integration.reconcile.conftest import answered

HOUR = RESTING.total_seconds()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids that are read, in their order."""
    asked: list[int] = []
    ask = Kounta.read

    async def note(self: Kounta, customer_id: int, *, priority: int = 0) -> Any:
        asked.append(customer_id)
        return await ask(self, customer_id, priority=priority)

    monkeypatch.setattr(Kounta, "read", note)
    return asked


async def drift(shop: Any) -> Drift:
    return drift_of(await recent_counts(shop.engine.mirror, shop.clock()))


async def draws(shop: Any, seed: int) -> list[int | None]:
    """Draw so often that, with this seed and ties in one order, everyone is among them who may be."""
    engine = shop.engine
    refresher = Refresher(engine.mirror, engine.verifier, clock=shop.clock, random=Random(seed))
    return [await refresher._draw() for _ in range(400)]


async def refresh_all(shop: Any) -> int:
    """Refresh until nobody needs it, as the worker does; give the number of reads."""
    reads = 0
    while await shop.engine.refresher.refresh():
        reads += 1
        shop.skip(1)
    return reads


async def test_the_oldest_proof_is_renewed_and_nobody_within_the_hour(quiet: Any, read: list[int]) -> None:
    assert not await quiet.engine.refresher.refresh()
    first, second, *others = quiet.ids
    quiet.skip(HOUR / 2)
    for customer_id in others:
        await quiet.reconcile(customer_id=customer_id)
    read.clear()
    quiet.skip(HOUR / 2)
    assert await refresh_all(quiet) == 2
    assert sorted(read) == [first, second]


async def test_every_row_is_as_young_as_the_budget_lets_it_be(quiet: Any) -> None:
    quiet.skip(HOUR)
    began_at = quiet.clock()
    assert await refresh_all(quiet) >= 60
    assert (await quiet.figures()).oldest_verified_at >= began_at


async def test_what_is_in_doubt_held_or_deleted_is_left_to_others(quiet: Any, read: list[int]) -> None:
    doubted, gone, *held = quiet.ids[:22]
    await quiet.deliver(quiet.update(gone), "customers/deleted")
    quiet.delete(gone, *held)
    await quiet.reconcile()
    assert (await quiet.figures()).held_deletes == 20
    quiet.skip(HOUR)
    await quiet.deliver(quiet.update(doubted, first_name="Told"))
    read.clear()
    await refresh_all(quiet)
    assert set(read) - {doubted} == set(quiet.ids) - {doubted}  # who waits for a confirmation may be drawn


async def test_a_silent_change_is_found_and_repaired(quiet: Any) -> None:
    quiet.update(quiet.ids[7], phone="02 0000 0000")
    quiet.skip(HOUR)
    assert quiet.wrong
    await refresh_all(quiet)
    assert quiet.wrong == {}


async def test_a_silent_deletion_goes_through_the_brake(quiet: Any) -> None:
    quiet.delete(quiet.ids[7])
    quiet.skip(HOUR)
    await refresh_all(quiet)
    quiet.skip(60)  # a 404 that nothing had announced is asked for once more
    due = await due_doubts(quiet.engine.mirror, quiet.clock(), quiet.engine.settings.timing, 9)
    await quiet.engine.verifier.verify_all(due)
    assert (await quiet.figures()).held_deletes == 1
    await quiet.engine.deletions.settle()
    assert quiet.wrong == {}


async def test_a_customer_that_cannot_be_read_does_not_stop_the_round(quiet: Any) -> None:
    bad = quiet.ids[0]
    quiet.twist.reads[bad] = answered(200, {})
    quiet.skip(HOUR)
    await refresh_all(quiet)
    assert (await quiet.figures()).doubts == {Reason.REFRESH.value: 1}


async def test_a_customer_that_can_be_read_only_in_part_is_read_again_by_the_next_round(quiet: Any) -> None:
    bad = quiet.ids[0]
    quiet.update(bad, first_name=["no", "name"])
    for _ in range(2):
        quiet.skip(HOUR)
        await refresh_all(quiet)
        figures = await quiet.figures()
        assert (figures.doubts, figures.partial, figures.verified) == ({}, 1, figures.live)
        (row,) = quiet.rows("SELECT first_name, partial FROM customers WHERE id = ?", bad)
        assert (row["first_name"], row["partial"]) == (None, 1)
    quiet.update(bad, first_name="Jo")
    quiet.skip(HOUR)
    await refresh_all(quiet)
    assert (quiet.wrong, (await quiet.figures()).partial) == ({}, 0)


async def test_a_share_of_the_reads_is_drawn_at_random_and_tells_the_drift(quiet: Any) -> None:
    for customer_id in quiet.ids[::2]:
        quiet.update(customer_id, phone="02 0000 0000")  # one in two, which no list shows
    reads = 0
    for _ in range(40):
        quiet.skip(HOUR)
        reads += await quiet.engine.refresher.refresh()
    counted = await recent_counts(quiet.engine.mirror, quiet.clock())
    assert counted["sampled"] == reads // SAMPLED
    assert 0 < counted["differed"] == counted["differed_in:phone"] <= counted["sampled"]
    found = await drift(quiet)
    assert found.whole is not None
    if not quiet.engine.mirror.store.is_shared:  # where the draw follows from the seed
        assert found.whole.low < 0.5 < found.whole.high


# where proofs are of one moment PostgreSQL gives them in any order
@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_who_is_drawn_follows_from_the_seed_and_everyone_may_be(quiet: Any, read: list[int]) -> None:
    drawn = [await draws(quiet, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0]) == set(quiet.ids)


async def test_who_is_in_doubt_is_not_drawn(quiet: Any) -> None:
    in_doubt = set(quiet.ids[:30])
    async with quiet.engine.mirror.batch(in_doubt, quiet.clock()) as batch:
        for customer_id in in_doubt:
            batch.doubt(customer_id, Reason.STALE, quiet.clock())
    drawn = set(await draws(quiet, seed=1))
    assert None in drawn  # whose place was drawn was in doubt
    assert drawn - {None} <= set(quiet.ids) - in_doubt


async def test_repairs_that_no_delivery_announced_are_webhook_loss(quiet: Any) -> None:
    told, silent, gone, *_ = quiet.ids
    await quiet.deliver(quiet.update(told, first_name="Told"))
    quiet.update(silent, first_name="Silent")
    quiet.delete(gone)
    new = quiet.create(first_name="Unheard")
    quiet.skip(60)
    report = await quiet.reconcile()
    assert (report.updated, report.deleted, report.created) == (1, 1, 1)
    counted = await recent_counts(quiet.engine.mirror, quiet.clock())
    assert (counted["announced"], counted["unannounced"]) == (1, 3)
    assert (await drift(quiet)).webhook_loss == 0.75
    assert new in quiet.ids


async def test_what_a_delivery_has_announced_is_no_loss_even_if_a_read_decides(quiet: Any) -> None:
    customer_id = quiet.ids[0]
    older, newer = (quiet.update(customer_id, first_name=name) for name in ("Older", "Newer"))
    await quiet.deliver(newer)
    await quiet.deliver(older)  # in the same second: a tie, which the later one wins for now
    quiet.skip(60)
    await quiet.reconcile()
    assert quiet.wrong == {}
    assert (await drift(quiet)).webhook_loss == 0


async def test_the_first_sweep_and_what_completes_it_are_no_loss(quiet: Any) -> None:
    assert (await drift(quiet)).webhook_loss is None


async def test_counts_older_than_a_week_are_not_told(quiet: Any) -> None:
    quiet.update(quiet.ids[0], first_name="Silent")
    await quiet.reconcile()
    assert (await drift(quiet)).webhook_loss == 1
    quiet.skip(timedelta(days=8).total_seconds())
    assert (await drift(quiet)).webhook_loss is None


async def test_the_worker_refreshes_when_nothing_else_is_due(quiet: Any, read: list[int]) -> None:
    quiet.skip(HOUR)
    silent = quiet.ids[0]
    await quiet.deliver(quiet.update(silent, first_name="Told"))
    quiet.skip(60)
    worker = Worker(quiet.engine)
    read.clear()
    assert await worker._verify_or_refresh()
    assert await waiting_doubts(quiet.engine.mirror) == 0
    assert read == [silent]
    for _ in range(200):
        if not await worker._verify_or_refresh():
            break
        await asyncio.sleep(0)
    assert set(read) == set(quiet.ids)


async def test_a_failure_of_upstream_while_it_refreshes_leaves_a_doubt(quiet: Any) -> None:
    quiet.skip(HOUR)
    quiet.sandbox.calls.ask(["wrong_answers"])
    await quiet.engine.refresher.refresh()
    assert (await quiet.figures()).doubts == {Reason.REFRESH.value: 1}


async def test_a_mobile_that_reads_do_not_carry_keeps_nobody_partial_until_one_carries_it(shop: Any) -> None:
    await shop.found(10)
    company = shop.sandbox.company
    shown, listed = company.shown, company.listed
    company.shown = lambda *of: {name: one for name, one in shown(*of).items() if name != "mobile"}
    company.listed = lambda *of: {name: one for name, one in listed(*of).items() if name != "mobile"}
    await shop.open()
    await shop.reconcile()
    figures = await shop.figures()
    assert (figures.partial, figures.progress.mobile_read) == (0, False)
    assert shop.rows("SELECT count(mobile) AS mobiles FROM customers") == [{"mobiles": 0}]
    company.shown = shown
    shop.skip(HOUR)
    await shop.reconcile(customer_id=shop.ids[0])
    assert ((await shop.figures()).partial, (await shop.figures()).progress.mobile_read) == (9, True)
    assert shop.rows("SELECT count(*) AS partial FROM customers WHERE partial") == [{"partial": 9}]
    shop.skip(HOUR)
    await shop.reconcile(deep=True)
    assert ((await shop.figures()).partial, shop.wrong) == (0, {})
