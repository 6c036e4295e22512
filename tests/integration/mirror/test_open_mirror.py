"""`open_mirror`: what programs read of the mirror, typed, on both databases, also while a worker writes."""

import json
import re
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import run
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import psycopg
import pytest
from sqlalchemy import event

from receiver.database import NewerDatabase, Place, Server, StoreMissing, mirror_of, utc_text
from receiver.errors import SettingsError
from sync.mirror import Customer, MirrorError, OpenMirror, Status, opened
from sync.mirror import open_mirror as open_
from sync.mirror.backup import back_up
from sync.mirror.customers import BeforeHistoryError, MomentError
from sync.mirror.feed import BeyondFeedError
from sync.mirror.opened import CompanyMissing, MirrorUnavailable
from sync.mirror.reporting import ROLE, make_role
from sync.mirror.store import Mirror
from tests.places import settings_of
from tests.stores import change, lose

COMPANY = 5678


def at(place: Place) -> str | Path:
    return place.url if isinstance(place, Server) else place


@pytest.fixture
async def busy(house: Any) -> Any:
    """Five customers: one is renamed, one deleted, one has hardly anything."""
    for id_, city in enumerate(("Sydney", "Sydney", "Perth", "Perth"), start=1):
        address = {"address": f"{id_} George Street", "city": city, "country": "AU"}
        await house.post(house.customer(id_, primary_address=address, tags=["vip"] if id_ % 2 else []))
    await house.post({"id": 5, "updated_at": house.now.isoformat()})
    house.at(9)
    await house.apply()
    house.at(70)
    await house.post(house.customer(1, 70, first_name="Jo", mobile="0400 1", reference_id="r-1"))
    await house.post(house.customer(3, 70), "deleted")
    await house.apply()
    return house


@pytest.fixture
def mirror(busy: Any) -> Iterator[OpenMirror]:
    with open_(at(busy.place)) as mirror:
        yield mirror


def ids(customers: Iterator[Customer]) -> list[int]:
    return [one.id for one in customers]


def test_a_customer_is_a_row_of_all_customers(busy: Any, mirror: OpenMirror) -> None:
    assert tuple(busy.row("SELECT * FROM all_customers LIMIT 1")) == Customer._fields
    for id_ in (1, 3, 5):
        row = busy.row("SELECT * FROM all_customers WHERE id = ?", id_)
        found = mirror.customer(id_, deleted=True)
        assert found is not None
        shown = found.as_json()
        assert json.loads(json.dumps(shown)) == shown
        for name in ("tags", "other"):
            row[name] = None if row[name] is None else json.loads(row[name])
        assert shown == row


def test_every_value_has_the_type_that_is_declared(mirror: OpenMirror) -> None:
    for rows in ([*mirror.customers(deleted=True)], [mirror.status()], [*mirror.changes()]):
        for row in rows:
            for name, declared in get_type_hints(type(row)).items():
                value = getattr(row, name)
                allowed = get_args(declared) if isinstance(declared, UnionType) else (declared,)
                assert any(isinstance(value, get_origin(one) or one) for one in allowed), name
                assert not isinstance(value, datetime) or value.tzinfo is UTC


