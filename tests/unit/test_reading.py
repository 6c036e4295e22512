"""A customer in the shapes of PHP: what is meant is read, and a strange field costs only itself."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from sync.merge.customers import Customer, Subscription
from sync.merge.members import DEEPEST, NotJsonError, split_array, split_object
from sync.merge.reading import MOST_RAW, MOST_RAWS, named_id, read_customer, read_items

ALL = Subscription()
STREET = "primary_address"


def read(text: str) -> Customer:
    """Read a customer with this member, beside a strange one that no model can read, and one after it."""
    return read_customer(f'{{"id": 7, "image": {{}}, {text}, "last_name": "McDonald"}}'.encode())


@pytest.mark.parametrize(
    ("came", "column", "meant"),
    [
        ('"first_name": 5', "first_name", "5"),
        ('"first_name": 1.5', "first_name", "1.5"),
        ('"first_name": false', "first_name", None),
        ('"first_name": ""', "first_name", ""),
        ('"phone": 61412345678', "phone", "61412345678"),
        ('"phone": 61412345678.0', "phone", "61412345678"),
        ('"primary_email_address": "a@b.example"', "email", "a@b.example"),
        ('"email": 7, "primary_email_address": "old@b.example"', "email", "7"),
        ('"reference_id": 42', "reference_id", "42"),
        ('"reference_id": false', "reference_id", ""),
        ('"accepts_marketing": 1', "accepts_marketing", True),
        ('"accepts_marketing": "0"', "accepts_marketing", False),
        ('"accepts_marketing": "true"', "accepts_marketing", True),
        ('"accepts_marketing": ""', "accepts_marketing", None),
        ('"tags": {"0": "a", "2": "c", "10": "b"}', "tags", ["a", "c", "b"]),
        ('"tags": {}', "tags", []),
        ('"tags": ["a", 5, null, false]', "tags", ["a", "5"]),
        ('"tags": ""', "tags", None),
        ('"tags": false', "tags", None),
        ('"primary_address": []', "primary_city", None),
        ('"primary_address": ""', "primary_city", None),
        ('"primary_address": false', "primary_city", None),
        ('"primary_address": {"city": 5}', "primary_city", "5"),
        ('"primary_address": {"postal_code": 800}', "primary_postal_code", "800"),
        ('"primary_address": {"zone": 5}', "primary_state", "5"),
        ('"primary_address": {"lines": {"0": "a", "2": "b"}}', STREET, "a\nb"),
        ('"primary_address": {"address": "a", "lines": "b"}', STREET, "a"),
    ],
)
def test_what_is_meant_is_read(came: str, column: str, meant: object) -> None:
    customer = read(came)
    assert customer.unread == {"image": "{}"}
    values = ALL.carried_in(customer)
    assert values[column] == meant
    assert values["last_name"] == "McDonald"


@pytest.mark.parametrize(
    ("came", "column", "raw"),
    [
        ('"email": ["a@b.example"]', "email", '["a@b.example"]'),
        ('"email": {"work": "a@b.example"}', "email", '{"work": "a@b.example"}'),
        ('"email": true', "email", "true"),
        ('"email": 1e22', "email", "1e22"),
        ('"email": "a\\u0000"', "email", '"a\\u0000"'),
        ('"email": "a\x00"', "email", '"a\\x00"'),
        ('"email": "a\\ud83d"', "email", '"a\\ud83d"'),
        ('"email": ' + "[" * 5000 + "]" * 5000, "email", "[" * MOST_RAW),
        ('"phone": ' + "9" * 5000, "phone", "9" * MOST_RAW),
        ('"phone": NaN', "phone", "NaN"),
        ('"tags": "vip"', "tags", '"vip"'),
        ('"tags": [["vip"]]', "tags", '[["vip"]]'),
        ('"tags": {"a": "vip"}', "tags", '{"a": "vip"}'),
        ('"accepts_marketing": "perhaps"', "accepts_marketing", '"perhaps"'),
        ('"accepts_marketing": 2', "accepts_marketing", "2"),
        ('"primary_address": {"city": ["Sydney"], "country": "AU"}', "primary_city", '["Sydney"]'),
        ('"primary_address": {"lines": "a"}', STREET, '"a"'),
    ],
)
def test_what_cannot_be_known_costs_only_itself(came: str, column: str, raw: str) -> None:
    customer = read(came)
    assert ALL.lacking(customer)[column] == raw
    values = ALL.carried_in(customer)
    assert (values[column], values["last_name"]) == (None, "McDonald")
    if STREET in came:
        assert values["primary_country"] == ("AU" if "AU" in came else None)


def test_bytes_that_are_not_utf_8_cost_only_their_field() -> None:
    customer = read_customer(b'{"id": 7, "first_name": "Ren\xe9e", "email": "a@b.example"}')
    assert (customer.email, dict(customer.unread)) == ("a@b.example", {"first_name": '"Ren\\udce9e"'})


@pytest.mark.parametrize("came", ['"Sydney"', "7", '["Sydney"]', "true"])
def test_an_address_that_is_none_costs_all_its_columns_and_is_kept_once(came: str) -> None:
    lacking = ALL.lacking(read(f'"shipping_address": {came}'))
    shipping = {name: raw for name, raw in lacking.items() if name.startswith("shipping_")}
    assert shipping == {
        "shipping_address": came,
        **dict.fromkeys(f"shipping_{part}" for part in ("city", "state", "postal_code", "country")),
    } | {f"shipping_{part}": "" for part in ("city", "state", "postal_code", "country")}


def test_an_unknown_field_that_cannot_be_stored_is_left_out_alone() -> None:
    customer = read('"x": NaN, "y": "\\u0000", "z\\u0000": 1, "id_str": NaN, "seen_at": NaN, "w": 1')
    assert ALL.carried_in(customer)["other"] == {"w": 1}
    other = {name for name in ALL.lacking(customer) if name.startswith("other")}
    assert other == {"other.x", "other.y"}


def test_the_raw_values_of_many_unknown_fields_are_not_all_kept() -> None:
    customer = read(", ".join(f'"x{number}": NaN' for number in range(2 * MOST_RAWS)))
    assert sum(1 for raw in customer.unread.values() if raw == "NaN") == MOST_RAWS
    assert len(customer.unread) == 2 * MOST_RAWS + 1


@pytest.mark.parametrize("whole", ['"image": null, "email": "a\\\\u0000"', '"image": null, "email": null'])
def test_a_well_formed_customer_has_nothing_unread(whole: str) -> None:
    customer = read_customer(f'{{"id": 7, {whole}}}'.encode())
    assert (dict(customer.unread), customer.numbers) == ({}, frozenset())
    assert customer.model_fields_set == {"id", "image", "email"}


def test_raw_values_are_of_what_is_subscribed() -> None:
    customer = read('"email": [1], "tags": "vip", "x": NaN, "primary_address": 7')
    assert Subscription.of(["email"]).lacking(customer).keys() >= {"email"}
    assert (
        Subscription.of(["email"]).lacking(customer).keys().isdisjoint({"tags", "other.x", STREET, "image"})
    )
    assert ALL.lacking(customer)["other.x"] == "NaN"


def test_numbers_are_named_where_they_may_have_lost_a_zero() -> None:
    customer = read('"phone": 1, "mobile": "2", "first_name": 3, "primary_address": {"postal_code": 4}')
    assert ALL.numbers_in(customer) == {"phone", "primary_postal_code"}
    assert Subscription.of(["address"]).numbers_in(customer) == {"primary_postal_code"}


def test_fleeting_fields_are_left_out_at_any_depth_and_others_are_not() -> None:
    extra = {
        "seen_at": 1,
        "visit_count": 2,
        "count": 3,
        "timestamp": 4,
        "at": 5,
        "counter": 6,
        "addresses": {"count": 1, "list": [{"updated_at": 1, "kept": 2}]},
        STREET: {"city": "Sydney", "checked_at": 1},
    }
    values = ALL.carried_in(Customer.model_validate({"id": 7, **extra}))
    assert values["other"] == {"at": 5, "counter": 6, "addresses": {"list": [{"kept": 2}]}}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"id": 7',
        b'{"id": 7}}',
        b'{"id": 7,}',
        b'{"id": [7]}',
        b'{"id": "7\\ud83d"}',
    ],
)
def test_what_is_no_customer_is_refused(body: bytes) -> None:
    with pytest.raises(ValidationError):
        read_customer(body)


def test_a_list_is_cut_into_its_items_whatever_they_hold() -> None:
    items = [b'{"id": 1, "x": "]},{"}', b"[" * 500 + b"]" * 500, b'"\\ud83d\xff"', b"1"]
    assert read_items(b" [" + b" , ".join(items) + b"]\n") == items
    assert read_items(b"[]") == []


@pytest.mark.parametrize("cut", ["", "[", "[1,", "[1,]", "[,1]", "[1}", "[1] 2", '["', "{}"])
def test_a_list_that_is_cut_is_refused(cut: str) -> None:
    with pytest.raises(NotJsonError):
        split_array(cut)


@pytest.mark.parametrize(
    "cut", ["", "{", '{"a"}', '{"a":1,}', "{1:2}", '{"a":1]', '{"a":"', "[]", '{"a":1}{']
)
def test_an_object_that_is_cut_is_refused(cut: str) -> None:
    with pytest.raises(NotJsonError):
        split_object(cut)


def test_the_last_of_two_members_of_a_name_counts_as_it_does_for_pydantic() -> None:
    twice = '"first_name": "a", "first_name": "b"'
    assert read(twice).first_name == "b" == read_customer(f'{{"id": 7, {twice}}}'.encode()).first_name


@pytest.mark.parametrize(
    ("item", "id_"), [(b'{"id": 7}', 7), (b'{"id": "x"}', "x"), (b"[]", None), (b'{"id": NaN}', None)]
)
def test_an_item_that_is_no_customer_may_name_one(item: bytes, id_: Any) -> None:
    assert named_id(item) == id_


def test_every_value_that_pydantic_reads_in_a_text_is_read_alike() -> None:
    """The slow way gives what the fast way gives."""
    whole = {
        "id": "7",
        "first_name": "Jamie \U0001f600",
        "accepts_marketing": "off",
        "tags": ["", "vip"],
        "primary_address": {"lines": ["a", None], "zone": "NSW", "floor": 2},
        "loyalty": {"level": [1, 2.5, None, 10**30]},
        "updated_at": "2026-03-01T12:00:00Z",
    }
    body = json.dumps(whole)
    slow = read_customer((body[:-1] + ', "image": {}}').encode())
    fast = read_customer(body.encode())
    assert slow.unread
    assert slow.model_dump(exclude_unset=True) == fast.model_dump(exclude_unset=True)
    assert ALL.carried_in(slow) == {**ALL.carried_in(fast), "image": None}


@pytest.mark.parametrize(("depth", "is_read"), [(DEEPEST, True), (DEEPEST + 1, False)])
def test_a_value_is_too_deep_where_it_is_for_pydantic(depth: int, is_read: object) -> None:
    """Else a field would be read or not by what stands beside it."""
    deep = f'"x": {"[" * depth}{"]" * depth}'
    assert ("x" in (read(deep).model_extra or {})) is is_read
    if is_read:
        assert "x" in (Customer.model_validate_json(f'{{"id": 7, {deep}}}').model_extra or {})
    else:
        with pytest.raises(ValidationError):
            Customer.model_validate_json(f'{{"id": 7, {deep}}}')
