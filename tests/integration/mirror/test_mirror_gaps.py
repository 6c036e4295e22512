"""Inboxes that are not what they were: none, another one, one with holes, an older copy, a newer version."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from receiver.database import NewerDatabase, migrate
from receiver.inbox import InboxReader
from receiver.inbox.schema import MIGRATIONS
from sync.inbox import InboxView, inbox_path


def change_inbox(house: Any, statement: str) -> None:
    with closing(sqlite3.connect(inbox_path(house.directory))) as connection, connection:
        connection.execute(statement)


def copy_of_inbox(house: Any, target: Path) -> Path:
    """Make a consistent copy, whatever is still in its log."""
    with (
        closing(sqlite3.connect(inbox_path(house.directory))) as source,
        closing(sqlite3.connect(target)) as copy,
    ):
        source.backup(copy)
    return target


async def new_inbox(house: Any, restored: Path | None = None) -> None:
    """Lose the inbox; the receiver starts with another one, or a copy that was put in its place."""
    await house.inbox.close()
    for path in house.directory.glob("inbox.db*"):
        path.unlink()
    if restored is not None:
        shutil.copy(restored, inbox_path(house.directory))
    house.inbox = await house.stack.enter_async_context(await house.new_inbox())


async def accounted(house: Any) -> int:
    """Accepted deliveries that neither wait nor are missing nor have a verdict: 0."""
    progress = house.mirror.progress
    async with InboxReader.open(inbox_path(house.directory)) as inbox:
        pending, _ = await inbox.pending(5678, progress.position)
        given = sum(house.counts().values()) - progress.ruled_elsewhere
        return await inbox.accepted(5678) - int(pending + progress.missing + given)


async def test_an_inbox_is_known_from_its_first_reading_on(house: Any) -> None:
    await house.apply()
    async with InboxReader.open(inbox_path(house.directory)) as inbox:
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


async def test_an_inbox_that_comes_back_is_not_applied_again(house: Any, tmp_path: Path) -> None:
    names = [await house.post(house.customer(id_)) for id_ in (1, 2)]
    await house.apply()
    kept = copy_of_inbox(house, tmp_path / "kept.db")
    await new_inbox(house)
    await house.post(house.customer(3))
    await house.apply()
    await new_inbox(house, kept)
    await house.post(house.customer(4))
    house.at(60)
    await house.apply()
    assert house.counts() == {"applied": 4}
    assert {house.verdict(name)["applied_at"] for name in names} == {"2026-11-24T12:00:00.000Z"}
    assert house.rows("SELECT * FROM _past_verdicts") == []
    assert await accounted(house) == 0


@pytest.mark.parametrize("more", [0, 1, 5])
async def test_an_inbox_restored_from_an_older_copy_loses_no_new_delivery(
    house: Any, tmp_path: Path, more: int
) -> None:
    for id_ in (1, 2):
        await house.post(house.customer(id_))
    await house.apply()
    copy = copy_of_inbox(house, tmp_path / "copy.db")
    for id_ in (3, 4):
        await house.post(house.customer(id_))
    await house.apply()
    await new_inbox(house, copy)
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
    change_inbox(house, "DELETE FROM deliveries WHERE position <= 2")
    assert await house.apply() == 4
    progress = house.mirror.progress
    assert (progress.position, progress.missing, progress.sweep_due) == (6, 2, "gap")
    assert await accounted(house) == 0


async def test_a_hole_in_the_middle_is_a_gap(house: Any) -> None:
    for id_ in range(1, 10):
        await house.post(house.customer(id_), company=99 if id_ in {3, 5} else 5678)
    change_inbox(house, "DELETE FROM deliveries WHERE company_id = 5678 AND position IN (3, 5, 6)")
    assert await house.apply() == 4
    progress = house.mirror.progress
    assert (progress.position, progress.missing, progress.sweep_due) == (7, 3, "gap")
    assert [one["id"] for one in house.rows("SELECT id FROM customers")] == [1, 2, 6, 9]
    assert await accounted(house) == 0


async def test_what_retention_took_away_is_no_gap(house: Any) -> None:
    for id_ in (1, 2, 3):
        await house.post(house.customer(id_))
    await house.apply()
    house.at(60)
    await house.inbox.forget(5678, through=3, before=house.now, keep=())
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


async def test_there_is_nothing_to_read_before_the_receiver_has_run(tmp_path: Path) -> None:
    async with InboxView(tmp_path) as view:
        assert await view.reader() is None
        inbox_path(tmp_path).touch()
        assert await view.reader() is None
        migrate(inbox_path(tmp_path), MIGRATIONS)
        assert await view.reader() is None  # the receiver gives it its identity a moment later


async def test_a_view_follows_the_file(house: Any) -> None:
    async with InboxView(house.directory) as view:
        first = await view.reader()
        assert first is not None
        assert await view.reader() is first
        identity = await first.identity()
        await house.inbox.close()
        for path in house.directory.glob("inbox.db*"):
            path.unlink()
        assert await view.reader() is None
        house.inbox = await house.stack.enter_async_context(await house.new_inbox())
        second = await view.reader()
        assert second is not None
        assert await second.identity() != identity


async def test_a_file_put_in_the_place_of_the_inbox_is_noticed(house: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    async with await house.new_inbox(other), InboxReader.open(inbox_path(other)) as inbox:
        identity = await inbox.identity()
    async with InboxView(house.directory) as view:
        await view.reader()
        await house.inbox.close()
        for path in house.directory.glob("inbox.db-*"):
            path.unlink()
        inbox_path(other).replace(inbox_path(house.directory))
        reader = await view.reader()
        assert reader is not None
        assert await reader.identity() == identity


async def test_an_inbox_of_a_newer_version_is_one_sentence(house: Any) -> None:
    await house.inbox.close()
    change_inbox(house, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewerDatabase, match=r"inbox\.db has schema version 9999.*newer kounta-mirror"):
        await house.apply()