def test_one_that_is_deleted_is_given_to_those_who_ask_for_it(mirror: OpenMirror) -> None:
    assert mirror.customer(3) is None
    gone = mirror.customer(3, deleted=True)
    assert gone is not None
    assert gone.deleted_at is not None
    assert mirror.customer(999, deleted=True) is None


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [1, 2, 4, 5]),
        ({"deleted": True}, [1, 2, 3, 4, 5]),
        ({"city": "Sydney"}, [1]),
        ({"city": "Perth"}, [4]),
        ({"city": "Sydney", "deleted": True}, [1, 3]),
        ({"tag": "vip"}, [1]),
        ({"tag": "vip", "deleted": True}, [1, 3]),
        ({"tag": "nobody's"}, []),
        ({"email": "JAMIE2@kounta.example"}, [2]),
        ({"phone": "0400 1"}, [1]),
        ({"phone": "02 8765 4321"}, [1, 2, 4]),
        ({"reference_id": "r-1"}, [1]),
        ({"city": "Sydney", "tag": "vip", "phone": "0400 1"}, [1]),
        ({"unconfirmed": True}, [1, 2, 4, 5]),
        ({"unconfirmed": False}, []),
    ],
)
def test_customers_are_found_by_what_they_have(
    busy: Any, mirror: OpenMirror, wanted: dict[str, Any], found: list[int]
) -> None:
    change(mirror_of(busy.place), "UPDATE _customers SET primary_city = 'Hobart' WHERE id = 2")
    assert ids(mirror.customers(**wanted)) == found


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("wanted", "indexes"),
    [
        ({"email": "jamie2@kounta.example"}, ["_customers_by_email_in_any_case"]),
        ({"phone": "0400 1"}, ["_customers_by_phone", "_customers_by_mobile"]),
        ({"reference_id": "r-1"}, ["_customers_by_reference_id"]),
    ],
)
def test_one_that_few_can_be_is_found_by_an_index(
    busy: Any, mirror: OpenMirror, wanted: dict[str, Any], indexes: list[str]
) -> None:
    asked: list[tuple[str, Any]] = []
    engine = mirror._connections._engine
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
    list(mirror.customers(**wanted))
    ((statement, parameters), *_) = [one for one in asked if one[0].startswith("SELECT")]
    with closing(sqlite3.connect(busy.place / "mirror.db")) as connection:
        plan = str(connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall())
    assert [
        name
        for name in indexes
        if re.search(rf"SEARCH _customers USING (COVERING )?INDEX {name} \(.*?=\? AND company_id=\?\)", plan)
    ] == indexes, plan


def test_customers_are_found_by_when_they_changed(busy: Any, mirror: OpenMirror) -> None:
    assert ids(mirror.customers(changed_since=busy.now)) == [1]
    assert ids(mirror.customers(changed_since=busy.now + timedelta(seconds=1))) == []


def test_those_that_a_read_has_confirmed_are_told_from_the_others(busy: Any, mirror: OpenMirror) -> None:
    change(
        mirror_of(busy.place),
        f"UPDATE _customers SET verified_at = '{utc_text(busy.now)}', partial = (id = 2) WHERE id <= 2",  # noqa: S608 - ours
    )
    assert ids(mirror.customers(unconfirmed=False)) == [1]
    assert ids(mirror.customers(unconfirmed=True)) == [2, 4, 5]


def test_the_past_can_be_asked(busy: Any, mirror: OpenMirror) -> None:
    then = busy.now - timedelta(milliseconds=1)
    assert ids(mirror.customers(as_of=then)) == [1, 2, 3, 4, 5]
    assert ids(mirror.customers(as_of=then, tag="vip")) == [1, 3]
    assert ids(mirror.customers(as_of=then, city="Perth", changed_since=then)) == []
    jamie = next(mirror.customers(as_of=then))
    assert (jamie.first_name, jamie.partial, jamie.verified_at) == ("Jamie", None, None)
    assert jamie.changed_at == busy.now - timedelta(seconds=61)
    assert ids(mirror.customers(as_of=busy.now)) == [1, 2, 4, 5]


def test_what_does_not_go_together_is_told_at_once(busy: Any, mirror: OpenMirror) -> None:
    naive = busy.now.replace(tzinfo=None)
    with pytest.raises(ValueError, match="as_of should have a time zone"):
        mirror.customers(as_of=naive)
    with pytest.raises(ValueError, match="changed_since should have a time zone"):
        mirror.customers(changed_since=naive)
    with pytest.raises(ValueError, match="as_of goes with neither"):
        mirror.customers(as_of=busy.now, deleted=True)
    with pytest.raises(MomentError, match="is in the future"):
        mirror.customers(as_of=datetime.now(UTC) + timedelta(minutes=1))
    with pytest.raises(BeforeHistoryError, match="The mirror begins at 2026-11-24T12:00:09"):
        mirror.customers(as_of=busy.now - timedelta(days=1))


def test_pages_begin_behind_each_other(mirror: OpenMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "AT_ONCE", 2)
    assert ids(mirror.customers(deleted=True)) == [1, 2, 3, 4, 5]
    assert ids(mirror.customers(tag="vip", deleted=True)) == [1, 3]
    assert ids(mirror.customers(as_of=datetime(2026, 11, 24, 12, 1, tzinfo=UTC))) == [1, 2, 3, 4, 5]
    assert [one.seq for one in mirror.changes()] == [1, 2, 3, 4, 5, 6, 7]


