"""Properties of the merge that hold for any snapshots, in any order."""

import copy
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from sync.merge.customers import COLUMNS, Subscription
from sync.merge.decisions import Verdict, merge
from sync.merge.doubts import Doubt, Reason, raise_doubt
from sync.merge.records import Record
from sync.merge.snapshots import Snapshot, Source
from tests.clock import NOON

WINDOW = timedelta(seconds=2)
ALL = Subscription()
WEAK = {None, Reason.CONFIRMATION}


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    as_of = NOON + timedelta(seconds=draw(st.integers(0, 12)))
    return Snapshot(
        customer_id=7,
        values={
            "first_name": draw(st.sampled_from(["A", "B", None])),
            "tags": draw(st.sampled_from([["vip"], [], None])),
        },
        as_of=as_of,
        rests_on_arrival=draw(st.booleans()) and draw(st.booleans()),
        arrived_at=as_of + timedelta(seconds=draw(st.integers(0, 30))),
        position=draw(st.integers(1, 50)),
        source=Source.WEBHOOK,
        deleted=draw(st.integers(0, 4)) == 0,
    )


def ends(sequence: list[Snapshot]) -> tuple[Record, bool]:
    """Merge them; give the record, and whether a verification stronger than a confirmation was asked for."""
    record: Record | None = None
    doubtful = False
    for snapshot in sequence:
        decision = merge(record, snapshot, ALL, WINDOW)
        record = decision.record
        doubtful = doubtful or decision.doubt not in WEAK
    assert record is not None
    return record, doubtful


@given(st.data(), st.lists(snapshots(), min_size=1, max_size=5))
def test_any_order_and_any_repetition_ends_in_the_same_record_unless_a_verification_was_asked_for(
    data: st.DataObject, given_ones: list[Snapshot]
) -> None:
    repeated = given_ones + data.draw(st.lists(st.sampled_from(given_ones), max_size=3))
    shuffled = data.draw(st.permutations(repeated))
    (one, one_doubtful), (other, other_doubtful) = ends(given_ones), ends(shuffled)
    if not (one_doubtful or other_doubtful):
        assert (one.values, one.as_of, one.deleted_at is None) == (
            other.values,
            other.as_of,
            other.deleted_at is None,
        )


@given(st.lists(snapshots(), min_size=1, max_size=8))
def test_every_snapshot_has_a_verdict_of_its_own_and_changes_nothing_that_it_was_given(
    sequence: list[Snapshot],
) -> None:
    record: Record | None = None
    for snapshot in sequence:
        before = copy.deepcopy((record, snapshot))
        decision = merge(record, snapshot, ALL, WINDOW)
        assert (record, snapshot) == before
        assert decision.verdict in set(Verdict) - {Verdict.QUARANTINED, Verdict.FAILED}
        assert decision.record.settled_at >= snapshot.arrived_at
        record = decision.record


@given(st.sets(st.sampled_from(["name", "tags", "email"])), st.lists(snapshots(), min_size=1, max_size=6))
def test_an_attribute_that_is_not_subscribed_never_reaches_the_record(
    names: set[str], sequence: list[Snapshot]
) -> None:
    subscription = Subscription.of(names)
    record: Record | None = None
    for snapshot in sequence:
        carried = {
            column: value
            for column, value in snapshot.values.items()
            if COLUMNS[column] in subscription.attributes
        }
        kept = Snapshot(
            **{
                **{name: getattr(snapshot, name) for name in Snapshot.__slots__},
                "values": carried,
            }
        )
        record = merge(record, kept, subscription, WINDOW).record
        assert record.values.keys() == set(subscription.columns)


# What is noted nowhere but in the doubt, where a customer may have no record, has a due time that stands.
NOTED_HERE_ALONE = sorted({Reason.FAILED, Reason.UNREADABLE, Reason.SAID_DELETED, Reason.UNLISTED})
REASONS = sorted(set(Reason) - set(NOTED_HERE_ALONE))


@given(st.lists(st.tuples(st.sampled_from(REASONS), st.integers(0, 60), st.booleans()), min_size=1))
def test_a_doubt_is_never_postponed_nor_weakened_and_its_revision_always_rises(
    raised: list[tuple[Reason, int, bool]],
) -> None:
    known: Doubt | None = None
    for revision, (reason, seconds, asked) in enumerate(raised, start=1):
        doubt = raise_doubt(known, 7, reason, NOON + timedelta(seconds=seconds), revision, asked=asked)
        if known is not None:
            assert doubt.due_at <= known.due_at
            assert doubt.priority <= known.priority
            assert (doubt.revision, doubt.born) == (revision, known.born)
        known = doubt


@given(
    st.lists(st.tuples(st.sampled_from(sorted(Reason)), st.integers(0, 60)), max_size=6),
    st.sampled_from(NOTED_HERE_ALONE),
    st.sampled_from(REASONS),
)
def test_the_due_time_of_what_only_the_doubt_notes_stands(
    raised: list[tuple[Reason, int]], noted_here_alone: Reason, other: Reason
) -> None:
    known: Doubt | None = None
    for revision, (reason, seconds) in enumerate(raised, start=1):
        known = raise_doubt(known, 7, reason, NOON + timedelta(seconds=seconds), revision)
    last = NOON + timedelta(seconds=90)

    doubt = raise_doubt(known, 7, noted_here_alone, last, 90)

    assert doubt.due_at == last
    if known is not None:
        assert doubt.priority <= known.priority
    if doubt.reason is noted_here_alone:
        assert raise_doubt(doubt, 7, other, NOON, 91).due_at == last
