"""The webhooks of the seed: what the local Kounta sends for each topic and filter, and what row it makes."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from receiver.database import Place
from receiver.inbox import Delivery
from sync.engine import Engine, open_engine, utc_now
from sync.kounta import Retries
from sync.merge.customers import COLUMNS
from sync.sandbox import AppTransport, Courier, Sandbox, Settings, create_app
from sync.settings import WorkerSettings
from tests.databases import asked
from tests.places import settings_of

ADDRESS = {"address": "1 George St", "city": "Sydney", "state": "NSW", "postal_code": "0200", "country": "AU"}
CUSTOMER: dict[str, Any] = {
    "first_name": "Jamie",
    "last_name": "McDonald",
    "phone": "02 8765 4321",
    "mobile": "+61 400 000 001",
    "email": "jmcdonald@kounta.kom",
    "tags": ["vip"],
    "image": "https://img.example/1.png",
    "primary_address": ADDRESS,
    "shipping_address": ADDRESS | {"city": "Auckland", "country": "NZ"},
    "reference_id": "ABC123",
    "accepts_marketing": True,
}
FILTERS: dict[str, tuple[dict[str, Any], ...]] = {
    "name": ({"first_name": "James"}, {"last_name": "O'Neill"}),
    "phone": ({"phone": "1"}, {"mobile": "2"}),
    "email": ({"email": "j@kounta.kom"},),
    "address": ({"primary_address": {"city": "Perth"}}, {"shipping_address": None}),
    "tags": ({"tags": ["gold"]},),
    "image": ({"image": None},),
    "accepts_marketing": ({"accepts_marketing": False},),
}
"""The attribute filters of the seed, and an update of each field that passes it."""


@dataclass
class Shop:
    """A local Kounta whose webhooks go into a mirror, one by one, as they leave."""

    sandbox: Sandbox
    place: Place
    engine: Engine
    position: int = 0

    async def deliver(self) -> list[str]:
        """Apply what upstream has sent since, and give its topics."""
        topics = []
        for one in self.sandbox.company.due_deliveries(self.sandbox.clock()):
            post = self.sandbox.company.post(one)
            self.sandbox.company.finished(one, 200, self.sandbox.clock())
            self.position += 1
            topics.append(one.change.topic)
            delivery = Delivery(
                self.position, f"delivery-{self.position}", 5678, topics[-1], utc_now(), {}, post.body
            )
            await self.engine.applier.apply([delivery])
        return topics

    def row(self, customer_id: int, view: str = "all_customers") -> dict[str, Any] | None:
        found = asked(self.place, f"SELECT * FROM {view} WHERE id = ?", customer_id)  # noqa: S608 - one of two
        return found[0] if found else None


@pytest.fixture
async def shop(place: Place, request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    """Make a shop that subscribes to the attribute that a test is given, or to all."""
    attribute = getattr(request, "param", "")
    sandbox = Sandbox(Settings(requests_per_minute=100_000), seed=7)
    values: dict[str, Any] = {
        **settings_of(place),
        "KOUNTA_COMPANY_ID": 5678,
        "KOUNTA_CLIENT_ID": "sandbox-client",
        "KOUNTA_CLIENT_SECRET": "sandbox-secret",
        "KOUNTA_REQUESTS_PER_MINUTE": 1_000_000,
    } | ({"MIRROR_ATTRIBUTES": attribute} if attribute else {})
    async with httpx2.AsyncClient() as unused:
        transport = AppTransport(create_app(sandbox, Courier(sandbox, unused)))
        retries = Retries.sleepless()
        async with open_engine(
            WorkerSettings(**values), "the test", transport=transport, retries=retries
        ) as engine:
            webhooks = engine.kounta.webhooks
            for topic in ("customers/created", "customers/updated", "customers/deleted"):
                await webhooks.register(topic, "https://mirror.example/unused")
            if attribute:
                updated = next(one for one in await webhooks.all() if one.topic == "customers/updated")
                await webhooks.change(updated.id, {"filter": {"attributes": [attribute]}})
            yield Shop(sandbox, place, engine)


def columns(customer: dict[str, Any]) -> dict[str, Any]:
    """Give a customer as the mirror's columns hold it."""
    row = {name: customer[name] for name in CUSTOMER if not name.endswith("_address")}
    row |= {"tags": json.dumps(customer["tags"]), "accepts_marketing": int(customer["accepts_marketing"])}
    for kind in ("primary", "shipping"):
        address = customer[f"{kind}_address"] or {}
        row |= {f"{kind}_{part}": address.get(part) for part in ADDRESS}
    return row


async def test_when_a_customer_is_created_its_complete_record_becomes_a_row(shop: Shop) -> None:
    made = shop.sandbox.company.create(CUSTOMER)
    assert await shop.deliver() == ["customers/created"]
    row = shop.row(made.id)
    assert row is not None
    assert row.items() >= columns(CUSTOMER).items()
    assert (row["partial"], row["deleted_at"], row["first_seen_by"]) == (0, None, "webhook")


async def test_when_a_customer_is_updated_the_record_is_the_one_after_the_change(shop: Shop) -> None:
    made = shop.sandbox.company.create(CUSTOMER)
    changes = {name: value for updates in FILTERS.values() for one in updates for name, value in one.items()}
    await shop.deliver()
    shop.sandbox.company.update(made.id, changes)
    assert await shop.deliver() == ["customers/updated"]
    row = shop.row(made.id)
    assert row is not None
    assert row.items() >= columns(CUSTOMER | changes).items()


async def test_when_a_customer_is_deleted_its_last_record_stays_as_a_tombstone(shop: Shop) -> None:
    made = shop.sandbox.company.create(CUSTOMER)
    shop.sandbox.company.delete(made.id)
    assert await shop.deliver() == ["customers/created", "customers/deleted"]
    assert shop.row(made.id, "customers") is None
    row = shop.row(made.id)
    assert row is not None
    assert row["deleted_at"] is not None
    assert row.items() >= columns(CUSTOMER).items()


@pytest.mark.parametrize(("shop", "attribute"), [(name, name) for name in FILTERS], indirect=["shop"])
async def test_a_filter_announces_its_attribute_and_the_mirror_holds_it_and_no_other(
    shop: Shop, attribute: str
) -> None:
    made = shop.sandbox.company.create(CUSTOMER)
    await shop.deliver()
    now = dict(CUSTOMER)
    for name, updates in FILTERS.items():
        for update in updates:
            shop.sandbox.company.update(made.id, update)
            assert await shop.deliver() == (["customers/updated"] if name == attribute else [])
            now |= update if name == attribute else {}
    row = shop.row(made.id)
    assert row is not None
    kept = {column for column, belongs in COLUMNS.items() if belongs == attribute} | {"reference_id"}
    truth = columns(now)
    assert {column: row[column] for column in kept} == {column: truth[column] for column in kept}
    assert {row[column] for column in COLUMNS if column not in kept} == {None}
