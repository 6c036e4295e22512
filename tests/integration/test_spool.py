"""Accepting while PostgreSQL is away, against a server that is stopped, killed, frozen and started again."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy.engine import Connection

from receiver import spool
from receiver.database import NewerDatabase
from receiver.inbox import CommitFailed, Delivery, InboxReader, InboxWriter, QueueFull
from receiver.inbox.store import Spooled
from receiver.ownership import OwnedElsewhere
from receiver.postgresql import Schema
from receiver.spool import Spool, look, spool_path
from tests.clock import NOON
from tests.databases import Cluster, line_to
from tests.timekeeping import SystemClock

UPDATED = "customers/updated"
PATIENCE = 4.0  # of a webhook, and of a stop: with one time limit in it, on a busy machine
HEADERS = {"content-type": "application/json", "x": "ü\x00"}


async def briefly(seconds: float) -> None:
    """Wait between two tries, but not as long as in earnest."""
    await asyncio.sleep(min(seconds, 0.05))


async def for_ever(_seconds: float) -> None:
    await asyncio.Event().wait()


@dataclass
class House:
    """A receiver's inbox on a server that a test breaks."""

    cluster: Cluster
    directory: Path
    database: str
    stack: AsyncExitStack
    now: datetime = NOON
    log: list[Any] = field(default_factory=list)

    async def open(
        self, url: str = "", sleep: Callable[[float], Awaitable[None]] = briefly, **options: Any
    ) -> InboxWriter:
        schema = Schema(url or self.cluster.url_of(self.database), "inbox")
        store = await Spool.beside(schema, self.directory, clock=lambda: self.now, sleep=sleep)
        writer = await InboxWriter.over(store, clock=lambda: self.now, **options)
        return await self.stack.enter_async_context(writer)

    async def stored(self) -> list[Delivery]:
        """What PostgreSQL holds, in its order."""
        async with InboxReader.open(Schema(self.cluster.url_of(self.database), "inbox")) as reader:
            found = await reader.read(1, 0, 100_000)
            assert await reader.accepted(1) == len(found)
            assert len({delivery.id for delivery in found}) == len(found)
            return found

    async def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in await self.stored()]

    def actions(self) -> list[str]:
        return [line["action"] for line in self.log]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


@pytest.fixture
async def house(cluster: Cluster, tmp_path: Path, system_clock: SystemClock) -> AsyncIterator[House]:
    with structlog.testing.capture_logs() as log:
        async with AsyncExitStack() as stack:
            cluster.execute("DROP SCHEMA IF EXISTS inbox CASCADE")
            house = House(cluster, tmp_path / "data", "postgres", stack, log=log)
            system_clock.follow(lambda: house.now)
            yield house
            cluster.thaw()
        if not cluster.runs:
            cluster.start()


def of(writer: InboxWriter) -> Spool:
    assert isinstance(writer._store, Spool)
    return writer._store


def waits(writer: InboxWriter) -> Spooled:
    assert writer.spooled is not None
    return writer.spooled


