import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import Connection
from structlog.testing import capture_logs

from receiver.database import Database, Place, inbox_of, migrate, utc_text
from receiver.inbox import CONNECTIONS_FULL, CommitFailed, InboxReader, InboxWriter, QueueFull, transactions
from receiver.inbox.schema import MIGRATIONS, metadata
from receiver.inbox.transactions import Row
from receiver.ownership import OwnedElsewhere
from receiver.postgresql import Schema
from tests.clock import NOON, Clock
from tests.stores import change, engine_of, lose, sessions, shape
from tests.timekeeping import SystemClock

UPDATED = "customers/updated"


@pytest.fixture
def clock(system_clock: SystemClock) -> Clock:
    clock = Clock()
    system_clock.follow(clock)
    return clock


@pytest.fixture
def database(place: Place) -> Database:
    return inbox_of(place)


@pytest.fixture
async def writer(database: Database, clock: Clock) -> AsyncIterator[InboxWriter]:
    async with await InboxWriter.open(database, clock=clock, new_id=clock.name) as opened:
        yield opened


@pytest.fixture
async def reader(writer: InboxWriter, database: Database) -> AsyncIterator[InboxReader]:
    async with InboxReader.open(database) as opened:
        yield opened


async def test_a_delivery_is_read_as_it_came(writer: InboxWriter, reader: InboxReader) -> None:
    body = bytes(range(256))
    name = await writer.append(5678, UPDATED, {"content-type": "application/json", "x": "ü\x00"}, body)
    (delivery,) = await reader.read(5678, 0, 10)
    assert (delivery.position, delivery.id, delivery.company_id) == (1, name, 5678)
    assert (delivery.topic, delivery.body, delivery.received_at) == (UPDATED, body, NOON)
    assert delivery.headers == {"content-type": "application/json", "x": "ü\x00"}
    assert UUID(name).version == 7


async def test_equal_bodies_are_all_kept(writer: InboxWriter, reader: InboxReader) -> None:
    for body in (b"A", b"B", b"A"):
        await writer.append(1, UPDATED, {}, body)
    assert [delivery.body for delivery in await reader.read(1, 0, 10)] == [b"A", b"B", b"A"]


async def test_positions_and_names_rise_in_the_order_of_arrival(
    writer: InboxWriter, reader: InboxReader
) -> None:
    names = await asyncio.gather(*(writer.append(1, UPDATED, {}, b"%d" % n) for n in range(200)))
    found = await reader.read(1, 0, 1_000)
    assert [delivery.body for delivery in found] == [b"%d" % n for n in range(200)]
    assert [delivery.position for delivery in found] == list(range(1, 201))
    assert [delivery.id for delivery in found] == names == sorted(names)


async def test_those_who_wait_share_commits(database: Database) -> None:
    commits = 0

    def count() -> None:
        nonlocal commits
        commits += 1

    async with await InboxWriter.open(database, committed=count) as writer:
        await asyncio.gather(*(writer.append(1, UPDATED, {}, b"") for _ in range(500)))
    assert commits <= 3


async def test_reading_goes_on_behind_a_position_a_company_at_a_time(
    writer: InboxWriter, reader: InboxReader
) -> None:
    for company_id in (1, 2, 1, 2, 1):
        await writer.append(company_id, UPDATED, {}, b"")
    assert [delivery.position for delivery in await reader.read(1, 0, 2)] == [1, 2]
    assert [delivery.position for delivery in await reader.read(1, 2, 2)] == [3]
    assert [await reader.head(company_id) for company_id in (1, 2, 3)] == [3, 2, 0]
    assert await reader.pending(2, 1) == (1, NOON)
    assert await reader.pending(2, 2) == (0, None)


async def test_an_empty_inbox_answers_every_question(reader: InboxReader) -> None:
    assert await reader.read(1, 0, 10) == []
    assert await reader.head(1) == 0
    assert await reader.pending(1, 0) == (0, None)
    assert await reader.newest(1) is None
    assert await reader.accepted(1) == 0
    assert await reader.refusals(1) == []
    assert await reader.failed_commits() == []
    assert await reader.find(1, []) == []


