"""Reading a body: what it says, when that was so, and why it cannot be read."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync.merge.customers import Customer, Subscription
from sync.merge.snapshots import Lens, Snapshot, Source, UnreadableError, picture_time

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WINDOW = timedelta(seconds=2)
SECRET = "jamie@kounta.example"


def read(body: bytes, *attributes: str) -> Snapshot:
    subscription = Subscription.of(attributes) if attributes else Subscription()
    return Lens(5678, subscription, WINDOW).body(body, deleted=False, arrived_at=NOON, position=3)


def body(**fields: Any) -> bytes:
    return json.dumps({"id": 7, **fields}).encode()


@pytest.mark.parametrize(
    ("stamp", "as_of"),
    [
        ("2026-03-01T12:00:00Z", NOON),
        ("2026-03-01T23:00:00+11:00", NOON),
        ("2026-03-01T23:00:00.123456+11:00", NOON + timedelta(milliseconds=123)),
        ("2026-03-01T12:00:02Z", NOON + WINDOW),
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_stamp_with_an_offset_is_when_the_picture_was_taken_however_old(
    stamp: str, as_of: datetime
) -> None:
    assert picture_time(stamp, NOON, WINDOW) == (as_of, False)


@pytest.mark.parametrize(
    "stamp",
    [
        "2026-03-01T12:00:02.001Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
        "2026-03-01T12:00:00",
        "2026-03-01",
        "2026-02-30T12:00:00Z",
        "12:00:00Z",
        "now",
        "",
        None,
        1772366400,
        True,
        ["2026-03-01T12:00:00Z"],
    ],
)
def test_a_stamp_of_the_future_or_of_another_form_is_not_believed(stamp: object) -> None:
    assert picture_time(stamp, NOON, WINDOW) == (NOON, True)


def test_a_snapshot_says_whose_it_is_and_where_it_came_from() -> None:
    snapshot = read(body(first_name="Jamie", updated_at="2026-03-01T11:59:00Z"), "name")
    assert (snapshot.customer_id, snapshot.values) == (7, {"first_name": "Jamie"})
    assert (snapshot.as_of, snapshot.rests_on_arrival) == (NOON - timedelta(minutes=1), False)
    assert (snapshot.arrived_at, snapshot.position, snapshot.source) == (NOON, 3, Source.WEBHOOK)
    assert (snapshot.deleted, snapshot.complete) == (False, False)


def test_a_deleted_topic_makes_a_deleted_snapshot() -> None:
    lens = Lens(5678, Subscription(), WINDOW)
    assert lens.body(body(), deleted=True, arrived_at=NOON, position=1).deleted


@pytest.mark.parametrize(
    ("unreadable", "reason"),
    [
        (b"", "Invalid JSON: EOF"),
        (b"\xef\xbb\xbf{}", "Invalid JSON"),
        (b"<html>", "Invalid JSON"),
        (b"null", "should be an object"),
        (b'[{"id": 7}]', "should be an object"),
        (b'{"email": "jamie@kounta.example"}', "^id: Field required"),
        (b'{"id": "jamie@kounta.example"}', "^id: "),
        (b'{"id": true}', "^id: .*expected a number, came true or false"),
        (b'{"id": ' + b"9" * 5000 + b"}", "Field required"),
        (b'{"id": "7\\u0000", "email": "jamie@kounta.example"}', "^id: "),
        (b'{"id": 7, "email": "jamie@kounta.example", "x": ' + b"[" * 100_000, "Invalid JSON"),
        (b'{"id": 7, "email": jamie@kounta.example}', "Invalid JSON"),
        (b'{"id": 7, "email": "jamie@kounta.example" "phone": "1"}', "Invalid JSON"),
        (b'{"id": 7, "email": "jamie@kounta.example"', "Invalid JSON"),
        (b'{"id": 7, "email": "jamie@kounta.example"} 7', "Invalid JSON"),
        (b'{"id": 7, "company_id": 9}', "about company '9', not 5678"),
        (b'{"id": 7, "company_id": "9"}', "about company '9', not 5678"),
        (b'{"id": 7, "company_id": "jamie@kounta.example"}', "whose id is no number, not 5678"),
        (b'{"id": 7, "company": {"id": 9, "name": "jamie@kounta.example"}}', "about company '9', not 5678"),
    ],
    ids=lambda value: str(value[:40]),
)
def test_what_cannot_be_read_says_why_and_never_what_it_holds(unreadable: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason) as refused:
        read(unreadable)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "named",
    [{"company_id": 5678}, {"company_id": "5678"}, {"company": {"id": 5678}}, {"company": "A Café"}, {}],
)
def test_a_body_of_this_company_or_of_none_named_is_read(named: dict[str, Any]) -> None:
    assert read(body(**named)).values.get("other", {}) == named


def test_whole_characters_beyond_the_basic_plane_are_text() -> None:
    assert read(b'{"id": 7, "first_name": "\\ud83d\\ude00"}').values == {"first_name": "\U0001f600"}


def test_a_number_that_json_cannot_hold_does_not_matter_where_unknown_fields_are_not_kept() -> None:
    assert read(b'{"id": 7, "email": "a@b.example", "x": NaN}', "email").values == {"email": "a@b.example"}


ALL_BUT_MOBILE: dict[str, Any] = {
    **dict.fromkeys(("first_name", "last_name", "email", "phone", "image", "tags", "accepts_marketing")),
    **dict.fromkeys(("primary_address", "shipping_address")),
    "reference_id": "",
}


def answered(fields: dict[str, Any], *, listed: bool, mobile: bool | None = None) -> Snapshot:
    customer = Customer.model_validate({"id": 7, **fields})
    return Lens(5678, Subscription(), WINDOW).customer(
        customer, arrived_at=NOON, position=0, source=Source.SWEEP, listed=listed, mobile=mobile
    )


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("missing", sorted(ALL_BUT_MOBILE))
def test_an_answer_without_a_field_of_the_seed_is_incomplete(missing: str, listed: bool) -> None:  # noqa: FBT001 - parameters
    fields = {**ALL_BUT_MOBILE, "mobile": None}
    assert answered(fields, listed=listed).complete
    del fields[missing]
    lacking = answered(fields, listed=listed)
    assert not lacking.complete
    assert set(lacking.unread.values()) == {None}
    assert lacking.unread.keys().isdisjoint(lacking.values)


@pytest.mark.parametrize(
    ("mobile", "read", "listed"), [(None, True, False), (False, True, True), (True, False, False)]
)
def test_a_read_needs_a_mobile_once_one_has_carried_it_and_a_list_until_one_has_not(
    mobile: bool | None,  # noqa: FBT001 - a parameter of the test
    read: bool,  # noqa: FBT001 - a parameter of the test
    listed: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    assert answered(ALL_BUT_MOBILE, listed=False, mobile=mobile).complete is read
    assert answered(ALL_BUT_MOBILE, listed=True, mobile=mobile).complete is listed


def test_an_answer_of_another_company_is_refused_too() -> None:
    with pytest.raises(UnreadableError):
        answered({"company_id": 9}, listed=False)


def test_an_unknown_number_that_json_cannot_hold_is_left_out_alone() -> None:
    snapshot = answered({"x": float("nan"), "y": 1}, listed=False)
    assert snapshot.values["other"] == {"y": 1}
    assert snapshot.unread["other.x"] == "NaN"