async def test_whoever_stops_between_two_rows_keeps_no_log_growing(
    busy: Any, mirror: OpenMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "AT_ONCE", 1)
    customers, changes = mirror.customers(), mirror.changes()
    assert (next(customers).id, next(changes).seq) == (1, 1)
    if not isinstance(busy.place, Server):
        assert await busy.mirror.store.truncate_log()
    else:
        with psycopg.connect(busy.place.url) as server:
            open_now = (
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE state LIKE 'idle in%' AND datname = current_database()"
            )
            assert server.execute(open_now).fetchall() == [(0,)]
    assert (next(customers).id, next(changes).seq) == (2, 2)


def test_changes_are_rows_of_customer_changes(busy: Any, mirror: OpenMirror) -> None:
    rows = busy.rows("SELECT * FROM customer_changes ORDER BY seq")
    for row in rows:
        row |= {name: json.loads(row[name]) for name in ("attributes", "before", "after")}
    assert [one.as_json() for one in mirror.changes()] == rows
    assert [one.seq for one in mirror.changes(5)] == [6, 7]
    assert list(mirror.changes(7)) == []


async def test_what_changes_from_now_on_is_followed(busy: Any, mirror: OpenMirror) -> None:
    feed = mirror.follow(5, every=0)
    assert [next(feed).seq, next(feed).seq] == [6, 7]
    await busy.post(busy.customer(2, 75, first_name="Followed"))
    await busy.apply()
    found = next(feed)
    assert found.seq == 8
    assert found.after is not None
    assert found.after["first_name"] == "Followed"


async def test_whoever_waits_is_told_soon(busy: Any, mirror: OpenMirror) -> None:
    heard: list[int] = []
    waiting = threading.Thread(target=lambda: heard.append(next(mirror.follow(7, every=0.01)).seq))
    waiting.start()
    await busy.post(busy.customer(2, 75, first_name="Followed"))
    await busy.apply()
    waiting.join(30)
    assert heard == [8]


def test_a_place_that_the_feed_has_not_come_to_is_told(busy: Any, mirror: OpenMirror) -> None:
    for begin in (mirror.changes, mirror.follow):
        with pytest.raises(BeyondFeedError, match="The feed ends with seq 7, and since says 8"):
            begin(8)
        with pytest.raises(ValueError, match="came -1"):
            begin(-1)
    feed = mirror.follow(6, every=0)
    assert next(feed).seq == 7
    change(mirror_of(busy.place), "UPDATE _progress SET seq = 3")
    with pytest.raises(BeyondFeedError, match="The feed ends with seq 3, and since says 7"):
        next(feed)


def test_the_status_is_the_row_of_mirror_status(busy: Any, mirror: OpenMirror) -> None:
    row = busy.row("SELECT * FROM mirror_status")
    row |= {"attributes": json.loads(row["attributes"]), "listed_complete": bool(row["listed_complete"])}
    assert tuple(row) == Status._fields
    assert mirror.status().as_json() == row


