"""The console's port: served beside the worker's loops, by the worker's process."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Final

import structlog
import uvicorn
from starlette.types import ASGIApp

from receiver.connections import Connections, Limits
from receiver.errors import MirrorError
from receiver.protocol import guarded
from receiver.refused import RefusalLog

STOP_SECONDS: Final = 1
"""What a request that is still being answered gets when the worker stops."""
BACKLOG: Final = 128
LIMITS: Final = Limits(connections=128, of_one_source=32)
"""Those of the receiver, but for the number: a console has few visitors."""

_log = structlog.get_logger()


class ConsoleBrokenError(MirrorError):
    """A fault of this program has ended the console's server."""

    def __init__(self, error: Exception | None) -> None:
        what = "it ended by itself" if error is None else f"{type(error).__name__}: {error}"
        super().__init__(
            f"A fault of this program has ended the worker, in its console ({what}). "
            "The log says where; deliveries stay in the inbox."
        )


@asynccontextmanager
async def serving(
    app: ASGIApp, host: str, port: int, ended: Callable[["asyncio.Task[None]"], None]
) -> AsyncIterator[str]:
    """Serve on a port, 0 takes a free one, and give the URL.

    `ended` is given the server's task when that is over; before the end of the block it has failed. Raises
    MirrorError when the port is taken, and when the server cannot start.
    """
    with _listen(host, port) as listener:
        server = _Server(app)
        serve = asyncio.create_task(server.last(listener), name="the console")
        serve.add_done_callback(ended)
        ready = asyncio.create_task(server.ready.wait())
        try:
            await asyncio.wait([ready, serve], return_when=asyncio.FIRST_COMPLETED)
            if serve.done():
                serve.result()
            place, chosen, *_ = listener.getsockname()
            url = f"http://[{place}]:{chosen}" if ":" in place else f"http://{place}:{chosen}"
            _log.info(f"The console is at {url}", action="console_started", url=url, port=chosen)
            yield url
        finally:
            server.closing.set()
            ready.cancel()
            await asyncio.wait([ready, serve])


class _Server(uvicorn.Server):
    """A server that says when it is ready, and leaves signals to the worker."""

    def __init__(self, app: ASGIApp) -> None:
        self._refusals = RefusalLog("Requests to the console refused")
        self._door = Connections(LIMITS, self._refusals.note)
        super().__init__(
            uvicorn.Config(
                app,
                http=guarded(self._door),
                lifespan="off",
                log_config=None,
                access_log=False,
                date_header=False,
                server_header=False,
                ws="none",
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=int(LIMITS.idle_seconds),
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self.ready = asyncio.Event()
        self.closing = asyncio.Event()

    async def last(self, listener: socket.socket) -> None:
        """Serve until `closing`. Raises ConsoleBrokenError when it is over before."""
        try:
            await self.serve([listener])
        except Exception as error:
            _log.exception("The console broke.", action="console_broken")
            raise ConsoleBrokenError(error) from error
        if not self.closing.is_set():
            raise ConsoleBrokenError(None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        await self.closing.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._door.stopping = True
        await super().shutdown(sockets)
        self._refusals.flush()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # asyncio sets TCP_NODELAY only if the protocol is named; without it every page waits 40 ms
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        with ExitStack() as stack:
            stack.callback(listener.close)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            stack.pop_all()
            return listener
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror  # below 0: no such name
        raise MirrorError(
            f"The console cannot listen at {host} port {port}: {reason}. "
            "Choose another with MIRROR_CONSOLE_PORT, or stop what listens there."
        ) from error
