"""Numbers that become visible in their order: who has read one need never look for a lower one again."""

import asyncio
from typing import Any

import psycopg
import pytest

WORKERS = RECEIVERS = 3
DELIVERIES = 300
QUERIES = {
    "seq": "SELECT seq FROM mirror.customer_changes WHERE company_id = 5678 AND seq > %s ORDER BY seq",
    "position": "SELECT position FROM inbox.deliveries WHERE company_id = 5678 AND position > %s ORDER BY 1",
}


async def follow(place: Any, query: str, last: int) -> list[int]:
    """Poll for what is above the highest number seen, each time in a transaction of its own, up to `last`."""
    seen: list[int] = []
    async with await psycopg.AsyncConnection.connect(place.url, autocommit=True) as connection:
        while not seen or seen[-1] < last:
            cursor = await connection.execute(query.encode(), [seen[-1] if seen else 0])
            seen += [number for (number,) in await cursor.fetchall()]
    return seen


async def test_a_reader_of_the_feed_misses_nothing_of_three_workers(crew: Any, deliver: Any) -> None:
    inbox = await crew.receiver()
    workers = [(await crew.applier(), await crew.reader()) for _ in range(WORKERS)]
    done = asyncio.Event()

    async def work(applier: Any, reader: Any) -> None:
        while await applier.apply_next(reader) or not done.is_set():
            pass

    async def fill() -> None:
        for start in range(0, DELIVERIES, 10):
            numbers = range(start + 1, start + 11)
            bodies = [deliver(number, f"Name {number}") for number in numbers]
            await asyncio.gather(*(inbox.append(5678, "customers/created", {}, one) for one in bodies))
        done.set()

    async with asyncio.TaskGroup() as group:
        following = group.create_task(follow(crew.place, QUERIES["seq"], DELIVERIES))
        for applier, reader in workers:
            group.create_task(work(applier, reader))
        group.create_task(fill())
    assert following.result() == list(range(1, DELIVERIES + 1))


async def test_a_reader_of_the_inbox_misses_nothing_of_three_receivers(crew: Any, deliver: Any) -> None:
    receivers = [await crew.receiver() for _ in range(RECEIVERS)]

    async def fill(inbox: Any) -> None:
        for number in range(DELIVERIES // RECEIVERS):
            await inbox.append(5678, "customers/updated", {}, deliver(number + 1, "Jamie"))

    async with asyncio.TaskGroup() as group:
        following = group.create_task(follow(crew.place, QUERIES["position"], DELIVERIES))
        for inbox in receivers:
            group.create_task(fill(inbox))
    assert following.result() == list(range(1, DELIVERIES + 1))


@pytest.mark.parametrize("numbers", ["seq", "position"])
async def test_a_number_is_not_seen_before_a_lower_one_that_is_not_committed(
    crew: Any, deliver: Any, numbers: str
) -> None:
    """Somebody has taken number 1 and halts; who comes second has to wait, whatever a reader may see."""
    inbox, applier, reader = await crew.receiver(), await crew.applier(), await crew.reader()
    await inbox.append(5678, "customers/created", {}, deliver(1, "Jamie"))
    lock = {
        "seq": b"SELECT * FROM mirror._progress WHERE company_id = 5678 FOR UPDATE",
        "position": b"SELECT * FROM inbox.accepted WHERE company_id = 5678 FOR UPDATE",
    }
    async with await psycopg.AsyncConnection.connect(crew.place.url) as halting:
        await halting.execute(lock[numbers])
        second = asyncio.create_task(
            applier.apply_next(reader)
            if numbers == "seq"
            else inbox.append(5678, "customers/created", {}, deliver(2, "Ann"))
        )
        await crew.until_one_waits_for_a_lock()
        assert not second.done()
    await second


async def test_the_reader_of_these_tests_misses_a_number_that_is_seen_late(crew: Any) -> None:
    """Two that store without a lock, of whom the second commits first: what the tests above would find."""
    statement = (
        b"INSERT INTO inbox.deliveries (company_id, id, position, topic, received_at, headers, body) "
        b"VALUES (5678, %s, %s, 'customers/updated', now(), '{}', '{}')"
    )
    await crew.receiver()
    connecting = psycopg.AsyncConnection.connect
    async with await connecting(crew.place.url) as first, await connecting(crew.place.url) as second:
        await first.execute(statement, ["one", 1])
        await second.execute(statement, ["two", 2])
        await second.commit()
        assert await follow(crew.place, QUERIES["position"], 2) == [2]
        await first.commit()