class TestWhere:
    @pytest.mark.parametrize("company_id", [None, COMPANY])
    def test_without_a_place_it_is_that_of_the_settings(
        self, busy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, company_id: int | None
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("KOUNTA_COMPANY_ID", str(COMPANY))
        for name, value in settings_of(busy.place).items():
            monkeypatch.setenv(name, value)
        with open_(company_id=company_id) as mirror:
            assert mirror.status().live == 4
        with pytest.raises(SettingsError, match="Company 77 is not configured here"):
            open_(company_id=77)
        (tmp_path / "mirror.toml").write_text("[companies.77]\n[companies.5678]\n")
        monkeypatch.delenv("KOUNTA_COMPANY_ID")
        with pytest.raises(CompanyMissing, match=r"\(77, 5678\): say which with company_id=ID"):
            open_()

    def test_a_backup_is_read_alike(self, busy: Any, mirror: OpenMirror, tmp_path: Path) -> None:
        given = tmp_path / "a # strange? name"
        given.mkdir()
        back_up(busy.place, given / "copy.db")
        (given / "copy.db").chmod(0o444)
        with open_(str(given / "copy.db")) as copy:
            assert list(copy.customers(deleted=True)) == list(mirror.customers(deleted=True))
            assert list(copy.changes()) == list(mirror.changes())
        assert [one.name for one in given.iterdir()] == ["copy.db"]

    async def test_of_several_companies_one_has_to_be_named(self, busy: Any) -> None:
        await Mirror.of(busy.mirror.store, 77, busy.attributes)
        with pytest.raises(CompanyMissing, match=r"several companies \(77, 5678\): say which"):
            open_(at(busy.place))
        with pytest.raises(CompanyMissing, match="does not have company 9; it has 77, 5678"):
            open_(at(busy.place), 9)
        with open_(at(busy.place), 77) as mirror:
            assert list(mirror.customers()) == []
            assert list(mirror.changes()) == []
            assert mirror.status().live == 0

    def test_nothing_can_be_written_through_it(self, mirror: OpenMirror) -> None:
        with (
            pytest.raises(MirrorUnavailable, match=r"readonly|read-only"),
            mirror._connections.reading() as connection,
        ):
            connection.exec_driver_sql(
                "DELETE FROM mirror._customers" if on_server(mirror) else "DELETE FROM _customers"
            )

    def test_a_mirror_that_is_not_there_is_told(self, empty_place: Place, tmp_path: Path) -> None:
        with pytest.raises(StoreMissing):
            open_(at(empty_place))
        with pytest.raises(StoreMissing, match=r"There is no .*/nowhere yet"):
            open_(tmp_path / "nowhere")

    def test_a_newer_one_is_told(self, busy: Any) -> None:
        change(mirror_of(busy.place), "UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(NewerDatabase, match="has schema version 9999"):
            open_(at(busy.place))

    async def test_a_loop_that_runs_does_not_matter(self, busy: Any) -> None:
        with open_(at(busy.place)) as mirror:
            assert mirror.customer(1) is not None


def on_server(mirror: OpenMirror) -> bool:
    return not isinstance(mirror._connections._database, Path)


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear Jamie, " * 100)
    with pytest.raises(MirrorUnavailable, match="letter cannot be read: file is not a database"):
        open_(tmp_path / "letter")


def test_a_server_that_is_away_is_told() -> None:
    with pytest.raises(MirrorUnavailable, match=r"the schema mirror of 127\.0\.0\.1/shop cannot be read: "):
        open_("postgresql://anna:secret@127.0.0.1:1/shop")
    with pytest.raises(MirrorError, match="should begin with postgresql://"):
        open_("mysql://anna:secret@127.0.0.1/shop")


def test_a_missing_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MirrorError, match=r"pip install 'kounta-mirror\[postgres\]'"):
        open_("postgresql://127.0.0.1/shop")


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_the_role_for_reporting_can_do_all_of_it(busy: Any, mirror: OpenMirror) -> None:
    assert make_role(busy.place.url, ROLE) == []
    with psycopg.connect(busy.place.url, autocommit=True) as owner:
        owner.execute("DROP ROLE IF EXISTS berta")
        owner.execute(f"CREATE ROLE berta LOGIN IN ROLE {ROLE}".encode())
    try:
        with open_(busy.place.url.replace("postgres:@", "berta@")) as reporting:
            assert list(reporting.customers(deleted=True)) == list(mirror.customers(deleted=True))
            assert ids(reporting.customers(tag="vip", as_of=busy.now)) == [1]
            assert list(reporting.changes(2)) == list(mirror.changes(2))
            assert reporting.status() == mirror.status()
            with pytest.raises(BeyondFeedError, match="ends with seq 7"):
                reporting.changes(8)
    finally:
        with psycopg.connect(busy.place.url, autocommit=True) as owner:
            owner.execute("DROP ROLE berta")
            owner.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}".encode())


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_file_that_has_taken_the_place_of_another_is_read_from_then_on(
    busy: Any, mirror: OpenMirror, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    back_up(busy.place, copy)
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("UPDATE _customers SET first_name = 'Restored' WHERE id = 1")
    assert (found := mirror.customer(1)) is not None
    assert found.first_name == "Jo"
    await busy.mirror.close()
    lose(mirror_of(busy.place))
    with pytest.raises(MirrorUnavailable, match="No such file"):
        mirror.customer(1)
    copy.replace(busy.place / "mirror.db")
    assert (found := mirror.customer(1)) is not None
    assert found.first_name == "Restored"


def test_importing_the_package_alone_imports_no_sql() -> None:
    program = "import sys, sync.mirror; sys.exit('sqlalchemy' in sys.modules or hasattr(sync.mirror, 'typo'))"
    assert run([sys.executable, "-c", program], check=False).returncode == 0  # noqa: S603 - our own
