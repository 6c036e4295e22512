"""Carries due deliveries to the receivers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from sync.sandbox.company import Post
    from sync.sandbox.outbox import Delivery
    from sync.sandbox.sandbox import Sandbox

AT_ONCE = 64
"""POSTs under way to one address: a slow receiver holds only its own."""


def delivery_client() -> httpx2.AsyncClient:
    """Make the client that deliveries leave by."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=4 * AT_ONCE)
    return httpx2.AsyncClient(limits=limits, trust_env=False)


class Courier:
    """Sends deliveries when they are due, each in a task of its own."""

    def __init__(self, sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
        self._sandbox = sandbox
        self._client = client
        self._wake = asyncio.Event()
        self._answered = asyncio.Event()
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    async def run(self) -> None:
        """Carry deliveries until cancelled."""
        outbox, clock = self._sandbox.company.outbox, self._sandbox.clock
        outbox.wake = self._wake.set
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                for delivery in outbox.due(clock()):
                    tasks.create_task(self._carry(delivery))
                await wait_until(self._wake, outbox.next_due(), clock())

    async def settle(self) -> None:
        """Stop the edits, send all that waits without its delays, and return once all of it is answered."""
        outbox = self._sandbox.company.outbox
        self._sandbox.pause()
        while not outbox.idle:
            self._answered.clear()
            outbox.hurry(self._sandbox.clock())
            self._wake.set()
            await self._answered.wait()

    async def _carry(self, delivery: Delivery) -> None:
        company = self._sandbox.company
        async with self._slots[delivery.webhook.address]:
            status = await self._send(company.post(delivery))
        company.finished(delivery, status, self._sandbox.clock())
        self._answered.set()

    async def _send(self, post: Post) -> int | None:
        timeout = self._sandbox.settings.delivery_timeout_seconds
        try:
            response = await self._client.post(
                post.url, content=post.body, headers=post.headers, timeout=timeout
            )
        except (httpx2.HTTPError, httpx2.InvalidURL):
            return None
        return response.status_code


async def wait_until(wake: asyncio.Event, when: float | None, now: float) -> None:
    """Wait for the event, but not beyond a time by the same clock as `now`."""
    try:
        async with asyncio.timeout(None if when is None else max(0.0, when - now)):
            await wake.wait()
    except TimeoutError:
        pass  # it is time
