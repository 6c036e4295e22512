"""What of a customer the mirror keeps: the table of attributes, as a newcomer would try it."""

from typing import Any

import pytest
from pydantic import ValidationError

from sync.merge.customers import ATTRIBUTES, COLUMNS, Customer, Subscription, Values, attributes_of

WHOLE: dict[str, Any] = {
    "id": 389427,
    "first_name": "Jamie",
    "last_name": "McDonald",
    "email": "jmcdonald@kounta.example",
    "phone": "02 8765 4321",
    "mobile": "0400 123 456",
    "image": "https://images.example/jamie.png",
    "reference_id": "ABC123",
    "accepts_marketing": True,
    "tags": ["vip"],
    "primary_address": {
        "address": "1 George St",
        "city": "Sydney",
        "state": "NSW",
        "postal_code": "2000",
        "country": "AU",
    },
    "shipping_address": None,
    "created_at": "2026-03-01T23:00:00+11:00",
    "updated_at": "2026-03-01T23:00:00+11:00",
}


def kept(fields: dict[str, Any], *attributes: str) -> Values:
    return Subscription.of(attributes or ATTRIBUTES).carried_in(Customer.model_validate({"id": 7, **fields}))


@pytest.mark.parametrize(
    ("attribute", "columns"),
    [
        ("name", {"first_name", "last_name"}),
        ("phone", {"phone", "mobile"}),
        ("email", {"email"}),
        ("tags", {"tags"}),
        ("image", {"image"}),
        ("accepts_marketing", {"accepts_marketing"}),
        (
            "address",
            {
                f"{kind}_{part}"
                for kind in ("primary", "shipping")
                for part in ("address", "city", "state", "postal_code", "country")
            },
        ),
    ],
)
def test_an_attribute_keeps_its_columns_and_reference_id_which_no_filter_covers(
    attribute: str, columns: set[str]
) -> None:
    assert kept(WHOLE | {"loyalty": 3}, attribute).keys() == columns | {"reference_id"}
    assert set(Subscription.of([attribute]).columns) == columns | {"reference_id"}


def test_without_any_attribute_only_the_reference_id_is_kept() -> None:
    assert kept(WHOLE) | {} == Subscription().carried_in(Customer.model_validate(WHOLE))
    assert Subscription.of([]).carried_in(Customer.model_validate(WHOLE)) == {"reference_id": "ABC123"}


@pytest.mark.parametrize("missing", ATTRIBUTES)
def test_unknown_fields_are_kept_only_when_every_attribute_is(missing: str) -> None:
    assert kept(WHOLE | {"loyalty": 3})["other"] == {"loyalty": 3}
    assert "other" not in kept(WHOLE | {"loyalty": 3}, *(set(ATTRIBUTES) - {missing}))


def test_an_attribute_that_the_seed_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"no such attribute: birthday; there are name, phone, email"):
        Subscription.of(["name", "birthday"])


def test_an_absent_field_has_no_entry_and_null_is_none() -> None:
    assert kept({"phone": None}, "phone", "email") == {"phone": None}


@pytest.mark.parametrize("unset", ["", None])
def test_an_unset_reference_id_is_an_empty_text(unset: str | None) -> None:
    assert kept({"reference_id": unset}, "name") == {"reference_id": ""}


def test_an_address_of_null_empties_all_its_columns_and_those_of_no_other() -> None:
    assert kept({"shipping_address": None}, "address") == dict.fromkeys(
        ("shipping_address", "shipping_city", "shipping_state", "shipping_postal_code", "shipping_country")
    )


def test_the_older_form_of_an_address_has_lines_and_a_zone() -> None:
    values = kept({"primary_address": {"lines": ["Level 2", None, "", "1 George St"], "zone": "NSW"}})
    assert (values["primary_address"], values["primary_state"]) == ("Level 2\n1 George St", "NSW")


@pytest.mark.parametrize("lines", [[], [None, ""]])
def test_lines_without_text_are_no_address(lines: list[str | None]) -> None:
    assert kept({"primary_address": {"lines": lines}})["primary_address"] is None


def test_unknown_fields_of_an_address_are_kept_under_its_name() -> None:
    values = kept({"primary_address": {"city": "Sydney", "floor": 2}, "loyalty": {"level": 1}})
    assert values["other"] == {"primary_address": {"floor": 2}, "loyalty": {"level": 1}}


def test_the_legacy_name_of_the_email_is_read_and_is_no_unknown_field() -> None:
    assert kept({"primary_email_address": "jo@kounta.example"}) == {"email": "jo@kounta.example"}
    both = kept({"email": "new@kounta.example", "primary_email_address": "old@kounta.example", "id_str": "7"})
    assert both == {"email": "new@kounta.example"}


@pytest.mark.parametrize("id_", [389427, "389427"])
def test_an_id_is_a_number_or_its_digits(id_: object) -> None:
    assert Customer.model_validate({"id": id_}).id == 389427


@pytest.mark.parametrize("id_", [1, 2**63 - 1])
def test_the_smallest_and_the_largest_id_fit(id_: int) -> None:
    assert Customer.model_validate({"id": id_}).id == id_


@pytest.mark.parametrize("id_", [True, False, 0, -1, 2**63, 1.5, "seven", "", None, [7]])
def test_anything_else_is_no_id(id_: object) -> None:
    with pytest.raises(ValidationError):
        Customer.model_validate({"id": id_})


@pytest.mark.parametrize("dropped", sorted(WHOLE.keys() - {"id", "created_at", "updated_at"}))
def test_a_list_item_covers_a_mirror_that_keeps_nothing_beyond_it(dropped: str) -> None:
    item = Customer.model_validate({name: value for name, value in WHOLE.items() if name != dropped})
    assert Subscription().covers(Customer.model_validate(WHOLE))
    assert not Subscription().covers(item)


def test_an_abridged_item_covers_a_mirror_of_name_email_and_image() -> None:
    names = ("id", "first_name", "last_name", "email", "image", "reference_id")
    item = Customer.model_validate({name: WHOLE[name] for name in names})
    assert Subscription.of(["name", "email", "image"]).covers(item)
    assert not Subscription.of(["name", "email", "phone"]).covers(item)


def test_columns_are_named_by_their_attributes_each_once_in_the_order_of_the_table() -> None:
    assert tuple(attributes_of(frozenset(COLUMNS))) == (*ATTRIBUTES, "other")
    changed = frozenset({"mobile", "phone", "last_name", "reference_id"})
    assert tuple(attributes_of(changed)) == ("name", "phone", "other")