async def test_deliveries_are_found_by_name(writer: InboxWriter, reader: InboxReader) -> None:
    names = await asyncio.gather(*(writer.append(1, UPDATED, {}, b"") for _ in range(1_200)))
    assert [delivery.id for delivery in await reader.find(1, [*names, "unknown"])] == names


async def test_an_inbox_keeps_its_identity_and_another_has_another(
    database: Database, tmp_path: Path
) -> None:
    identities = []
    for place in (database, database, tmp_path / "other" / "inbox.db"):
        async with await InboxWriter.open(place), InboxReader.open(place) as reader:
            identities.append(await reader.identity())
    assert identities[0] == identities[1] != identities[2]


async def test_starts_and_stops_are_noted(database: Database, clock: Clock) -> None:
    for minute in range(2):
        clock.now = NOON + timedelta(minutes=minute)
        writer = await InboxWriter.open(database, clock=clock)
        clock.now += timedelta(seconds=30)
        await writer.close()
    async with InboxReader.open(database) as reader:
        assert [(start.started_at, start.stopped_at) for start in await reader.starts()] == [
            (NOON, NOON + timedelta(seconds=30)),
            (NOON + timedelta(minutes=1), NOON + timedelta(seconds=90)),
        ]


async def until_seen(reader: InboxReader, moment: datetime) -> None:
    """Wait until the receiver has noted that it lived at this moment or later."""
    async with asyncio.timeout(5):
        while True:
            start = await reader.newest_start()
            assert start is not None
            if start.last_sign >= moment:
                return
            await asyncio.sleep(0.01)


async def test_while_nothing_comes_a_heartbeat_is_noted(database: Database, clock: Clock) -> None:
    async with (
        await InboxWriter.open(database, clock=clock, heartbeat_seconds=0.05) as writer,
        InboxReader.open(database) as reader,
    ):
        assert [start.seen_at for start in await reader.starts()] == [NOON]
        for _ in range(2):
            clock.now += timedelta(milliseconds=60)
            await until_seen(reader, clock.now)
        assert writer.ready
        assert [start.stopped_at for start in await reader.starts()] == [None]


async def test_what_is_noted_anyway_is_a_sign_of_life(writer: InboxWriter, reader: InboxReader) -> None:
    writer._clock = lambda: NOON + timedelta(seconds=29)
    writer.refuse(1, "signature_invalid")
    await until_seen(reader, NOON + timedelta(seconds=29))


async def test_while_commits_fail_there_is_no_heartbeat(database: Database, clock: Clock) -> None:
    async with (
        await InboxWriter.open(database, clock=clock, heartbeat_seconds=0.05) as writer,
        InboxReader.open(database) as reader,
    ):
        await refuse_writes(writer)
        clock.now += timedelta(milliseconds=60)
        async with asyncio.timeout(5):
            while writer.ready:  # noqa: ASYNC110 - until a heartbeat could not be written
                await asyncio.sleep(0.01)
        assert [start.seen_at for start in await reader.starts()] == [NOON]
        await take_writes(writer)
        await until_seen(reader, clock.now)
        (failed,) = await reader.failed_commits()
        assert (failed.refused, failed.first_at) == (0, clock.now)


async def test_a_receiver_that_has_failed_gives_no_sign_of_life(database: Database, clock: Clock) -> None:
    def defect() -> None:
        raise ZeroDivisionError

    writer = await InboxWriter.open(database, clock=clock, committed=defect)
    await writer.append(1, UPDATED, {}, b"")
    async with asyncio.timeout(5):
        while writer.ready:  # noqa: ASYNC110 - readiness is asked for, as a load balancer does
            await asyncio.sleep(0)
    clock.now += timedelta(minutes=1)
    await writer.close()
    async with InboxReader.open(database) as reader:
        assert [(start.seen_at, start.stopped_at) for start in await reader.starts()] == [(NOON, None)]


