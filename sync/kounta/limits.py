"""What upstream says of its call limit, and how long a refusal because of it is obeyed.

Every answer may carry `X-Ratelimit-Limit` (calls a minute), `-Remaining` and `-Reset` (epoch seconds): one
client stores them (kounta-api.md). Milliseconds and seconds from now are understood too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST_PAUSE: Final = timedelta(minutes=5)
"""A refusal that names a later moment closes the budget for so long at first: it may be a mistake."""
LEAST_LIMIT: Final = 6
"""Fewer calls a minute are not believed: the number may be of another window. A 429 says the rest."""
_DAY: Final = 86_400
_MILLISECONDS: Final = 1e11
"""Epoch seconds reach this in the year 5138, epoch milliseconds passed it in 1973."""


@dataclass(frozen=True)
class Limits:
    """What one answer says; None where it says nothing that makes sense. `reset` is in seconds from now."""

    per_minute: float | None = None
    remaining: int | None = None
    reset: float | None = None


def limits_in(headers: Mapping[str, str], now: datetime) -> Limits:
    """Read what an answer says of the call limit; `now` is when it arrived, by our clock."""
    per_minute, remaining = (
        number(headers.get("X-Ratelimit-Limit")),
        number(headers.get("X-Ratelimit-Remaining")),
    )
    return Limits(
        None if per_minute is None or per_minute < LEAST_LIMIT else per_minute,
        None if remaining is None else max(0, int(remaining)),
        reset_in(headers, now),
    )


def reset_in(headers: Mapping[str, str], now: datetime) -> float | None:
    """Give the seconds until `X-Ratelimit-Reset`, None when it names no moment to come.

    Epoch seconds or milliseconds are compared with the answer's own `Date`, when it has one, so that a wrong
    clock here does no harm; a number below a day's seconds counts from now.
    """
    reset = number(headers.get("X-Ratelimit-Reset"))
    if reset is None:
        return None
    if reset >= _MILLISECONDS:
        reset /= 1000
    seconds = reset if reset < _DAY else reset - here(headers, now).timestamp()
    return seconds if seconds > 0 else None


class Closings:
    """How long refusals close the budget: as upstream says, but at most 5 minutes, doubled when repeated."""

    def __init__(self) -> None:
        self._cut = 0
        self._until = datetime.min.replace(tzinfo=UTC)

    def wait(self, named: float, now: datetime) -> float:
        """Give the seconds to wait after a refusal that names `named` seconds.

        Several refusals of calls that were under way at once are one.
        """
        longest = LONGEST_PAUSE.total_seconds()
        if named <= longest:
            return named
        if now < self._until:
            return min(named, (self._until - now).total_seconds())
        seconds = min(named, longest * 2.0 ** min(self._cut, 10))
        self._cut += 1
        self._until = now + timedelta(seconds=seconds)
        return seconds

    def answered(self, now: datetime) -> None:
        """Begin at 5 minutes again: upstream takes calls once more."""
        if now >= self._until:
            self._cut = 0


def here(headers: Mapping[str, str], now: datetime) -> datetime:
    """Give upstream's time of an answer, else ours."""
    return moment(headers.get("Date")) or now


def number(text: str | None) -> float | None:
    """Read a finite number; None for anything else."""
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def moment(text: str | None) -> datetime | None:
    """Read an HTTP date; None for anything else."""
    try:
        found = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
