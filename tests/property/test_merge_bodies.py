"""Whatever a body holds: it is read or refused with a reason, and what is kept is subscribed and storable."""

import copy
import json
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sync.kounta.shapes import CUSTOMERS as CUSTOMERS_OF_A_LIST
from sync.merge.customers import ATTRIBUTES, COLUMNS, Subscription
from sync.merge.decisions import accept, merge
from sync.merge.reading import MOST_RAW
from sync.merge.snapshots import Lens, Snapshot, UnreadableError
from tests.clock import NOON

WINDOW = timedelta(seconds=2)

TEXTS = st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
ADDRESSES = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "address": TEXTS | st.none(),
        "lines": st.lists(TEXTS | st.none(), max_size=3),
        "zone": TEXTS,
        "floor": JSON,
    },
)
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "first_name": TEXTS | st.none(),
    "email": TEXTS | st.none(),
    "primary_email_address": TEXTS,
    "mobile": TEXTS | st.none(),
    "tags": st.lists(TEXTS, max_size=3) | st.none(),
    "accepts_marketing": st.booleans() | st.none(),
    "primary_address": ADDRESSES,
    "shipping_address": ADDRESSES,
    "reference_id": TEXTS | st.none(),
    "updated_at": st.datetimes().map(lambda one: one.isoformat() + "Z") | JSON,
    "loyalty": JSON,
}
CUSTOMERS = st.fixed_dictionaries({"id": st.just(7)}, optional=LIKELY)
SUBSCRIPTIONS = st.sets(st.sampled_from(ATTRIBUTES)).map(Subscription.of) | st.just(Subscription())


FIELDS: dict[str, Any] = {
    "first_name": "Jamie",
    "last_name": "McDonald",
    "email": "jamie@kounta.example",
    "phone": "02",
    "mobile": None,
    "image": None,
    "tags": ["vip"],
    "accepts_marketing": True,
    "primary_address": {"address": "1 George St", "city": "Sydney", "postal_code": "2000"},
    "shipping_address": None,
    "reference_id": "",
    "loyalty": 3,
    "updated_at": NOON.isoformat(),
}
ODD = st.sampled_from(
    [
        "NaN",
        "-Infinity",
        "1e999",
        "9" * 5000,
        "[" * 300 + "]" * 300,
        '{"a":' * 300 + "1" + "}" * 300,
        '"\\ud83d"',
        '["\\udc00"]',
        '"\\u0000"',
        '{"\\u0000": 1}',
        '"a\x00b"',
    ]
)
RAW = JSON.map(json.dumps) | ODD
PLACES = st.sampled_from([(name, part) for name in FIELDS for part in (None, "city", "lines", "floor")])


def read(body: bytes, subscription: Subscription) -> Snapshot | str:
    try:
        return Lens(5678, subscription, WINDOW).body(body, deleted=False, arrived_at=NOON, position=1)
    except UnreadableError as error:
        return str(error)


@given(st.binary(max_size=60) | JSON.map(lambda one: json.dumps(one).encode()), SUBSCRIPTIONS)
def test_any_bytes_are_read_or_refused_with_a_reason(body: bytes, subscription: Subscription) -> None:
    assert read(body, subscription)


@settings(max_examples=60)
@given(PLACES, RAW, SUBSCRIPTIONS)
def test_any_value_in_any_field_is_read_and_costs_no_other_field(
    place: tuple[str, str | None], raw: str, subscription: Subscription
) -> None:
    field, part = place
    if part is not None and field == "primary_address":
        raw = f'{{"country": "AU", "{part}": {raw}}}'
    members = {name: json.dumps(value) for name, value in FIELDS.items()} | {field: raw}
    body = "{" + ", ".join(f'"{name}": {value}' for name, value in {"id": "7", **members}.items()) + "}"
    snapshot, whole = (
        read(body.encode(), subscription),
        read(json.dumps({"id": 7, **FIELDS}).encode(), subscription),
    )
    assert isinstance(snapshot, Snapshot)
    assert isinstance(whole, Snapshot)
    own = {name for name in COLUMNS if name == field or name.startswith(field.removesuffix("address"))}
    for column, value in whole.values.items():
        if column != "other" and column not in own:
            assert snapshot.values[column] == value
    if part is not None and field == "primary_address" and "address" in subscription.attributes:
        assert snapshot.values["primary_country"] == "AU"
    assert snapshot.values.keys() <= set(subscription.columns)
    text = json.dumps([snapshot.values, snapshot.unread], allow_nan=False)
    assert "\\u0000" not in text.replace("\\\\", "")
    json.dumps([snapshot.values, snapshot.unread], ensure_ascii=False).encode()
    assert all(raw is None or len(raw.encode()) <= MOST_RAW for raw in snapshot.unread.values())
    assert {name.partition(".")[0] for name in snapshot.unread} <= set(subscription.columns)
    assert all(snapshot.values.get(name) is None for name in snapshot.unread)


@given(st.lists(st.tuples(st.integers(1, 9), RAW), min_size=1, max_size=4))
def test_a_strange_item_hides_no_other_of_its_list(items: list[tuple[int, str]]) -> None:
    body = "[" + ", ".join(f'{{"id": {id_}, "email": {raw}, "last_name": "x"}}' for id_, raw in items) + "]"
    found = CUSTOMERS_OF_A_LIST.validate_json(body.encode())
    assert [(one.id, one.last_name) for one in found] == [(id_, "x") for id_, _ in items]


@given(CUSTOMERS, SUBSCRIPTIONS)
def test_only_subscribed_columns_come_through_and_json_holds_them(
    customer: dict[str, Any], subscription: Subscription
) -> None:
    snapshot = read(json.dumps(customer).encode(), subscription)
    if isinstance(snapshot, Snapshot):
        assert snapshot.values.keys() <= set(subscription.columns)
        assert json.loads(json.dumps(snapshot.values, allow_nan=False)) == snapshot.values
        assert snapshot.as_of <= NOON + WINDOW


@given(CUSTOMERS, CUSTOMERS, SUBSCRIPTIONS)
def test_what_was_read_is_equal_after_a_round_trip_through_the_store_and_nothing_given_is_changed(
    first: dict[str, Any], second: dict[str, Any], subscription: Subscription
) -> None:
    one, other = (read(json.dumps(customer).encode(), subscription) for customer in (first, second))
    if isinstance(one, str) or isinstance(other, str):
        return
    known = merge(None, one, subscription, WINDOW).record
    before = copy.deepcopy((known, other))
    read_back = accept(known, other, subscription).record
    assert (known, other) == before
    assert read_back.values.keys() == set(subscription.columns)
    stored = copy.copy(read_back.values)
    assert json.loads(json.dumps(stored)) == stored
    again = accept(read_back, other, subscription)
    assert (again.kind, again.columns) == (None, ())
