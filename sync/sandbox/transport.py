"""HTTP without sockets, for a simulation in one process: what a network would do wrong is done here too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message


class AppTransport(httpx2.AsyncBaseTransport):
    """Carries a client's calls to an ASGI application in the same event loop.

    Unlike httpx2.ASGITransport it keeps the read time-out, by the loop's clock, which may be virtual;
    an answer that the application cuts short raises RemoteProtocolError, as a closed connection does.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Make one call. Raises ReadTimeout or RemoteProtocolError."""
        exchange = _Exchange(await request.aread())
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "server": (request.url.host, request.url.port),
            "client": ("127.0.0.1", 0),
            "root_path": "",
        }
        seconds: float | None = request.extensions.get("timeout", {}).get("read")
        try:
            async with asyncio.timeout(seconds):
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError as error:
            raise httpx2.ReadTimeout("No answer in time.", request=request) from error
        if not exchange.complete:
            raise httpx2.RemoteProtocolError("The answer was cut short.", request=request)
        return httpx2.Response(
            exchange.status, headers=exchange.headers, content=b"".join(exchange.parts), request=request
        )


class _Exchange:
    def __init__(self, body: bytes) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.complete = False
        self._body: bytes | None = body
        self._over = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self._body is None:
            await self._over.wait()
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = list(message.get("headers", []))
        elif message["type"] == "http.response.body":
            self.parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                self.complete = True
                self._over.set()
