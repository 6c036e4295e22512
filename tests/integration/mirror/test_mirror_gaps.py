"""Inboxes that are not what they were: none, another one, one with holes, an older copy, a newer version."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from receiver.database import NewerDatabase, Server, inbox_of, migrate
from receiver.inbox import InboxReader
from receiver.inbox.schema import MIGRATIONS
from sync.apply import ANOTHER_AFTER
from sync.inbox import InboxView, inbox_path
from tests.stores import backup, change, lose


async def new_inbox(house: Any, restore: Callable[[], None] | None = None) -> None:
    """Lose the inbox; the receiver starts with another one, or with what is restored in its place.

    A file may be replaced while the worker runs; of a schema it has connections, so it is stopped meanwhile.
    """
    await house.inbox.close()
    if restore is None:
        lose(inbox_of(house.place))
    else:
        restore()
    house.inbox = await house.stack.enter_async_context(await house.new_inbox())
    if isinstance(house.place, Server):
        house.now += 2 * ANOTHER_AFTER  # workers go on, and find out


async def accounted(house: Any) -> int:
    """Accepted deliveries that neither wait nor are missing nor have a verdict: 0."""
    progress = house.mirror.progress
    async with InboxReader.open(inbox_of(house.place)) as inbox:
        pending, _ = await inbox.pending(5678, progress.position)
        given = sum(house.counts().values()) - progress.ruled_elsewhere
        return await inbox.accepted(5678) - int(pending + progress.missing + given)


async def test_an_inbox_is_known_from_its_first_reading_on(house: Any) -> None:
    await house.apply()
    async with InboxReader.open(inbox_of(house.place)) as inbox:
        assert house.mirror.progress.inbox_id == await inbox.identity()
    assert house.mirror.progress.sweep_due is None


async def test_another_inbox_is_read_from_its_start_and_asks_for_a_sweep(house: Any) -> None:
    for id_ in (1, 2, 3):
        await house.post(house.customer(id_))
    await house.apply()
    await new_inbox(house)
    await house.post(house.customer(4))
    assert await house.apply() == 1
    progress = house.mirror.progress
    assert (progress.position, progress.sweep_due, progress.ruled_elsewhere) == (1, "gap", 3)
    assert len(house.rows("SELECT * FROM customers")) == 4
    assert await accounted(house) == 0


async def test_an_inbox_that_comes_back_is_not_applied_again(house: Any) -> None:
    names = [await house.post(house.customer(id_)) for id_ in (1, 2)]
    await house.apply()
    restore = backup(inbox_of(house.place))
    await new_inbox(house)
    await house.post(house.customer(3))
    await house.apply()
    await new_inbox(house, restore)
    await house.post(house.customer(4))
    house.at(60)
    await house.apply()
    assert house.counts() == {"applied": 4}
    assert {house.verdict(name)["applied_at"] for name in names} == {"2026-11-24T12:00:00.000Z"}
    assert house.rows("SELECT * FROM _past_verdicts") == []
    assert await accounted(house) == 0


@pytest.mark.parametrize("more", [0, 1, 5])
async def test_an_inbox_restored_from_an_older_copy_loses_no_new_delivery(house: Any, more: int) -> None:
    for id_ in (1, 2):
        await house.post(house.customer(id_))
    await house.apply()
    restore = backup(inbox_of(house.place))
    for id_ in (3, 4):
        await house.post(house.customer(id_))
    await house.apply()
    await new_inbox(house, restore)
    for id_ in range(10, 10 + more):
        await house.post(house.customer(id_))
    await house.apply()
    assert house.mirror.progress.sweep_due == "gap"
    assert house.counts() == {"applied": 4 + more}
    assert len(house.rows("SELECT * FROM customers")) == 4 + more
    assert await accounted(house) == 0


async def test_a_hole_before_what_is_next_is_a_gap(house: Any) -> None:
    for id_ in range(1, 7):
        await house.post(house.customer(id_))
    change(inbox_of(house.place), "DELETE FROM deliveries WHERE position <= 2")
    assert await house.apply() == 4
    progress = house.mirror.progress
    assert (progress.position, progress.missing, progress.sweep_due) == (6, 2, "gap")
    assert await accounted(house) == 0


async def test_a_hole_in_the_middle_is_a_gap(house: Any) -> None:
    for id_ in range(1, 10):
        await house.post(house.customer(id_), company=99 if id_ in {3, 5} else 5678)
    change(inbox_of(house.place), "DELETE FROM deliveries WHERE company_id = 5678 AND position IN (3, 5, 6)")
    assert await house.apply() == 4
    progress = house.mirror.progress
    assert (progress.position, progress.missing, progress.sweep_due) == (7, 3, "gap")
    assert [one["id"] for one in house.rows("SELECT id FROM customers")] == [1, 2, 6, 9]
    assert await accounted(house) == 0


async def test_what_retention_took_away_is_no_gap(house: Any) -> None:
    for id_ in (1, 2, 3):
        await house.post(house.customer(id_))
    await house.apply()
    house.now += timedelta(days=2)
    before = house.now - timedelta(days=1)
    assert await house.inbox.forget(5678, through=3, before=before, keep=()) == 3
    await house.post(house.customer(4))
    await house.reopen()
    assert await house.apply() == 1
    assert (house.mirror.progress.missing, house.mirror.progress.sweep_due) == (0, None)
    assert await accounted(house) == 0


async def test_the_mirror_goes_on_where_it_was_after_a_restart(house: Any) -> None:
    await house.post(house.customer(1))
    await house.apply()
    await house.reopen()
    await house.post(house.customer(2))
    assert await house.apply() == 1
    assert house.counts() == {"applied": 2}


async def test_there_is_nothing_to_read_before_the_receiver_has_run(house: Any) -> None:
    inbox = inbox_of(house.place)
    await house.inbox.close()
    lose(inbox)
    async with InboxView(house.place) as view:
        assert await view.reader() is None
        if isinstance(inbox, Path):
            inbox.touch()
            assert await view.reader() is None
        migrate(inbox, MIGRATIONS)
        assert await view.reader() is None  # the receiver gives it its identity a moment later


async def test_a_view_follows_the_inbox(house: Any) -> None:
    async with InboxView(house.place) as view:
        first = await view.reader()
        assert first is not None
        assert await view.reader() is first
        identity = await first.identity()
        await new_inbox(house)
        second = await view.reader()
        assert second is not None
        assert await second.identity() != identity


@pytest.mark.parametrize("database_kind", ["sqlite"], ids=["sqlite: files alone can be taken away"])
async def test_a_file_put_in_the_place_of_the_inbox_is_noticed(house: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    async with await house.new_inbox(other), InboxReader.open(inbox_path(other)) as inbox:
        identity = await inbox.identity()
    async with InboxView(house.directory) as view:
        await view.reader()
        await house.inbox.close()
        lose(inbox_of(house.place))
        assert await view.reader() is None
        inbox_path(other).replace(inbox_path(house.directory))
        reader = await view.reader()
        assert reader is not None
        assert await reader.identity() == identity


async def test_an_inbox_of_a_newer_version_is_one_sentence(house: Any) -> None:
    await house.inbox.close()
    change(inbox_of(house.place), "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewerDatabase, match=r"inbox.* has schema version 9999.*newer kounta-mirror"):
        await house.apply()
