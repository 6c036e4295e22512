"""A number that PostgreSQL gives back in another spelling has not changed."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sync.merge.customers import Subscription
from sync.merge.decisions import Verdict, merge
from sync.merge.snapshots import Snapshot, Source
from tests.clock import NOON

WINDOW = timedelta(seconds=2)


def verdict(stored: Any, carried: Any) -> Verdict:
    """What becomes of a delivery, a minute later, that carries this in an unknown field."""
    first = Snapshot(
        customer_id=7,
        values={"first_name": "Ann", "other": {"field": stored}},
        as_of=NOON,
        rests_on_arrival=False,
        arrived_at=NOON,
        position=1,
        source=Source.WEBHOOK,
        deleted=False,
    )
    later = NOON + timedelta(minutes=1)
    second = replace(first, values={"other": {"field": carried}}, as_of=later, arrived_at=later, position=2)
    record = merge(None, first, Subscription(), WINDOW).record
    return merge(record, second, Subscription(), WINDOW).verdict


@pytest.mark.parametrize(
    ("stored", "carried"),
    [(10**20, 1e20), (10**23, 1e23), (10**16, 1e16), (0.0, -0.0), ([{"a": 10**308}], [{"a": 1e308}])],
)
def test_another_spelling_is_no_change(stored: Any, carried: Any) -> None:
    assert verdict(stored, carried) is Verdict.UNCHANGED


@pytest.mark.parametrize(
    ("stored", "carried"),
    [(10**20, 10**20 + 1), (1e20, 10**20 + 1), (1, True), (0, False), (0.0, None), (1.5, 1.25), ("1", 1)],
)
def test_another_value_is_a_change(stored: Any, carried: Any) -> None:
    assert verdict(stored, carried) is Verdict.APPLIED
