"""Workers that apply for one company at the same time, on PostgreSQL."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from receiver.inbox import Delivery, InboxReader
from sync.apply import Applier
from sync.mirror.store import BusyElsewhere

END = (
    (
        "SELECT id, first_name, email, deleted_at IS NULL AS lives, partial, first_seen_by, last_seq "
        "FROM _customers WHERE company_id = ?"
    ),
    "SELECT seq, kind, attributes, before, after FROM customer_changes WHERE company_id = ? ORDER BY seq",
    "SELECT verdict, reason FROM delivery_verdicts WHERE company_id = ? ORDER BY delivery_id",
    "SELECT customer_id, reason, priority FROM _verifications WHERE company_id = ?",
    "SELECT verdict, count FROM _verdict_counts WHERE company_id = ? ORDER BY verdict",
)
"""What a company's mirror holds at the end, but for times."""


class Halting(InboxReader):
    """A reader whose worker halts in the middle of its batch, with the deliveries in its hands."""

    @classmethod
    def over(cls, reader: InboxReader) -> "Halting":
        halting = cls(reader._engine)
        halting.halted, halting.go_on = asyncio.Event(), asyncio.Event()
        return halting

    halted: asyncio.Event
    go_on: asyncio.Event

    async def read(self, company_id: int, after: int, limit: int, **options: Any) -> list[Delivery]:
        found = await super().read(company_id, after, limit, **options)
        self.halted.set()
        await self.go_on.wait()
        return found


def kinds(crew: Any) -> list[str]:
    return [row["kind"] for row in crew.rows("SELECT kind FROM customer_changes ORDER BY seq")]


async def test_two_workers_that_first_see_the_same_unknown_customer_make_one_of_it(
    crew: Any, deliver: Any
) -> None:
    inbox = await crew.receiver()
    await inbox.append(5678, "customers/created", {}, deliver(1, "Jamie"))
    one, other = await crew.applier(), await crew.applier()
    halting = Halting.over(await crew.reader())
    first = asyncio.create_task(one.apply_next(halting))
    await halting.halted.wait()
    second = asyncio.create_task(other.apply_next(await crew.reader()))
    await crew.until_one_waits_for_a_lock()
    halting.go_on.set()
    assert (await first, await second) == (1, 0)
    assert crew.rows("SELECT id, first_name FROM customers") == [{"id": 1, "first_name": "Jamie"}]
    assert kinds(crew) == ["created"]
    assert len(crew.rows("SELECT * FROM delivery_verdicts")) == 1


async def test_workers_that_race_for_unknown_customers_give_each_delivery_one_verdict(
    crew: Any, deliver: Any
) -> None:
    rounds = 15
    inbox, readers = await crew.receiver(), [await crew.reader(), await crew.reader()]
    workers = [await crew.applier(), await crew.applier()]
    barrier = asyncio.Barrier(2)

    async def race(applier: Applier, reader: InboxReader, *, wait: bool) -> None:
        await barrier.wait()
        while True:
            try:
                if not await applier.apply_next(reader, wait=wait):
                    return
            except BusyElsewhere:
                continue

    for number in range(1, rounds + 1):
        topics = ("created", "updated", "updated")
        for topic in topics:
            await inbox.append(5678, f"customers/{topic}", {}, deliver(number, f"{topic} {number}"))
        async with asyncio.TaskGroup() as group:
            for applier, reader in zip(workers, readers, strict=True):
                group.create_task(race(applier, reader, wait=number % 2 == 0))
    assert len(crew.rows("SELECT * FROM customers")) == rounds
    assert kinds(crew).count("created") == rounds
    counted = crew.rows("SELECT sum(count) AS count FROM _verdict_counts")
    assert len(crew.rows("SELECT * FROM delivery_verdicts")) == counted[0]["count"] == 3 * rounds
    seqs = [row["seq"] for row in crew.rows("SELECT seq FROM customer_changes ORDER BY seq")]
    assert seqs == list(range(1, len(seqs) + 1))


async def test_who_cannot_write_at_once_is_told_so_and_keeps_its_connection(crew: Any, deliver: Any) -> None:
    inbox = await crew.receiver()
    await inbox.append(5678, "customers/created", {}, deliver(1, "Jamie"))
    one, other = await crew.applier(), await crew.applier()
    reader = await crew.reader()
    halting = Halting.over(reader)
    first = asyncio.create_task(one.apply_next(halting))
    await halting.halted.wait()
    query = (
        "SELECT pid FROM pg_stat_activity "
        "WHERE application_name = 'kounta-mirror' AND datname = current_database()"
    )
    before = {row["pid"] for row in crew.rows(query)}
    for _ in range(3):
        with pytest.raises(BusyElsewhere):
            await other.apply_next(reader, wait=False)
    assert before <= {row["pid"] for row in crew.rows(query)}
    halting.go_on.set()
    assert await first == 1


def of_one_customer(deliver: Any) -> Sequence[tuple[str, bytes]]:
    """Ten deliveries about one customer, as a till sends them in a busy minute; stamps are of one second."""
    names = ("Ann", "Ben", "Cleo", "Ben", "Dan", "Eve", "Ann", "Fay", "Gus")
    bodies = [
        ("created" if index == 0 else "updated", deliver(1, name, email=f"{index % 3}@shop.example"))
        for index, name in enumerate(names)
    ]
    return [*bodies[:5], ("deleted", deliver(1, "Dan")), *bodies[5:]]


async def test_a_batch_with_ten_deliveries_of_one_customer_ends_as_one_by_one(
    crew: Any, deliver: Any
) -> None:
    told = of_one_customer(deliver)
    inbox, reader = await crew.receiver(), await crew.reader()
    together, singly = await crew.applier(1), await crew.applier(2)
    for topic, content in told:
        await inbox.append(1, f"customers/{topic}", {}, content)
    assert await together.apply_next(reader) == 10
    for topic, content in told:
        await inbox.append(2, f"customers/{topic}", {}, content)
        assert await singly.apply_next(reader) == 1

    def ended(company_id: int) -> list[list[dict[str, Any]]]:
        return [crew.rows(query, company_id) for query in END]

    assert ended(1) == ended(2)
    assert len(ended(1)[2]) == 10
