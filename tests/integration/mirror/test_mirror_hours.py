"""Deliveries are counted in the hour in which they came, each once."""

from datetime import UTC, datetime
from typing import Any

from receiver.database import inbox_of
from receiver.inbox import InboxReader
from receiver.topics import PING
from sync.mirror.hours import deliveries_by_hour
from tests.clock import NOON

ONE = datetime(2026, 11, 24, 13, tzinfo=UTC)


async def test_each_delivery_counts_in_its_hour(house: Any) -> None:
    for seconds in (0, 3599, 3600):
        house.at(seconds)
        await house.post(house.customer(1))
    house.at(90_000)
    assert await house.apply() == 3
    assert await deliveries_by_hour(house.mirror, NOON) == {NOON: 2, ONE: 1}
    assert await deliveries_by_hour(house.mirror, ONE) == {ONE: 1}


async def test_one_that_is_unreadable_counts_too(house: Any) -> None:
    await house.post(b"no JSON")
    await house.apply()
    assert await deliveries_by_hour(house.mirror, NOON) == {NOON: 1}


async def test_a_replay_and_a_ping_are_no_delivery_of_upstream(house: Any) -> None:
    await house.post(house.customer(1))
    await house.inbox.append(5678, PING, {}, b"{}")
    await house.apply()
    async with InboxReader.open(inbox_of(house.place)) as inbox:
        await house.applier.apply(await inbox.read(5678, 0, 1), again=True)
    assert await deliveries_by_hour(house.mirror, NOON) == {NOON: 1}
