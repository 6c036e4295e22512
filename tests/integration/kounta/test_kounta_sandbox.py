"""The client and the local Kounta, each written from the documentation alone, over real HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sync.kounta import BasicAuth, Budget, Kounta, KountaAccessLost, KountaError, KountaThrottled, Retries
from sync.sandbox import Faults, Sandbox, Settings, serving

JAMIE = {
    "first_name": "Jamie",
    "last_name": "O'Neill & Söhne",
    "phone": "02 8765 4321",
    "mobile": "+61 400 000 001",
    "email": "j+m@shop.example",
    "reference_id": "A&B + 1",
}


@asynccontextmanager
async def sandbox_and_client(
    *,
    customers: int = 0,
    faults: Faults | None = None,
    auth: BasicAuth | None = None,
    company_id: int = 5678,
    retries: Retries | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Sandbox, Kounta]]:
    options = {"requests_per_minute": 100_000, **settings}
    sandbox = Sandbox(Settings(**options), faults or Faults(), seed=7, customers=customers)
    async with (
        serving(sandbox) as url,
        Kounta(
            company_id,
            auth=auth or BasicAuth("sandbox-client", "sandbox-secret"),
            api_url=url,
            budget=Budget.endless(),
            retries=retries or Retries.sleepless(),
        ) as kounta,
    ):
        yield sandbox, kounta


@pytest.mark.parametrize("list_shape", ["abridged", "legacy", "complete"])
@pytest.mark.parametrize(
    "form",
    [
        {},
        {"page_base": 0, "last_next_page": "empty", "list_order": "newest", "unknown_extras": True},
        {"list_order": "name", "address_shape": "legacy", "ascii_json": True},
    ],
)
async def test_every_customer_is_listed_once_in_each_form_of_list(
    list_shape: str, form: dict[str, Any]
) -> None:
    async with sandbox_and_client(customers=60, list_shape=list_shape, **form) as (sandbox, kounta):
        listed = [customer async for customer in kounta.customers()]
        assert sorted(customer.id for customer in listed) == [c.id for c in sandbox.company.customers]
        assert {customer.id: customer.email for customer in listed} == {
            customer.id: customer.email for customer in sandbox.company.customers
        }
        assert kounta.calls == 3


@pytest.mark.parametrize("form", [{}, {"unknown_extras": True, "ascii_json": True}])
async def test_a_read_gives_what_the_company_holds(form: dict[str, Any]) -> None:
    async with sandbox_and_client(customers=40, **form) as (sandbox, kounta):
        for held in sandbox.company.customers:
            customer = await kounta.customer(held.id)
            assert customer is not None
            assert (
                customer.first_name,
                customer.last_name,
                customer.phone,
                customer.mobile,
                customer.tags,
            ) == (
                held.first_name,
                held.last_name,
                held.phone,
                held.mobile,
                list(held.tags) if held.tags is not None else None,
            )
            assert customer.updated_at is not None
        assert await kounta.customer(10**12) is None


@pytest.mark.parametrize("location", ["absolute", "relative"])
async def test_each_look_up_of_the_seed_finds_its_customer(location: str) -> None:
    async with sandbox_and_client(customers=30, location=location) as (sandbox, kounta):
        jamie = sandbox.company.create(JAMIE)
        by_name = await kounta.customer_by_name_and_phone(
            JAMIE["first_name"], JAMIE["last_name"], JAMIE["phone"]
        )
        found = [
            await kounta.customer_by_email(JAMIE["email"]),
            await kounta.customer_by_mobile(JAMIE["mobile"]),
            by_name,
            *await kounta.customers_by_reference_id(JAMIE["reference_id"]),
        ]
        assert [customer.id for customer in found if customer] == [jamie.id] * 4
        assert await kounta.customer_by_email("no.one@shop.example") is None
        assert await kounta.customers_by_reference_id("no one") == []


async def test_the_company_is_named() -> None:
    async with sandbox_and_client() as (_, kounta):
        company = await kounta.company()
        assert (company.id, company.name, company.time_zone) == (5678, "Harbour Roasters", "Australia/Sydney")


@pytest.mark.parametrize("error_shape", ["error", "message", "error_message", "text", "html"])
async def test_wrong_credentials_are_one_clear_error_in_every_shape(error_shape: str) -> None:
    async with sandbox_and_client(auth=BasicAuth("sandbox-client", "wr0ng"), error_shape=error_shape) as (
        _,
        kounta,
    ):
        with pytest.raises(KountaAccessLost, match=r"answered 401.*Check KOUNTA_CLIENT_ID") as caught:
            await kounta.customer(1)
        assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize("wrong_company", [403, 404])
async def test_another_company_is_lost_access_for_the_list(wrong_company: int) -> None:
    async with sandbox_and_client(company_id=9, wrong_company=wrong_company) as (_, kounta):
        with pytest.raises(KountaAccessLost, match=f"answered {wrong_company}"):
            [page async for page in kounta.pages()]
        assert kounta.successes == 0


@pytest.mark.parametrize("limit_headers", ["retry-after", "reset", "both"])
@pytest.mark.parametrize("limit_body", ["text", "json"])
async def test_a_limit_that_is_reached_names_its_reset(limit_headers: str, limit_body: str) -> None:
    impatient = Retries(patience=45)
    async with sandbox_and_client(
        requests_per_minute=3,
        limit_window="sliding",
        limit_headers=limit_headers,
        limit_body=limit_body,
        retries=impatient,
    ) as (_, kounta):
        for _ in range(3):
            await kounta.company()
        with pytest.raises(KountaThrottled, match="answered 429") as caught:
            await kounta.company()
        assert caught.value.wait is not None
        assert 45 < caught.value.wait <= 61


async def test_a_hundred_callers_at_once_over_all_faults_all_end_right_or_with_a_clear_error() -> None:
    faults = Faults(
        too_many=0.05, server_errors=0.05, cut_bodies=0.05, html_answers=0.05, hangs=0.01, hang_seconds=12
    )
    async with sandbox_and_client(customers=100, faults=faults, retries=Retries.sleepless(attempt=4)) as (
        sandbox,
        kounta,
    ):
        ids = [customer.id for customer in sandbox.company.customers]
        found = await asyncio.gather(*(kounta.customer(number) for number in ids), return_exceptions=True)
        wrong = [
            outcome
            for number, outcome in zip(ids, found, strict=True)
            if not isinstance(outcome, KountaError) and getattr(outcome, "id", None) != number
        ]
        assert wrong == []
        assert sum(isinstance(outcome, KountaError) for outcome in found) <= 3
        assert sandbox.calls.by_fault.total() > 5
        assert kounta.budget.used == sandbox.calls.total


async def test_a_walk_over_faults_lists_every_customer() -> None:
    faults = Faults(too_many=0.1, server_errors=0.1, cut_bodies=0.1)
    async with sandbox_and_client(customers=500, faults=faults) as (sandbox, kounta):
        listed = [customer.id async for customer in kounta.customers()]
        assert listed == [customer.id for customer in sandbox.company.customers]
        assert sandbox.calls.by_fault.total() > 2
