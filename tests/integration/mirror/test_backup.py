"""`backup`: one file of SQLite, consistent, for anyone, whichever database the mirror lies in."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from receiver.database import inbox_of, mirror_of
from receiver.sqlite import looking
from sync.mirror import backup
from sync.mirror.backup import BackupFailed, back_up
from sync.mirror.schema import METADATA, TOKENS
from sync.mirror.store import Mirror
from tests.digests import differing
from tests.stores import change


@pytest.fixture
async def busy(house: Any) -> Any:
    """A mirror with history, tags, a tombstone, a quarantined delivery, a secret, and another company."""
    await house.post(house.customer(1))
    await house.post(house.customer(1, 5, first_name="Jo", tags=["new", "vip"]))
    await house.post(house.customer(2, 1))
    await house.post(house.customer(2, 9), "deleted")
    await house.post(b"no JSON")
    house.at(20)
    await house.apply()
    await Mirror.of(house.mirror.store, 77, house.attributes)
    change(
        mirror_of(house.place),
        "INSERT INTO _oauth_tokens (company_id, sealed, kept_at) "
        "VALUES (5678, 'sealed-secret', '2026-11-24T12:00:00.000Z')",
    )
    return house


async def test_every_table_is_the_same_in_the_copy_but_for_the_tokens(busy: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    steps: list[tuple[int, int | None]] = []
    back_up(busy.place, copy, show=lambda *step: steps.append(step))
    tables = [one for one in METADATA.sorted_tables if one is not TOKENS]
    assert differing(copy, mirror_of(busy.place), tables) == {}
    assert steps
    assert b"sealed-secret" not in copy.read_bytes()


async def test_whoever_has_the_file_alone_can_open_it(busy: Any, tmp_path: Path) -> None:
    copy = tmp_path / "given"
    copy.mkdir()
    back_up(busy.place, copy / "mirror.db")
    assert [one.name for one in copy.iterdir()] == ["mirror.db"]
    uri = (copy / "mirror.db").as_uri() + "?mode=ro&immutable=0"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("delete",)]
        assert connection.execute("SELECT first_name FROM customers").fetchall() == [("Jo",)]
        assert sorted(connection.execute("SELECT tag FROM customer_tags")) == [("new",), ("vip",)]
    assert [one.name for one in copy.iterdir()] == ["mirror.db"]


async def test_a_company_that_is_named_is_alone_in_it(busy: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    back_up(busy.place, copy, company_id=77)
    assert b"Jamie" not in copy.read_bytes()
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT company_id FROM mirror_status").fetchall() == [(77,)]


async def test_a_restored_copy_goes_on_where_it_was_made(busy: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    back_up(busy.place, copy)
    later = await busy.post(busy.customer(1, 30, first_name="Kim"))
    restored = tmp_path / "restored"
    restored.mkdir()
    copy.replace(restored / "mirror.db")
    mirror = await busy.new_mirror(restored)
    async with mirror:
        reader = await busy.view.reader()
        await busy.new_applier(mirror).apply_pending(reader)
    with looking(restored / "mirror.db") as connection:
        found = connection.exec_driver_sql("SELECT first_name FROM customers").fetchall()
        (given,) = connection.exec_driver_sql(
            "SELECT verdict FROM delivery_verdicts WHERE delivery_id = ?", (later,)
        ).fetchall()
    assert (found, given) == ([("Kim",)], ("applied",))


async def test_a_restored_copy_that_is_older_than_the_inbox_goes_back_asks_for_a_sweep(
    busy: Any, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    back_up(busy.place, copy)
    for number in range(3):
        await busy.post(busy.customer(1, 30 + number, first_name=f"Kim {number}"))
    change(inbox_of(busy.place), "DELETE FROM deliveries WHERE position < 8")  # as retention does
    restored = tmp_path / "restored"
    restored.mkdir()
    copy.replace(restored / "mirror.db")
    async with await busy.new_mirror(restored) as mirror:
        reader = await busy.view.reader()
        assert await busy.new_applier(mirror).apply_pending(reader) == 1
        progress = mirror.progress
        assert (progress.position, progress.missing, progress.sweep_due) == (8, 2, "gap")


async def test_what_is_no_copy_is_never_replaced(busy: Any, tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_text("Dear Jamie")
    with pytest.raises(BackupFailed, match="is there and no database"):
        back_up(busy.place, letter)
    assert letter.read_text() == "Dear Jamie"
    with pytest.raises(BackupFailed, match="is a directory"):
        back_up(busy.place, tmp_path)
    with pytest.raises(BackupFailed, match="There is no directory"):
        back_up(busy.place, tmp_path / "nowhere" / "copy.db")


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("name", ["mirror.db", "inbox.db"])
async def test_the_store_itself_is_never_replaced(busy: Any, name: str) -> None:
    with pytest.raises(BackupFailed, match="is the store itself"):
        back_up(busy.place, busy.directory / "." / name)


async def test_a_copy_that_fails_leaves_the_older_one(
    busy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    back_up(busy.place, copies / "copy.db")
    before = (copies / "copy.db").read_bytes()

    def fail(_part: Path) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(backup, "_check", fail)
    with pytest.raises(BackupFailed, match="database or disk is full"):
        back_up(busy.place, copies / "copy.db")
    assert {one.name: one.read_bytes() for one in copies.iterdir()} == {"copy.db": before}
