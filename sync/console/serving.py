"""The console's port: served beside the worker's loops, by the worker's process."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog
import uvicorn
from starlette.applications import Starlette

from receiver.errors import MirrorError

_log = structlog.get_logger()


@asynccontextmanager
async def serving(app: Starlette, host: str, port: int) -> AsyncIterator[str]:
    """Serve on a port, 0 takes a free one, and give the URL. Raises MirrorError when it is taken."""
    with _listen(host, port) as listener:
        closing = asyncio.Event()
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
            ws="none",
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        server = _Server(config, closing)
        serve = asyncio.create_task(server.serve([listener]), name="the console")
        try:
            await server.ready.wait()
            place, chosen, *_ = listener.getsockname()
            url = f"http://[{place}]:{chosen}" if ":" in place else f"http://{place}:{chosen}"
            _log.info("The console listens.", action="console_started", url=url, port=chosen)
            yield url
        finally:
            closing.set()
            await serve


class _Server(uvicorn.Server):
    """A server that says when it is ready, and leaves signals to the worker."""

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


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise MirrorError(
            f"The console cannot listen at {host} port {port}: {error.strerror}. "
            "Choose another with MIRROR_CONSOLE_PORT, or stop what listens there."
        ) from error
