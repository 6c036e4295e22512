import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from receiver.app import own_inbox
from receiver.capture import Capture
from receiver.database import Place, directory_of
from receiver.inbox import Delivery, InboxWriter
from receiver.settings import ReceiverSettings
from sync.apply import Applier
from sync.erasure import Eraser
from sync.inbox import InboxView
from sync.merge.snapshots import Lens
from sync.mirror.store import Mirror
from sync.settings import WorkerSettings
from tests.clock import NOON
from tests.databases import asked
from tests.people import COMPANY, KEY
from tests.places import settings_of
from tests.timekeeping import SystemClock


@dataclass
class House:
    """A receiver's inbox that answers its socket, and a mirror: both in a real database."""

    place: Place
    stack: AsyncExitStack
    now: datetime = NOON
    key: str | None = KEY
    inbox: InboxWriter = field(init=False)
    mirror: Mirror = field(init=False)
    view: InboxView = field(init=False)
    _receiver: AsyncExitStack = field(default_factory=AsyncExitStack)
    _worker: AsyncExitStack = field(default_factory=AsyncExitStack)
    slept: int = 0

    @property
    def directory(self) -> Path:
        return directory_of(self.place)

    @property
    def settings(self) -> WorkerSettings:
        given = {
            **settings_of(self.place),
            "KOUNTA_COMPANY_ID": str(COMPANY),
            "KOUNTA_CLIENT_ID": "client",
            "KOUNTA_CLIENT_SECRET": "secret",
        }
        return WorkerSettings.model_validate(given | ({"MIRROR_SECRET_KEY": self.key} if self.key else {}))

    async def open(self) -> None:
        await self.open_receiver()
        await self.open_worker()
        self.stack.push_async_callback(self.close)

    async def close(self) -> None:
        await self.close_worker()
        await self.close_receiver()

    async def open_receiver(self) -> None:
        given = {
            **settings_of(self.place),
            "KOUNTA_COMPANY_ID": str(COMPANY),
            "KOUNTA_SIGNATURE_TOKENS": "token",
        }
        self._receiver = AsyncExitStack()
        opened = own_inbox(ReceiverSettings.model_validate(given), Capture())
        self.inbox = await self._receiver.enter_async_context(opened)

    async def close_receiver(self) -> None:
        await self._receiver.aclose()

    async def open_worker(self) -> None:
        """Do what the start of a worker does: open the mirror, and take the marks over."""
        settings = self.settings
        self._worker = AsyncExitStack()
        opened = await Mirror.open(
            self.place, COMPANY, settings.subscription, "the test", marker=settings.marker
        )
        self.mirror = await self._worker.enter_async_context(opened)
        self.view = await self._worker.enter_async_context(InboxView(self.place))
        self.eraser = Eraser(settings, self.mirror, lambda: self.now, sleep=self._sleep)
        await self.eraser.take_over()
        lens = Lens(COMPANY, settings.subscription, settings.timing.window)
        self.applier = Applier(self.mirror, lens, settings.timing, lambda: self.now)

    async def close_worker(self) -> None:
        await self._worker.aclose()

    async def _sleep(self, _seconds: float) -> None:
        self.slept += 1

    async def post(self, body: dict[str, Any] | bytes, event: str = "updated") -> str:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"user-agent": "Kounta", "x-kounta-signature": "a signature of the body"}
        return await self.inbox.append(COMPANY, f"customers/{event}", headers, content)

    async def apply(self) -> int:
        reader = await self.view.reader()
        assert reader is not None
        return await self.applier.apply_pending(reader)

    async def delivery(self, name: str) -> Delivery:
        reader = await self.view.reader()
        assert reader is not None
        (found,) = await reader.find(COMPANY, [name])
        return found

    async def body(self, name: str) -> bytes:
        return (await self.delivery(name)).body

    def later(self, **by: float) -> None:
        self.now += timedelta(**by)

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        return asked(self.place, query, *parameters)

    def verdict(self, delivery: str) -> dict[str, Any]:
        (row,) = self.rows("SELECT * FROM delivery_verdicts WHERE delivery_id = ?", delivery)
        return row

    def check_counts(self) -> None:
        """Check that what is counted is what is there."""
        counted = self.rows("SELECT verdict, count FROM _verdict_counts WHERE count <> 0 ORDER BY verdict")
        there = "SELECT verdict, count(*) AS count FROM delivery_verdicts GROUP BY verdict ORDER BY verdict"
        assert counted == self.rows(there)
        (status,) = self.rows("SELECT live, deleted, verified, partial, verifications_due FROM _status")
        (figures,) = self.rows(
            "SELECT coalesce(sum(CASE WHEN deleted_at IS NULL THEN 1 ELSE 0 END), 0) AS live,"
            " coalesce(sum(CASE WHEN deleted_at IS NULL THEN 0 ELSE 1 END), 0) AS deleted,"
            " coalesce(sum(CASE WHEN deleted_at IS NULL AND verified_at IS NOT NULL THEN 1 ELSE 0 END), 0)"
            " AS verified,"
            " coalesce(sum(CASE WHEN deleted_at IS NULL AND partial THEN 1 ELSE 0 END), 0) AS partial,"
            " (SELECT count(*) FROM _verifications) AS verifications_due FROM _customers"
        )
        assert status == figures

    def traces(self, *words: str) -> dict[str, list[str]]:
        """Say in which files of the data directory these words stand, as bytes."""
        files = [path for path in self.directory.rglob("*") if path.is_file()]
        found = {path.name: path.read_bytes() for path in files}
        return {
            name: [word for word in words if word.encode() in content]
            for name, content in found.items()
            if any(word.encode() in content for word in words)
        }


@pytest.fixture
async def house(place: Place, system_clock: SystemClock) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        house = House(place, stack)
        system_clock.follow(lambda: house.now)
        await house.open()
        yield house
