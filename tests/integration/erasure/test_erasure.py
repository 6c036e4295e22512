"""A person leaves for good: what goes, what stays, and that nothing brings them back."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from receiver.database import Place, Server, inbox_of, mirror_of
from receiver.inbox.store import InboxStore
from receiver.inbox.transactions import Row
from receiver.spool import spool_path
from sync import erasure
from sync.erasure import NoKeyError, NotErasedError
from sync.merge.decisions import Decision, Kind, Verdict
from sync.merge.doubts import Reason
from sync.merge.snapshots import Source
from sync.migration import move
from sync.mirror.erasure import forget_ids_of_erased, marks_of
from sync.mirror.figures import figures_of
from sync.mirror.marks import Marker
from sync.mirror.store import KeyDiffersError, Mirror, MirrorStore
from tests.clock import NOON
from tests.people import ANN, BOB, COMPANY, person
from tests.stores import backup, held

ANOTHER_KEY = "another key of thirty-two characters or so"


def left_in_stores(house: Any, *words: str) -> dict[str, str]:
    """Give each table of both stores in which one of these words stands."""
    return {
        table: repr(rows)
        for database in (inbox_of(house.place), mirror_of(house.place))
        for table, rows in held(database).items()
        if any(word in repr(rows) for word in words)
    }


def changes(house: Any, customer_id: int = ANN) -> list[str]:
    query = "SELECT kind FROM customer_changes WHERE customer_id = ? ORDER BY seq"
    return [one["kind"] for one in house.rows(query, customer_id)]


async def fill(house: Any) -> list[str]:
    """Let Ann be known in every way there is; give the names of the deliveries about her."""
    about = [
        await house.post(person(ANN, "qzann"), "created"),
        await house.post(person(ANN, "qzann", email="qzann-second@mail.example")),
        await house.post(b'{"id": %d, "first_name": "qzann-cut' % ANN),
        await house.post(person(ANN, "qzann", last_name="qzann\x00")),
        await house.post(person(ANN, "qzann", company_id=99)),
        await house.post(json.dumps(person(ANN, "qzann", id=str(ANN), first_name="qzann-text")).encode()),
    ]
    await house.post(person(BOB, "qzbob"), "created")
    await house.apply()
    house.later(seconds=5)
    await house.applier.apply([await house.delivery(about[1])], again=True)
    async with house.mirror.batch([ANN], house.now) as batch:
        batch.hold_delete(ANN, house.now)
    await house.mirror.note(upstream_failure=f"GET /v1/companies/5678/customers/{ANN}.json: no answer")
    about.append(await house.post(person(ANN, "qzann", phone="qzann-pending")))
    house.later(minutes=1)
    return about


async def test_nothing_of_an_erased_person_is_left(house: Any) -> None:
    about = await fill(house)
    before = held(inbox_of(house.place))["deliveries"]
    receipt = await house.eraser.erase(ANN)
    assert (receipt.why, receipt.completed_at) == ("", house.now)
    assert left_in_stores(house, "qzann") == {}
    assert left_in_stores(house, str(ANN)).keys() == {"_changes"}
    assert house.traces("qzann", str(ANN)) == {}
    (row,) = house.rows("SELECT * FROM customer_changes WHERE customer_id = ?", ANN)
    assert row | {"seq": 0} == {
        "company_id": COMPANY,
        "seq": 0,
        "customer_id": ANN,
        "kind": "erased",
        "attributes": "[]",
        "before": None,
        "after": None,
        "as_of": None,
        "source": "erasure",
        "delivery_id": None,
        "applied_at": "2026-11-24T12:01:05.000Z",
    }
    after = held(inbox_of(house.place))["deliveries"]
    assert [one[:5] for one in after] == [one[:5] for one in before]  # each is there, at its position
    assert await house.apply() == 1
    for one in about:
        assert (house.verdict(one)["customer_id"], house.verdict(one)["reason"]) == (None, "erased")
        assert await house.body(one) == b""
    house.check_counts()
    assert [one["id"] for one in house.rows("SELECT id FROM all_customers")] == [BOB]
    assert house.rows("SELECT * FROM _erased_bodies") == []


async def test_the_receipt_says_what_left_where(house: Any) -> None:
    await fill(house)
    receipt = (await house.eraser.erase(ANN)).as_json()
    remains = receipt.pop("remains")
    assert receipt == {
        "company_id": COMPANY,
        "customer_id": ANN,
        "erased_at": "2026-11-24T12:01:05.000Z",
        "completed_at": "2026-11-24T12:01:05.000Z",
        "complete": True,
        "why": None,
        "mirror": {
            "customers": 1,
            "changes": 4,
            "tags": 2,
            "doubts": 0,
            "held_deletes": 1,
            "verdicts": 6,
            "past_verdicts": 1,
        },
        "inbox": {"bodies": 7},
        "spool": {"bodies": 0},
    }
    assert any("Backups" in sentence for sentence in remains)
    assert any("VACUUM" in sentence for sentence in remains) == isinstance(house.place, Server)


async def test_what_lies_about_is_named(house: Any) -> None:
    for name in ("captured.jsonl", "mirror.db.damaged-20261124T120000Z"):
        (house.directory / name).touch()
    if isinstance(house.place, Server):
        (house.directory / "inbox.db").touch()
    remains = " ".join((await house.eraser.erase(ANN)).remains)
    assert "capture --discard" in remains
    assert "damaged-20261124T120000Z was put aside" in remains
    copied = "inbox.db was copied to PostgreSQL" in remains
    assert copied == isinstance(house.place, Server)


async def test_what_comes_of_an_erased_person_is_ruled_and_dropped(house: Any) -> None:
    await fill(house)
    await house.eraser.erase(ANN)
    await house.apply()
    later = [
        await house.post(person(ANN, "qzann", first_name="qzann-again")),
        await house.post(person(ANN, "qzann"), "deleted"),
        await house.post(b'{"id": "%d", "email": "qzann-cut' % ANN),
        await house.post(person(ANN, "qzann", email="qzann\x00")),
    ]
    bob = await house.post(person(BOB, "qzbob", first_name="qzbob-again"))
    assert await house.apply() == 5
    assert [house.verdict(one)["verdict"] for one in (*later, bob)] == ["stale"] * 4 + ["applied"]
    assert left_in_stores(house, "qzann").keys() == {"deliveries"}
    assert await house.eraser.go_on()
    assert left_in_stores(house, "qzann") == {}
    assert house.traces("qzann", str(ANN)) == {}
    assert not await house.eraser.go_on()
    assert changes(house) == ["erased"]
    house.check_counts()


async def test_a_replay_brings_nobody_back(house: Any) -> None:
    about = await fill(house)
    await house.eraser.erase(ANN)
    await house.apply()
    deliveries = [await house.delivery(one) for one in about]
    await house.applier.apply(deliveries, again=True)
    assert {house.verdict(one)["verdict"] for one in about} == {"stale"}
    assert changes(house) == ["erased"]
    house.check_counts()


async def test_a_person_comes_back_when_a_person_agrees(house: Any) -> None:
    await fill(house)
    await house.eraser.erase(ANN)
    erased_at, _ = house.now, house.later(minutes=1)
    assert await house.eraser.allow_return(ANN) == erased_at
    assert house.rows("SELECT customer_id, reason FROM _verifications WHERE customer_id = ?", ANN) == [
        {"customer_id": ANN, "reason": Reason.ASKED.value}
    ]
    with pytest.raises(NotErasedError):
        await house.eraser.allow_return(ANN)
    await house.post(person(ANN, "qzann"), "created")
    await house.apply()
    assert changes(house) == ["erased", "created"]
    house.later(minutes=1)
    assert (await house.eraser.erase(ANN)).erased_at == house.now
    assert changes(house) == ["erased"]
    await house.post(person(ANN, "qzann"))
    await house.apply()
    assert changes(house) == ["erased"]
    house.check_counts()


async def test_erasing_again_changes_nothing_more(house: Any) -> None:
    await fill(house)
    first = await house.eraser.erase(ANN)
    house.later(minutes=1)
    feed = house.rows("SELECT * FROM customer_changes ORDER BY seq")
    again = await house.eraser.erase(ANN)
    assert again.erased_at == first.erased_at
    assert (again.mirror, again.bodies) == (type(again.mirror)(), 0)
    assert house.rows("SELECT * FROM customer_changes ORDER BY seq") == feed


async def test_whom_the_mirror_never_had_is_kept_out_too(house: Any) -> None:
    assert (await house.eraser.erase(ANN)).completed_at is not None
    await house.post(person(ANN, "qzann"), "created")
    await house.apply()
    assert house.rows("SELECT * FROM all_customers") == []
    assert changes(house) == ["erased"]


async def test_no_key_and_another_key_are_told(house: Any) -> None:
    await house.close_worker()
    house.key = None
    await house.open_worker()
    with pytest.raises(NoKeyError, match="MIRROR_SECRET_KEY is not set"):
        await house.eraser.erase(ANN)
    await house.close_worker()
    house.key = ANOTHER_KEY
    await house.open_worker()
    await house.eraser.erase(ANN)
    await house.close_worker()
    for key in (None, "a third key of thirty-two characters or so"):
        house.key = key
        with pytest.raises(KeyDiffersError, match="MIRROR_SECRET_KEY is not what it was"):
            await house.open_worker()
        with pytest.raises(KeyDiffersError):
            await house.eraser.erase(BOB) if key else await house.eraser.take_over()
        await house.post(person(BOB, "qzbob"))
        with pytest.raises(KeyDiffersError):  # on PostgreSQL another process may have erased since
            async with house.mirror.batch([BOB], house.now):
                pass
        await house.close_worker()
    house.key = ANOTHER_KEY
    await house.open_worker()


# broken off


class KilledError(BaseException):
    """The process has gone."""


@pytest.mark.parametrize(
    "step", ["forget_deliveries", "bodies_to_drop", "note_dropped", "note_complete", "file", "search"]
)
@pytest.mark.parametrize("by", ["command", "worker"])
async def test_what_was_broken_off_is_completed(
    house: Any, monkeypatch: pytest.MonkeyPatch, step: str, by: str
) -> None:
    await fill(house)

    def killed(*_: Any, **__: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        if step == "file":
            patched.setattr(house.eraser._file, "keep", killed)
        elif step == "search":
            patched.setattr(house.eraser, "_search", killed)
        else:
            patched.setattr(erasure, step, killed)
        with pytest.raises(KilledError):
            await house.eraser.erase(ANN)
    await house.close_worker()
    await house.open_worker()
    await house.apply()
    await house.post(person(ANN, "qzann", first_name="qzann-meanwhile"))
    await house.apply()
    assert house.rows("SELECT * FROM all_customers WHERE id = ?", ANN) == []
    if by == "worker":  # which does not know the id
        assert await house.eraser.go_on()
    else:
        assert (await house.eraser.erase(ANN)).completed_at is not None
    assert [one.completed_at for one in await marks_of(house.mirror)] == [house.now]
    assert left_in_stores(house, "qzann") == {}
    assert house.traces("qzann", str(ANN)) == {}
    assert (
        str(Marker(house.settings.secret_key).mark(COMPANY, ANN))
        in (house.directory / "erased.jsonl").read_text()
    )
    house.check_counts()


# readers


@contextmanager
def reading(place: Place, store: str) -> Iterator[None]:
    """Keep a transaction that reads open."""
    if isinstance(place, Server):
        with psycopg.connect(place.url) as session:
            session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            session.execute("SELECT count(*) FROM mirror._customers")
            yield
        return
    with closing(sqlite3.connect(place / f"{store}.db", isolation_level=None)) as session:
        session.execute("BEGIN")
        session.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield


@pytest.mark.parametrize("store", ["inbox", "mirror"])
async def test_it_is_not_done_while_a_reader_keeps_old_pages(house: Any, store: str) -> None:
    await fill(house)
    with reading(house.place, store):
        receipt = await house.eraser.erase(ANN)
        assert receipt.completed_at is None
        assert "End it" in receipt.why or f"{store}.db alive" in receipt.why
        assert house.slept == erasure.TRIES - 1
        figures = await figures_of(house.mirror)
        assert figures is not None
        assert figures.erasure_begun_at == house.now
        assert not await house.eraser.go_on()
        assert house.rows("SELECT * FROM all_customers WHERE id = ?", ANN) == []
    assert (await house.eraser.erase(ANN)).completed_at is not None
    assert house.traces("qzann", str(ANN)) == {}


async def test_the_command_does_it_when_no_receiver_runs(house: Any) -> None:
    await fill(house)
    await house.close_receiver()
    assert (await house.eraser.erase(ANN)).completed_at is not None
    assert left_in_stores(house, "qzann") == {}
    assert house.traces("qzann", str(ANN)) == {}
    await house.open_receiver()


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_the_worker_waits_for_the_receiver_whose_file_it_is(house: Any) -> None:
    await house.eraser.erase(ANN)
    delivery = await house.post(person(ANN, "qzann"))
    await house.apply()
    await house.close_receiver()
    assert not await house.eraser.go_on()
    await house.open_receiver()
    assert await house.eraser.go_on()
    assert await house.body(delivery) == b""


# backups, copies, and what lies beside the databases


async def test_a_restored_backup_brings_nobody_back(house: Any) -> None:
    await fill(house)
    restore = backup(mirror_of(house.place))
    await house.eraser.erase(ANN)
    await house.close_worker()
    restore()
    assert changes(house) == ["created", "updated", "updated", "updated"]
    house.later(minutes=1)
    await house.open_worker()
    assert changes(house) == ["erased"]
    assert house.rows("SELECT * FROM all_customers WHERE id = ?", ANN) == []
    await house.apply()
    await house.eraser.go_on()
    assert left_in_stores(house, "qzann") == {}
    assert house.traces("qzann", str(ANN)) == {}


async def test_an_agreement_to_come_back_survives_a_restored_backup(house: Any) -> None:
    await fill(house)
    await house.eraser.erase(ANN)
    restore = backup(mirror_of(house.place))
    house.later(minutes=1)
    await house.eraser.allow_return(ANN)
    await house.close_worker()
    restore()
    await house.open_worker()
    await house.apply()
    await house.post(person(ANN, "qzann"))
    await house.apply()
    assert changes(house) == ["erased", "created"]


async def test_a_restored_inbox_brings_nobody_back(house: Any) -> None:
    await fill(house)
    await house.apply()
    restore = backup(inbox_of(house.place))
    for _ in range(3):
        await house.post(person(BOB, "qzbob"))
    await house.apply()
    await house.eraser.erase(ANN)
    await house.close()
    restore()
    await house.open_receiver()
    await house.open_worker()
    assert left_in_stores(house, "qzann").keys() == {"deliveries"}
    await house.apply()
    await house.eraser.go_on()
    assert left_in_stores(house, "qzann") == {}
    assert changes(house) == ["erased"]


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_what_is_spooled_is_dropped_and_stays_a_delivery(house: Any) -> None:
    await house.close_receiver()
    path = spool_path(house.directory)
    spooled = await InboxStore.open(path)
    row = ("0198b5a0-0000-7000-8000-000000000001", COMPANY, "customers/updated", "2026-11-24T12:00:00.000Z")
    await spooled.begin(NOON)
    await spooled.append([Row(*row, "{}", json.dumps(person(ANN, "qzann")).encode())])
    await spooled.close()
    assert "inbox.db" in house.traces("qzann")
    receipt = await house.eraser.erase(ANN)
    assert (receipt.spooled, receipt.completed_at) == (1, house.now)
    assert house.traces("qzann", str(ANN)) == {}
    await house.open_receiver()
    async with asyncio.timeout(20):
        while not await house.apply():  # noqa: ASYNC110 - the receiver forwards it in a task of its own
            await asyncio.sleep(0.01)
    assert house.verdict(row[0])["verdict"] == "stale"
    assert house.rows("SELECT * FROM all_customers") == []


async def test_the_feed_forgets_the_id_and_the_mark_keeps_it_out(house: Any) -> None:
    await fill(house)
    await house.eraser.erase(ANN)
    house.later(days=31)
    assert await forget_ids_of_erased(house.mirror, house.now) == 1
    assert left_in_stores(house, str(ANN)) == {}
    await house.post(person(ANN, "qzann"))
    await house.apply()
    assert changes(house) == []


async def test_no_transaction_writes_anything_of_an_erased_person(house: Any) -> None:
    await fill(house)
    async with house.mirror.batch([ANN], house.now) as batch:
        record = batch.records[ANN]
    await house.eraser.erase(ANN)
    before = {table: rows for table, rows in held(mirror_of(house.place)).items() if table != "_progress"}
    async with house.mirror.batch([ANN], house.now) as batch:
        assert (batch.erased, batch.records) == ({ANN}, {})
        batch.decide(Decision(Verdict.APPLIED, record, Kind.CREATED), source=Source.SWEEP, at=house.now)
        batch.doubt(ANN, Reason.UNLISTED, house.now)
        batch.hold_delete(ANN, house.now)
        batch.listed(ANN, 1)
        batch.settle(ANN)
        batch.put_off(ANN, house.now, house.settings.timing, asked=False)
    after = {table: rows for table, rows in held(mirror_of(house.place)).items() if table != "_progress"}
    assert after == before


async def test_each_company_has_marks_of_its_own(house: Any) -> None:
    await house.eraser.erase(ANN)
    store = house.mirror.store
    other = await Mirror.of(store, 99, house.mirror.subscription, marker=house.mirror.marker)
    async with other.batch([ANN], house.now) as batch:
        assert batch.erased == set()
    assert isinstance(store, MirrorStore)


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_marks_move_to_postgresql(house: Any, tmp_path: Path, postgresql: Any) -> None:
    await fill(house)
    await house.eraser.erase(ANN)
    await house.close()
    server = Server(tmp_path / "moved", postgresql.empty())
    copied = move(house.directory, server, lambda *_: None)
    assert [one.here.rows for one in copied.tables if one.table == "mirror._erased_customers"] == [1]
    moved = type(house)(server, house.stack)
    await moved.open()
    await moved.post(person(ANN, "qzann"))
    await moved.apply()
    assert changes(moved) == ["erased"]
    await moved.close()
    await house.open()
    postgresql.drop(server.url)
