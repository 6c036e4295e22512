"""What upstream has shown is kept in the mirror, at a slow pace, on both databases."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sync.kounta.observations import Observations
from sync.mirror.observations import observations
from sync.mirror.reader import MirrorReader
from sync.observations import keep_observations

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


async def test_counts_are_added_and_the_first_time_stays(house: Any) -> None:
    now = NOW
    seen = Observations(lambda: now)
    seen.see("gone")
    seen.see("null-writes")
    await keep_observations(house.mirror, seen)
    assert seen.unstored() == {}
    now += timedelta(hours=1)
    seen.see("gone", 2)
    await keep_observations(house.mirror, seen)
    await keep_observations(house.mirror, seen)

    async with MirrorReader.look(house.place, house.mirror.company_id) as mirror:
        kept = [(one.name, one.count, one.first_at, one.last_at) for one in await observations(mirror)]
    assert kept == [("gone", 3, NOW, NOW + timedelta(hours=1)), ("null-writes", 1, NOW, NOW)]