async def test_a_process_that_stood_still_notes_since_when(database: Database, clock: Clock) -> None:
    async with (
        await InboxWriter.open(database, clock=clock, heartbeat_seconds=0.05),
        InboxReader.open(database) as reader,
    ):
        clock.now += timedelta(hours=1)
        await until_seen(reader, clock.now)
        (stood,) = await reader.failed_commits()
        assert (stood.first_at, stood.last_at) == (NOON, clock.now)
        assert (stood.refused, stood.reason) == (0, "the receiver stood still")


async def test_refusals_are_counted_by_company_and_reason(database: Database, clock: Clock) -> None:
    for later in (0, 60):
        async with await InboxWriter.open(database, clock=clock) as writer:
            clock.now = NOON + timedelta(seconds=later)
            for _ in range(7):
                writer.refuse(1, "signature_invalid")
            writer.refuse(2, "signature_missing")
            writer.refuse(0, "unknown_company")
    async with InboxReader.open(database) as reader:
        refusals = await reader.refusals(1)
    assert [(one.reason, one.count, one.first_at, one.last_at) for one in refusals] == [
        ("signature_invalid", 14, NOON, NOON + timedelta(seconds=60)),
        ("unknown_company", 2, NOON, NOON + timedelta(seconds=60)),
    ]


async def test_refusals_being_written_at_a_stop_are_written(database: Database) -> None:
    writer = await InboxWriter.open(database)
    gate = Gate()
    held = asyncio.create_task(writer._store.transact(gate))
    await gate.reached.wait()
    writer.refuse(1, "signature_invalid")
    while not writer._noting.locked():  # noqa: ASYNC110 - until the note waits for its turn to be written
        await asyncio.sleep(0)
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(held, closing)
    async with InboxReader.open(database) as reader:
        assert [one.count for one in await reader.refusals(1)] == [1]


@pytest.mark.parametrize("database_kind", ["sqlite"], ids=["sqlite: a schema drops partitions"])
async def test_the_last_use_of_each_token_is_noted(database: Database, clock: Clock) -> None:
    for minute in (0, 5):
        clock.now = NOON + timedelta(minutes=minute)
        async with await InboxWriter.open(database, clock=clock) as writer:
            writer.note_token(5678, "old" if minute == 0 else "new")
            writer.note_token(5678, "both")
            clock.now += timedelta(seconds=1)
            writer.note_token(5678, "both")
    async with InboxReader.open(database) as reader:
        assert await reader.tokens_used(5678) == {
            "old": NOON,
            "new": NOON + timedelta(minutes=5),
            "both": NOON + timedelta(minutes=5, seconds=1),
        }
        assert await reader.tokens_used(1) == {}


async def test_retention_takes_what_is_old_applied_and_not_kept(
    writer: InboxWriter, reader: InboxReader, clock: Clock
) -> None:
    names = [await writer.append(1, UPDATED, {}, b"") for _ in range(4)]
    await writer.append(2, UPDATED, {}, b"")
    clock.now = NOON + timedelta(days=31)
    await writer.append(1, UPDATED, {}, b"")

    gone = await writer.forget(1, through=3, before=NOON + timedelta(days=1), keep={names[1]})

    assert gone == 2
    assert [delivery.position for delivery in await reader.read(1, 0, 10)] == [2, 4, 5]
    assert [delivery.position for delivery in await reader.read(2, 0, 10)] == [1]
    assert await reader.accepted(1) == 5


@pytest.mark.parametrize("database_kind", ["sqlite"], ids=["sqlite: a schema drops partitions"])
async def test_retention_goes_on_over_many_stretches(writer: InboxWriter, reader: InboxReader) -> None:
    names = await asyncio.gather(*(writer.append(1, UPDATED, {}, b"") for _ in range(1_700)))
    later = NOON + timedelta(seconds=1)
    assert await writer.forget(1, through=1_600, before=later, keep=set(names[:600])) == 1_000
    assert await reader.pending(1, 0) == (700, NOON)


