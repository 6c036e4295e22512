"""The design's table of the merge, row by row, and the named cases of disorder."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync.merge.customers import ATTRIBUTES, COLUMNS, Subscription
from sync.merge.decisions import Decision, Kind, Verdict, accept, accept_missing, merge
from sync.merge.doubts import Reason
from sync.merge.records import Record
from sync.merge.snapshots import Lens, Snapshot, Source, UnreadableError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WINDOW = timedelta(seconds=2)
ALL = Subscription()


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def says(
    name: str, *, as_of: float, position: int = 1, deleted: bool = False, rests_on_arrival: bool = False
) -> Snapshot:
    return Snapshot(
        customer_id=7,
        values={"first_name": name, "email": "jamie@kounta.example"},
        as_of=at(as_of),
        rests_on_arrival=rests_on_arrival,
        arrived_at=at(as_of + 1),
        position=position,
        source=Source.WEBHOOK,
        deleted=deleted,
    )


def told(*snapshots: Snapshot) -> Decision:
    """Merge them one after another; give the last decision."""
    record: Record | None = None
    for snapshot in snapshots:
        decision = merge(record, snapshot, ALL, WINDOW)
        record = decision.record
    return decision


def read(record: Record | None, name: str, *, as_of: float, position: int) -> Record:
    snapshot = replace(says(name, as_of=as_of, position=position), source=Source.VERIFICATION)
    return accept(record, snapshot, ALL).record


def name_in(decision: Decision) -> Any:
    return decision.record.values["first_name"]


def test_nothing_and_created_is_applied_and_is_to_be_confirmed() -> None:
    decision = told(says("Jamie", as_of=0))
    assert (decision.verdict, decision.kind, decision.doubt) == (
        Verdict.APPLIED,
        Kind.CREATED,
        Reason.CONFIRMATION,
    )
    assert decision.record.verified_at is None


def test_nothing_and_deleted_is_a_tombstone_so_that_a_late_create_does_not_bring_it_to_life() -> None:
    decision = told(says("Jamie", as_of=10, deleted=True))
    assert (decision.verdict, decision.record.deleted_at is not None) == (Verdict.TOMBSTONED, True)
    late = told(says("Jamie", as_of=10, deleted=True), says("Jamie", as_of=0, position=2))
    assert (late.verdict, late.record.deleted_at is not None) == (Verdict.STALE, True)


def test_a_live_record_and_the_same_is_unchanged_and_as_of_advances() -> None:
    decision = told(says("Jamie", as_of=0), says("Jamie", as_of=60, position=2))
    assert (decision.verdict, decision.kind, decision.doubt) == (Verdict.UNCHANGED, None, None)
    assert decision.record.as_of == at(60)


def test_a_live_record_and_something_newer_is_applied() -> None:
    decision = told(says("Jamie", as_of=0), says("Jo", as_of=60, position=2))
    assert (decision.verdict, name_in(decision), decision.columns) == (Verdict.APPLIED, "Jo", ("first_name",))
    assert decision.doubt is Reason.CONFIRMATION


def test_what_is_newer_clears_the_proof_that_a_read_gave() -> None:
    record = read(None, "Jamie", as_of=0, position=1)
    decision = merge(record, says("Jo", as_of=60, position=2), ALL, WINDOW)
    assert (record.verified_at, decision.record.verified_at) == (at(1), None)


@pytest.mark.parametrize("apart", [0, 1, 2])
def test_two_updates_within_the_window_in_either_order_leave_a_verification(apart: int) -> None:
    first, second = says("A", as_of=10), says("B", as_of=10 + apart)
    forward = told(replace(first, position=1), replace(second, position=2))
    backward = told(replace(second, position=1), replace(first, position=2))
    assert forward.doubt is backward.doubt is Reason.AMBIGUOUS
    assert forward.verdict is Verdict.APPLIED
    assert backward.verdict is (Verdict.STALE if apart else Verdict.APPLIED)


def test_a_b_a_within_a_second_is_never_dropped_as_a_duplicate() -> None:
    decision = told(says("A", as_of=10), says("B", as_of=10, position=2), says("A", as_of=10, position=3))
    assert (decision.verdict, name_in(decision), decision.doubt) == (Verdict.APPLIED, "A", Reason.AMBIGUOUS)


@pytest.mark.parametrize("whose", ["record", "snapshot"])
def test_a_difference_that_rests_on_the_arrival_is_ambiguous_however_far_apart(whose: str) -> None:
    known = says("A", as_of=0, rests_on_arrival=whose == "record")
    comes = says("B", as_of=3600, position=2, rests_on_arrival=whose == "snapshot")
    assert told(known, comes).doubt is Reason.AMBIGUOUS


def test_a_live_record_and_something_older_is_stale_and_is_verified() -> None:
    decision = told(says("Jo", as_of=60), says("Jamie", as_of=0, position=2))
    assert (decision.verdict, name_in(decision), decision.doubt) == (Verdict.STALE, "Jo", Reason.STALE)


def test_a_live_record_and_deleted_is_tombstoned() -> None:
    decision = told(says("Jamie", as_of=0), says("Jamie", as_of=60, position=2, deleted=True))
    assert (decision.verdict, decision.kind, decision.doubt) == (
        Verdict.TOMBSTONED,
        Kind.DELETED,
        Reason.CONFIRMATION,
    )


def test_a_deletion_older_than_the_record_is_tombstoned_and_verified() -> None:
    decision = told(says("Jamie", as_of=60), says("Jamie", as_of=0, position=2, deleted=True))
    assert (decision.verdict, decision.doubt) == (Verdict.TOMBSTONED, Reason.CONTRADICTED)


def test_a_deletion_older_than_an_authoritative_read_is_stale_and_verified() -> None:
    record = read(None, "Jamie", as_of=60, position=1)
    decision = merge(record, says("Jamie", as_of=0, position=2, deleted=True), ALL, WINDOW)
    assert (decision.verdict, decision.record.deleted_at, decision.doubt) == (
        Verdict.STALE,
        None,
        Reason.STALE,
    )


def test_an_update_after_a_delete_is_contradicted_and_never_straight_back_to_life() -> None:
    decision = told(says("Jamie", as_of=0, deleted=True), says("Jamie", as_of=60, position=2))
    assert (decision.verdict, decision.record.deleted_at is not None, decision.doubt) == (
        Verdict.CONTRADICTED,
        True,
        Reason.CONTRADICTED,
    )


def test_a_tombstone_and_deleted_is_unchanged_and_as_of_is_the_later() -> None:
    decision = told(says("A", as_of=60, deleted=True), says("A", as_of=0, position=2, deleted=True))
    assert (decision.verdict, decision.record.as_of) == (Verdict.UNCHANGED, at(60))


def test_a_delivery_applied_before_a_read_began_never_overrides_it() -> None:
    record = read(told(says("Jamie", as_of=0, position=5)).record, "Jo", as_of=20, position=5)
    decision = merge(record, says("Jamie", as_of=30, position=5), ALL, WINDOW)
    assert (decision.verdict, name_in(decision), decision.doubt) == (Verdict.STALE, "Jo", Reason.STALE)


def test_an_authoritative_read_stands_and_proves() -> None:
    record = told(says("Jamie", as_of=60)).record
    now = read(record, "Jo", as_of=30, position=1)
    assert (now.values["first_name"], now.as_of, now.verified_at) == ("Jo", at(30), at(31))


def test_a_read_brings_a_tombstone_back() -> None:
    record = told(says("Jamie", as_of=0, deleted=True)).record
    snapshot = replace(says("Jamie", as_of=60), source=Source.VERIFICATION)
    decision = accept(record, snapshot, ALL)
    assert (decision.kind, decision.record.deleted_at) == (Kind.RESTORED, None)


def test_a_proven_404_makes_a_tombstone_and_confirms_one() -> None:
    live = told(says("Jamie", as_of=0)).record
    gone = accept_missing(live, arrived_at=at(60), position=1)
    assert (gone.kind, gone.record.deleted_at) == (Kind.DELETED, at(60))
    again = accept_missing(gone.record, arrived_at=at(120), position=1)
    assert (again.kind, again.record.deleted_at, again.record.verified_at) == (None, at(60), at(120))


def test_what_is_absent_says_nothing_and_null_says_null() -> None:
    known = told(says("Jamie", as_of=0)).record
    absent = replace(says("Jamie", as_of=60, position=2), values={"first_name": "Jamie"})
    assert merge(known, absent, ALL, WINDOW).verdict is Verdict.UNCHANGED
    null = replace(absent, values={"first_name": "Jamie", "email": None})
    assert merge(known, null, ALL, WINDOW).columns == ("email",)


def test_unknown_fields_are_overlaid_one_by_one_and_compared_as_json() -> None:
    known = told(replace(says("J", as_of=0), values={"other": {"level": 1, "club": "a"}})).record
    other = replace(says("J", as_of=60, position=2), values={"other": {"level": True}})
    decision = merge(known, other, ALL, WINDOW)
    assert decision.columns == ("other",)
    assert decision.record.values["other"] == {"level": True, "club": "a"}


BODY = (
    b'{"id": 7, "first_name": "Jamie", "last_name": "McDonald", "email": "j@k.example", "phone": "02", '
    b'"mobile": "04", "tags": ["vip"], "image": "https://i.example/1", "accepts_marketing": true, '
    b'"primary_address": {"address": "1 George St", "city": "Sydney", "country": "AU"}, '
    b'"shipping_address": null, "reference_id": "ABC123", "loyalty": 3, '
    b'"updated_at": "2026-03-01T23:00:00+11:00"}'
)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_only_the_subscribed_attribute_reaches_the_record(attribute: str) -> None:
    lens = Lens(5678, Subscription.of([attribute]), WINDOW)
    record = told_by(lens, BODY)
    kept = {column for column, value in record.values.items() if value is not None}
    assert kept
    assert {COLUMNS[column] for column in kept - {"reference_id"}} == {attribute}
    assert record.values["reference_id"] == "ABC123"
    assert not record.values.keys() - {*Subscription.of([attribute]).columns}


def test_a_change_of_an_attribute_that_is_not_subscribed_is_unchanged() -> None:
    lens = Lens(5678, Subscription.of(["email"]), WINDOW)
    record = told_by(lens, BODY)
    later = lens.body(
        BODY.replace(b"Jamie", b"Jo").replace(b"23:00:00", b"23:05:00"),
        deleted=False,
        arrived_at=at(600),
        position=2,
    )
    assert merge(record, later, lens.subscription, WINDOW).verdict is Verdict.UNCHANGED


def told_by(lens: Lens, body: bytes) -> Record:
    snapshot = lens.body(body, deleted=False, arrived_at=at(1), position=1)
    return merge(None, snapshot, lens.subscription, WINDOW).record


def test_created_at_and_updated_at_are_never_compared_and_unknown_fields_are_kept() -> None:
    record = told_by(Lens(5678, ALL, WINDOW), BODY)
    assert record.values["other"] == {"loyalty": 3}
    assert record.as_of == NOON


@pytest.mark.parametrize(
    ("stamp", "rests_on_arrival"),
    [
        ("2026-03-01T12:00:03Z", False),
        ("2026-03-01T12:00:04Z", True),
        ("2001-01-01T00:00:00Z", False),
        ("2026-03-01T12:00:00", True),
        ("yesterday", True),
        ("0001-01-01T00:00:00+23:59", True),
        ("", True),
    ],
)
def test_a_stamp_is_believed_unless_it_is_ahead_of_the_arrival_or_does_not_parse(
    stamp: str,
    rests_on_arrival: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    body = BODY.replace(b"2026-03-01T23:00:00+11:00", stamp.encode())
    snapshot = Lens(5678, ALL, WINDOW).body(body, deleted=False, arrived_at=at(1), position=1)
    assert snapshot.rests_on_arrival is rests_on_arrival
    assert (snapshot.as_of == at(1)) is rests_on_arrival


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "EOF"),
        (b"not json", "Invalid JSON"),
        (b"[]", "object"),
        (b"{}", "id: Field required"),
        (b'{"id": true}', "id:"),
        (b'{"id": 0}', "id:"),
        (b'{"id": 9223372036854775808}', "id:"),
        (b'{"id": 7, "company_id": 9}', "company '9', not 5678"),
        (b'{"id": 7, "company": {"id": 9}}', "company '9', not 5678"),
    ],
)
def test_a_body_that_cannot_be_read_or_is_about_another_company_says_why(body: bytes, said: str) -> None:
    with pytest.raises(UnreadableError, match=said):
        Lens(5678, ALL, WINDOW).body(body, deleted=False, arrived_at=NOON, position=1)
