import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from sync.kounta import BasicAuth, Budget, Kounta, Retries


@dataclass(frozen=True)
class Asked:
    """A request that arrived, as it was on the wire."""

    method: str
    target: str
    headers: dict[str, str]


@dataclass
class Upstream:
    """A little HTTP/1.1 server on loopback that answers what a test tells it to, byte for byte."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    replies: dict[str, list[tuple[bytes, bool]]] = field(default_factory=dict)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def targets(self) -> list[str]:
        return [asked.target for asked in self.asked]

    def answer(
        self,
        target: str,
        body: Any = b"",
        status: int = 200,
        *,
        cut: int = 0,
        length: bool = True,
        hang: bool = False,
        **headers: str,
    ) -> None:
        """Answer the next request for `target` so, and the last such answer to all that follow.

        A body that is no bytes is sent as JSON. `cut` leaves out that many of its last bytes; without
        `length` the end of the connection ends it; `hang` keeps the connection open after it. `X_Next_Page`
        is the header `X-Next-Page`.
        """
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        if length:
            headers["Content_Length"] = str(len(content))
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = "\r\n".join([f"HTTP/1.1 {status} Said", "Connection: close", *lines, "", ""])
        self.send(target, head.encode() + content[: len(content) - cut], hang=hang)

    def send(self, target: str, wire: bytes, *, hang: bool = False) -> None:
        """Answer with exactly these bytes, and close the connection."""
        self.replies.setdefault(target, []).append((wire, hang))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, target, _ = request.split(" ")
            headers = dict(line.split(": ", 1) for line in lines if line)
            self.asked.append(Asked(method, target, {name.lower(): value for name, value in headers.items()}))
            replies = self.replies.get(target)
            assert replies, f"the test says nothing of {target}"
            wire, hang = replies.pop(0) if len(replies) > 1 else replies[0]
            writer.write(wire)
            await writer.drain()
            if hang:
                await self.released.wait()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone away, which is what some tests are about
        finally:
            writer.close()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield upstream
        upstream.released.set()


@pytest.fixture
async def connect(upstream: Upstream) -> AsyncIterator[Callable[..., Kounta]]:
    """Make clients of the upstream, for company 5678, that neither wait nor sleep unless told to."""
    async with AsyncExitStack() as stack:

        def connected(**settings: Any) -> Kounta:
            given: dict[str, Any] = {
                "auth": BasicAuth("shop", "s3cret"),
                "api_url": upstream.url,
                "budget": Budget.endless(),
                "retries": Retries.sleepless(),
            } | settings
            kounta = Kounta(5678, **given)
            stack.push_async_callback(kounta.aclose)
            return kounta

        yield connected


@pytest.fixture
def kounta(connect: Callable[..., Kounta]) -> Kounta:
    return connect()