async def until(condition: Callable[[], object]) -> None:
    """Wait for what nobody tells, as whoever asks readyz or reads the log does."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - it comes true in another task
            await asyncio.sleep(0.001)


async def until_forwarded(writer: InboxWriter) -> None:
    await until(lambda: not waits(writer).count and not waits(writer).away)


async def send(writer: InboxWriter, first: int, last: int) -> list[str]:
    return [await writer.append(1, UPDATED, HEADERS, b"%d" % n) for n in range(first, last + 1)]


async def test_while_the_database_is_there_nothing_is_spooled(house: House) -> None:
    writer = await house.open()
    names = await send(writer, 1, 3)
    assert [delivery.id for delivery in await house.stored()] == names
    assert waits(writer) == Spooled(0, None, away=False)
    assert await look(house.directory, 1) == Spooled(0, None)


async def test_while_it_is_stopped_deliveries_are_kept_and_forwarded_in_order_as_they_came(
    house: House,
) -> None:
    writer = await house.open()
    names = await send(writer, 1, 3)
    house.cluster.stop()
    house.now += timedelta(seconds=30)
    names += await send(writer, 4, 9)
    assert waits(writer) == Spooled(6, house.now, away=True)
    assert await look(house.directory, 1) == Spooled(6, house.now)
    assert writer.ready

    house.cluster.start()
    await until_forwarded(writer)
    names += await send(writer, 10, 12)

    found = await house.stored()
    assert [delivery.id for delivery in found] == names
    assert [delivery.body for delivery in found] == [b"%d" % n for n in range(1, 13)]
    assert [delivery.received_at for delivery in found] == [NOON] * 3 + [house.now] * 9
    assert all(delivery.headers == HEADERS for delivery in found)
    assert await look(house.directory, 1) == Spooled(0, None)


async def test_what_was_forwarded_is_nowhere_in_the_file_any_more(house: House) -> None:
    writer = await house.open()
    house.cluster.stop()
    await writer.append(1, UPDATED, HEADERS, b"what a person is called")

    def kept() -> list[Path]:
        files = (path for path in house.directory.rglob("*") if path.is_file())
        return [path for path in files if b"what a person is called" in path.read_bytes()]

    assert kept() != []
    house.cluster.start()
    await until_forwarded(writer)
    await until(lambda: kept() == [])


async def test_an_outage_is_told_once_when_it_begins_and_once_when_it_is_over(house: House) -> None:
    writer = await house.open()
    house.cluster.kill()
    await send(writer, 1, 5)
    house.cluster.start()
    await until_forwarded(writer)
    await until(lambda: "spooling_ended" in house.actions())
    assert house.actions() == ["spooling_began", "spooling_ended"]
    assert house.log[1]["forwarded"] == 5


async def test_nobody_waits_for_a_server_that_hangs_and_the_next_do_not_wait_at_all(house: House) -> None:
    writer = await house.open()
    await send(writer, 1, 1)
    house.cluster.freeze()
    began = time.monotonic()
    await asyncio.gather(*(writer.append(1, UPDATED, {}, b"hangs") for _ in range(50)))
    assert time.monotonic() - began < PATIENCE
    began = time.monotonic()
    await asyncio.gather(*(writer.append(1, UPDATED, {}, b"later") for _ in range(50)))
    assert time.monotonic() - began < 1

    house.cluster.thaw()
    await until_forwarded(writer)
    assert sorted(await house.bodies()) == sorted([b"1"] + [b"hangs"] * 50 + [b"later"] * 50)


@pytest.mark.parametrize("word", [b"INSERT", b"COMMIT"], ids=["before", "after"])
async def test_a_delivery_whose_commit_is_cut_off_is_there_once(house: House, word: bytes) -> None:
    """Whether the server had committed or not: the answer to its INSERT, or to COMMIT, never comes."""
    async with line_to(house.cluster) as line:
        writer = await house.open(line.url_of(house.database))
        await send(writer, 1, 1)
        line.mute_after(word)
        name = await writer.append(1, UPDATED, {}, b"cut off")
        assert line.unanswered.is_set()
        assert waits(writer).count == 1
        committed = [delivery.id for delivery in await house.stored() if delivery.body == b"cut off"]
        assert committed == ([name] if word == b"COMMIT" else [])
        line.cut()
        await until_forwarded(writer)
        assert [delivery.id for delivery in await house.stored()][1:] == [name]
        await writer.close()


async def test_the_receiver_starts_without_it_and_makes_the_schema_when_it_comes(house: House) -> None:
    house.cluster.stop()
    writer = await house.open()
    assert writer.ready
    names = await send(writer, 1, 3)
    house.now += timedelta(minutes=10)
    house.cluster.start()
    await until_forwarded(writer)
    assert [delivery.id for delivery in await house.stored()] == names
    async with InboxReader.open(Schema(house.cluster.url_of(house.database), "inbox")) as reader:
        assert [(one.started_at, one.seen_at) for one in await reader.starts()] == [(NOON, house.now)]


async def test_it_starts_beside_a_server_that_hangs(house: House) -> None:
    house.cluster.freeze()
    writer = await house.open()
    names = await send(writer, 1, 3)
    house.cluster.thaw()
    await until_forwarded(writer)
    assert [delivery.id for delivery in await house.stored()] == names


async def test_what_another_run_has_left_is_forwarded_before_what_comes(house: House) -> None:
    async with await InboxWriter.open(spool_path(house.directory)) as left:
        await asyncio.gather(*(left.append(1, UPDATED, HEADERS, b"%d" % n) for n in range(1, 1_201)))
    writer = await house.open()
    last = 1_201
    while waits(writer).away:
        await send(writer, last, last)
        last += 1
    await send(writer, last, last)
    await until_forwarded(writer)
    assert await house.bodies() == [b"%d" % n for n in range(1, last + 1)]


async def test_what_was_forwarded_and_not_yet_removed_is_not_stored_again(house: House) -> None:
    """As a kill leaves it between the commit of one database and that of the other."""
    async with await InboxWriter.open(spool_path(house.directory)) as left:
        await send(left, 1, 3)
        writer = await left._store.transact(lambda spool: spool.exec_driver_sql(ROWS).all())
    first = await house.open()
    await until_forwarded(first)
    await first.close()
    async with await InboxWriter.open(spool_path(house.directory)) as left:
        await left._store.transact(
            lambda spool: [spool.exec_driver_sql(INSERT, tuple(row)) for row in writer]
        )
    again = await house.open()
    assert waits(again).count == 3
    await until_forwarded(again)
    assert await house.bodies() == [b"1", b"2", b"3"]
    assert await look(house.directory, 1) == Spooled(0, None)


ROWS = "SELECT company_id, id, position, topic, received_at, headers, body FROM deliveries"
INSERT = (
    "INSERT INTO deliveries (company_id, id, position, topic, received_at, headers, body) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)


async def test_what_is_forwarded_stays_in_the_file_until_it_is_committed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "FORWARD_SECONDS", 0.5)
    async with await InboxWriter.open(spool_path(house.directory)) as left:
        await send(left, 1, 3)
    async with line_to(house.cluster) as line:
        line.mute_after(b"INSERT INTO inbox.deliveries")
        writer = await house.open(line.url_of(house.database))
        async with asyncio.timeout(10):
            await line.unanswered.wait()
        waiting = await look(house.directory, 1)
        assert waiting is not None
        assert waiting.count == 3
        line.cut()
        await until_forwarded(writer)
        assert await house.bodies() == [b"1", b"2", b"3"]
        await writer.close()


async def test_a_delivery_that_it_refuses_stays_and_stops_nobody(house: House) -> None:
    async with await InboxWriter.open(spool_path(house.directory)) as left:
        await send(left, 1, 2)
        await left.append(1, "customers/\x00", {}, b"private")
        await send(left, 3, 4)
    writer = await house.open()
    await until(lambda: not waits(writer).away)
    assert await house.bodies() == [b"1", b"2", b"3", b"4"]
    assert waits(writer).count == 1
    (told,) = [line for line in house.log if line["action"] == "delivery_not_forwarded"]
    assert "private" not in str(told)
    await send(writer, 5, 5)
    assert await house.bodies() == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_delivery_that_only_the_file_takes_is_accepted(house: House) -> None:
    writer = await house.open()
    answers = await asyncio.gather(
        *(writer.append(1, topic, {}, b"") for topic in (UPDATED, "customers/\x00", UPDATED))
    )
    assert len(answers) == 3
    assert len(await house.stored()) == 2
    assert waits(writer) == Spooled(1, NOON, away=False)


async def test_a_delivery_that_neither_takes_is_refused_and_stops_nobody(house: House) -> None:
    writer = await house.open()
    with pytest.raises(CommitFailed, match="surrogates"):
        await writer.append(1, "no text: \ud800", {}, b"")
    house.cluster.stop()
    await send(writer, 1, 1)
    house.cluster.start()
    await until_forwarded(writer)
    assert await house.bodies() == [b"1"]


async def test_what_comes_faster_than_it_is_forwarded_goes_past_it_after_a_while(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "CATCH_UP_SECONDS", 0)
    monkeypatch.setattr(spool, "ROWS_AT_ONCE", 10)
    async with await InboxWriter.open(spool_path(house.directory)) as left:
        await asyncio.gather(*(left.append(1, UPDATED, HEADERS, b"%d" % n) for n in range(250)))
    writer = await house.open()
    await until(lambda: not waits(writer).away)
    await send(writer, 250, 250)
    await until_forwarded(writer)
    assert sorted(map(int, await house.bodies())) == list(range(251))


async def test_a_database_of_a_newer_version_stops_the_start_and_leaves_the_lock(house: House) -> None:
    await (await house.open()).close()
    house.cluster.execute("UPDATE inbox.alembic_version SET version_num = '0099'", house.database)
    for _ in range(2):
        with pytest.raises(NewerDatabase, match="0099"):
            await house.open()


async def test_one_that_comes_back_in_a_newer_version_is_told_and_waited_for(house: House) -> None:
    house.cluster.execute("CREATE SCHEMA inbox", house.database)
    house.cluster.execute("CREATE TABLE inbox.alembic_version (version_num text)", house.database)
    house.cluster.execute("INSERT INTO inbox.alembic_version VALUES ('0099')", house.database)
    house.cluster.stop()
    writer = await house.open()
    await send(writer, 1, 1)
    house.cluster.start()
    await until(lambda: "forwarding_refused" in house.actions())
    await send(writer, 2, 2)
    house.cluster.execute("DROP SCHEMA inbox CASCADE", house.database)
    await until_forwarded(writer)
    assert await house.bodies() == [b"1", b"2"]
    assert house.actions().count("forwarding_refused") == 1


async def test_retention_is_asked_of_the_database(house: House) -> None:
    house.now = datetime.now(UTC)
    writer = await house.open()
    await send(writer, 1, 2)
    assert await writer.forget(1, through=2, before=house.now - timedelta(days=1), keep=()) == 0
    released = house.cluster.execute("SELECT through FROM inbox.releases", house.database)
    assert released == [(2,)]


async def set_writes_of_the_file(writer: InboxWriter, *, refused: bool) -> None:
    def act() -> None:
        writer._store._engine.raw_connection().cursor().execute(f"PRAGMA query_only = {int(refused)}")

    await asyncio.get_running_loop().run_in_executor(writer._store._thread, act)


async def test_it_refuses_only_when_neither_takes_it_and_notes_that(house: House) -> None:
    writer = await house.open()
    await set_writes_of_the_file(writer, refused=True)
    await send(writer, 1, 1)
    house.cluster.stop()
    with pytest.raises(CommitFailed):
        await send(writer, 2, 2)
    refusing = writer.ready
    await set_writes_of_the_file(writer, refused=False)
    await until(lambda: writer.ready)
    assert not refusing
    await send(writer, 3, 3)
    house.cluster.start()
    await until_forwarded(writer)
    await writer.close()
    assert await house.bodies() == [b"1", b"3"]
    async with InboxReader.open(Schema(house.cluster.url_of(house.database), "inbox")) as reader:
        assert sum(failed.refused for failed in await reader.failed_commits()) == 1


async def test_when_the_file_fails_the_database_is_asked_though_it_was_away(house: House) -> None:
    writer = await house.open(sleep=for_ever)
    house.cluster.stop()
    await send(writer, 1, 1)
    house.cluster.start()
    await set_writes_of_the_file(writer, refused=True)
    await send(writer, 2, 2)
    assert await house.bodies() == [b"2"]
    assert waits(writer).count == 1


async def test_a_time_in_which_all_was_spooled_is_no_gap_and_notes_wait(house: House) -> None:
    writer = await house.open()
    house.cluster.stop()
    for minute in range(10):
        house.now = NOON + timedelta(minutes=minute)
        await send(writer, minute, minute)
        writer.refuse(1, "signature_invalid")
        await writer._write_notes()
    house.cluster.start()
    await until_forwarded(writer)
    async with InboxReader.open(Schema(house.cluster.url_of(house.database), "inbox")) as reader:
        assert [one.seen_at for one in await reader.starts()] == [house.now]
        await writer.close()
        assert await reader.failed_commits() == []
        assert [one.count for one in await reader.refusals(1)] == [10]


async def test_the_queue_is_bounded_for_both_together(house: House) -> None:
    writer = await house.open(queue_limit=2)
    house.cluster.stop()
    await send(writer, 1, 1)
    opened = threading.Event()
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(_connection: Connection) -> None:
        loop.call_soon_threadsafe(reached.set)
        assert opened.wait(10)

    held = asyncio.create_task(writer._store.transact(hold))
    await reached.wait()
    waiting = [asyncio.create_task(writer.append(1, UPDATED, {}, b"")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await writer.append(1, UPDATED, {}, b"")
    opened.set()
    await asyncio.gather(held, *waiting)


async def test_a_stop_does_not_wait_for_a_server_that_hangs(house: House) -> None:
    writer = await house.open()
    await send(writer, 1, 1)
    house.cluster.freeze()
    storing = asyncio.create_task(send(writer, 2, 2))
    await asyncio.sleep(0)
    began = time.monotonic()
    await writer.close()
    assert time.monotonic() - began < PATIENCE
    assert len(await storing) == 1
    house.cluster.thaw()
    assert await look(house.directory, 1) == Spooled(1, NOON)


async def test_several_companies_are_forwarded_each_in_its_order(house: House) -> None:
    house.cluster.stop()
    writer = await house.open()
    for n in range(30):
        await writer.append(1 + n % 3, UPDATED, {}, b"%d" % n)
    house.cluster.start()
    await until_forwarded(writer)
    async with InboxReader.open(Schema(house.cluster.url_of(house.database), "inbox")) as reader:
        for company_id in (1, 2, 3):
            found = await reader.read(company_id, 0, 100)
            assert [int(one.body) for one in found] == list(range(company_id - 1, 30, 3))


async def test_a_schema_that_was_lost_is_made_again(house: House) -> None:
    writer = await house.open()
    await send(writer, 1, 2)
    house.cluster.execute("DROP SCHEMA inbox CASCADE", house.database)
    await send(writer, 3, 4)
    await until_forwarded(writer)
    assert await house.bodies() == [b"3", b"4"]


async def test_two_receivers_need_a_data_directory_each(house: House) -> None:
    await house.open()
    with pytest.raises(OwnedElsewhere, match="the receiver, process"):
        await house.open()


async def test_no_spool_is_no_spool(tmp_path: Path) -> None:
    assert await look(tmp_path, 1) is None
    assert not spool_path(tmp_path).parent.exists()
