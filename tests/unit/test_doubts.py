"""Doubts: what is read first, when a read may begin, and when its answer settles nothing."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from sync.merge.doubts import (
    AHEAD,
    MOST_FAILURES,
    PRIORITY,
    Doubt,
    Reason,
    Timing,
    brought_back,
    is_fenced,
    note_other,
    put_off,
    raise_doubt,
    readable_at,
)
from sync.merge.records import Record
from sync.merge.snapshots import Source
from tests.clock import NOON

TIMING = Timing(read_lag=timedelta(seconds=5))


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def record(settled: float, read: float | None = None) -> Record:
    return Record(
        customer_id=7,
        values={},
        as_of=NOON,
        rests_on_arrival=False,
        position=1,
        settled_at=at(settled),
        first_seen_at=NOON,
        first_seen_by=Source.WEBHOOK,
        changed_at=NOON,
        read_at=None if read is None else at(read),
    )


def doubt(reason: Reason = Reason.STALE, due: float = 0, *, asked: bool = False) -> Doubt:
    return raise_doubt(None, 7, reason, at(due), 1, asked=asked)


def test_what_a_person_waits_for_comes_first_then_contradictions_then_sweeps_then_confirmations() -> None:
    in_order = [
        doubt(Reason.ASKED, asked=True),
        doubt(Reason.CONTRADICTED),
        doubt(Reason.UNLISTED),
        doubt(Reason.CONFIRMATION),
        doubt(Reason.REFRESH),
    ]
    assert sorted(in_order, key=lambda one: one.priority) == in_order
    assert len({one.priority for one in in_order}) == len(in_order)
    assert PRIORITY.keys() == set(Reason)


def test_many_doubts_of_a_customer_are_one_with_the_strongest_reason_and_the_earliest_time() -> None:
    known = doubt(Reason.CONFIRMATION, due=10)
    known = raise_doubt(known, 7, Reason.AMBIGUOUS, at(20), 2)
    known = raise_doubt(known, 7, Reason.REFRESH, at(5), 3)
    assert (known.reason, known.due_at, known.revision, known.born) == (Reason.AMBIGUOUS, at(5), 3, 1)


def test_once_asked_it_stays_asked_for_and_its_reason_stays_known() -> None:
    known = raise_doubt(doubt(Reason.STALE), 7, Reason.ASKED, at(0), 2, asked=True)
    known = raise_doubt(known, 7, Reason.CONFIRMATION, at(0), 3)
    assert (known.reason, known.asked) == (Reason.STALE, True)


def test_a_new_doubt_does_not_forget_the_tries_and_the_pause() -> None:
    tired = put_off(doubt(), at(0), TIMING)
    again = raise_doubt(tired, 7, Reason.CONTRADICTED, at(0), 2)
    assert (again.tries, again.not_before) == (1, at(30))


@pytest.mark.parametrize("reason", [Reason.FAILED, Reason.UNLISTED])
def test_what_no_record_notes_waits_for_its_own_due_time(reason: Reason) -> None:
    known = raise_doubt(doubt(Reason.REFRESH, due=0), 7, reason, at(8), 2)
    assert known.due_at == at(8)
    known = raise_doubt(known, 7, Reason.ASKED, at(1), 3, asked=True)
    assert readable_at(known, None, TIMING) == at(8)


def test_a_read_waits_until_upstream_must_show_what_was_last_heard() -> None:
    assert readable_at(doubt(due=3), None, TIMING) == at(3)
    assert readable_at(doubt(due=3), record(settled=10), TIMING) == at(15)
    slow = Timing(read_lag=timedelta(minutes=1))
    assert readable_at(doubt(asked=True), record(settled=10), slow) == at(70)


def test_a_read_waits_at_least_as_long_as_the_window_of_ambiguity() -> None:
    assert Timing(read_lag=timedelta(0)).read_after == timedelta(seconds=2)


def test_a_customer_is_read_once_in_30_seconds_unless_a_person_asks() -> None:
    just_read = record(settled=-60, read=0)
    assert readable_at(doubt(), just_read, TIMING) == at(30)
    assert readable_at(doubt(asked=True), just_read, TIMING) == at(0)


def test_the_pause_doubles_with_each_read_that_settled_nothing_up_to_an_hour() -> None:
    known, pauses = doubt(), []
    for _ in range(9):
        known = put_off(known, at(0), TIMING)
        pauses.append(readable_at(known, None, TIMING))
    assert pauses == [at(seconds) for seconds in (30, 60, 120, 240, 480, 960, 1920, 3600, 3600)]
    assert TIMING.pause_after(10**6) == timedelta(hours=1)


def test_a_person_does_not_wait_for_the_pause() -> None:
    assert readable_at(put_off(doubt(asked=True), at(0), TIMING), None, TIMING) == at(0)


def fenced(record: Record | None, known: Doubt | None, *, began: float = 0, seen: int = 1) -> bool:
    return is_fenced(record, known, began_at=at(began), seen_revision=seen, timing=TIMING)


def test_a_read_settles_the_doubt_that_it_saw_when_it_began() -> None:
    assert not fenced(record(settled=-60), doubt())
    assert not fenced(None, None)


def test_a_read_does_not_settle_a_doubt_that_arose_after_it_began() -> None:
    newer = raise_doubt(doubt(), 7, Reason.CONFIRMATION, at(0), 2)
    assert fenced(record(settled=-60), newer, seen=1)
    assert not fenced(record(settled=-60), newer, seen=2)


@pytest.mark.parametrize(
    ("heard", "is_so"), [(-60, False), (-5, False), (-4.999, True), (0, True), (3, True)]
)
def test_a_read_settles_nothing_that_was_heard_within_the_lag_before_it_or_since(
    heard: float,
    is_so: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    assert fenced(record(settled=heard), None) is is_so


def test_without_a_record_a_failed_delivery_fences_by_when_it_is_due() -> None:
    failed = doubt(Reason.FAILED, due=5)
    assert fenced(None, failed, began=4.9)
    assert not fenced(None, failed, began=5)
    assert not fenced(None, replace(failed, reason=Reason.ASKED), began=0)


def test_five_failures_in_a_row_are_a_problem_that_waits_up_to_a_day() -> None:
    known = doubt()
    for number in range(1, 20):
        known = put_off(known, NOON, TIMING, "refused")
        assert known.is_problem == (number >= MOST_FAILURES)
    assert known.not_before == NOON + timedelta(days=1)
    assert known.failure == "refused"


def test_an_answer_that_is_of_use_ends_the_row_and_an_outage_says_nothing() -> None:
    known = put_off(put_off(doubt(), NOON, TIMING, "refused"), NOON, TIMING, is_answered=False)
    assert (known.failures, known.failure, known.tries) == (1, "refused", 2)
    known = put_off(known, NOON, TIMING)
    assert (known.failures, known.failure) == (0, None)


def test_a_page_that_still_lists_a_customer_says_more_than_its_equals() -> None:
    known = raise_doubt(doubt(Reason.CONTRADICTED), 7, Reason.STILL_LISTED, at(0), 2)
    assert known.reason is Reason.STILL_LISTED
    assert raise_doubt(known, 7, Reason.CONTRADICTED, at(0), 3).reason is Reason.STILL_LISTED


def test_another_customer_counts_twice_only_a_read_lag_apart() -> None:
    lag = TIMING.read_after
    known = note_other(doubt(), at(0), at(1), TIMING)
    assert note_other(known, at(1), at(9), TIMING).other_again_at is None
    again = note_other(known, at(1) + lag, at(9), TIMING)
    assert (again.other_first_at, again.other_again_at) == (at(1), at(9))
    assert note_other(again, at(99), at(100), TIMING) == again


def test_times_of_a_doubt_that_lie_too_far_ahead_are_brought_back() -> None:
    far = NOON + timedelta(days=1)
    known = replace(doubt(), due_at=far, not_before=far, tries=1)
    back = brought_back(known, NOON, TIMING)
    assert (back.due_at, back.not_before) == (NOON + TIMING.read_after, NOON)
    near = replace(known, due_at=NOON + TIMING.read_after + AHEAD, not_before=NOON + TIMING.pause + AHEAD)
    assert brought_back(near, NOON, TIMING) is near
    problem = replace(known, due_at=NOON, tries=20, failures=MOST_FAILURES)
    assert brought_back(problem, NOON, TIMING) is problem
