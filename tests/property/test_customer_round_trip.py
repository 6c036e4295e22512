"""Any customer that the local Kounta can hold survives create, read, update and the mirror unchanged.

Only NUL and lone surrogates do not, which no database here can store: they are refused before a call is made.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from receiver.database import Place, Server
from sync.engine import Engine, open_engine
from sync.kounta import Customer, Retries
from sync.sandbox import Sandbox, Settings, serving
from sync.settings import WorkerSettings
from tests.budget import tries
from tests.databases import asked
from tests.places import settings_of

PARTS = ("address", "city", "state", "postal_code", "country")
ODD = (
    "",
    " ",
    "0",
    "007",
    "01234567890123456789012",
    "99999999999999999999999",
    "1e5",
    "null",
    "NaN",
    "-0",
    "O'Neill & Söhne",
    'say "hi"',
    "back\\slash",
    "a,b;c|d\te",
    "two\r\nlines\u2028more",
    "  kept  ",
    "'); DROP TABLE customers; --",
    "50%_+?&=#/",
    "👩‍👩‍👧‍👦 🦘",
    "Zoe\u0308 is not Zo\u00eb",
    "\u202eright to left\u202c שלום",
    "\ufeff\uffff\U0010ffff",
)

texts = st.one_of(
    st.sampled_from(ODD), st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)
)
maybe = st.none() | texts
said = texts.filter(lambda text: bool(text.strip()))
addresses = st.none() | st.fixed_dictionaries(
    {}, optional={**dict.fromkeys(PARTS[:4], maybe), "country": st.sampled_from([None, "AU", "NZ", "GB"])}
)
tags = st.none() | st.lists(texts, max_size=4)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("first_name", "last_name", "email", "phone", "mobile", "image", "reference_id"), maybe),
    "tags": tags,
    **dict.fromkeys(("primary_address", "shipping_address"), addresses.filter(lambda address: address != {})),
    "accepts_marketing": st.none() | st.booleans(),
}
created = st.builds(
    lambda fields, least: fields | least,
    st.fixed_dictionaries({}, optional=FIELDS),
    st.builds(
        lambda name, contact, value: {"first_name": name, contact: value},
        said,
        st.sampled_from(["email", "phone", "mobile"]),
        said,
    ),
)
updated = st.fixed_dictionaries({}, optional=FIELDS).filter(bool)
edited = st.fixed_dictionaries(
    {},
    optional={
        **FIELDS,
        **dict.fromkeys(("primary_address", "shipping_address"), addresses),
        "loyalty": json_values,
        "né le": json_values,
    },
)
shapes = st.fixed_dictionaries(dict.fromkeys(("created_body", "ascii_json", "unknown_extras"), st.booleans()))
WHOLE: dict[str, Any] = {
    "first_name": "Zoë 👩‍👩‍👧‍👦",
    "last_name": "",
    "email": "j+m@shop.example",
    "phone": "0012",
    "mobile": "99999999999999999999999",
    "tags": ["", 'quo"ted', "a,b", "🦘"],
    "image": None,
    "primary_address": dict.fromkeys(PARTS[:4], "007") | {"country": "AU"},
    "shipping_address": dict.fromkeys(PARTS),
    "reference_id": "01234567890123456789012",
    "accepts_marketing": True,
}


@dataclass(frozen=True)
class Shop:
    """A local Kounta and a mirror of it, at work in a thread of their own."""

    place: Place
    sandbox: Sandbox
    engine: Engine
    loop: asyncio.AbstractEventLoop
    over: asyncio.Event


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place_of_all(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One place for all examples."""
    directory = tmp_path_factory.mktemp("mirror")
    if request.param == "sqlite":
        yield directory
        return
    server = request.getfixturevalue("postgresql")
    url = server.fresh()
    yield Server(directory, url)
    server.drop(url)


@pytest.fixture(scope="module")
def shop(place_of_all: Place) -> Iterator[Shop]:
    ready: Future[Shop] = Future()
    with ThreadPoolExecutor(1) as thread:
        at_work = thread.submit(asyncio.run, serve(place_of_all, ready))
        futures: list[Future[Any]] = [ready, at_work]
        wait(futures, return_when=FIRST_COMPLETED)
        if not ready.done():
            at_work.result()
        shop = ready.result(0)
        yield shop
        shop.loop.call_soon_threadsafe(shop.over.set)
        at_work.result(30)


