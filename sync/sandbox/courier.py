"""Carries due deliveries to the receivers."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from sync.sandbox.company import Post
    from sync.sandbox.outbox import Delivery
    from sync.sandbox.sandbox import Sandbox

AT_ONCE = 64
"""POSTs under way to one address: a slow receiver holds only its own."""


class Courier:
    """Sends deliveries when they are due, each in a task of its own.

    They leave by `client`, which its maker closes. Without one each POST under way has a client of its
    own: a client's pool looks at all its connections for every request, which halves the rate when it has 64.
    """

    def __init__(self, sandbox: Sandbox, client: httpx2.AsyncClient | None = None) -> None:
        self._sandbox = sandbox
        self._client = client
        self._own: list[httpx2.AsyncClient] = []
        self._idle: defaultdict[str, list[httpx2.AsyncClient]] = defaultdict(list)
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
        self._wake = asyncio.Event()
        self._answered = asyncio.Event()

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

    async def aclose(self) -> None:
        """Close the connections."""
        for client in self._own:
            await client.aclose()

    async def _carry(self, delivery: Delivery) -> None:
        company, address = self._sandbox.company, delivery.webhook.address
        async with self._slots[address]:
            idle = self._idle[address]
            client = idle.pop() if idle else self._client or self._another(address)
            status = await self._send(client, company.post(delivery))
            idle.append(client)
        company.finished(delivery, status, self._sandbox.clock())
        self._answered.set()

    async def _send(self, client: httpx2.AsyncClient, post: Post) -> int | None:
        timeout = self._sandbox.settings.delivery_timeout_seconds
        try:
            response = await client.post(post.url, content=post.body, headers=post.headers, timeout=timeout)
        except (httpx2.HTTPError, httpx2.InvalidURL):
            return None
        return response.status_code

    def _another(self, address: str) -> httpx2.AsyncClient:
        # A context that trusts nobody costs nothing to make, and http needs no other.
        https = address.startswith("https:")
        tls = ssl.create_default_context() if https else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client = httpx2.AsyncClient(trust_env=False, verify=tls)
        self._own.append(client)
        return client


async def wait_until(wake: asyncio.Event, when: float | None, now: float) -> None:
    """Wait for the event, but not beyond a time by the same clock as `now`."""
    try:
        async with asyncio.timeout(None if when is None else max(0.0, when - now)):
            await wake.wait()
    except TimeoutError:
        pass  # it is time
