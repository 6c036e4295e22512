"""Silence: whether nothing has come for far longer than this hour of the week usually brings.

How many deliveries would have come since the last one is summed from the same hours of the weeks before
it. If they came one by one and independently (Poisson), a silence in which m would have come has the
chance e^-m. They come in clumps, though: a shop's evening, a person who edits a list. So m is divided by
how much more the counts of an hour scatter than Poisson's would (variance over mean, of all hours of the
week together): for clumps of any sizes that is at least their mean size, so the chance is never made too
small.

- IMPROBABLE = 12: a chance of 6 in a million. Each delivery begins a silence: with 1,000 deliveries a
  week chance alone opens an alert every three years.
- SHORTEST = 30 minutes: below it no silence is told, however busy the hour is. It bounds what a stream of
  many thousands a week could open by chance, and what a restart of a proxy would.
- No week, no usual week: nothing is said until a whole week lies before the last delivery. With one week
  alone nobody can know how they clump: CLUMPS_AT_FIRST is assumed.
- WEEKS = 4 are looked at, so that it follows the seasons. They end at the last delivery: a long silence
  does not become usual by lasting. A public holiday is unusual, and is told.

Hours are UTC's: where clocks change, the hour of opening is the hour beside it for a few weeks, of little
weight in a sum.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

IMPROBABLE: Final = 12.0
SHORTEST: Final = timedelta(minutes=30)
WEEKS: Final = 4
CLUMPS_AT_FIRST: Final = 5.0
HOUR: Final = timedelta(hours=1)
WEEK: Final = timedelta(weeks=1)
HOURS_A_WEEK: Final = 168


@dataclass(frozen=True, slots=True)
class Silence:
    """An unusual one: since when, and how many deliveries would usually have come since."""

    since: datetime
    usual: float


def silence_of(counts: Mapping[datetime, int], last_at: datetime | None, now: datetime) -> Silence | None:
    """Say whether the silence from the last delivery to `now` is unusual; None: no, or nobody can know.

    `counts` holds the deliveries of each hour, by its beginning (UTC); an hour that is not there had none.
    """
    if last_at is None or not counts or now - last_at < SHORTEST:
        return None
    end = hour_of(last_at)
    weeks = min(WEEKS, (end - min(counts)) // WEEK)
    if weeks < 1:
        return None
    usual, bound = 0.0, IMPROBABLE * _clumps(counts, end, weeks)
    begin = end
    while begin < now:
        within = (min(now, begin + HOUR) - max(last_at, begin)) / HOUR
        usual += within * sum(_like(counts, begin, end, weeks)) / weeks
        begin += HOUR
    return Silence(last_at, usual) if usual >= bound else None


def hour_of(moment: datetime) -> datetime:
    """Give the beginning of its hour."""
    return moment.replace(minute=0, second=0, microsecond=0)


def _like(counts: Mapping[datetime, int], hour: datetime, end: datetime, weeks: int) -> list[int]:
    """Give the counts of the hours like this one in the weeks before `end`."""
    back = max(0, -((end - hour) // WEEK))  # whole weeks, so that the newest of them lies before the end
    newest = hour - back * WEEK
    newest -= WEEK * (newest >= end)
    return [counts.get(newest - week * WEEK, 0) for week in range(weeks)]


def _clumps(counts: Mapping[datetime, int], end: datetime, weeks: int) -> float:
    """Say how much more the counts scatter than those of independent deliveries would: 1, or more."""
    if weeks == 1:
        return CLUMPS_AT_FIRST
    total = scatter = 0.0
    for number in range(1, HOURS_A_WEEK + 1):
        like = _like(counts, end - number * HOUR, end, weeks)
        mean = sum(like) / weeks
        total += mean
        scatter += sum((count - mean) ** 2 for count in like) / (weeks - 1)
    return max(1.0, scatter / total) if total else 1.0
