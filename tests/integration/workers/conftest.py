"""Several processes' worth of workers on one PostgreSQL, each with connections of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from receiver.database import Server, inbox_of
from receiver.inbox import InboxReader, InboxWriter
from sync.apply import Applier
from sync.engine import Engine, open_engine, utc_now
from sync.kounta import Retries
from sync.merge.customers import Subscription
from sync.merge.doubts import Timing
from sync.merge.snapshots import Lens
from sync.mirror.store import Mirror, MirrorStore
from sync.sandbox import Faults, Sandbox, Settings, serving
from sync.settings import WorkerSettings
from tests.databases import asked

COMPANY = 5678


class Gate(httpx2.AsyncHTTPTransport):
    """Carries calls to Kounta; while it is shut, answers wait in it, and `stopped` tells that one does."""

    def __init__(self) -> None:
        super().__init__()
        self._open = asyncio.Event()
        self._open.set()
        self.stopped = asyncio.Event()

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = await super().handle_async_request(request)
        if not self._open.is_set():
            self.stopped.set()
            await self._open.wait()
        return answer


@dataclass
class Crew:
    """Workers, receivers and a local Kounta around one database."""

    place: Server
    stack: AsyncExitStack
    sandbox: Sandbox = field(init=False)
    url: str = ""

    async def found(self, customers: int) -> None:
        """Open a local Kounta."""
        options = Settings(requests_per_minute=100_000, list_shape="complete")
        self.sandbox = Sandbox(options, Faults(), seed=7, customers=customers)
        self.url = await self.stack.enter_async_context(serving(self.sandbox))

    async def store(self) -> MirrorStore:
        """Open the mirror as another process does."""
        store = await asyncio.to_thread(MirrorStore.open, self.place, "the test")
        self.stack.push_async_callback(store.close)
        return store

    async def mirror(self, company_id: int = COMPANY) -> Mirror:
        return await Mirror.of(await self.store(), company_id, Subscription())

    async def applier(self, company_id: int = COMPANY) -> Applier:
        timing = Timing()
        lens = Lens(company_id, Subscription(), timing.window)
        return Applier(await self.mirror(company_id), lens, timing, utc_now)

    async def receiver(self) -> InboxWriter:
        return await self.stack.enter_async_context(await InboxWriter.open(inbox_of(self.place)))

    async def reader(self) -> InboxReader:
        return await self.stack.enter_async_context(InboxReader.open(inbox_of(self.place)))

    def settings(self) -> WorkerSettings:
        return WorkerSettings.model_validate(
            {
                "MIRROR_DATA_DIR": self.place.directory,
                "DATABASE_URL": self.place.url,
                "KOUNTA_COMPANY_ID": COMPANY,
                "KOUNTA_CLIENT_ID": "sandbox-client",
                "KOUNTA_CLIENT_SECRET": "sandbox-secret",
                "KOUNTA_API_URL": self.url,
                "KOUNTA_REQUESTS_PER_MINUTE": 1_000_000,
                "MIRROR_READ_LAG_SECONDS": "0",
                "MIRROR_PUBLIC_URL": "https://mirror.example/shop",
            }
        )

    async def engine(self, stack: AsyncExitStack | None = None, gate: Gate | None = None) -> Engine:
        """Wait for the lease in a store of its own, as a worker does; it is given up with `stack`."""
        opened = open_engine(
            self.settings(),
            "the test",
            store=await self.store(),
            transport=gate,
            retries=Retries.sleepless(attempt=60),
        )
        return await (stack or self.stack).enter_async_context(opened)

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        return asked(self.place, query, *parameters)

    def change(self, statement: str) -> None:
        """Change the mirror behind everybody's back."""
        with psycopg.connect(self.place.url, autocommit=True) as connection:
            connection.execute("SET search_path = mirror")
            connection.execute(statement.encode())

    async def until_one_waits_for_a_lock(self) -> None:
        """Wait until somebody cannot go on because somebody else has locked a row."""
        query = (
            "SELECT count(*) AS waiting FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(20):
            while not self.rows(query)[0]["waiting"]:  # noqa: ASYNC110 - nobody tells it
                await asyncio.sleep(0.005)


def body(customer_id: int, first_name: str, **fields: Any) -> bytes:
    stamp = utc_now().isoformat(timespec="seconds")
    told = {"id": customer_id, "first_name": first_name, "created_at": stamp, "updated_at": stamp}
    return json.dumps(told | fields).encode()


@pytest.fixture
async def crew(postgresql: Any, tmp_path: Path) -> AsyncIterator[Crew]:
    url = postgresql.fresh()
    async with AsyncExitStack() as stack:
        stack.callback(postgresql.drop, url)
        yield Crew(Server(tmp_path, url), stack)


@pytest.fixture
def deliver() -> Any:
    """Give what makes the body of a delivery: an id, a first name, other fields."""
    return body


@pytest.fixture
def gate() -> Gate:
    return Gate()
