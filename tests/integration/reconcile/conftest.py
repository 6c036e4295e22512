import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import httpx2
import pytest

from receiver.database import Place
from receiver.inbox import Delivery
from sync.engine import Engine, open_engine
from sync.gaps import LISTENS_AFTER, SILENT_AFTER
from sync.kounta import Kounta, Read, Retries
from sync.merge.doubts import Doubt
from sync.merge.records import Record
from sync.mirror.figures import Figures, figures_of
from sync.mirror.known import known_of
from sync.mirror.sweeps import SweepRow, newest_sweep
from sync.reconcile.report import Report, Request
from sync.sandbox import Faults, Sandbox, Settings, serving
from sync.settings import WorkerSettings
from tests.clock import NOON
from tests.databases import asked
from tests.places import kept, settings_of, wrong_in
from tests.timekeeping import SystemClock

COMPANY = 5678
LONGEST = 120
"""Real seconds, after which a reconciliation has lost its way."""


class Twist(httpx2.AsyncHTTPTransport):
    """Carries calls to the local Kounta, but for customers that are to be answered otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: dict[int, Callable[[httpx2.Request], httpx2.Response | None]] = {}
        """Customer -> what a read of it is answered; None: as ever."""
        self.items: dict[int, dict[str, Any] | None] = {}
        """Customer -> fields that its item of the list has, too; None: it is not listed."""
        self.garbled: set[int] = set()
        """Customers whose items of the list are no JSON, but for their ids."""
        self.asked: list[str] = []
        """The paths that were asked for."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.url.path)
        found = re.search(r"/customers/(\d+)(?:\.json)?$", request.url.path)
        if found and (answer := self.reads.get(int(found[1]))) is not None:
            given = answer(request)
            if given is not None:
                return given
        response = await super().handle_async_request(request)
        if not (self.items or self.garbled) or not request.url.path.endswith("/customers.json"):
            return response
        page = json.loads(await response.aread())
        kept = [
            {**item, **(self.items.get(item["id"]) or {})}
            for item in page
            if self.items.get(item["id"], {}) is not None
        ]
        headers = {name: value for name, value in response.headers.items() if name.startswith("x-")}
        items = ", ".join(
            f'{{"id": {item["id"]}, "first_name": nope}}' if item["id"] in self.garbled else json.dumps(item)
            for item in kept
        )
        return httpx2.Response(response.status_code, headers=headers, content=f"[{items}]".encode())


def answered(status: int, body: object = None, **headers: str) -> Callable[[httpx2.Request], httpx2.Response]:
    """Answer every read of a customer with this."""
    return lambda _: httpx2.Response(status, headers=headers, json=body)


