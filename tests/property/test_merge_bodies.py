"""Whatever a body holds: it is read or refused with a reason, and what is kept is subscribed and storable."""

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sync.merge.customers import ATTRIBUTES, Subscription
from sync.merge.decisions import accept, merge
from sync.merge.snapshots import Lens, Snapshot, UnreadableError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
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


def read(body: bytes, subscription: Subscription) -> Snapshot | str:
    try:
        return Lens(5678, subscription, WINDOW).body(body, deleted=False, arrived_at=NOON, position=1)
    except UnreadableError as error:
        return str(error)


@given(st.binary(max_size=60) | JSON.map(lambda one: json.dumps(one).encode()), SUBSCRIPTIONS)
def test_any_bytes_are_read_or_refused_with_a_reason(body: bytes, subscription: Subscription) -> None:
    assert read(body, subscription)


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