async def serve(place: Place, ready: Future[Shop]) -> None:
    sandbox = Sandbox(Settings(requests_per_minute=1_000_000, unknown_fields="refused"), seed=7)
    async with serving(sandbox) as url:
        values: dict[str, Any] = {
            **settings_of(place),
            "KOUNTA_COMPANY_ID": 5678,
            "KOUNTA_CLIENT_ID": "sandbox-client",
            "KOUNTA_CLIENT_SECRET": "sandbox-secret",
            "KOUNTA_API_URL": url,
            "KOUNTA_REQUESTS_PER_MINUTE": 1_000_000,
        }
        async with open_engine(WorkerSettings(**values), "the test", retries=Retries.sleepless()) as engine:
            shop = Shop(place, sandbox, engine, asyncio.get_running_loop(), asyncio.Event())
            ready.set_result(shop)
            await shop.over.wait()


async def lived(shop: Shop, shape: Any, first: Any, second: Any, third: Any) -> None:
    company, writer = shop.sandbox.company, shop.engine.writer
    shop.sandbox.change(shop.sandbox.settings, shape)
    made = await writer.create(first)
    try:
        await is_everywhere(shop, made, as_written(first))
        await is_everywhere(shop, await writer.update(made.id, second), as_written(first | second))
        company.update(made.id, third)
        changed = await writer.update(made.id, {"accepts_marketing": False})
        expected = as_written(first | second | third) | {"accepts_marketing": False}
        await is_everywhere(shop, changed, expected)
    finally:
        company.delete(made.id)  # its mobile is free for the next


async def is_everywhere(shop: Shop, answered: Customer, expected: Mapping[str, Any]) -> None:
    """Hold that upstream, the answer, a read and the mirror's row all have what was written, and no more."""
    truth = next(one for one in shop.sandbox.company.truth() if one["id"] == answered.id)
    assert truth.items() >= expected.items()
    assert carried(answered) == truth
    read = await shop.engine.kounta.customer(answered.id)
    assert read is not None
    assert carried(read) == truth
    assert row(shop.place, answered.id) == as_row(truth)
    reference = truth["reference_id"]
    if reference.strip():
        assert [one.id for one in await shop.engine.kounta.customers_by_reference_id(reference)] == [
            answered.id
        ]


def as_written(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Give what upstream should hold; the seed: without a reference id an empty string is returned."""
    return {name: value if name != "reference_id" else value or "" for name, value in fields.items()}


def carried(customer: Customer) -> dict[str, Any]:
    return customer.model_dump(exclude={"created_at", "updated_at"}, exclude_unset=True)


def as_row(truth: Mapping[str, Any]) -> dict[str, Any]:
    """Give the columns of docs/reference/tables.md that a customer of upstream should fill."""
    plain = ("first_name", "last_name", "email", "phone", "mobile", "image", "reference_id", "tags")
    known = {"id", "id_str", *plain, "accepts_marketing", "primary_address", "shipping_address"}
    expected = {name: truth[name] for name in plain}
    expected["accepts_marketing"] = None if truth["accepts_marketing"] is None else truth["accepts_marketing"]
    for kind in ("primary", "shipping"):
        expected |= {f"{kind}_{part}": (truth[f"{kind}_address"] or {}).get(part) for part in PARTS}
    other = {name: value for name, value in truth.items() if name not in known} or None
    expected["other"] = exact(json.dumps(other))
    return expected


def row(place: Place, customer_id: int) -> dict[str, Any]:
    """Give the customer's row as a reporting tool reads it, its JSON columns parsed."""
    (found,) = asked(place, "SELECT * FROM customers WHERE id = ?", customer_id)
    parsed = {"tags": found["tags"] and json.loads(found["tags"]), "other": exact(found["other"] or "null")}
    if found["accepts_marketing"] is not None:
        parsed["accepts_marketing"] = bool(found["accepts_marketing"])
    columns = [
        *("first_name", "last_name", "email", "phone", "mobile", "image", "reference_id"),
        *("accepts_marketing", "tags", "other"),
        *(f"{kind}_{part}" for kind in ("primary", "shipping") for part in PARTS),
    ]
    return {name: found[name] for name in columns} | parsed


def exact(text: str) -> Any:
    """Give JSON with its numbers as they are written: PostgreSQL writes 1e16 out, and Python reads an int."""
    return json.loads(text, parse_int=Decimal, parse_float=Decimal)


@settings(
    max_examples=tries(25, 250),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(shape=shapes, first=created, second=updated, third=edited)
@example(shape={}, first=WHOLE, second=dict.fromkeys(WHOLE), third=WHOLE)
@example(
    shape={"unknown_extras": True},
    first=WHOLE,
    second={"primary_address": {"city": ""}},
    third={"loyalty": {"card": 10**22 + 1}},
)
def test_a_customer_survives_create_read_update_and_the_mirror(
    shop: Shop, shape: Any, first: Any, second: Any, third: Any
) -> None:
    asyncio.run_coroutine_threadsafe(lived(shop, shape, first, second, third), shop.loop).result(30)
