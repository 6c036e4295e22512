"""PostgreSQL: several receivers store at once, a reader misses nothing, and whoever listens is woken."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import psycopg
import pytest
from sqlalchemy.engine import Connection

from receiver.database import Place, Server, inbox_of, utc_text
from receiver.inbox import InboxReader, InboxWriter, transactions
from receiver.inbox.notices import notices
from receiver.inbox.transactions import CHANNEL, Row
from tests.clock import NOON
from tests.stores import end_sessions

UPDATED = "customers/updated"

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])


async def test_positions_have_no_holes_and_become_visible_in_order_with_three_receivers_at_once(
    place: Place,
) -> None:
    inbox = inbox_of(place)
    companies, each = (1, 2), 100
    read: dict[int, list[int]] = {company_id: [] for company_id in companies}

    async def store(writer: InboxWriter, number: int) -> list[str]:
        """Store of both companies alternately, a few at a time: another order in each receiver."""
        names: list[str] = []
        for start in range(0, each, 10):
            some = ((start + n + number) % 2 + 1 for n in range(10))
            names += await asyncio.gather(*(writer.append(one, UPDATED, {}, b"") for one in some))
        return names

    async def follow(reader: InboxReader, company_id: int) -> None:
        seen = read[company_id]
        while len(seen) < 3 * each // 2:
            seen += [one.position for one in await reader.read(company_id, len(seen), 1_000)]

    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(await InboxWriter.open(inbox)) for _ in range(3)]
        reader = await stack.enter_async_context(InboxReader.open(inbox))
        async with asyncio.timeout(60):
            *names, _, _ = await asyncio.gather(
                *(store(writer, number) for number, writer in enumerate(writers)),
                *(follow(reader, company_id) for company_id in companies),
            )
        stored = {one.id for company_id in companies for one in await reader.read(company_id, 0, 1_000)}
        assert stored == {name for some in names for name in some or ()}
        assert len(await reader.starts()) == 3
    for positions in read.values():
        assert positions == list(range(1, 3 * each // 2 + 1))


async def test_a_delivery_that_waits_for_another_receivers_commit_gets_the_next_position(
    place: Place,
) -> None:
    inbox = inbox_of(place)
    async with await InboxWriter.open(inbox) as writer, InboxReader.open(inbox) as reader:
        await writer.append(1, UPDATED, {}, b"first")
        assert isinstance(place, Server)
        async with await psycopg.AsyncConnection.connect(place.url) as other:  # as a receiver that is slow
            await other.execute("UPDATE inbox.accepted SET head = head + 1 WHERE company_id = 1")
            waiting = asyncio.create_task(writer.append(1, UPDATED, {}, b"third"))
            elsewhere = await asyncio.wait({waiting}, timeout=0.3)
            assert elsewhere[0] == set()
            await other.execute(
                "INSERT INTO inbox.deliveries (company_id, id, position, topic, received_at, headers, body) "
                "VALUES (1, 'second', 2, 'customers/updated', now(), '{}', 'second')"
            )
        await waiting
        found = await reader.read(1, 0, 10)
    assert [(one.position, one.body) for one in found] == [(1, b"first"), (2, b"second"), (3, b"third")]


async def test_a_reader_keeps_no_receiver_waiting(place: Place) -> None:
    inbox = inbox_of(place)
    async with await InboxWriter.open(inbox) as writer:
        await writer.append(1, UPDATED, {}, b"")
        assert isinstance(place, Server)
        async with await psycopg.AsyncConnection.connect(place.url) as reading:
            await reading.execute("SELECT * FROM inbox.deliveries, inbox.accepted")
            async with asyncio.timeout(10):
                await writer.append(1, UPDATED, {}, b"")


async def test_who_listens_is_told_the_companies_of_a_commit_once_it_is_visible(place: Place) -> None:
    assert isinstance(place, Server)
    inbox = inbox_of(place)
    async with await InboxWriter.open(inbox) as writer, InboxReader.open(inbox) as reader:
        listening = notices(place.url)
        async with asyncio.timeout(10):
            assert await anext(listening) is None
            now = utc_text(NOON)
            rows = [Row(f"{n}", company, UPDATED, now, "{}", b"") for n, company in enumerate((7, 5, 7))]
            await writer._store.transact(partial(transactions.append, rows=rows))
            assert {await anext(listening), await anext(listening)} == {5, 7}
            assert [await reader.head(company) for company in (5, 7)] == [1, 2]
        await listening.aclose()


async def test_nobody_is_told_of_what_was_undone(place: Place) -> None:
    assert isinstance(place, Server)
    async with await InboxWriter.open(inbox_of(place)) as writer:
        listening = notices(place.url)
        async with asyncio.timeout(10):
            assert await anext(listening) is None
            row = Row("a name", 5, UPDATED, utc_text(NOON), "{}", b"")
            with pytest.raises(psycopg.Error):
                await writer._store.transact(lambda connection: _append_and_break(connection, row))
            await writer.append(6, UPDATED, {}, b"")
            assert await anext(listening) == 6
        await listening.aclose()


def _append_and_break(connection: Connection, row: Row) -> None:
    transactions.append(connection, [row])
    raise psycopg.OperationalError(f"nobody hears of it on {CHANNEL}")


async def test_after_a_restart_of_the_server_deliveries_are_stored_at_the_next_positions(
    place: Place,
) -> None:
    assert isinstance(place, Server)
    inbox = inbox_of(place)
    async with await InboxWriter.open(inbox) as writer, InboxReader.open(inbox) as reader:
        stored = [await writer.append(1, UPDATED, {}, b"")]
        end_sessions(place)
        several = (writer.append(1, UPDATED, {}, b"") for _ in range(5))
        stored += await asyncio.gather(*several)
        assert [(one.position, one.id) for one in await reader.read(1, 0, 10)] == [*enumerate(stored, 1)]
