"""What may be written of a customer: by the seed, checked before anyone is asked."""

from typing import Any

import pytest

from sync.kounta import Address, Customer, KountaRefused
from sync.kounta.fields import holds, is_same_person, to_create, to_update

JAMIE = {"first_name": "Jamie", "email": "jamie@shop.example"}


@pytest.mark.parametrize("contact", ["email", "phone", "mobile"])
def test_a_first_name_and_one_contact_are_enough_to_create(contact: str) -> None:
    given = {"first_name": "Jamie", contact: "02 8765 4321"}
    assert to_create(given) == given


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"email": "jamie@shop.example"}, "a first name"),
        ({"first_name": " ", "email": "jamie@shop.example"}, "a first name"),
        ({"first_name": "Jamie"}, "an e-mail address or a phone"),
        ({"first_name": "Jamie", "phone": "", "last_name": "McDonald"}, "an e-mail address or a phone"),
        ({}, "a first name"),
    ],
)
def test_a_create_without_its_minimum_is_refused(given: dict[str, Any], missing: str) -> None:
    with pytest.raises(KountaRefused, match=missing):
        to_create(given)


def test_an_update_holds_only_what_is_given_and_null_takes_away() -> None:
    assert to_update({"last_name": None, "accepts_marketing": False}) == {
        "last_name": None,
        "accepts_marketing": False,
    }


def test_an_update_of_nothing_is_refused() -> None:
    with pytest.raises(KountaRefused, match="would update nothing"):
        to_update({})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"id": 3}, "id cannot be written"),
        ({"updated_at": "2026-01-01"}, "updated_at cannot be written"),
        ({"primary_address": {"zone": "NSW"}}, r"primary_address\.zone cannot be written"),
        ({"primary_address": {}}, "primary_address .* null takes an address away"),
        ({"shipping_address": "1 George St"}, "shipping_address cannot be written so"),
        ({"tags": "vip"}, "tags cannot be written so"),
        ({"tags": ["vip", 7]}, r"tags\.1 cannot be written so"),
        ({"accepts_marketing": 1}, "accepts_marketing cannot be written so"),
        ({"phone": 287654321}, "phone cannot be written so"),
        ({"last_name": "a\x00b"}, "last_name .* NUL"),
        ({"last_name": "\ud83d"}, "last_name .* half of a character"),
    ],
)
def test_what_the_seed_does_not_allow_is_refused_by_name(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(KountaRefused, match=sentence):
        to_update(given)


@pytest.mark.parametrize(
    ("country", "hint"),
    [
        ("Australia", "AU is meant"),
        ("au", "AU is meant"),
        ("AUS", "AU is meant"),
        ("XX", "such as AU"),
        ("", "AU"),
    ],
)
def test_a_country_is_an_iso_3166_1_alpha_2_code(country: str, hint: str) -> None:
    with pytest.raises(KountaRefused, match=rf"primary_address\.country .*two capital letters.*{hint}"):
        to_create(JAMIE | {"primary_address": {"city": "Sydney", "country": country}})
    assert to_create(JAMIE | {"primary_address": {"country": "NZ"}})["primary_address"] == {"country": "NZ"}


def test_an_address_that_upstream_gave_can_be_written_again() -> None:
    old = Address.model_validate({"lines": ["1 George St", "Level 2"], "zone": "NSW", "geo": [1, 2]})
    assert to_update({"shipping_address": old})["shipping_address"] == {
        "address": "1 George St\nLevel 2",
        "city": None,
        "state": "NSW",
        "postal_code": None,
        "country": None,
    }


@pytest.mark.parametrize(
    ("written", "shown", "same", "all_of_it"),
    [
        ({"first_name": "Jamie "}, {"first_name": "jamie"}, True, True),
        ({"phone": "02 8765 4321"}, {"phone": "(02) 8765-4321"}, True, True),
        ({"reference_id": None}, {"reference_id": ""}, True, True),
        ({"email": "a@b.example"}, {"email": "c@b.example"}, False, False),
        ({"email": "a@b.example", "tags": ["x"]}, {"email": "a@b.example", "tags": ["y"]}, True, False),
        ({"tags": ["x", "y"]}, {"tags": ["y", "x"]}, True, True),
        (
            {"primary_address": {"city": "Sydney"}},
            {"primary_address": {"city": "Sydney", "zone": None}},
            True,
            True,
        ),
        ({"primary_address": {"city": "Sydney"}}, {"primary_address": None}, True, False),
        ({"accepts_marketing": True}, {"accepts_marketing": False}, True, False),
        ({"last_name": "McDonald"}, {}, True, True),
    ],
)
def test_a_customer_is_known_again_however_upstream_writes_it(
    written: dict[str, Any], shown: dict[str, Any], *, same: bool, all_of_it: bool
) -> None:
    customer = Customer.model_validate({"id": 1, **shown})
    assert (is_same_person(written, customer), holds(written, customer)) == (same, all_of_it)
