"""The console's pages over real HTTP, before a mirror in a real database and a local Kounta."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from types import MappingProxyType
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from receiver.database import Place, inbox_of
from receiver.inbox import InboxWriter
from sync.console.app import create_console
from sync.console.desks import Desks
from sync.console.pages.office import Office
from sync.console.pages.routes import page_routes
from sync.console.serving import serving
from sync.engine import Engine, open_engine
from sync.inbox import InboxView
from sync.kounta import Retries
from sync.mirror.store import Mirror, MirrorStore
from sync.reconcile.report import Request
from sync.sandbox import Faults, Sandbox, Settings
from sync.sandbox import serving as serving_kounta
from sync.settings import WorkerSettings
from tests.clock import NOON
from tests.databases import asked
from tests.places import settings_of
from tests.timekeeping import SystemClock

COMPANY = 5678
BROWSER = MappingProxyType({"Accept": "text/html"})
SEAL = re.compile(r'name="seal" value="([0-9a-f]+)"')


@dataclass
class Served:
    """The companies that a process serves."""

    settings: dict[int, WorkerSettings] = field(default_factory=dict)


@dataclass
class Kiosk:
    """A console that is served; its clock stands still, but when somebody sleeps."""

    place: Place
    stack: AsyncExitStack
    now: float = NOON.timestamp()
    patience: float = 0
    """Seconds that an action waits for a worker that is starting."""
    more: dict[str, str] = field(default_factory=lambda: {"MIRROR_SECRET_KEY": "k" * 32})
    served: Served = field(default_factory=Served)
    sandbox: Sandbox = field(init=False)
    kounta_url: str = ""
    store: MirrorStore = field(init=False)
    engine: Engine = field(init=False)
    desks: Desks = field(init=False)
    office: Office = field(init=False)
    inbox: InboxWriter = field(init=False)
    client: httpx2.AsyncClient = field(init=False)

    def clock(self) -> datetime:
        return datetime.fromtimestamp(round(self.now, 3), UTC)

    async def pass_time(self, seconds: float) -> None:
        self.now += seconds

    async def open(self, customers: int = 3, *, has_desk: bool = True, password: str | None = None) -> None:
        """Serve the console of a mirror that is right and has nothing to do."""
        self.sandbox = Sandbox(
            Settings(requests_per_minute=100_000, list_shape="complete"),
            Faults(),
            seed=7,
            customers=customers,
            clock=lambda: self.now,
        )
        self.kounta_url = await self.stack.enter_async_context(serving_kounta(self.sandbox))
        self.served.settings[COMPANY] = self.settings()
        self.store = MirrorStore.open(self.place, "the test")
        self.stack.push_async_callback(self.store.close)
        self.inbox = await self.stack.enter_async_context(
            await InboxWriter.open(inbox_of(self.place), clock=self.clock)
        )
        self.desks = Desks(self.served, "the test", patience=self.patience)
        await Mirror.of(self.store, COMPANY, self.served.settings[COMPANY].subscription)
        if has_desk:
            await self.sit_down()
        view = await self.stack.enter_async_context(InboxView(self.place))
        self.office = Office(self.served, self.desks, self.store, view, self.clock)
        await self.serve(password)
        if has_desk:
            await self.engine.reconciler.reconcile(Request())
            self.now += 60

    async def sit_down(self) -> None:
        """Hold the company's lease, and answer for it."""
        opened = open_engine(
            self.served.settings[COMPANY],
            "the test",
            store=self.store,
            clock=self.clock,
            retries=Retries.sleepless(patience=15),
            sleep=self.pass_time,
            random=Random(1),
        )
        self.engine = await self.stack.enter_async_context(opened)
        self.desks.open(self.engine)

    async def serve(self, password: str | None = None, host: str = "127.0.0.1") -> None:
        """Serve it at a free port, as if it listened at `host`."""
        app = create_console(
            _scraped,
            lambda: True,
            None if password is None else SecretStr(password),
            host=host,
            pages=page_routes(self.office),
        )
        url = await self.stack.enter_async_context(serving(app, "127.0.0.1", 0, lambda _: None))
        await self.stack.enter_async_context(self.office.open())
        self.client = await self.stack.enter_async_context(
            httpx2.AsyncClient(base_url=url, trust_env=False, timeout=30, headers=BROWSER)
        )

    def settings(self, company_id: int = COMPANY) -> WorkerSettings:
        given = {
            **settings_of(self.place),
            "KOUNTA_COMPANY_ID": str(company_id),
            "KOUNTA_API_URL": self.kounta_url,
            "KOUNTA_CLIENT_ID": "sandbox-client",
            "KOUNTA_CLIENT_SECRET": "sandbox-secret",
            "KOUNTA_REQUESTS_PER_MINUTE": "100000",
            "MIRROR_READ_LAG_SECONDS": "2",
            **self.more,
        }
        return WorkerSettings.model_validate(given)

    # what a browser does

    async def get(self, path: str = "", **headers: str) -> httpx2.Response:
        return await self.client.get(f"/companies/{COMPANY}{path}", headers=headers)

    async def text(self, path: str = "") -> str:
        answer = await self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    async def seal(self) -> str:
        """Open a page with a form, and give what its forms carry."""
        return str(SEAL.findall(await self.text("/verifications"))[0])

    async def send(self, path: str, headers: Any = None, **fields: str) -> httpx2.Response:
        """Send a form, and stay at the answer."""
        url = f"/companies/{COMPANY}{path}"
        return await self.client.post(url, data={"seal": await self.seal(), **fields}, headers=headers)

    async def act(self, path: str, **fields: str) -> str:
        """Send a form, and give the page that it leads to, once what it began is over."""
        answer = await self.send(path, **fields)
        assert answer.status_code == 303, answer.text
        for errand in self.office.errands.of(COMPANY):
            await asyncio.wait_for(errand.over.wait(), 60)
        shown = await self.client.get(answer.headers["Location"])
        assert shown.status_code == 200, shown.text
        return shown.text

    # what happens meanwhile

    @property
    def ids(self) -> list[int]:
        return sorted(customer["id"] for customer in self.sandbox.company.truth())

    async def deliver(self, topic: str, body: Any, *, applied: bool = True) -> str:
        """Let a delivery come, and let it be applied; give its name."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", "x-kounta-topic": topic}
        name = await self.inbox.append(COMPANY, f"customers/{topic}", headers, raw)
        if applied:
            reader = await self.office.inbox.reader()
            assert reader is not None
            await self.engine.applier.apply_pending(reader)
        return name

    async def rename(self, customer_id: int, first_name: str, *, age: float = 0, **more: Any) -> str:
        """Let a delivery say that this customer has another first name since so many seconds."""
        stamp = datetime.fromtimestamp(self.now - age, UTC).isoformat(timespec="seconds")
        body = {"id": customer_id, "first_name": first_name, "updated_at": stamp, **more}
        return await self.deliver("updated", body)

    def delete(self, *customer_ids: int) -> None:
        """Delete customers in Kounta, and announce nothing."""
        for customer_id in customer_ids:
            self.sandbox.company.delete(customer_id, announce=False)

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        return asked(self.place, query, *parameters)

    def verdict_of(self, delivery: str) -> str:
        (row,) = self.rows("SELECT verdict FROM delivery_verdicts WHERE delivery_id = ?", delivery)
        return str(row["verdict"])


async def _scraped() -> bytes:
    return b"# a scrape\n"


@pytest.fixture
async def kiosk(place: Place, system_clock: SystemClock) -> AsyncIterator[Kiosk]:
    """Nothing yet: a test opens it."""
    async with AsyncExitStack() as stack:
        kiosk = Kiosk(place, stack)
        system_clock.follow(kiosk.clock)
        yield kiosk
