"""A company's local days: when each begins and ends in UTC. Pure; zones are those of `zoneinfo`."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

DAY: Final = timedelta(days=1)


class LocalDay(NamedTuple):
    """A day by the clocks of a zone: 23, 24 or 25 hours of UTC."""

    day: date
    begins_at: datetime
    ends_at: datetime
    """When the next day begins: no longer of this day."""


def zone_named(name: str | None) -> ZoneInfo | None:
    """Give the zone (`Australia/Sydney`); None: this machine knows none of that name."""
    try:
        return None if name is None else ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # there is none; no name at all; a directory of names
        return None


def local_days(zone: ZoneInfo, first: date, last: date) -> Iterator[LocalDay]:
    """Give the days from `first` to `last`, both with; a day that the zone left out is left out."""
    day, begins_at = first, _midnight(first, zone)
    while day <= last:
        day_after = day + DAY
        ends_at = _midnight(day_after, zone)
        if begins_at < ends_at:
            yield LocalDay(day, begins_at, ends_at)
        day, begins_at = day_after, ends_at


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """Give when a day begins; where clocks skip midnight, the moment at which they do."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
