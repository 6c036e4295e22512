"""The sandbox at work: its loops and its HTTP server."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import uvicorn

from sync.sandbox.app import create_app
from sync.sandbox.courier import Courier, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import httpx2

    from sync.sandbox.sandbox import Sandbox

HOST = "127.0.0.1"
BACKLOG = 2048


class PortTakenError(OSError):
    """Another program listens on the port that was asked for."""


@asynccontextmanager
async def running(sandbox: Sandbox, client: httpx2.AsyncClient | None = None) -> AsyncIterator[Courier]:
    """Run the loops: deliveries leave when they are due, the company edits its customers.

    Deliveries leave by `client`; without one by clients of their own.
    """
    courier = Courier(sandbox, client)
    try:
        async with asyncio.TaskGroup() as tasks:
            loops = [tasks.create_task(courier.run()), tasks.create_task(edit(sandbox))]
            try:
                yield courier
            finally:
                for loop in loops:
                    loop.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None  # one error needs no group
    finally:
        await courier.aclose()


@asynccontextmanager
async def serving(sandbox: Sandbox, port: int = 0) -> AsyncIterator[str]:
    """Serve the sandbox with its loops on loopback, and give its base URL. Port 0 takes a free one.

    Raises PortTakenError.
    """
    listener = _listen(port)
    closing = asyncio.Event()
    async with running(sandbox) as courier:
        app = create_app(sandbox, courier, closing)
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        server = _Server(config, closing)
        log = logging.getLogger("uvicorn.error")
        log.addFilter(_is_news)
        serve = asyncio.create_task(server.serve([listener]))
        try:
            await server.ready.wait()
            yield f"http://{HOST}:{listener.getsockname()[1]}"
        finally:
            closing.set()
            await serve
            log.removeFilter(_is_news)


async def edit(sandbox: Sandbox) -> None:
    """Edit customers at the rate that is set, until cancelled."""
    wake = asyncio.Event()
    sandbox.wake = wake.set
    rate, next_at = 0.0, None
    while True:
        wake.clear()
        now = sandbox.clock()
        if rate != sandbox.edit_rate:
            rate, next_at = sandbox.edit_rate, None
        if next_at is None and rate:
            next_at = now + sandbox.editor.pause(rate)
        sandbox.editor.follow_up(now)
        while next_at is not None and next_at <= now:
            sandbox.editor.edit()
            next_at += sandbox.editor.pause(rate)
        times = [at for at in (next_at, sandbox.editor.next_follow_up()) if at is not None]
        await wait_until(wake, min(times, default=None), now)


class _Server(uvicorn.Server):
    """A server that says when it is ready, and leaves signals to the program that it is part of."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        await self._closing.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _is_news(line: logging.LogRecord) -> bool:
    """Tell whether a line of the server's log is worth it: bodies are cut here on purpose."""
    return "without completing response" not in line.msg


def _listen(port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only if the protocol is named; without it every answer waits 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise PortTakenError(f"Port {port} of {HOST} cannot be used: {error.strerror}.") from error
    return listener
