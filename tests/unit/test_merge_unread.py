"""What a merge does with attributes that did not come, or came and could not be read."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from sync.merge.customers import Subscription
from sync.merge.decisions import (
    Decision,
    Kind,
    Verdict,
    accept,
    changed_columns,
    compare_listed,
    is_change,
    merge,
)
from sync.merge.doubts import Reason
from sync.merge.reading import read_customer
from sync.merge.records import Record
from sync.merge.snapshots import Lens, Snapshot, Source
from tests.clock import NOON

LENS = Lens(5678, Subscription(), timedelta(seconds=2))
WHOLE: dict[str, Any] = {
    "id": 7,
    "first_name": "Jamie",
    "last_name": "McDonald",
    "email": "jamie@kounta.example",
    "phone": "0287654321",
    "mobile": None,
    "image": None,
    "tags": ["vip"],
    "accepts_marketing": True,
    "primary_address": {"city": "Darwin", "postal_code": "0800"},
    "shipping_address": None,
    "reference_id": "",
}
SIX: dict[str, Any] = {
    name: WHOLE[name] for name in ("id", "first_name", "last_name", "email", "image", "reference_id")
}
STRANGE: dict[str, Any] = {**WHOLE, "email": ["jamie@kounta.example"]}


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def stamped(fields: dict[str, Any], seconds: float) -> bytes:
    return json.dumps({**fields, "updated_at": at(seconds).isoformat()}).encode()


def webhook(fields: dict[str, Any], seconds: float) -> Snapshot:
    return LENS.body(
        stamped(fields, seconds), deleted=False, arrived_at=at(seconds), position=int(seconds) + 100
    )


def answer(
    fields: dict[str, Any], seconds: float, *, listed: bool = False, mobile: bool | None = None
) -> Snapshot:
    return LENS.customer(
        read_customer(stamped(fields, seconds)),
        arrived_at=at(seconds),
        position=0,
        source=Source.SWEEP if listed else Source.VERIFICATION,
        listed=listed,
        mobile=mobile,
    )


def accepted(record: Record | None, fields: dict[str, Any], seconds: float) -> Decision:
    return accept(record, answer(fields, seconds), LENS.subscription)


def merged(record: Record | None, fields: dict[str, Any], seconds: float) -> Decision:
    return merge(record, webhook(fields, seconds), LENS.subscription, LENS.window)


def known(fields: dict[str, Any] = WHOLE) -> Record:
    return accepted(None, fields, 0).record


def test_a_read_proves_what_it_carries_and_the_rest_is_unread() -> None:
    poor = accepted(known(), SIX, 60)
    record = poor.record
    assert (record.verified_at, record.partial, poor.doubt) == (at(60), True, None)
    assert record.values["first_name"] == "Jamie"
    assert (record.values["phone"], record.values["tags"], record.values["primary_city"]) == (None,) * 3
    assert {"phone", "tags", "primary_city", "accepts_marketing"} <= record.unread.keys()
    assert (poor.kind, is_change(poor, known())) == (Kind.UPDATED, False)


def test_a_poor_read_again_changes_nothing_and_a_whole_one_completes_the_record() -> None:
    poor = accepted(known(), SIX, 60).record
    again = accepted(poor, SIX, 120)
    assert (again.verdict, again.kind, again.doubt) == (Verdict.UNCHANGED, None, None)
    assert again.record.verified_at == at(120)
    whole = accepted(poor, WHOLE, 120)
    assert (whole.record.partial, whole.record.unread) == (False, {})
    assert whole.record.values == known().values
    assert not is_change(whole, poor)


def test_a_change_beside_what_is_filled_is_a_change() -> None:
    poor = accepted(known(), SIX, 60).record
    whole = accepted(poor, {**WHOLE, "last_name": "Mac"}, 120)
    assert changed_columns(whole, poor) == ("last_name",)
    assert is_change(whole, poor)


def test_a_missing_mobile_leaves_a_read_whole_until_one_has_carried_it() -> None:
    without = {name: value for name, value in WHOLE.items() if name != "mobile"}
    record = accept(known({**WHOLE, "mobile": "1"}), answer(without, 60), LENS.subscription).record
    assert (record.partial, record.values["mobile"], record.unread) == (False, None, {})
    needed = answer(without, 60, mobile=True)
    record = accept(known({**WHOLE, "mobile": "1"}), needed, LENS.subscription).record
    assert (record.partial, record.values["mobile"], record.unread) == (True, None, {"mobile": None})


def test_what_cannot_be_read_in_a_webhook_is_no_longer_shown_and_the_rest_applies() -> None:
    decision = merged(known(), {**STRANGE, "first_name": "Jo"}, 60)
    record = decision.record
    assert (decision.verdict, decision.doubt) == (Verdict.APPLIED, Reason.CONFIRMATION)
    assert (record.values["first_name"], record.values["email"]) == ("Jo", None)
    assert (record.partial, record.verified_at) == (True, None)
    assert record.unread == {"email": '["jamie@kounta.example"]'}
    assert changed_columns(decision, known()) == ("first_name",)


def test_a_first_webhook_that_cannot_be_read_in_one_attribute_is_partial() -> None:
    decision = merged(None, STRANGE, 0)
    assert (decision.record.partial, decision.doubt) == (True, Reason.PARTIAL)
    assert decision.record.unread == {"email": '["jamie@kounta.example"]'}
    assert decision.record.values["phone"] == "0287654321"


def test_the_same_unread_value_is_no_change_to_a_read_and_another_one_is_kept() -> None:
    record = accepted(known(), STRANGE, 60).record
    assert (record.partial, record.verified_at) == (True, at(60))
    again = accepted(record, STRANGE, 120)
    assert (again.verdict, again.kind) == (Verdict.UNCHANGED, None)
    other = accepted(record, {**WHOLE, "email": 1e30}, 120)
    assert (other.kind, other.record.unread) == (None, {"email": "1e+30"})


def test_a_readable_value_replaces_an_unread_one_only_if_it_is_newer() -> None:
    record = merged(known(), STRANGE, 60).record
    older = merged(record, WHOLE, 30)
    assert (older.verdict, older.doubt) == (Verdict.STALE, Reason.STALE)
    assert older.record.values["email"] is None
    newer = merged(record, WHOLE, 90)
    assert (newer.verdict, newer.record.partial, newer.record.unread) == (Verdict.APPLIED, False, {})
    assert newer.record.values["email"] == "jamie@kounta.example"


def test_a_null_in_place_of_what_could_not_be_read_is_news_too() -> None:
    record = merged(known(), STRANGE, 60).record
    newer = merged(record, {**WHOLE, "email": None}, 90)
    assert (newer.verdict, newer.kind, newer.record.unread) == (Verdict.APPLIED, None, {})
    assert newer.doubt is Reason.CONFIRMATION


def test_what_could_not_be_read_and_what_replaces_it_at_once_are_ambiguous() -> None:
    record = merged(known(), STRANGE, 60).record
    for body in (WHOLE, {**WHOLE, "email": None}):
        assert merged(record, body, 61).doubt is Reason.AMBIGUOUS


def test_a_webhook_that_says_nothing_of_an_attribute_may_have_been_sent_for_it() -> None:
    decision = merged(known(), SIX, 60)
    assert (decision.verdict, decision.doubt) == (Verdict.UNCHANGED, Reason.CONFIRMATION)
    assert decision.record.values["phone"] == "0287654321"


def test_a_list_item_that_lacks_what_a_read_lacked_asks_for_nothing() -> None:
    poor = accepted(known(), SIX, 60).record
    for item in (SIX, WHOLE, STRANGE):
        assert compare_listed(poor, answer(item, 120, listed=True)).doubt is None
    changed = answer({**SIX, "email": "jo@kounta.example"}, 120, listed=True)
    assert compare_listed(poor, changed).doubt is Reason.LISTED_DIFFERENTLY


@pytest.mark.parametrize(
    ("listed", "doubt"),
    [
        ({"url": "/customers/7"}, None),
        ({"deleted": 0, "is_deleted": "0"}, None),
        ({"loyalty": 4}, Reason.LISTED_DIFFERENTLY),
        ({"url": "/customers/7", "reference_id": "A"}, Reason.LISTED_DIFFERENTLY),
    ],
)
def test_what_a_list_alone_carries_is_not_read_at_every_sweep(
    listed: dict[str, Any], doubt: Reason | None
) -> None:
    record = accepted(known(), {**WHOLE, "loyalty": 3, "deleted": False}, 60).record
    assert compare_listed(record, answer({**SIX, **listed}, 120, listed=True)).doubt is doubt


@pytest.mark.parametrize(("held", "listed"), [(None, ""), ("", None), (None, False)])
def test_a_list_that_does_not_tell_none_from_an_empty_text_asks_for_nothing(held: Any, listed: Any) -> None:
    record = accepted(known(), {**WHOLE, "email": held}, 60).record
    item = answer({**WHOLE, "email": listed}, 120, listed=True)
    assert compare_listed(record, item, none_is_empty=True).doubt is None
    assert (compare_listed(record, item).doubt is None) is (listed is False)
    assert accepted(record, {**WHOLE, "email": ""}, 180).record.values["email"] == ""


def test_a_record_of_the_list_alone_is_still_to_be_read() -> None:
    record = merge(None, answer(SIX, 0, listed=True), LENS.subscription, LENS.window).record
    assert compare_listed(record, answer(SIX, 60, listed=True)).doubt is Reason.PARTIAL


def test_an_address_that_cannot_be_read_takes_its_unknown_fields_with_it() -> None:
    before = known({**WHOLE, "primary_address": {"city": "Darwin", "floor": 2}})
    assert before.values["other"] == {"primary_address": {"floor": 2}}
    record = accepted(before, {**WHOLE, "primary_address": "Darwin"}, 60).record
    assert (record.values["other"], record.values["primary_city"]) == (None, None)
    assert record.unread["primary_address"] == '"Darwin"'


def test_an_unknown_field_that_cannot_be_read_goes_and_leaves_nothing_partial() -> None:
    before = known({**WHOLE, "loyalty": 3, "club": 1})
    for decision in (
        accepted(before, {**WHOLE, "loyalty": "\x00"}, 60),
        merged(before, {**WHOLE, "loyalty": "\x00"}, 60),
    ):
        assert decision.record.values["other"] == {"club": 1}
        assert (decision.columns, decision.record.partial) == (("other",), False)
        assert decision.record.unread == {"other.loyalty": '"\\u0000"'}
        back = merged(decision.record, {**WHOLE, "loyalty": 3}, 90)
        assert (back.record.values["other"], back.record.unread) == ({"club": 1, "loyalty": 3}, {})


@pytest.mark.parametrize(
    ("held", "came", "equal"),
    [
        ("0800", 800, True),
        ("+61412345678", 61412345678, True),
        ("0061412345678", 61412345678, True),
        ("0", 0, True),
        ("0800", "800", False),
        ("0801", 800, False),
        ("08 00", 800, False),
        ("+", 0, False),
        ("", 0, False),
    ],
)
def test_a_number_is_the_held_text_if_it_is_equal_but_for_zeros_or_a_plus(
    held: str, came: object, equal: object
) -> None:
    before = known({**WHOLE, "phone": held, "primary_address": {"postal_code": held}})
    now = {**WHOLE, "phone": came, "primary_address": {"postal_code": came}}
    for decision in (accepted(before, now, 60), merged(before, now, 60)):
        assert (decision.kind is None) is equal
        assert decision.record.values["phone"] == (held if equal else str(came))
    assert (compare_listed(before, answer(now, 60, listed=True)).doubt is None) is equal


@pytest.mark.parametrize(
    ("extra", "columns"),
    [({"loyalty": 4}, ("other",)), ({"reference_id": "A"}, ("reference_id",)), ({"seen_at": 1}, ())],
)
def test_unknown_fields_alone_are_no_change_of_upstream_and_fleeting_ones_not_even_here(
    extra: dict[str, Any], columns: tuple[str, ...]
) -> None:
    before = known({**WHOLE, "loyalty": 3})
    decision = accepted(before, {**WHOLE, "loyalty": 3, **extra}, 60)
    assert decision.columns == columns
    assert is_change(decision, before) is (columns == ("reference_id",))


def test_fleeting_fields_that_an_earlier_version_kept_are_no_change_and_go_with_the_next_one() -> None:
    other: dict[str, Any] = {"loyalty": {"seen_at": 1, "level": 1}, "primary_address": {"read_at": 1}}
    before = replace(known(), values={**known().values, "other": other})
    same = {**WHOLE, "loyalty": {"level": 1, "seen_at": 2}}
    assert accepted(before, same, 60).kind is None
    changed = accepted(before, {**WHOLE, "loyalty": {"level": 2}}, 60)
    assert changed.record.values["other"] == {"loyalty": {"level": 2}}


def test_a_delivery_that_a_read_knew_of_does_not_fill_what_that_read_left_unknown() -> None:
    record = replace(accepted(known(), SIX, 60).record, read_position=500)
    replayed = merged(record, WHOLE, 30)
    assert (replayed.verdict, replayed.doubt) == (Verdict.STALE, Reason.STALE)
    assert replayed.record.values["phone"] is None