@dataclass
class Shop:
    """A Kounta on loopback and a mirror of it in a real database. Time stands still, but when one sleeps."""

    place: Place
    stack: AsyncExitStack
    sandbox: Sandbox = field(init=False)
    url: str = ""
    now: float = NOON.timestamp()
    delivered: int = 0
    settings: dict[str, str] = field(default_factory=dict)
    twist: Twist = field(default_factory=Twist)
    engine: Engine = field(init=False)
    _engines: AsyncExitStack = field(default_factory=AsyncExitStack)

    def clock(self) -> datetime:
        return datetime.fromtimestamp(round(self.now, 3), UTC)

    def skip(self, seconds: float) -> None:
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.skip(seconds)
        await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        await self.sleep(seconds)  # which a test may have replaced meanwhile

    async def build(self, customers: int, *, seed: int = 1, **options: Any) -> None:
        await self.found(customers, seed=seed, **options)
        await self.open()

    async def found(self, customers: int, *, seed: int = 1, **options: Any) -> None:
        """Build Kounta, and no mirror of it."""
        self.sandbox = Sandbox(
            Settings(requests_per_minute=100_000, **options),
            Faults(),
            seed,
            customers,
            clock=lambda: self.now,
        )
        self.url = await self.stack.enter_async_context(serving(self.sandbox))
        self.stack.push_async_callback(self.close)

    async def fill(self, customers: int, **options: Any) -> None:
        """Build it, and let the mirror become right and quiet."""
        await self.build(customers, **options)
        await self.reconcile()
        assert self.wrong == {}
        self.skip(60)

    async def open(self, **settings: str) -> Engine:
        """Start the process that owns the mirror, as far as it matters here."""
        given = {
            **settings_of(self.place),
            "KOUNTA_COMPANY_ID": str(COMPANY),
            "KOUNTA_API_URL": self.url,
            "KOUNTA_CLIENT_ID": "sandbox-client",
            "KOUNTA_CLIENT_SECRET": "sandbox-secret",
            "KOUNTA_REQUESTS_PER_MINUTE": "100000",
            "MIRROR_READ_LAG_SECONDS": "2",
            **self.settings,
            **settings,
        }
        opened = open_engine(
            WorkerSettings.model_validate(given),
            "the test",
            clock=self.clock,
            transport=self.twist,
            retries=Retries.sleepless(patience=3),
            sleep=self.pass_time,
            random=Random(1),
        )
        self.engine = await self._engines.enter_async_context(opened)
        return self.engine

    async def close(self) -> None:
        await self._engines.aclose()

    async def reopen(self, **settings: str) -> Engine:
        await self.close()
        return await self.open(**settings)

    async def reconcile(self, **request: Any) -> Report:
        async with asyncio.timeout(LONGEST):
            return await self.engine.reconciler.reconcile(Request(**request))

    def break_down(self, **faults: Any) -> None:
        self.sandbox.change(self.sandbox.faults, faults)

    # upstream's side

    @property
    def ids(self) -> list[int]:
        return sorted(customer["id"] for customer in self.sandbox.company.truth())

    def create(self, **values: Any) -> int:
        customer_id = values.pop("id", None)
        email = f"new{len(self.ids)}@kounta.example"
        given = {"first_name": "New", "email": email, **values}
        return self.sandbox.company.create(given, announce=False, customer_id=customer_id).id

    def update(self, customer_id: int, **values: Any) -> dict[str, Any]:
        customer = self.sandbox.company.update(customer_id, values, announce=False)
        shown: dict[str, Any] = json.loads(json.dumps(customer.seen_by("sandbox-client"), default=str))
        return shown

    def delete(self, *customer_ids: int) -> None:
        for customer_id in customer_ids:
            self.sandbox.company.delete(customer_id, announce=False)

    async def deliver(self, customer: dict[str, Any], topic: str = "customers/updated") -> None:
        """Let a delivery of this customer come in now, and apply it."""
        self.delivered += 1
        body = json.dumps({**customer, "updated_at": self.clock().isoformat(timespec="seconds")}).encode()
        name = f"delivery-{self.delivered}"
        await self.engine.applier.apply(
            [Delivery(self.delivered, name, COMPANY, topic, self.clock(), {}, body)]
        )

    async def deliver_raw(self, body: bytes, topic: str = "customers/updated") -> None:
        """Let a delivery of these very bytes come in now, and apply it."""
        self.delivered += 1
        name = f"delivery-{self.delivered}"
        await self.engine.applier.apply(
            [Delivery(self.delivered, name, COMPANY, topic, self.clock(), {}, body)]
        )

    async def seen(self, customer_id: int) -> dict[str, Any]:
        """Return a customer as upstream answers a read of it."""
        read = await self.engine.kounta.read(customer_id)
        assert read.customer is not None
        shown: dict[str, Any] = json.loads(read.customer.model_dump_json(exclude_unset=True))
        return shown

    async def doubt(self, customer_id: int) -> Doubt | None:
        return (await known_of(self.engine.mirror, customer_id)).doubt

    async def record(self, customer_id: int) -> Record | None:
        return (await known_of(self.engine.mirror, customer_id)).record

    # what came of it

    @property
    def wrong(self) -> dict[int, str]:
        return wrong_in(self.place, self.sandbox, self.engine.settings.subscription.attributes)

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Ask as a reporting tool does."""
        return asked(self.place, query, *parameters)

    async def figures(self) -> Figures:
        figures = await figures_of(self.engine.mirror)
        assert figures is not None
        return figures

    async def newest_sweep(self) -> SweepRow:
        row = await newest_sweep(self.engine.mirror)
        assert row is not None
        return row

    @property
    def patience(self) -> float:
        """For how many seconds a receiver's start is not looked at: where there are others, they may tell."""
        return (SILENT_AFTER if self.engine.mirror.store.is_shared else LISTENS_AFTER).total_seconds()

    def pages(self) -> int:
        return max(1, -(-len(self.ids) // 25))


@dataclass(frozen=True)
class Filled:
    """A mirror that was kept, and how late it was then."""

    put: Callable[[Place], None]
    now: float


@pytest.fixture
async def shop(place: Place, system_clock: SystemClock) -> AsyncIterator[Shop]:
    """Nothing yet: a test builds it with so many customers."""
    async with AsyncExitStack() as stack:
        shop = Shop(place, stack)
        system_clock.follow(shop.clock)
        yield shop


@pytest.fixture(scope="session")
def filled() -> dict[str, Filled]:
    """Mirrors that are right and have nothing left to do, a database of each kind."""
    return {}


@pytest.fixture
async def quiet(shop: Shop, filled: dict[str, Filled], database_kind: str) -> Shop:
    """A Kounta of 60 customers whose mirror is right, and has nothing left to do.

    The first one is filled as any mirror is; the others, whose filling would take most of the time of their
    tests, are copies of it.
    """
    if database_kind not in filled:
        await shop.fill(60)
        await shop.close()
        filled[database_kind] = Filled(kept(shop.place), shop.now)
    else:
        await shop.found(60)
        shop.now = filled[database_kind].now
        filled[database_kind].put(shop.place)
    await shop.open()
    return shop


@pytest.fixture
def when_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], Awaitable[None]]], None]:
    """Let something happen while a read is under way: upstream has answered, and nobody knows it yet."""

    def arrange(happen: Callable[[int], Awaitable[None]]) -> None:
        read = Kounta.read

        async def read_slowly(self: Kounta, customer_id: int, *, priority: int = 0) -> Read:
            answer = await read(self, customer_id, priority=priority)
            await happen(customer_id)
            return answer

        monkeypatch.setattr(Kounta, "read", read_slowly)

    return arrange
