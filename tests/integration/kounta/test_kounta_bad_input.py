"""What upstream should never answer: one clear error each, whoever asks, and the mirror as it was."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from receiver.database import Place
from sync.console.customers import ANSWERS, Asked
from sync.engine import Engine, open_engine
from sync.kounta import KountaAccessLost, KountaError, KountaWrongShape, Retries
from sync.sandbox import Sandbox, Settings, serving
from sync.settings import WorkerSettings
from tests.databases import asked
from tests.places import settings_of

LIST = "/v1/companies/5678/customers.json"
JAMIE = "/v1/companies/5678/customers/7.json"
ELSEWHERE = "https://elsewhere.example/v1/companies/5678/customers/7.json"
WHOLE: dict[str, Any] = {
    "id": 7,
    "first_name": "Jamie",
    "last_name": "McDonald",
    "email": "j@shop.example",
    "phone": "02 8765 4321",
    "mobile": None,
    "tags": ["vip"],
    "image": None,
    "primary_address": None,
    "shipping_address": None,
    "reference_id": "ABC123",
    "accepts_marketing": True,
}
NEW: Any = {"first_name": "Ann", "email": "ann@shop.example", "reference_id": "NEW"}
CHANGED: Any = {"last_name": "O'Neill"}

Ask = Callable[[Engine], Awaitable[object]]
ASKS: dict[str, Ask] = {
    "get": lambda engine: ANSWERS["get"](engine, Asked(id=7)),
    "find": lambda engine: ANSWERS["find"](engine, Asked(by={"email": "j@shop.example"})),
    "find by reference": lambda engine: ANSWERS["find"](engine, Asked(by={"reference_id": "ABC123"})),
    "create": lambda engine: ANSWERS["create"](engine, Asked(fields=NEW)),
    "update": lambda engine: ANSWERS["update"](engine, Asked(id=7, fields=CHANGED)),
    "sweep": lambda engine: engine.sweeper.sweep("asked for"),
}
TARGETS = (LIST, JAMIE, *(f"{LIST}?{query}" for query in ("email=j%40shop.example", "reference_id=ABC123")))
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a redirect to another host": ({"status": 302, "Location": ELSEWHERE}, "redirect|Nothing was sent there"),
    "a redirect loop": ({"status": 302, "Location": JAMIE}, "redirect|circle"),
    "HTML": ({"body": b"<!DOCTYPE html><title>Sign in"}, "an HTML page came"),
    "an empty body": ({"body": b""}, "an empty body came"),
    "a cut body": ({"body": WHOLE, "cut": 9}, "the connection was cut"),
    "a cut body that looks whole": ({"body": json.dumps(WHOLE).encode()[:-9]}, "no JSON, or is cut"),
    "another type": ({"body": "OK"}, "expected was an? "),
    "a customer without an id": (
        {"body": {"first_name": "Jamie"}},
        "id: Field required|expected was an array",
    ),
    "a list of a customer without an id": ({"body": [{"first_name": "Jamie"}]}, "expected was an? "),
}


@asynccontextmanager
async def a_mirror(place: Place, url: str, **settings: Any) -> AsyncIterator[Engine]:
    values: dict[str, Any] = {
        **settings_of(place),
        "KOUNTA_COMPANY_ID": 5678,
        "KOUNTA_CLIENT_ID": "sandbox-client",
        "KOUNTA_CLIENT_SECRET": "sandbox-secret",
        "KOUNTA_API_URL": url,
        "KOUNTA_REQUESTS_PER_MINUTE": 1_000_000,
    } | settings
    retries = Retries.sleepless(patience=10)
    async with open_engine(WorkerSettings(**values), "the test", retries=retries) as engine:
        yield engine


def contents(place: Place) -> list[dict[str, Any]]:
    """Give all that reporting tools can see of customers."""
    tables = ("all_customers", "customer_changes", "customer_versions")
    return [row for table in tables for row in asked(place, f"SELECT * FROM {table}")]  # noqa: S608 - our names


def is_clear(error: KountaError) -> bool:
    said = str(error)
    return "\n" not in said and bool(error.advice) and "secret" not in said and "Traceback" not in said


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_answer_is_one_clear_error_and_changes_nothing(
    upstream: Any, place: Place, what: str
) -> None:
    answer, sentence = BAD[what]
    upstream.answer(JAMIE, WHOLE)
    for target in (*TARGETS, f"{LIST}?reference_id=NEW"):
        upstream.answer(target, **answer)
    async with a_mirror(place, upstream.url) as engine:
        await engine.writer.update(7, {"tags": ["vip"]})
        before = contents(place)
        assert len(before) >= 3
        for ask in ASKS.values():
            with pytest.raises(KountaError, match=sentence) as caught:
                await ask(engine)
            assert is_clear(caught.value)
            assert contents(place) == before
        assert all(asked.target in {*TARGETS, f"{LIST}?reference_id=NEW"} for asked in upstream.asked)


async def test_another_type_in_one_field_costs_only_that_field(upstream: Any, place: Place) -> None:
    upstream.answer(JAMIE, WHOLE | {"tags": "vip"})
    upstream.answer(LIST, [WHOLE | {"tags": "vip"}])
    async with a_mirror(place, upstream.url) as engine:
        customer = await engine.kounta.customer(7)
        assert customer is not None
        assert (customer.first_name, customer.tags, dict(customer.unread)) == (
            "Jamie",
            None,
            {"tags": '"vip"'},
        )
        assert [one.first_name async for one in engine.kounta.customers()] == ["Jamie"]


async def test_a_redirect_to_another_host_is_not_followed_there(upstream: Any, place: Place) -> None:
    other = type(upstream)()
    async with await asyncio.start_server(other.serve, "127.0.0.1", 0) as server:
        other.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        upstream.answer(f"{LIST}?email=j%40shop.example", b"", 302, Location=f"{other.url}{JAMIE}")
        other.answer(JAMIE, WHOLE)
        async with a_mirror(place, upstream.url) as engine:
            with pytest.raises(KountaWrongShape, match="Nothing was sent there"):
                await ASKS["find"](engine)
        assert other.asked == []


@pytest.mark.parametrize(
    ("settings", "lost_access", "sentence"),
    [
        ({"KOUNTA_CLIENT_SECRET": "wr0ng"}, "no", r"answered 401.*Check KOUNTA_CLIENT_ID"),
        ({}, "401", r"answered 401.*Check KOUNTA_CLIENT_ID"),
        ({}, "403", r"answered 403.*have no right for this"),
        (
            {"KOUNTA_REFRESH_TOKEN": "long-gone", "MIRROR_SECRET_KEY": "k" * 32},
            "no",
            r"no tokens came, but 400 invalid_grant.*Run kounta-mirror login",
        ),
    ],
    ids=["wrong credentials", "credentials withdrawn", "no right for the company", "expired refresh token"],
)
async def test_lost_access_is_one_clear_error_and_changes_nothing(
    place: Place, settings: dict[str, str], lost_access: str, sentence: str
) -> None:
    sandbox = Sandbox(Settings(requests_per_minute=100_000), seed=7)
    jamie = sandbox.company.create({"first_name": "Jamie", "email": "j@shop.example"}, customer_id=7)
    async with serving(sandbox) as url:
        async with a_mirror(place, url) as engine:
            await engine.writer.update(jamie.id, {"tags": ["vip"]})
        before = contents(place)
        sandbox.change(sandbox.faults, {"lost_access": lost_access})
        assert len(before) >= 3
        async with a_mirror(place, url, **settings) as engine:
            for ask in ASKS.values():
                with pytest.raises(KountaAccessLost, match=sentence) as caught:
                    await ask(engine)
                assert is_clear(caught.value)
                assert not caught.value.fate_unknown
                assert contents(place) == before
        assert sandbox.company.customer(jamie.id).last_name is None


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        ("sweep", "these credentials see no such company. Check KOUNTA_COMPANY_ID"),
        ("update", "There is no company 9 for you"),
        ("create", "There is no company 9 for you"),
    ],
)
async def test_another_company_than_the_credentials_have_is_one_clear_error(
    place: Place, ask: str, sentence: str
) -> None:
    async with serving(Sandbox(Settings(requests_per_minute=100_000), seed=7, customers=3)) as url:
        async with a_mirror(place, url, KOUNTA_COMPANY_ID=9) as engine:
            with pytest.raises(KountaError, match=sentence) as caught:
                await ASKS[ask](engine)
        assert is_clear(caught.value)
        assert contents(place) == []
