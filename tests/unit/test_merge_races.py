"""Histories that ended silently wrong before a rule was there: found by the model, kept by name.

Each is the shortest form of what `tests/property/test_merge_histories.py` found. `began_at` and the like are
seconds after noon; upstream's reads and lists may lag five seconds.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sync.merge.customers import Subscription, Values
from sync.merge.decisions import (
    Decision,
    Kind,
    Verdict,
    accept,
    accept_missing,
    accept_missing_unknown,
    compare_listed,
    compare_unlisted,
    heard,
    merge,
)
from sync.merge.doubts import Doubt, Reason, Timing, is_fenced, raise_doubt, readable_at
from sync.merge.records import Record
from sync.merge.snapshots import Snapshot, Source
from tests.clock import NOON

TIMING = Timing(read_lag=timedelta(seconds=5), pause=timedelta(0))
NAME = Subscription.of(["name"])


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def says(
    name: str, *, stamp: float, arrives: float, position: int = 0, source: Source = Source.WEBHOOK
) -> Snapshot:
    values: Values = {"first_name": name, "last_name": None, "reference_id": ""}
    return Snapshot(7, values, at(stamp), False, at(arrives), position, source)


def told(record: Record | None, snapshot: Snapshot) -> Decision:
    return merge(record, snapshot, NAME, TIMING.window)


def mirrored(name: str = "A") -> Record:
    read = says(name, stamp=-600, arrives=-600, source=Source.VERIFICATION)
    return accept(None, read, NAME).record


def fenced(record: Record | None, doubt: Doubt | None, *, began: float, seen: int = 99) -> bool:
    return is_fenced(record, doubt, began_at=at(began), seen_revision=seen, timing=TIMING)


def test_a_customer_who_came_back_while_the_deletion_was_announced_twice_is_in_doubt() -> None:
    deleted = replace(says("A", stamp=0, arrives=1, position=1), deleted=True)
    tombstone = told(mirrored(), deleted).record
    tombstone = accept_missing(tombstone, arrived_at=at(7), position=1).record
    again = told(tombstone, replace(deleted, as_of=at(30), arrived_at=at(31), position=2))
    assert (again.verdict, again.doubt) == (Verdict.UNCHANGED, None)
    back = told(again.record, says("A", stamp=10, arrives=40, position=3))
    assert (back.verdict, back.doubt) == (Verdict.STALE, Reason.STALE)


def test_a_customer_who_came_back_after_upstreams_clock_stepped_back_is_in_doubt() -> None:
    tombstone = told(None, replace(says("A", stamp=0, arrives=0, position=1), deleted=True)).record
    back = told(tombstone, says("A", stamp=-3000, arrives=60, position=2))
    assert back.doubt is Reason.STALE


def test_a_tombstone_of_a_404_is_contradicted_by_any_stamp_for_it_rests_on_our_clock() -> None:
    tombstone = accept_missing(mirrored(), arrived_at=at(0), position=0).record
    back = told(tombstone, says("A", stamp=-3600, arrives=60, position=1))
    assert (back.verdict, back.doubt) == (Verdict.CONTRADICTED, Reason.CONTRADICTED)


def test_what_a_list_has_shown_is_not_settled_by_a_read_that_lags_behind_it() -> None:
    old_doubt = raise_doubt(None, 7, Reason.CONFIRMATION, at(-10), 1)
    item = replace(says("B", stamp=1, arrives=1, source=Source.SWEEP), complete=False)
    listed = compare_listed(mirrored("A"), item)
    assert listed.doubt is Reason.LISTED_DIFFERENTLY
    doubt = raise_doubt(old_doubt, 7, listed.doubt, at(6), 2)
    assert readable_at(doubt, listed.record, TIMING) == at(6)


def test_a_list_that_shows_what_is_known_fences_an_older_read_that_is_still_under_way() -> None:
    item = replace(says("A", stamp=2, arrives=2, source=Source.SWEEP), complete=False)
    listed = compare_listed(mirrored("A"), item)
    assert listed.doubt is None
    assert fenced(listed.record, None, began=0)


def test_a_tombstone_that_is_not_listed_fences_an_older_read_that_is_still_under_way() -> None:
    tombstone = accept_missing(mirrored(), arrived_at=at(-60), position=0).record
    unlisted = compare_unlisted(tombstone, at(2))
    assert unlisted.doubt is None
    assert fenced(unlisted.record, None, began=0)


def test_a_live_customer_who_is_not_listed_is_read_once_the_lag_is_over() -> None:
    unlisted = compare_unlisted(mirrored(), at(2))
    assert unlisted.doubt is Reason.UNLISTED
    doubt = raise_doubt(raise_doubt(None, 7, Reason.ASKED, at(0), 1), 7, unlisted.doubt, at(7), 2)
    assert readable_at(doubt, unlisted.record, TIMING) == at(7)


def test_a_list_that_may_not_have_shown_a_customer_yet_is_no_proof_that_it_is_gone() -> None:
    settled_at = mirrored().settled_at
    assert compare_unlisted(mirrored(), at(9), shows=settled_at).doubt is Reason.UNLISTED
    early = settled_at - timedelta(milliseconds=1)
    assert compare_unlisted(mirrored(), at(9), shows=early).doubt is Reason.AMBIGUOUS
    tombstone = accept_missing(mirrored(), arrived_at=at(-60), position=0).record
    assert compare_unlisted(tombstone, at(9), shows=early).doubt is None


def test_a_delivery_that_failed_fences_as_if_it_had_been_applied() -> None:
    assert fenced(heard(mirrored(), at(2)), None, began=0)
    assert heard(heard(mirrored(), at(2)), at(1)).settled_at == at(2)


def test_a_failed_delivery_of_an_unknown_customer_is_not_settled_by_an_earlier_due_time() -> None:
    asked = raise_doubt(None, 7, Reason.ASKED, at(0), 1, asked=True)
    doubt = raise_doubt(asked, 7, Reason.FAILED, at(5), 2)
    assert readable_at(doubt, None, TIMING) == at(5)


def test_a_failed_delivery_of_an_unknown_customer_fences_a_list_asked_for_within_the_lag() -> None:
    doubt = raise_doubt(None, 7, Reason.FAILED, at(5), 1)
    assert fenced(None, doubt, began=1)


def test_a_404_of_an_unknown_customer_whose_delivery_failed_fences_an_older_picture_under_way() -> None:
    decision = accept_missing_unknown(7, NAME, arrived_at=at(10), position=3)
    assert (decision.verdict, decision.kind) == (Verdict.TOMBSTONED, Kind.DELETED)
    assert set(decision.record.values.values()) == {None}
    assert fenced(decision.record, None, began=4)


def test_a_404_that_waited_to_be_proven_is_fenced_by_a_delivery_that_lay_in_the_inbox() -> None:
    """Read at 0, deleted; restored at 1, arrived at 2, answered at 10; applied at 12: unchanged."""
    restored = told(mirrored(), says("A", stamp=1, arrives=2, position=1))
    assert (restored.verdict, restored.doubt) == (Verdict.UNCHANGED, None)
    assert fenced(restored.record, None, began=0)


def test_a_read_waits_for_the_arrival_where_upstreams_clock_is_behind() -> None:
    applied = told(mirrored(), says("B", stamp=-60, arrives=0, position=1))
    assert fenced(applied.record, None, began=4)
    assert not fenced(applied.record, None, began=5)


def test_a_read_after_upstreams_clock_stepped_back_stands_and_later_words_are_newer() -> None:
    ahead = told(None, says("A", stamp=0, arrives=0, position=1)).record
    read = accept(ahead, says("B", stamp=-3000, arrives=60, position=1, source=Source.VERIFICATION), NAME)
    assert (read.record.as_of, read.record.values["first_name"]) == (at(-3000), "B")
    later = told(read.record, says("C", stamp=-2900, arrives=160, position=2))
    assert (later.verdict, later.record.values["first_name"]) == (Verdict.APPLIED, "C")


@pytest.mark.parametrize("stamp", [datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC)])
def test_a_tombstone_of_the_year_1_does_not_overflow(stamp: datetime) -> None:
    first = replace(says("A", stamp=0, arrives=0, position=1), deleted=True, as_of=stamp)
    tombstone = told(None, first).record
    assert told(tombstone, says("A", stamp=0, arrives=60, position=2)).doubt is Reason.CONTRADICTED


def test_unknown_fields_of_an_address_go_with_it() -> None:
    whole = Subscription()
    here: Values = {"primary_city": "Sydney", "other": {"primary_address": {"floor": 2}, "level": 1}}
    known = merge(None, replace(says("A", stamp=0, arrives=0), values=here), whole, TIMING.window).record
    moved = replace(says("A", stamp=60, arrives=60, position=1), values={"primary_city": None})
    decision = merge(known, moved, whole, TIMING.window)
    assert decision.columns == ("primary_city", "other")
    assert decision.record.values["other"] == {"level": 1}
    silent = replace(moved, values={"other": {"level": 1}})
    assert merge(known, silent, whole, TIMING.window).verdict is Verdict.UNCHANGED
