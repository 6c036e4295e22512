"""Deletions that only a 404 tells of: proven, gathered, held, let go; and what must never delete anything."""

import asyncio
from typing import Any

import pytest

from sync.kounta import KountaAccessLost, KountaError
from sync.merge.doubts import Reason
from sync.mirror.queue import doubt_every_live, due_doubts
from sync.reconcile import deletions
from sync.reconcile.report import Report
from sync.worker import Worker


async def test_silent_deletions_are_found_and_cost_a_read_each_and_the_proof(quiet: Any) -> None:
    quiet.delete(*quiet.ids[:3])
    assert await quiet.reconcile() == Report(listed=57, read=3, deleted=3, unchanged=57, calls=3 + 3 + 1)
    assert quiet.wrong == {}


async def test_the_answer_about_another_customer_proves_a_deletion_too(quiet: Any) -> None:
    changed = quiet.ids[:30]
    quiet.delete(quiet.ids[-1])
    for customer_id in changed:
        quiet.update(customer_id, first_name="Silent")
    report = await quiet.reconcile()
    assert (report.updated, report.deleted, report.read, report.calls) == (30, 1, 31, 3 + 31)
    assert quiet.wrong == {}


async def test_as_many_deletions_as_the_brake_allows_go_and_one_more_holds_all(shop: Any) -> None:
    await shop.fill(60)
    shop.delete(*shop.ids[:11])
    assert (await shop.reconcile()).deleted == 11
    shop.delete(shop.ids[0])
    report = await shop.reconcile()
    assert (report.deleted, report.held_deletes, report.whole) == (0, 1, False)


async def test_the_brake_counts_a_day(quiet: Any) -> None:
    quiet.delete(*quiet.ids[:11])
    assert (await quiet.reconcile()).deleted == 11
    quiet.skip(24 * 3600)
    quiet.delete(quiet.ids[0])
    assert (await quiet.reconcile()).deleted == 1


async def test_deletions_that_webhooks_announced_do_not_count_for_the_brake(quiet: Any) -> None:
    announced = quiet.ids[:20]
    for customer_id in announced:
        seen = quiet.update(customer_id, first_name="Leaving")
        quiet.delete(customer_id)
        await quiet.deliver(seen, "customers/deleted")
    quiet.skip(60)
    quiet.delete(quiet.ids[0])
    report = await quiet.reconcile()
    assert (report.deleted, report.held_deletes) == (1, 0)


async def test_held_deletions_let_the_rest_of_the_work_go_on(quiet: Any) -> None:
    quiet.update(quiet.ids[-1], first_name="Silent")
    quiet.delete(*quiet.ids[:20])
    expected = Report(listed=40, read=21, updated=1, unchanged=39, held_deletes=20)
    report = await quiet.reconcile()
    expected.calls = report.calls
    assert report == expected
    assert report.calls in {2 + 21, 2 + 21 + 1}
    assert len(quiet.wrong) == 20


async def test_a_person_lets_some_go_and_then_the_rest_each_read_once_more(quiet: Any) -> None:
    quiet.delete(*quiet.ids[:20])
    assert (await quiet.reconcile()).held_deletes == 20
    some = await quiet.reconcile(allow_deletes=5)
    assert (some.read, some.deleted, some.held_deletes, some.unchanged) == (20, 5, 15, 40)
    assert (await quiet.reconcile()).held_deletes == 15
    rest = await quiet.reconcile(allow_deletes=15)
    assert (rest.read, rest.deleted, rest.held_deletes, rest.whole) == (15, 15, 0, True)
    assert quiet.wrong == {}


async def test_what_a_person_lets_go_was_read_after_they_asked(quiet: Any) -> None:
    quiet.delete(*quiet.ids[:20])
    assert (await quiet.reconcile()).held_deletes == 20
    quiet.skip(1)
    settled = await quiet.engine.deletions.settle(5, since=quiet.clock())
    assert (len(settled.deleted), len(settled.held)) == (0, 20)


async def test_what_a_person_let_go_does_not_hold_the_next_one(quiet: Any) -> None:
    quiet.delete(*quiet.ids[:20])
    assert (await quiet.reconcile(allow_deletes=20)).deleted == 20
    quiet.delete(quiet.ids[0])
    quiet.skip(60)
    assert (await quiet.reconcile()).deleted == 1
    quiet.delete(*quiet.ids[:11])
    quiet.skip(60)
    assert (await quiet.reconcile()).held_deletes == 11  # with the one before they are too many


async def test_a_person_lets_go_what_this_very_reconciliation_finds(quiet: Any) -> None:
    quiet.delete(*quiet.ids[:20])
    report = await quiet.reconcile(allow_deletes=20)
    assert (report.deleted, report.held_deletes) == (20, 0)