async def test_a_position_is_never_used_again(database: Database) -> None:
    async with await InboxWriter.open(database) as writer:
        for _ in range(3):
            await writer.append(1, UPDATED, {}, b"")
        await writer.forget(1, through=3, before=datetime.now(UTC) + timedelta(days=1), keep=())
    async with await InboxWriter.open(database) as writer, InboxReader.open(database) as reader:
        assert await reader.head(1) == 0
        await writer.append(1, UPDATED, {}, b"")
        assert await reader.head(1) == 4


class Gate:
    """Holds the writing thread inside a transaction, so that what comes meanwhile has to wait."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, _connection: Connection) -> None:
        self._loop.call_soon_threadsafe(self.reached.set)
        assert self.opened.wait(10)


async def test_a_full_queue_refuses_at_once_and_takes_again(database: Database) -> None:
    async with await InboxWriter.open(database, queue_limit=2) as writer:
        gate = Gate()
        held = asyncio.create_task(writer._store.transact(gate))
        await gate.reached.wait()
        waiting = [asyncio.create_task(writer.append(1, UPDATED, {}, b"")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await writer.append(1, UPDATED, {}, b"")
        ready = [writer.ready]
        gate.opened.set()
        await asyncio.gather(held, *waiting)
        assert [*ready, writer.ready] == [False, True]
        await writer.append(1, UPDATED, {}, b"")
    async with InboxReader.open(database) as reader:
        (turned_away,) = await reader.failed_commits()
    assert (turned_away.refused, turned_away.reason) == (1, "the queue was full")


async def test_headers_that_are_stored_fill_the_queue_as_bodies_do(
    writer: InboxWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.inbox.writer.QUEUE_BYTES", 1_000)
    gate = Gate()
    held = asyncio.create_task(writer._store.transact(gate))
    await gate.reached.wait()
    waiting = asyncio.create_task(writer.append(1, UPDATED, {"x-kounta-long": "x" * 1_000}, b""))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await writer.append(1, UPDATED, {}, b"")
    gate.opened.set()
    await asyncio.gather(held, waiting)
    await writer.append(1, UPDATED, {}, b"")


async def test_an_overload_is_noted_once_a_minute_and_forgets_no_failure(
    database: Database,
) -> None:
    now = NOON
    async with await InboxWriter.open(database, clock=lambda: now) as writer:
        for _ in range(150):
            writer.overloaded(CONNECTIONS_FULL)
            await writer._write_notes()
            now += timedelta(seconds=1)
        writer.overloaded(CONNECTIONS_FULL)
        writer._notes.failed(1, "disk full", now)
        writer.overloaded(CONNECTIONS_FULL)
    async with InboxReader.open(database) as reader:
        noted = [(one.refused, one.reason) for one in await reader.failed_commits()]
    assert noted == [(1, CONNECTIONS_FULL), (60, CONNECTIONS_FULL), (60, CONNECTIONS_FULL), (32, "disk full")]


async def test_a_request_that_is_cancelled_takes_no_neighbour_with_it(writer: InboxWriter) -> None:
    gate = Gate()
    held = asyncio.create_task(writer._store.transact(gate))
    await gate.reached.wait()
    gone, stays = (asyncio.create_task(writer.append(1, UPDATED, {}, b"")) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    gate.opened.set()
    await held
    assert UUID(await stays).version == 7
    assert gone.cancelled()


async def test_a_bad_row_fails_alone(writer: InboxWriter, reader: InboxReader) -> None:
    topics = [UPDATED, UPDATED, "no text: \ud800", UPDATED]
    answers: list[str | BaseException] = await asyncio.gather(
        *(writer.append(1, topic, {}, b"%d" % n) for n, topic in enumerate(topics)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [str, str, CommitFailed, str]
    failure = answers[2]
    assert isinstance(failure, CommitFailed)
    assert "surrogates" in str(failure)
    found = await reader.read(1, 0, 10)
    assert [(delivery.position, delivery.body) for delivery in found] == [(1, b"0"), (2, b"1"), (3, b"3")]
    assert await reader.accepted(1) == 3


async def test_a_delivery_whose_commit_was_never_answered_is_stored_once(
    writer: InboxWriter, reader: InboxReader
) -> None:
    await writer.append(1, UPDATED, {}, b"before")
    rows = [Row(f"name {n}", 1, UPDATED, utc_text(NOON), "{}", b"%d" % n) for n in range(3)]
    for some in (rows[:2], rows):
        await writer._store.transact(partial(transactions.append, rows=some, tried=True))
    found = await reader.read(1, 0, 10)
    assert [(delivery.position, delivery.body) for delivery in found] == [
        (1, b"before"),
        (2, b"0"),
        (3, b"1"),
        (4, b"2"),
    ]
    assert await reader.accepted(1) == 4


async def outside(writer: InboxWriter, statement: str) -> None:
    """Execute it outside a transaction, which could not begin while writes are refused."""

    def act() -> None:
        connection = writer._store._engine.raw_connection()
        connection.cursor().execute(statement)
        connection.commit()
        connection.close()

    await asyncio.get_running_loop().run_in_executor(writer._store._thread, act)


async def refuse_writes(writer: InboxWriter) -> None:
    """Make the database answer every write with an error of its own, as a disk does that went read-only."""
    await outside(writer, _refusing(writer, refuse=True))


async def take_writes(writer: InboxWriter) -> None:
    await outside(writer, _refusing(writer, refuse=False))


def _refusing(writer: InboxWriter, *, refuse: bool) -> str:
    if writer._store._engine.dialect.name == "sqlite":
        return f"PRAGMA query_only = {int(refuse)}"
    return f"SET default_transaction_read_only = {refuse}"


async def test_that_deliveries_are_stored_again_is_said_once_one_is(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def events() -> list[str]:
        return [one["action"] for one in logged]

    with capture_logs() as logged:
        async with await InboxWriter.open(
            database, clock=clock, new_id=clock.name, heartbeat_seconds=0.02
        ) as writer:
            with monkeypatch.context() as filled:
                filled.setattr(writer._store, "append", full)
                with pytest.raises(CommitFailed):
                    await writer.append(1, UPDATED, {}, b"large")
                async with asyncio.timeout(5):
                    while not writer.ready:  # noqa: ASYNC110 - small rows are stored meanwhile: notes
                        await asyncio.sleep(0.01)
            assert events() == ["commit_failed"]
            await writer.append(1, UPDATED, {}, b"large")
        assert events() == ["commit_failed", "commits_recovered"]


async def test_a_failing_store_refuses_notes_it_and_recovers(
    writer: InboxWriter, reader: InboxReader, clock: Clock
) -> None:
    await writer.append(1, UPDATED, {}, b"before")
    await refuse_writes(writer)
    for _ in range(2):
        with pytest.raises(CommitFailed, match="read"):
            await writer.append(1, UPDATED, {}, b"refused")
        clock.now += timedelta(minutes=1)
    refused = writer.ready
    await take_writes(writer)
    await writer.append(1, UPDATED, {}, b"after")
    assert (refused, writer.ready) == (False, True)
    await writer.close()
    (failed,) = await reader.failed_commits()
    assert (failed.refused, failed.first_at) == (2, NOON)
    assert failed.last_at >= NOON + timedelta(minutes=1)
    assert "read" in failed.reason
    found = await reader.read(1, 0, 10)
    assert [(delivery.position, delivery.body) for delivery in found] == [(1, b"before"), (2, b"after")]
    assert await reader.accepted(1) == 2


async def test_a_store_becomes_ready_again_though_nothing_comes(writer: InboxWriter) -> None:
    await refuse_writes(writer)
    with pytest.raises(CommitFailed):
        await writer.append(1, UPDATED, {}, b"")
    await take_writes(writer)
    async with asyncio.timeout(5):
        while not writer.ready:  # noqa: ASYNC110 - readiness is asked for, as a load balancer does
            await asyncio.sleep(0.05)


async def test_refusals_counted_while_nothing_can_be_written_are_not_lost(
    writer: InboxWriter, reader: InboxReader
) -> None:
    await refuse_writes(writer)
    for _ in range(3):
        writer.refuse(1, "signature_invalid")
        await writer._write_notes()
    await take_writes(writer)
    await writer.close()
    assert [one.count for one in await reader.refusals(1)] == [3]


async def test_a_dead_store_is_given_up_after_a_few_tries(writer: InboxWriter) -> None:
    await refuse_writes(writer)
    tries = 0
    transact = writer._store._transact

    def counted(act: Callable[[Connection], object]) -> object:
        nonlocal tries
        tries += 1
        return transact(act)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer._store, "_transact", counted)
        answers = await asyncio.gather(
            *(writer.append(1, UPDATED, {}, b"") for _ in range(200)), return_exceptions=True
        )
    assert {type(answer) for answer in answers} == {CommitFailed}
    assert tries < 10
    await take_writes(writer)


@pytest.mark.parametrize("database_kind", ["sqlite"], ids=["sqlite: its pages"])
async def test_in_a_nearly_full_store_what_fits_is_stored(writer: InboxWriter, reader: InboxReader) -> None:
    await writer.append(1, UPDATED, {}, b"")
    pages = await writer._store.transact(
        lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    )
    await outside(writer, f"PRAGMA max_page_count = {pages + 4}")
    answers = await asyncio.gather(
        *(writer.append(1, UPDATED, {}, body) for body in (b"small", b"x" * 100_000, b"little")),
        return_exceptions=True,
    )
    assert [isinstance(answer, str) for answer in answers] == [True, False, True]
    assert [delivery.body for delivery in await reader.read(1, 1, 10)] == [b"small", b"little"]


async def test_a_defect_of_ours_refuses_everything_aloud(database: Database) -> None:
    def defect() -> None:
        raise ZeroDivisionError

    writer = await InboxWriter.open(database, committed=defect)
    name = await writer.append(1, UPDATED, {}, b"stored before the defect shows")
    async with asyncio.timeout(5):
        while writer.ready:  # noqa: ASYNC110 - readiness is asked for, as a load balancer does
            await asyncio.sleep(0)
    with pytest.raises(CommitFailed, match="started anew"):
        await writer.append(1, UPDATED, {}, b"")
    await writer.close()
    async with InboxReader.open(database) as reader:
        assert [delivery.id for delivery in await reader.read(1, 0, 10)] == [name]


async def test_closing_stores_and_answers_what_waits(database: Database) -> None:
    writer = await InboxWriter.open(database)
    waiting = [asyncio.create_task(writer.append(1, UPDATED, {}, b"")) for _ in range(100)]
    await asyncio.sleep(0)
    await writer.close()
    names = await asyncio.gather(*waiting)
    async with InboxReader.open(database) as reader:
        assert [delivery.id for delivery in await reader.read(1, 0, 1_000)] == names
    with pytest.raises(CommitFailed, match="stopping"):
        await writer.append(1, UPDATED, {}, b"")


@pytest.mark.parametrize("database_kind", ["sqlite"], ids=["sqlite: a schema has many receivers"])
async def test_a_second_writer_is_refused_until_the_first_is_closed(database: Database) -> None:
    async with await InboxWriter.open(database):
        with pytest.raises(OwnedElsewhere, match="the receiver"):
            await InboxWriter.open(database)
    async with await InboxWriter.open(database):
        pass


async def test_opening_and_closing_leaves_no_descriptor_and_no_thread(
    database: Database, place: Place, tmp_path: Path
) -> None:
    async def once() -> None:
        async with await InboxWriter.open(database) as writer, InboxReader.open(database) as reader:
            await writer.append(1, UPDATED, {}, b"")
            await reader.head(1)

    def held() -> list[Path]:
        links = (descriptor for descriptor in Path("/proc/self/fd").iterdir() if descriptor.is_symlink())
        return [target for target in (link.readlink() for link in links) if tmp_path in target.parents]

    await once()
    threads = threading.active_count()
    for _ in range(5):
        await once()
    assert held() == []
    assert sessions(place) == 0
    assert threading.active_count() <= threads + 1  # the default executor may add its own


def test_a_fresh_schema_equals_a_migrated_one(empty_place: Place) -> None:
    migrated = inbox_of(empty_place)
    migrate(migrated, MIGRATIONS)
    fresh: Database
    if isinstance(migrated, Path):
        fresh = migrated.with_name("fresh.db")
    else:
        fresh = Schema(migrated.url, "fresh")
        change(fresh, "CREATE SCHEMA fresh")
    metadata.create_all(engine_of(fresh))
    assert comparable(migrated) == comparable(fresh)
    with engine_of(migrated).connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": is_no_partition})
        assert compare_metadata(context, metadata) == []


async def test_an_inbox_that_numbered_all_companies_together_goes_on_behind_its_highest_position(
    database: Database, clock: Clock
) -> None:
    lose(database)
    to_version(database, "0002")
    change(
        database,
        "INSERT INTO identity VALUES (1, 'of before', '2026-11-24T12:00:00.000Z')",
        *(inserted(database, position, company) for position, company in ((3, 1), (4, 2), (7, 1))),
        "INSERT INTO accepted VALUES (1, 4)",  # two have left since
        "INSERT INTO accepted VALUES (2, 1)",
        "INSERT INTO accepted VALUES (3, 5)",  # all of them have left
    )
    async with await InboxWriter.open(database, clock=clock) as writer, InboxReader.open(database) as reader:
        assert await reader.identity() == "of before"
        for company_id in (1, 2, 3):
            await writer.append(company_id, UPDATED, {}, b"new")
        found = await reader.read(1, 0, 10)
        assert [(one.position, one.body) for one in found] == [(3, b"\x03"), (7, b"\x07"), (8, b"new")]
        assert [one.position for one in await reader.read(2, 0, 10)] == [4, 5]
        assert [one.position for one in await reader.read(3, 0, 10)] == [6]
        assert [await reader.accepted(company_id) for company_id in (1, 2, 3)] == [5, 2, 6]


def inserted(database: Database, position: int, company_id: int) -> str:
    """Write a delivery as version 0002 stored it, whose body is its position."""
    body = f"X'{position:02x}'" if isinstance(database, Path) else f"'\\x{position:02x}'"
    return (
        "INSERT INTO deliveries (position, id, company_id, topic, received_at, headers, body) VALUES "  # noqa: S608 - numbers
        f"({position}, 'name {position}', {company_id}, '{UPDATED}', '2026-11-24T12:00:00.000Z', "
        f"'{{}}', {body})"
    )


def to_version(database: Database, version: str) -> None:
    """Make a store as an older program made it."""
    with pytest.MonkeyPatch.context() as patch:
        upgrade = command.upgrade
        patch.setattr(command, "upgrade", lambda config, _head: upgrade(config, version))
        migrate(database, MIGRATIONS)


def is_no_partition(name: str | None, *_: object) -> bool:
    return name is None or "_others" not in name


def comparable(database: Database) -> list[list[str]]:
    """The shape of a store, without partitions, layout and the name of its schema."""
    schema = "" if isinstance(database, Path) else f"{database.name}."
    return [
        [without_layout(str(part)).replace(schema, "") for part in one]
        for one in shape(database)
        if not re.search("alembic_version|_others", str(one))
    ]


def without_layout(statement: str) -> str:
    """A column that was added later stands in the same line as the one before."""
    return re.sub(r"\s*([(),]|\s)\s*", r"\1", statement)
