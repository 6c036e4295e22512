"""What is owed because of lost deliveries that name no customer."""

from datetime import datetime, timedelta

from sync.losses import Owed, owed
from sync.merge.doubts import Timing
from sync.mirror.progress import Progress
from sync.mirror.sweeps import SweepRow
from tests.clock import NOON

TIMING = Timing(read_lag=timedelta(seconds=20))
SHOWN = NOON + timedelta(seconds=20)


def swept(began: datetime) -> SweepRow:
    return SweepRow(1, "schedule", began, began, complete=True, next_page="", listed=0, failure=None)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def test_nothing_is_owed_where_nothing_was_lost() -> None:
    assert owed(Progress(), swept(NOON), NOON, TIMING) == Owed()
    assert not Owed().is_anything


def test_a_loss_is_followed_by_a_sweep_and_a_round_a_read_lag_later() -> None:
    assert owed(Progress(lost_at=NOON), swept(NOON), NOON, TIMING) == Owed(SHOWN, SHOWN)


def test_any_sweep_serves_that_began_a_read_lag_later() -> None:
    assert owed(Progress(lost_at=NOON), swept(SHOWN), SHOWN, TIMING) == Owed(None, SHOWN)
    assert owed(Progress(lost_at=NOON), swept(SHOWN - minutes(0.1)), SHOWN, TIMING).sweep_at == SHOWN


def test_the_next_sweep_is_an_hour_and_the_next_round_a_day_after_the_last() -> None:
    last = NOON - minutes(10)
    progress = Progress(lost_at=NOON, lost_swept_at=last, lost_refreshed_at=last)
    assert owed(progress, swept(last), NOON, TIMING) == Owed(last + minutes(60), last + timedelta(days=1))


def test_a_round_serves_all_that_was_lost_before_it() -> None:
    progress = Progress(lost_at=NOON, lost_swept_at=SHOWN, lost_refreshed_at=SHOWN)
    assert owed(progress, swept(SHOWN), SHOWN, TIMING) == Owed()


def test_times_ahead_of_now_postpone_nothing() -> None:
    ahead = NOON + timedelta(days=1)
    progress = Progress(lost_at=ahead, lost_swept_at=ahead, lost_refreshed_at=ahead)
    assert owed(progress, swept(ahead), NOON, TIMING) == Owed(NOON, NOON)