async def test_held_deletions_survive_a_restart_and_are_read_again_before_they_go(quiet: Any) -> None:
    gone = quiet.ids[:20]
    quiet.delete(*gone)
    assert (await quiet.reconcile()).held_deletes == 20
    await quiet.reopen()
    await quiet.engine.deletions.settle()
    assert (await quiet.figures()).held_deletes == 20
    quiet.create(id=gone[0])
    quiet.skip(60)
    report = await quiet.reconcile(allow_deletes=20)
    assert (report.deleted, report.held_deletes) == (19, 0)
    assert quiet.wrong == {}


async def test_a_404_of_an_earlier_process_deletes_nothing_by_itself(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been killed while access was lost, and its credentials may be others now."""
    unlisted = quiet.ids[0]
    async with quiet.engine.mirror.batch([unlisted], quiet.clock()) as batch:
        batch.doubt(unlisted, Reason.UNLISTED, quiet.clock())
    quiet.break_down(lost_access="404")

    async def killed(*_: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(quiet.engine.deletions, "settle", killed)
    with pytest.raises(asyncio.CancelledError):
        await quiet.reconcile(customer_id=unlisted)
    assert (await quiet.figures()).held_deletes == 1
    quiet.break_down(lost_access="no")
    await quiet.reopen()
    assert (await quiet.reconcile()).deleted == 0
    assert (await quiet.figures()).doubts == {Reason.CONTRADICTED.value: 1}
    assert (await quiet.reconcile()).unchanged == 60
    assert quiet.wrong == {}


async def test_a_delivery_about_a_held_deletion_wins(quiet: Any) -> None:
    gone = quiet.ids[:20]
    seen = [quiet.update(customer_id, first_name="Held") for customer_id in gone]
    quiet.delete(*gone)
    assert (await quiet.reconcile()).held_deletes == 20
    quiet.create(
        id=gone[0], **{key: value for key, value in seen[0].items() if key in {"first_name", "email"}}
    )
    await quiet.deliver(quiet.update(gone[0], phone="123"))
    assert (await quiet.figures()).held_deletes == 19
    quiet.skip(60)
    report = await quiet.reconcile(allow_deletes=20)
    assert (report.deleted, report.held_deletes) == (19, 0)
    assert quiet.wrong == {}


@pytest.mark.parametrize("news", [{"first_name": "Seen"}, {}])
async def test_a_delivery_between_the_404_and_the_proof_keeps_the_customer(
    quiet: Any, news: dict[str, Any]
) -> None:
    """It was on its way when the read began: an answer 404 must not outlive it, whatever it says."""
    gone, *_ = quiet.ids
    seen = quiet.update(gone, **news)
    quiet.delete(gone)
    settle = quiet.engine.deletions._prove_access

    async def deliver_first() -> None:
        await quiet.deliver(seen)
        await settle()

    quiet.engine.deletions._prove_access = deliver_first
    report = await quiet.reconcile(customer_id=gone)
    assert (report.deleted, report.failed, report.held_deletes) == (0, 1, 0)
    assert (await quiet.figures()).live == 60
    del quiet.engine.deletions._prove_access
    quiet.skip(60)
    assert (await quiet.reconcile(customer_id=gone)).deleted == 1
    assert quiet.wrong == {}


@pytest.mark.parametrize("answer", ["401", "403", "404"])
async def test_lost_access_deletes_nothing(quiet: Any, answer: str) -> None:
    quiet.break_down(lost_access=answer)
    with pytest.raises(KountaAccessLost, match=r"Check KOUNTA_"):
        await quiet.reconcile()
    with pytest.raises(KountaAccessLost, match=r"Check KOUNTA_"):
        await quiet.reconcile(customer_id=quiet.ids[0])
    quiet.break_down(lost_access="no")
    quiet.skip(60)
    doubted = int(answer == "404")  # an answer that looked like a deletion is not believed, but asked again
    assert await quiet.reconcile() == Report(listed=60, read=doubted, unchanged=60, calls=3 + doubted)
    assert quiet.wrong == {}


@pytest.mark.parametrize("answer", ["401", "403", "404"])
@pytest.mark.parametrize("deep", [False, True])
async def test_access_lost_between_the_list_and_the_reads_deletes_nothing(
    quiet: Any, answer: str, *, deep: bool
) -> None:
    quiet.delete(quiet.ids[0])
    sweep = quiet.engine.sweeper.sweep_now

    async def sweep_and_lose(*how: Any) -> Any:
        swept = await sweep(*how)
        quiet.break_down(lost_access=answer)
        return swept

    quiet.engine.sweeper.sweep_now = sweep_and_lose
    with pytest.raises(KountaAccessLost, match=r"Check KOUNTA_"):
        await quiet.reconcile(deep=deep)
    figures = await quiet.figures()
    assert (figures.live, figures.deleted, figures.held_deletes) == (60, 0, 0)
    quiet.break_down(lost_access="no")
    del quiet.engine.sweeper.sweep_now
    quiet.skip(3600)
    assert (await quiet.reconcile()).deleted == 1
    assert quiet.wrong == {}


async def test_an_empty_list_holds_every_deletion(quiet: Any) -> None:
    quiet.delete(*quiet.ids)
    report = await quiet.reconcile()
    assert (report.listed, report.read, report.deleted, report.held_deletes) == (0, 60, 0, 60)
    assert (await quiet.figures()).live == 60


async def test_half_a_list_deletes_nobody(quiet: Any) -> None:
    quiet.delete(*quiet.ids[:30])
    assert (await quiet.reconcile()).held_deletes == 30


@pytest.mark.parametrize("fault", ["server_errors", "cut_bodies", "html_answers", "wrong_answers"])
async def test_an_upstream_that_cannot_answer_reads_deletes_nothing(quiet: Any, fault: str) -> None:
    gone, changed, *_ = quiet.ids
    quiet.delete(gone)
    quiet.update(changed, first_name="Silent")
    quiet.break_down(only_calls=["get"], **{fault: 1})
    report = await quiet.reconcile()
    assert (report.listed, report.read, report.failed, report.unchanged) == (59, 0, 2, 58)
    assert "customers/" in report.why
    assert (await quiet.figures()).live == 60
    quiet.break_down(**{fault: 0})
    quiet.skip(60)
    report = await quiet.reconcile()
    assert (report.deleted, report.updated, report.failed) == (1, 1, 0)


async def test_everyone_read_finds_deletions_that_are_held_already(quiet: Any) -> None:
    quiet.delete(*quiet.ids[:20])
    await quiet.reconcile()
    await doubt_every_live(quiet.engine.mirror, Reason.REFRESH, quiet.clock(), asked=False)
    quiet.skip(60)
    report = await quiet.reconcile(deep=True)
    assert (report.read, report.held_deletes, report.unchanged) == (60, 20, 40)


async def test_a_customer_asked_for_by_id(quiet: Any) -> None:
    known, gone, silent, *_ = quiet.ids
    assert await quiet.reconcile(customer_id=known) == Report(read=1, unchanged=1, calls=1)
    assert await quiet.reconcile(customer_id=999) == Report(read=1, calls=1)
    new = quiet.create()
    assert await quiet.reconcile(customer_id=new) == Report(read=1, created=1, calls=1)
    quiet.update(silent, phone="000")
    assert await quiet.reconcile(customer_id=silent) == Report(read=1, updated=1, calls=1)
    quiet.delete(gone)
    assert await quiet.reconcile(customer_id=gone) == Report(read=1, deleted=1, calls=4)
    quiet.skip(60)
    assert await quiet.reconcile(customer_id=gone) == Report(read=1, unchanged=1, calls=2)
    assert quiet.wrong == {}


async def test_a_moment_without_access_deletes_nobody(quiet: Any) -> None:
    read = quiet.ids[:3]
    async with quiet.engine.mirror.batch(read, quiet.clock()) as batch:
        for customer_id in read:
            batch.doubt(customer_id, Reason.CONFIRMATION, quiet.clock())
    worker = Worker(quiet.engine)
    quiet.break_down(lost_access="404")
    first = await due_doubts(quiet.engine.mirror, quiet.clock(), quiet.engine.settings.timing, 1)
    await quiet.engine.verifier.verify_all(first)
    quiet.break_down(lost_access="no")
    for _ in range(3):
        while await worker._verify_some():
            pass
        quiet.skip(60)
    assert quiet.wrong == {}
    assert (await quiet.figures()).deleted == 0


async def test_two_reads_without_access_delete_nobody_either(quiet: Any) -> None:
    alive = quiet.ids[5]
    quiet.break_down(lost_access="404")
    with pytest.raises(KountaAccessLost):
        await quiet.reconcile(customer_id=alive)
    quiet.skip(60)
    quiet.break_down(lost_access="no")
    while await Worker(quiet.engine)._verify_some():
        pass
    assert quiet.wrong == {}


async def test_deletions_held_are_told_once_and_not_each_second(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(deletions._log, "warning", lambda sentence, **_: told.append(sentence))
    quiet.delete(*quiet.ids[:20])
    await quiet.reconcile()
    for _ in range(3):
        await quiet.engine.deletions.settle()
    assert len(told) == 1
    assert told[0].startswith("20 deletions are held")


async def test_a_failure_of_upstream_while_it_proves_access_deletes_nothing(quiet: Any) -> None:
    quiet.delete(quiet.ids[0])
    prove = quiet.engine.deletions._prove_access

    async def prove_in_vain() -> None:
        quiet.break_down(server_errors=1)
        await prove()

    quiet.engine.deletions._prove_access = prove_in_vain
    with pytest.raises(KountaError):
        await quiet.reconcile()
    quiet.break_down(server_errors=0)
    assert (await quiet.figures()).held_deletes == 1
    del quiet.engine.deletions._prove_access
    await quiet.engine.deletions.settle()
    assert quiet.wrong == {}
