"""The seed's page on customers, line by line: what it says, asked of the local Kounta by the client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync.kounta import BasicAuth, Budget, Kounta, KountaError, KountaRefused, Retries
from sync.kounta.fields import FIELDS
from sync.sandbox import Sandbox, Settings, serving

ADDRESS = {
    "address": "1 George St",
    "city": "Sydney",
    "state": "NSW",
    "postal_code": "0200",
    "country": "AU",
}
VALUES: dict[str, tuple[Any, Any]] = {
    "first_name": ("Jamie", "James"),
    "last_name": ("McDonald", "O'Neill"),
    "phone": ("02 8765 4321", "+61 2 1"),
    "mobile": ("+61 400 000 001", "0400"),
    "email": ("jmcdonald@kounta.kom", "j+m@kounta.kom"),
    "tags": (["vip"], ["gold", "new"]),
    "image": ("https://img.example/1.png", "https://img.example/2.png"),
    "primary_address": (ADDRESS, ADDRESS | {"city": "Auckland", "country": "NZ"}),
    "shipping_address": (ADDRESS, ADDRESS | {"address": "2 Pitt St"}),
    "reference_id": ("ABC123", "0042"),
    "accepts_marketing": (True, False),
}
"""Each field that may be written: a value to create it with, and another to update it to."""


@asynccontextmanager
async def local_kounta(**settings: Any) -> AsyncIterator[tuple[Sandbox, Kounta]]:
    sandbox = Sandbox(
        Settings(requests_per_minute=100_000, unknown_fields="refused", **settings), seed=7, customers=3
    )
    async with serving(sandbox) as url, client(url) as kounta:
        yield sandbox, kounta


def client(url: str, *credentials: str) -> Kounta:
    return Kounta(
        5678,
        auth=BasicAuth(*(credentials or ("sandbox-client", "sandbox-secret"))),
        api_url=url,
        budget=Budget.endless(),
        retries=Retries.sleepless(),
    )


def held(sandbox: Sandbox, customer_id: int) -> dict[str, Any]:
    """Give what the company really holds, without the id."""
    shown = sandbox.company.customer(customer_id).seen_by("sandbox-client")
    return {name: value for name, value in shown.items() if name != "id"}


def test_what_may_be_written_is_the_seeds_list_and_the_mobile() -> None:
    assert set(FIELDS) == VALUES.keys()


@pytest.mark.parametrize("field", VALUES)
async def test_each_field_is_created_and_nothing_else_is(field: str) -> None:
    async with local_kounta() as (sandbox, kounta):
        least: dict[str, Any] = {"first_name": "Ann", "email": "ann@kounta.kom"}
        plain = await kounta.create(**(least | {"email": "other@kounta.kom"}))
        made = await kounta.create(**(least | {field: VALUES[field][0]}))
        expected = held(sandbox, plain.id) | least | {field: VALUES[field][0]}
        assert held(sandbox, made.id) == expected


@pytest.mark.parametrize("field", VALUES)
async def test_each_field_is_updated_alone(field: str) -> None:
    async with local_kounta() as (sandbox, kounta):
        old = {name: values[0] for name, values in VALUES.items()}
        made = sandbox.company.create(old)
        new: dict[str, Any] = {field: VALUES[field][1]}
        changed = await kounta.update(made.id, **new)
        assert held(sandbox, made.id) == old | new
        shown = changed.model_dump(exclude={"id", "created_at", "updated_at"}, exclude_unset=True)
        assert shown == held(sandbox, made.id)


@pytest.mark.parametrize("field", ["id", "created_at", "updated_at", "points", "primary_address.lines"])
async def test_no_other_field_is_created_or_updated(field: str) -> None:
    name, _, part = field.partition(".")
    given: dict[str, Any] = {name: {part: ["1 George St"]} if part else "1"}
    async with local_kounta() as (sandbox, kounta):
        with pytest.raises(KountaRefused, match="cannot be written"):
            await kounta.update(next(iter(sandbox.company.customers)).id, **given)
        with pytest.raises(KountaRefused, match="cannot be written"):
            await kounta.create(first_name="Ann", phone="1", **given)
        assert kounta.calls == 0


@pytest.mark.parametrize("contact", ["email", "phone", "mobile"])
async def test_a_first_name_and_one_contact_are_enough_and_neither_alone_is(contact: str) -> None:
    async with local_kounta() as (sandbox, kounta):
        given: dict[str, Any] = {"first_name": "Ann", contact: VALUES[contact][0]}
        assert held(sandbox, (await kounta.create(**given)).id)["first_name"] == "Ann"
        for left_out in given:
            with pytest.raises(KountaRefused):
                await kounta.create(**{name: given[name] for name in given if name != left_out})


@pytest.mark.parametrize("country", ["AUS", "au", "Australia", "XX", ""])
async def test_a_country_is_two_letters_of_iso_3166_1(country: str) -> None:
    async with local_kounta() as (sandbox, kounta):
        customer = next(iter(sandbox.company.customers))
        with pytest.raises(KountaRefused, match="ISO 3166-1"):
            await kounta.update(customer.id, shipping_address={"country": country})
        await kounta.update(customer.id, shipping_address={"country": "NZ"})
        assert held(sandbox, customer.id)["shipping_address"] == {"country": "NZ"}


async def test_a_reference_id_may_be_shared_by_none_one_or_many() -> None:
    async with local_kounta() as (_, kounta):
        assert await kounta.customers_by_reference_id("ABC123") == []
        made = [
            (await kounta.create(first_name=name, phone=name, reference_id="ABC123")).id
            for name in ("Ana", "Bo", "Cy")
        ]
        found = await kounta.customers_by_reference_id("ABC123")
        assert [customer.id for customer in found] == made
        assert await kounta.customers_by_reference_id("abc123") == []


async def test_a_reference_id_of_one_application_is_not_seen_by_another() -> None:
    async with local_kounta(other_applications=("theirs:s3cret:token",)) as (_, kounta):
        made = await kounta.create(first_name="Ana", phone="1", reference_id="ABC123")
        async with client(kounta._origin.at("").removesuffix("/v1"), "theirs", "s3cret") as other:
            seen = await other.customer(made.id)
            assert seen is not None
            assert (seen.first_name, seen.reference_id) == ("Ana", "")
            assert await other.customers_by_reference_id("ABC123") == []
            await other.update(made.id, reference_id="THEIRS")
        [ours] = await kounta.customers_by_reference_id("ABC123")
        assert ours.reference_id == "ABC123"


async def test_a_customer_without_a_reference_id_has_an_empty_one() -> None:
    async with local_kounta() as (_, kounta):
        made = await kounta.create(first_name="Ana", phone="1")
        read = await kounta.customer(made.id)
        assert read is not None
        assert (made.reference_id, read.reference_id) == ("", "")


async def test_both_times_are_those_of_the_request() -> None:
    async with local_kounta() as (sandbox, kounta):
        customer = next(iter(sandbox.company.customers))
        sandbox.faults.clock_skew_seconds = 3600.0
        read = await kounta.customer(customer.id)
        assert read is not None
        assert read.created_at == read.updated_at
        ahead = datetime.fromisoformat(read.updated_at) - datetime.now(UTC)
        assert timedelta(minutes=59) < ahead <= timedelta(hours=1)


@pytest.mark.parametrize("left_out", ["first_name", "last_name", "phone"])
async def test_a_look_up_by_name_and_phone_takes_all_three(left_out: str) -> None:
    who = {"first_name": "Jamie", "last_name": "McDonald", "phone": "02 8765 4321"}
    async with local_kounta() as (sandbox, kounta):
        jamie = sandbox.company.create(who)
        found = await kounta.customer_by_name_and_phone(*who.values())
        assert found is not None
        assert found.id == jamie.id
        with pytest.raises(KountaRefused, match=f"{left_out} has none"):
            await kounta.customer_by_name_and_phone(*(who | {left_out: ""}).values())
        assert await kounta.customer_by_name_and_phone(*(who | {left_out: "other"}).values()) is None


async def test_a_look_up_that_is_redirected_costs_two_calls_and_one_that_finds_nobody_one() -> None:
    async with local_kounta() as (sandbox, kounta):
        jamie = sandbox.company.create({"first_name": "Jamie", "email": "j+m@kounta.kom"})
        found = await kounta.customer_by_email("j+m@kounta.kom")
        assert found is not None
        assert found.id == jamie.id
        assert dict(sandbox.calls.by_status) == {"302": 1, "200": 1}
        assert await kounta.customer_by_email("j m@kounta.kom") is None
        assert dict(sandbox.calls.by_status) == {"302": 1, "200": 1, "404": 1}


async def test_a_customer_that_is_not_there_is_none_to_read_and_an_error_to_update() -> None:
    async with local_kounta() as (_, kounta):
        assert await kounta.customer(1) is None
        with pytest.raises(KountaError, match="There is no customer 1") as caught:
            await kounta.update(1, phone="1")
        assert caught.value.status == 404
