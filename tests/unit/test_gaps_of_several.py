"""What was missed where several receivers share an inbox."""

from datetime import datetime, timedelta

import pytest

from receiver.inbox import Start
from sync.gaps import HEARTBEAT, SILENT_AFTER, Outage, outage_of_several
from tests.clock import NOON

LATER = NOON + timedelta(hours=1)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def run(number: int, started: float, *, seen: float = 3600, stopped: float | None = None) -> Start:
    """A receiver's run, in seconds behind noon; unless it says otherwise it still lives an hour later."""
    stopped_at = None if stopped is None else at(stopped)
    return Start(number, at(started), stopped_at, at(seen) if stopped is None else stopped_at)


@pytest.mark.parametrize(
    "runs",
    [
        [run(1, 0), run(2, 60)],
        [run(1, 0, stopped=600), run(2, 60), run(3, 620)],
        [run(1, 0), run(2, 60, stopped=600), run(3, 605), run(4, 610, stopped=700), run(5, 720)],
    ],
    ids=["one more joins", "one restarts beside another", "one that lasts covers all others"],
)
def test_while_one_listens_the_others_may_come_and_go(runs: list[Start]) -> None:
    assert outage_of_several(runs, 1, None, LATER) is None


def test_when_the_last_one_has_stopped_the_next_start_ends_a_gap() -> None:
    runs = [run(1, 0, stopped=500), run(2, 60, stopped=600), run(3, 900), run(4, 901)]
    assert outage_of_several(runs, 2, None, LATER) == Outage("Nobody listened", at(600), at(900))


def test_a_start_beside_one_that_gave_no_sign_after_it_is_a_gap() -> None:
    """It may have been killed just before: its last sign is up to a heartbeat old."""
    runs = [run(1, 0, seen=598), run(2, 600)]
    assert outage_of_several(runs, 1, None, LATER) == Outage("Nobody listened", at(598), at(600))


def test_one_that_was_killed_beside_another_may_have_taken_requests_with_it() -> None:
    runs = [run(1, 0), run(2, 60, seen=600)]
    found = Outage("A receiver was killed", at(600), at(600) + HEARTBEAT)
    assert outage_of_several(runs, 2, None, at(600) + SILENT_AFTER) is None
    assert outage_of_several(runs, 2, None, LATER) == found
    assert outage_of_several(runs, 2, found.until, LATER) is None


def test_a_restart_of_one_that_was_killed_beside_another_is_the_same_gap() -> None:
    runs = [run(1, 0), run(2, 60, seen=600), run(3, 630)]
    assert outage_of_several(runs, 2, None, LATER) == Outage(
        "A receiver was killed", at(600), at(600) + HEARTBEAT
    )
