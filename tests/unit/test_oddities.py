"""What upstream shows is named by its reference: in records, deliveries, errors of the token endpoint."""

import json
from datetime import timedelta
from typing import Any

import pytest

from receiver.inbox import Delivery
from sync.kounta.lookups import oddities_of as oddities_of_customer
from sync.kounta.observations import BEHAVIOURS
from sync.merge.customers import Subscription
from sync.merge.deleted import flags_in
from sync.merge.mentions import named_in
from sync.merge.reading import read_customer
from sync.merge.snapshots import Lens, UnreadableError
from sync.oddities import oddities_of
from sync.stretch import Reading, Unread
from tests.clock import NOON

LENS = Lens(5678, Subscription(), timedelta(seconds=2))
DEEP = "[" * 300 + "]" * 300


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ('"first_name": "Ana", "primary_address": null, "tags": ["vip"]', set()),
        ('"primary_address": []', {"empty-object-as-list"}),
        ('"tags": {"0": "vip", "2": "new"}', {"holes-as-object"}),
        ('"tags": ""', {"none-as-text"}),
        ('"phone": false', {"none-as-text"}),
        ('"phone": 61400000000', {"numbers-for-text"}),
        ('"shipping_address": {"postal_code": 800}', {"numbers-for-text"}),
        ('"first_name": {"x": 1}', {"strange-fields"}),
        (f'"gift": {DEEP}', {"deep-nesting"}),
        ('"first_name": "A\\ud83d"', {"half-surrogates"}),
        ('"gift": "A\\ud83d"', {"half-surrogates"}),
        ('"deleted": false, "deleted_at": null, "is_deleted": "0"', {"false-flags"}),
        ('"deleted_at": "0000-00-00 00:00:00"', {"false-flags"}),
        ('"is_deleted": 1', {"deleted-flags"}),
        ('"is_deleted": "perhaps"', {"strange-flags"}),
    ],
)
def test_a_record_shows_what_is_odd_in_it(fields: str, shown: set[str]) -> None:
    customer = read_customer(f'{{"id": 7, {fields}}}'.encode())

    assert oddities_of_customer(customer) == shown
    assert shown <= BEHAVIOURS.keys()


def test_no_flag_says_nothing() -> None:
    assert flags_in(None) is None
    assert flags_in({"count": 1}) is None


@pytest.mark.parametrize(
    ("body", "topic", "shown"),
    [
        (b'{"id": 7, "first_name": "Ana"}', "updated", []),
        (b'{"id": 7, "first_na', "updated", ["garbled-bodies"]),
        (b'{"first_na', "updated", ["garbled-bodies", "nameless-bodies"]),
        (b'{"id": 7, "first_name": "A\x00"}', "updated", ["nul-bodies", "strange-fields"]),
        (b'{"id": 7, "first_name": "\xff"}', "updated", ["not-utf8", "strange-fields"]),
        (b'{"id": 7, "updated_at": "2026-11-24T00:00:00+00:00"}', "deleted", ["bare-deletions"]),
        (b'{"id": 7, "first_name": "Ana"}', "deleted", []),
        (b'{"id": 7, "company_id": 99}', "updated", []),
    ],
)
def test_a_delivery_shows_what_is_odd_in_it(body: bytes, topic: str, shown: list[str]) -> None:
    delivery = Delivery(1, "one", 5678, f"customers/{topic}", NOON, {}, body)

    assert sorted(oddities_of(delivery, reading_of(body, topic))) == shown
    assert set(shown) <= BEHAVIOURS.keys()


def reading_of(body: bytes, topic: str) -> Reading:
    try:
        return LENS.body(body, deleted=topic == "deleted", arrived_at=NOON, position=1)
    except UnreadableError as error:
        is_loss = "company" not in str(error)
        return Unread(str(error), named_in(body), is_loss=is_loss)


def test_names_of_a_reading_are_no_values() -> None:
    said: dict[str, Any] = {"id": 7, "phone": 61400000000, "tags": {"1": "vip"}}

    assert "61400000000" not in str(read_customer(json.dumps(said).encode()).oddities)
