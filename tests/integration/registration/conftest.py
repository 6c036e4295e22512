from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from receiver.database import Place, directory_of
from sync.kounta import BasicAuth, Budget, Kounta, Retries
from sync.merge.customers import Subscription
from sync.mirror.store import Mirror
from sync.registration.registrar import Registrar
from sync.sandbox import Faults, Sandbox, Settings, serving
from tests.clock import NOON
from tests.timekeeping import SystemClock

TOPICS = ("customers/created", "customers/deleted", "customers/updated")


@dataclass
class Site:
    """A mirror at its public URL: a server, or a laptop on a tunnel."""

    mirror: Mirror
    kounta: Kounta
    registrar: Registrar
    public_url: str

    async def ensure(self, adopt: int | None = None) -> Any:
        return await self.registrar.ensure(self.public_url, adopt)

    def address(self, topic: str) -> str:
        return f"{self.public_url}/webhooks/5678/{topic}"

    async def ours(self) -> list[dict[str, Any]]:
        rows = (await self.registrar.view()).as_json()
        return [row for row in rows if row["owner"] == "ours" and not row["gone"]]

    async def is_registered_once(self) -> bool:
        found = sorted((row["topic"], row["address"]) for row in await self.ours())
        right = all(not row["filtered"] and row["format"] == "json" for row in await self.ours())
        return right and found == [(topic, self.address(topic)) for topic in TOPICS]


@dataclass
class Shop:
    """The company at the local Kounta, over real HTTP, and whoever has to do with its webhooks."""

    place: Place
    stack: AsyncExitStack
    sandbox: Sandbox = field(
        default_factory=lambda: Sandbox(Settings(requests_per_minute=100_000), Faults(), seed=7, customers=1)
    )
    url: str = ""
    now: datetime = NOON

    async def open(self) -> None:
        self.url = await self.stack.enter_async_context(serving(self.sandbox))

    async def site(self, name: str, public_url: str = "https://mirror.example", **client: Any) -> Site:
        """Make the server's mirror, or one in files of a name of its own beside it."""
        place = self.place if name == "server" else directory_of(self.place) / name
        mirror = await Mirror.open(place, 5678, Subscription(), "the test")
        self.stack.push_async_callback(mirror.close)
        kounta = await self.stack.enter_async_context(
            Kounta(
                5678,
                auth=BasicAuth("sandbox-client", "sandbox-secret"),
                api_url=self.url,
                budget=Budget.endless(),
                retries=Retries.sleepless(),
                **client,
            )
        )
        return Site(mirror, kounta, Registrar(mirror, kounta, clock=lambda: self.now), public_url)

    def by_hand(self, topic: str, address: str, **fields: Any) -> int:
        """Register as somebody else with the same application's credentials does; give the id."""
        body = {"topic": topic, "address": address, **fields}
        return self.sandbox.company.webhooks.register("sandbox-client", body, 0).id

    def change(self, id_: int, **fields: Any) -> None:
        self.sandbox.company.webhooks.update("sandbox-client", id_, fields, 0)

    def delete(self, id_: int) -> None:
        self.sandbox.company.webhooks.remove("sandbox-client", id_)

    def shown(self) -> dict[int, dict[str, Any]]:
        """What upstream has, by id."""
        return {webhook.id: webhook.shown() for webhook in self.sandbox.company.webhooks}


@pytest.fixture
async def shop(place: Place, system_clock: SystemClock) -> AsyncIterator[Shop]:
    async with AsyncExitStack() as stack:
        system_clock.follow(lambda: NOON)  # a local Kounta reads it when it is made
        shop = Shop(place, stack)
        system_clock.follow(lambda: shop.now)
        await shop.open()
        yield shop


@pytest.fixture
async def site(shop: Shop) -> Site:
    return await shop.site("server")
