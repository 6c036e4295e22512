import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from receiver.database import Place, directory_of, inbox_of
from receiver.inbox import InboxWriter
from sync.apply import Applier
from sync.inbox import InboxView
from sync.merge.customers import Subscription
from sync.merge.doubts import Timing
from sync.merge.snapshots import Lens
from sync.mirror.store import Mirror
from tests.clock import NOON
from tests.databases import asked
from tests.timekeeping import SystemClock

COMPANY = 5678
ADDRESS = {
    "address": "1 George Street",
    "city": "Sydney",
    "state": "NSW",
    "postal_code": "2000",
    "country": "AU",
}


@dataclass
class House:
    """An inbox and a mirror in a real database, a clock that a test sets, and what a reporting tool sees."""

    place: Place
    stack: AsyncExitStack
    timing: Timing = field(default_factory=Timing)
    attributes: Subscription = field(default_factory=Subscription)
    now: datetime = NOON
    _named_at: int = 0
    _names: Iterator[int] = field(default_factory=count)

    @property
    def directory(self) -> Path:
        return directory_of(self.place)

    async def open(self) -> None:
        self.inbox = await self.stack.enter_async_context(await self.new_inbox())
        self.mirror = await self.new_mirror()
        self.stack.push_async_callback(self.close)
        self.view = await self.stack.enter_async_context(InboxView(self.place))
        self.applier = self.new_applier()

    async def new_inbox(self, place: Place | None = None) -> InboxWriter:
        return await InboxWriter.open(
            inbox_of(place or self.place), clock=lambda: self.now, new_id=self._new_name
        )

    def _new_name(self) -> str:
        """Give the next UUIDv7 by the clock of the house; later ones are higher, as in life."""
        self._named_at = max(self._named_at, int(self.now.timestamp() * 1000))
        return str(UUID(int=self._named_at << 80 | 7 << 76 | 2 << 62 | next(self._names)))

    async def new_mirror(self, place: Place | None = None) -> Mirror:
        return await Mirror.open(place or self.place, COMPANY, self.attributes, "the test")

    def new_applier(self, mirror: Mirror | None = None) -> Applier:
        lens = Lens(COMPANY, self.attributes, self.timing.window)
        return Applier(mirror or self.mirror, lens, self.timing, lambda: self.now)

    async def close(self) -> None:
        await self.mirror.close()

    async def reopen(self) -> None:
        """Stop and start the process that owns the mirror, as a kill between two batches does."""
        await self.mirror.close()
        self.mirror = await self.new_mirror()
        self.applier = self.new_applier()

    def at(self, seconds: float) -> None:
        """Set the clock so many seconds behind noon."""
        self.now = NOON + timedelta(seconds=seconds)

    @staticmethod
    def customer(id_: int, at: float | None = 0, **fields: Any) -> dict[str, Any]:
        """A customer as upstream sends it; `at`: seconds behind noon of its stamp, None: it has none."""
        stamp = None if at is None else (NOON + timedelta(seconds=at)).isoformat(timespec="seconds")
        return {
            "id": id_,
            "first_name": "Jamie",
            "last_name": "McDonald",
            "email": f"jamie{id_}@kounta.example",
            "phone": "02 8765 4321",
            "mobile": None,
            "tags": ["vip"],
            "image": None,
            "primary_address": ADDRESS,
            "shipping_address": None,
            "reference_id": "",
            "accepts_marketing": True,
            "created_at": stamp,
            "updated_at": stamp,
        } | fields

    async def post(self, body: dict[str, Any] | bytes, event: str = "updated", company: int = COMPANY) -> str:
        """Put a delivery into the inbox now, and give its name."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.inbox.append(company, f"customers/{event}", {}, content)

    async def apply(self) -> int:
        reader = await self.view.reader()
        return 0 if reader is None else await self.applier.apply_pending(reader)

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Ask the mirror in SQL, through a connection of its own; PostgreSQL's rows come as SQLite's do."""
        return asked(self.place, query, *parameters)

    def row(self, query: str, *parameters: object) -> dict[str, Any]:
        (row,) = self.rows(query, *parameters)
        return row

    def verdicts(self) -> list[str]:
        """Verdicts in the order in which the deliveries came."""
        return [
            one["verdict"] for one in self.rows("SELECT verdict FROM delivery_verdicts ORDER BY delivery_id")
        ]

    def verdict(self, delivery: str) -> dict[str, Any]:
        return self.row("SELECT * FROM delivery_verdicts WHERE delivery_id = ?", delivery)

    def counts(self) -> dict[str, int]:
        """Counts of verdicts as `status` shows them, those above 0."""
        counts = self.rows("SELECT verdict, count FROM _verdict_counts WHERE count <> 0")
        return {one["verdict"]: one["count"] for one in counts}

    def doubts(self) -> dict[int, str]:
        """Customers that are to be read, and why."""
        return {one["customer_id"]: one["reason"] for one in self.rows("SELECT * FROM _verifications")}

    def name(self, id_: int) -> str | None:
        """The first name of a live customer."""
        found = self.rows("SELECT first_name FROM customers WHERE id = ?", id_)
        return found[0]["first_name"] if found else None


@pytest.fixture
async def house(place: Place, system_clock: SystemClock) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        house = House(place, stack)
        system_clock.follow(lambda: house.now)
        await house.open()
        yield house


@pytest.fixture
async def empty_house(place: Place, system_clock: SystemClock) -> AsyncIterator[House]:
    """A house in which nothing has been opened yet."""
    async with AsyncExitStack() as stack:
        house = House(place, stack)
        system_clock.follow(lambda: house.now)
        yield house
