"""PostgreSQL: deliveries lie in partitions by day, made ahead; old ones go when their companies let them."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

import psycopg
import pytest

from receiver.database import Database, Place, Server, inbox_of
from receiver.inbox import InboxReader, InboxWriter
from receiver.inbox.partitions import DAYS_AHEAD
from tests.clock import NOON, Clock
from tests.timekeeping import SystemClock

UPDATED = "customers/updated"
DAY = timedelta(days=1)

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])


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


@pytest.fixture
def lying(place: Place) -> Callable[[], dict[str, int]]:
    """Say how many deliveries lie in each table that has some, the newest day last."""

    def ask() -> dict[str, int]:
        assert isinstance(place, Server)
        with psycopg.connect(place.url) as connection:
            rows = connection.execute(
                "SELECT tableoid::regclass::text, count(*) FROM inbox.deliveries GROUP BY 1 ORDER BY 1"
            )
            return {name.removeprefix("inbox.deliveries_"): number for name, number in rows.fetchall()}

    return ask


@pytest.fixture
def partitions(place: Place) -> Callable[[], list[str]]:
    """Name the partitions."""

    def ask() -> list[str]:
        assert isinstance(place, Server)
        with psycopg.connect(place.url) as connection:
            rows = connection.execute(
                "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
                "WHERE inhparent = 'inbox.deliveries'::regclass ORDER BY relname"
            )
            return [name.removeprefix("deliveries_") for (name,) in rows.fetchall()]

    return ask


def days(first: datetime, number: int) -> list[str]:
    return [f"{first + DAY * ahead:%Y%m%d}" for ahead in range(number)]


async def test_partitions_are_made_ahead_and_each_day_fills_its_own(
    writer: InboxWriter,
    clock: Clock,
    partitions: Callable[[], list[str]],
    lying: Callable[[], dict[str, int]],
) -> None:
    assert partitions() == [*days(NOON, DAYS_AHEAD), "others"]
    for moment in (NOON, NOON.replace(hour=0) + DAY - timedelta(milliseconds=1), NOON.replace(hour=0) + DAY):
        clock.now = moment
        await writer.append(1, UPDATED, {}, b"")
    assert lying() == {"20261124": 2, "20261125": 1}


async def test_a_receiver_that_runs_on_makes_those_of_the_days_to_come(
    writer: InboxWriter, clock: Clock, partitions: Callable[[], list[str]]
) -> None:
    clock.now = NOON + 5 * DAY
    await writer._write_notes()
    assert partitions() == [*days(NOON, DAYS_AHEAD + 5), "others"]


async def test_a_day_without_a_partition_is_stored_with_the_others_and_read_in_order(
    writer: InboxWriter,
    reader: InboxReader,
    clock: Clock,
    partitions: Callable[[], list[str]],
    lying: Callable[[], dict[str, int]],
) -> None:
    for later in (0, 30, 1):
        clock.now = NOON + later * DAY
        await writer.append(1, UPDATED, {}, b"%d" % later)
    assert lying() == {"20261124": 1, "20261125": 1, "others": 1}
    assert [one.body for one in await reader.read(1, 0, 10)] == [b"0", b"30", b"1"]
    clock.now = NOON + 30 * DAY
    await writer._write_notes()  # that day's cannot be made any more, those behind it can
    assert [name for name in days(NOON + 30 * DAY, DAYS_AHEAD) if name not in partitions()] == ["20261224"]
    await writer.append(1, UPDATED, {}, b"later")
    assert [one.position for one in await reader.read(1, 0, 10)] == [1, 2, 3, 4]


async def test_old_days_go_once_every_company_has_let_them_go(
    writer: InboxWriter,
    reader: InboxReader,
    clock: Clock,
    partitions: Callable[[], list[str]],
    lying: Callable[[], dict[str, int]],
) -> None:
    names = [await writer.append(1, UPDATED, {}, b"%d" % number) for number in range(4)]
    await writer.append(2, UPDATED, {}, b"of another company")
    clock.now = NOON + 2 * DAY
    await writer.append(1, UPDATED, {}, b"new")

    gone = await writer.forget(1, through=3, before=NOON + timedelta(hours=11), keep={names[1]})
    assert (gone, partitions()[0]) == (0, "20261124")  # that day has not ended before then
    gone = await writer.forget(1, through=3, before=NOON + timedelta(hours=12), keep={names[1]})

    assert gone == 2
    assert partitions()[0] == "20261125"
    assert [one.position for one in await reader.read(1, 0, 10)] == [2, 4, 5]
    assert [one.body for one in await reader.read(2, 0, 10)] == [b"of another company"]
    assert lying() == {"20261126": 1, "others": 3}
    assert (await reader.accepted(1), await reader.head(1)) == (5, 5)

    assert await writer.forget(1, through=5, before=NOON + DAY, keep=()) == 2
    assert await writer.forget(2, through=1, before=NOON + DAY, keep=()) == 1
    assert lying() == {"20261126": 1}


async def test_deliveries_of_a_day_that_was_dropped_find_a_place(
    writer: InboxWriter, reader: InboxReader, clock: Clock, lying: Callable[[], dict[str, int]]
) -> None:
    clock.now = NOON + 3 * DAY
    assert await writer.forget(1, through=0, before=NOON + 2 * DAY, keep=()) == 0
    clock.now = NOON  # a clock was set back
    await writer.append(1, UPDATED, {}, b"late")
    assert lying() == {"others": 1}
    assert [one.body for one in await reader.read(1, 0, 10)] == [b"late"]
