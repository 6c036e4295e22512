"""Beginning anew: every row comes back from upstream, and the feed and the history stay whole."""

from contextlib import aclosing
from itertools import pairwise
from typing import Any

from receiver.database import mirror_of
from sync.console.api import Reconcile, reconciliation
from sync.mirror.counts import recent_counts
from sync.rebuild import begin_anew, rebuilding
from tests.stores import change


async def rebuild(shop: Any) -> dict[str, int]:
    engine = shop.engine
    report: dict[str, int] = {}
    async with aclosing(rebuilding(engine, reconciliation(engine, Reconcile(deep=True)))) as lines:
        async for line in lines:
            assert "error" not in line
            report = line.get("report", report)
    return report


async def test_whatever_was_wrong_is_right_afterwards(quiet: Any) -> None:
    change(
        mirror_of(quiet.place),
        "UPDATE _customers SET phone = '02 0000 0000', reference_id = 'wrong', tags = '[\"wrong\"]'",
        f"UPDATE _customers SET deleted_at = '2026-11-24T11:00:00.000Z' WHERE id = {quiet.ids[0]}",  # noqa: S608 - a number
    )
    assert len(quiet.wrong) == len(quiet.ids)
    report = await rebuild(quiet)
    assert quiet.wrong == {}
    assert (report["failed"], report["held_deletes"]) == (0, 0)
    assert quiet.rows("SELECT 1 FROM customer_tags WHERE tag = 'wrong'") == []
    (status,) = quiet.rows("SELECT * FROM mirror_status")
    assert (status["live"], status["partial"], status["verified"]) == (len(quiet.ids), 0, len(quiet.ids))


async def test_verdicts_are_counted_anew(quiet: Any) -> None:
    for name in ("First", "Second", "Third"):
        await quiet.deliver(quiet.update(quiet.ids[0], first_name=name))
    counted = quiet.rows("SELECT * FROM _verdict_counts")
    change(mirror_of(quiet.place), "UPDATE _verdict_counts SET count = count - 2")
    await rebuild(quiet)
    assert quiet.rows("SELECT * FROM _verdict_counts") == counted
    assert sum(row["count"] for row in counted) == 3


async def test_a_customer_that_upstream_does_not_know_goes(quiet: Any) -> None:
    gone = quiet.ids[0]
    quiet.delete(gone)
    report = await rebuild(quiet)
    assert report["deleted"] == 1
    assert quiet.rows("SELECT 1 FROM customers WHERE id = ?", gone) == []


async def test_history_stays_and_goes_on_without_an_overlap(quiet: Any) -> None:
    before = quiet.rows("SELECT * FROM customer_changes ORDER BY seq")
    quiet.skip(60)
    await rebuild(quiet)
    changes = quiet.rows("SELECT * FROM customer_changes ORDER BY seq")
    assert changes[: len(before)] == before
    assert {one["kind"] for one in changes[len(before) :]} == {"updated"}
    versions = quiet.rows("SELECT * FROM customer_versions ORDER BY customer_id, seq")
    for one, other in pairwise(versions):
        same = one["customer_id"] == other["customer_id"]
        assert one["valid_to"] == (other["valid_from"] if same else None)


async def test_rows_that_were_emptied_are_shown_as_known_in_part(quiet: Any) -> None:
    assert await begin_anew(quiet.engine) == len(quiet.ids)
    rows = quiet.rows("SELECT * FROM customers")
    assert {(one["partial"], one["first_name"], one["verified_at"]) for one in rows} == {(1, None, None)}
    (status,) = quiet.rows("SELECT * FROM mirror_status")
    assert (status["partial"], status["verified"]) == (len(quiet.ids), 0)
    assert len(quiet.rows("SELECT 1 FROM _verifications")) == len(quiet.ids)


async def test_a_process_that_ends_in_the_middle_leaves_it_to_the_next_sweep(quiet: Any) -> None:
    await begin_anew(quiet.engine)
    await quiet.reopen()
    assert quiet.engine.mirror.progress.sweep_due == "rebuilt"
    await quiet.reconcile()
    assert quiet.wrong == {}


async def test_what_a_rebuild_writes_is_neither_loss_nor_drift(quiet: Any) -> None:
    before = await recent_counts(quiet.engine.mirror, quiet.clock())
    await rebuild(quiet)
    assert await recent_counts(quiet.engine.mirror, quiet.clock()) == before
