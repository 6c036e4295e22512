"""What the worker owes because of lost deliveries that name no customer: a sweep, and a read of every row.

However many are lost: at most one sweep an hour and one round of refresh a day (decision 0062). Pure.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sync.merge.doubts import AHEAD, Timing
from sync.mirror.progress import Progress
from sync.mirror.sweeps import SweepRow

LOSSES: Final = "losses"
"""Why a sweep is due when deliveries were lost that name no customer."""
SWEPT_EVERY: Final = timedelta(hours=1)
REFRESHED_EVERY: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Owed:
    """What is owed, and since when it may be done; None: it is not owed."""

    sweep_at: datetime | None = None
    refresh_at: datetime | None = None

    @property
    def is_anything(self) -> bool:
        return self.sweep_at is not None or self.refresh_at is not None


def owed(progress: Progress, complete: SweepRow | None, now: datetime, timing: Timing) -> Owed:
    """Return what is owed; `complete` is the newest complete sweep.

    What was lost shows in a list, or a read, that begins a read lag after the loss was noticed.
    """
    lost_at = progress.lost_at
    if lost_at is None:
        return Owed()
    shown_at = lost_at + timing.read_after
    if lost_at > now + AHEAD:  # the clock has stepped back since
        shown_at = now
    sweep_at = refresh_at = None
    if complete is None or complete.started_at < shown_at or complete.started_at > now + AHEAD:
        sweep_at = max(shown_at, _after(progress.lost_swept_at, SWEPT_EVERY, now) or shown_at)
    refreshed_at = progress.lost_refreshed_at
    if refreshed_at is None or refreshed_at < shown_at or refreshed_at > now + AHEAD:
        refresh_at = max(shown_at, _after(refreshed_at, REFRESHED_EVERY, now) or shown_at)
    return Owed(sweep_at, refresh_at)


def _after(last: datetime | None, pause: timedelta, now: datetime) -> datetime | None:
    """Return when the pause after the last time is over; a time ahead of now does not count."""
    return None if last is None or last > now + AHEAD else last + pause
