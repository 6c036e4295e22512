from datetime import timedelta

from receiver.breaker import Breaker, Outage
from tests.clock import NOON

LATER = NOON + timedelta(minutes=3)


def closed() -> Breaker:
    breaker = Breaker(NOON)
    breaker.close()
    return breaker


def test_it_begins_open_with_nothing_against_the_database() -> None:
    breaker = Breaker(NOON)
    assert (breaker.closed, breaker.away_since) == (False, None)
    breaker.close()
    assert breaker.closed
    assert breaker.ended(LATER) is None


def test_one_failure_opens_it_and_is_told_once() -> None:
    breaker = closed()
    assert breaker.failed("connection refused", NOON)
    assert not breaker.failed("connection refused", LATER)
    assert not breaker.closed
    assert breaker.away_since == NOON


def test_it_is_closed_by_a_success_and_the_next_outage_has_its_own_time() -> None:
    breaker = closed()
    breaker.failed("connection refused", NOON)
    breaker.close()
    assert breaker.closed
    assert breaker.away_since is None
    breaker.failed("no answer", LATER)
    assert breaker.away_since == LATER


def test_an_outage_that_is_over_is_told_once_with_what_was_forwarded() -> None:
    breaker = closed()
    breaker.failed("connection refused", NOON)
    breaker.forwarded(5)
    breaker.forwarded(7)
    breaker.close()
    assert breaker.ended(LATER) == Outage(NOON, LATER, 12)
    assert breaker.ended(LATER) is None


def test_what_a_run_before_has_left_is_told_when_it_is_forwarded() -> None:
    breaker = Breaker(NOON)
    breaker.forwarded(3)
    breaker.close()
    assert breaker.ended(LATER) == Outage(NOON, LATER, 3)


def test_a_failure_before_all_is_forwarded_goes_on_with_the_same_outage() -> None:
    breaker = closed()
    assert breaker.failed("connection refused", NOON)
    breaker.forwarded(5)
    breaker.close()
    assert not breaker.failed("connection refused", LATER)
    breaker.forwarded(1)
    breaker.close()
    outage = breaker.ended(LATER)
    assert outage is not None
    assert outage.forwarded == 6


def test_the_outage_after_one_that_ended_is_told_again() -> None:
    breaker = closed()
    breaker.failed("connection refused", NOON)
    breaker.close()
    breaker.ended(NOON)
    assert breaker.failed("connection refused", LATER)
