"""What a check of a file finds, notes beside it, and takes back."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from receiver.database import unusable
from receiver.integrity import (
    EMPTY,
    Damage,
    FileCheck,
    PlacedFile,
    StoreDamagedError,
    StoreReplacedError,
    damage_of,
    damages_in,
    note_damage,
    noted_damage,
)
from tests.clock import NOON, Clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mirror.db"
    with closing(sqlite3.connect(path)) as file:
        for name in ("first", '"with ""quotes"""'):
            with file:
                file.execute(f"CREATE TABLE {name} (a INTEGER PRIMARY KEY, b TEXT)")
                file.executemany(f"INSERT INTO {name} (b) VALUES (?)", [("x" * 500,)] * 100)  # noqa: S608 - ours
    return path


@pytest.fixture
def check(path: Path) -> FileCheck:
    return FileCheck(path, owns=True, clock=Clock())


def spoil(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(4, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 512)


def test_a_whole_file_has_no_damage_and_a_missing_one_neither(path: Path) -> None:
    assert damage_of(path) is None
    assert damage_of(path, seconds=60) is None
    assert damage_of(path.with_name("none.db")) is None


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_damage_is_found_table_by_table_too(path: Path, seconds: float | None) -> None:
    spoil(path)
    assert damage_of(path, seconds=seconds) is not None


def test_a_file_that_is_no_database_is_damaged(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    assert damage_of(path, seconds=60) == "file is not a database"


def test_a_check_that_has_to_end_has_found_nothing(path: Path) -> None:
    spoil(path)
    stop = threading.Event()
    stop.set()
    assert damage_of(path, stop=stop) is None


def test_what_is_found_is_noted_until_the_file_is_whole_again(path: Path, check: FileCheck) -> None:
    content = path.read_bytes()
    asyncio.run(check.check())
    check.require()
    spoil(path)
    asyncio.run(check.check())
    assert check.damage == noted_damage(path)
    assert check.damage is not None
    assert (check.damage.file, check.damage.noticed_at) == ("mirror.db", NOON)
    assert damages_in([path], NOON) == (check.damage,)
    with pytest.raises(StoreDamagedError, match=r"mirror\.db is damaged.*kounta-mirror rebuild"):
        check.require()
    path.write_bytes(content)
    asyncio.run(check.check())
    check.require()
    assert noted_damage(path) is None


def test_a_file_that_was_cut_to_nothing_is_damaged_for_its_owner_alone(path: Path, check: FileCheck) -> None:
    path.write_bytes(b"")
    asyncio.run(check.check())
    assert check.damage is not None
    assert check.damage.finding == EMPTY
    other = FileCheck(path, owns=False, clock=Clock())
    asyncio.run(other.check())
    assert other.damage is None


def test_damage_that_a_statement_met_stands_whatever_a_check_finds(check: FileCheck) -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    check.suspect(full)
    check.require()
    malformed = sqlite3.DatabaseError("database disk image is malformed")
    malformed.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    check.suspect(malformed)
    asyncio.run(check.check())
    with pytest.raises(StoreDamagedError, match="malformed"):
        check.require()


def test_damage_that_may_be_of_another_file_leads_to_a_check_and_to_nothing_else(check: FileCheck) -> None:
    malformed = sqlite3.DatabaseError("database disk image is malformed")
    malformed.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    check.doubt(malformed)
    check.require()
    asyncio.run(check.check())
    check.require()


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_not_at_its_path_is_noted_until_it_is_back(
    path: Path, check: FileCheck, how: str
) -> None:
    placed = PlacedFile(path)
    placed.require()
    away = path.rename(path.with_name("away.db"))
    if how == "replaced":
        path.write_bytes(away.read_bytes())
    asyncio.run(check.check())
    for one in (placed, check):
        with pytest.raises(StoreReplacedError, match=rf"mirror\.db was {how} while it was open"):
            one.require()
    other = FileCheck(path, owns=False, clock=Clock())
    asyncio.run(other.check())  # it does not take back what the owner has noted
    found = noted_damage(path)
    assert found is not None
    assert found.is_replaced
    away.replace(path)
    asyncio.run(check.check())
    check.require()
    placed.require()
    assert noted_damage(path) is None


def test_a_note_of_another_file_is_not_of_this_one(path: Path) -> None:
    note_damage(path, Damage("mirror.db", "malformed", NOON))
    content = path.read_bytes()
    path.with_name("new.db").write_bytes(content)
    assert noted_damage(path) is not None
    path.with_name("new.db").replace(path)
    assert noted_damage(path) is None


@pytest.mark.parametrize("note", ["", "{", "[]", '{"finding": "x"}'])
def test_a_note_that_cannot_be_read_says_nothing(path: Path, note: str) -> None:
    path.with_name("mirror.db.damage").write_text(note)
    assert noted_damage(path) is None


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (sqlite3.SQLITE_CORRUPT, "It is damaged: stop the worker, then run kounta-mirror rebuild."),
        (sqlite3.SQLITE_NOTADB, "It is damaged: stop the worker, then run kounta-mirror rebuild."),
        (sqlite3.SQLITE_FULL, "Correct that, then try again."),
        (sqlite3.SQLITE_IOERR_READ, "Correct that, then try again."),
    ],
)
def test_the_sentence_about_a_store_that_fails_promises_nothing(code: int, advice: str) -> None:
    error = sqlite3.DatabaseError("as SQLite says it")
    error.sqlite_errorcode = code
    assert unusable(error) == f"The database cannot be used: as SQLite says it. {advice}"
