"""When a silence is unusual: a shop that is open by day, six days a week."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import pytest

from sync.silence import HOUR, SHORTEST, WEEK, hour_of, silence_of

TUESDAY_NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SUNDAY = 6


def week_by_week(weeks: float, an_hour: int, *, clump: int = 1, seed: int = 1) -> Counter[datetime]:
    """Deliveries from 9 to 17 but on Sundays, in clumps of a size, up to noon of Tuesday."""
    chance = Random(seed)
    counts: Counter[datetime] = Counter()
    moment = hour_of(TUESDAY_NOON - weeks * WEEK)
    counts[moment] = 1
    while moment < TUESDAY_NOON:
        if 9 <= moment.hour < 17 and moment.weekday() != SUNDAY:
            arrivals = sum(chance.random() < 0.5 for _ in range(2 * an_hour // clump))
            if arrivals:
                counts[moment] = clump * arrivals
        moment += HOUR
    return counts


def minutes_until_told(counts: Counter[datetime], last_at: datetime, within: timedelta) -> float | None:
    """How long nothing comes until that is called unusual."""
    now = last_at
    while now - last_at <= within:
        if silence_of(counts, last_at, now) is not None:
            return (now - last_at) / timedelta(minutes=1)
        now += timedelta(minutes=1)
    return None


def test_a_silence_in_a_busy_hour_is_told_soon_but_never_sooner_than_the_shortest() -> None:
    said = minutes_until_told(week_by_week(4, 60), TUESDAY_NOON, timedelta(hours=4))
    assert said == SHORTEST / timedelta(minutes=1)


def test_the_less_an_hour_brings_the_longer_a_silence_may_be() -> None:
    waits = [
        minutes_until_told(week_by_week(4, rate), TUESDAY_NOON, timedelta(days=2)) for rate in (20, 8, 4)
    ]
    assert None not in waits
    assert waits == sorted(waits, key=lambda minutes: minutes or 0)
    assert len(set(waits)) == 3


def test_it_says_since_when_and_how_many_would_have_come() -> None:
    silence = silence_of(week_by_week(4, 20), TUESDAY_NOON, TUESDAY_NOON + timedelta(hours=2))
    assert silence is not None
    assert silence.since == TUESDAY_NOON
    assert 30 < silence.usual < 50


@pytest.mark.parametrize("rate", [4, 60])
def test_a_night_and_a_closed_day_are_no_silence(rate: int) -> None:
    counts = week_by_week(4, rate)
    saturday_evening = TUESDAY_NOON - timedelta(days=3) + timedelta(hours=5)
    for now in (saturday_evening + timedelta(hours=hours) for hours in range(40)):
        assert silence_of(counts, saturday_evening, now) is None
    monday = saturday_evening + timedelta(hours=40 + 5)
    assert silence_of(week_by_week(5, 60), saturday_evening, monday) is not None


def test_a_burst_at_night_is_not_held_against_its_own_hour() -> None:
    counts = week_by_week(4, 20)
    night = TUESDAY_NOON.replace(hour=3)
    counts[night] = 1000
    assert silence_of(counts, night + timedelta(minutes=1), night + timedelta(minutes=45)) is None


def test_clumps_make_it_wait_longer() -> None:
    single, clumped = (
        minutes_until_told(week_by_week(4, 24, clump=size), TUESDAY_NOON, timedelta(days=3))
        for size in (1, 12)
    )
    assert single is not None
    assert clumped is not None
    assert clumped > 3 * single


@pytest.mark.parametrize(("weeks", "told"), [(0.99, False), (1.01, True)])
def test_nothing_is_told_in_the_first_week(weeks: float, *, told: bool) -> None:
    silence = silence_of(week_by_week(weeks, 200), TUESDAY_NOON, TUESDAY_NOON + timedelta(hours=4))
    assert (silence is not None) == told


def test_a_silence_does_not_become_usual_by_lasting() -> None:
    counts = week_by_week(4, 20)
    for week in range(1, 12):
        assert silence_of(counts, TUESDAY_NOON, TUESDAY_NOON + week * WEEK) is not None


def test_where_nothing_ever_came_nothing_is_missed() -> None:
    assert silence_of({}, None, TUESDAY_NOON) is None
    once = {TUESDAY_NOON - 5 * WEEK: 3}
    assert silence_of(once, TUESDAY_NOON - 5 * WEEK, TUESDAY_NOON) is None


def test_the_same_weeks_without_a_silence_open_none() -> None:
    """Every silence of four weeks in which nothing was lost, by seeds."""
    for seed in range(5):
        chance = Random(seed)
        counts = week_by_week(9, 6, seed=seed)
        arrivals = sorted(
            hour + timedelta(seconds=chance.uniform(0, 3600))
            for hour, count in counts.items()
            for _ in range(count)
            if hour > TUESDAY_NOON - 4 * WEEK
        )
        for before, after in pairwise(arrivals):
            past = Counter({hour: count for hour, count in counts.items() if hour <= before})
            assert silence_of(past, before, after) is None
