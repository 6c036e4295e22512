"""Where a request ends, and a connection: what the port refuses before it is a request, over real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from pydantic import SecretStr
from structlog.testing import capture_logs

from receiver import connections, protocol
from receiver.app import create_app
from receiver.capture import Capture
from receiver.connections import Connections, Limits
from receiver.inbox.schema import NOBODY
from receiver.protocol import guarded
from receiver.server import door_of
from receiver.settings import ReceiverSettings
from receiver.signature import sign
from sync.console.app import create_console
from sync.console.serving import serving

COMPANY = 5678
URL = f"/webhooks/{COMPANY}/customers/updated"
BODY = b'{"id": 1}'
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
QUICK = Limits(
    connections=8,
    of_one_source=4,
    head_seconds=0.1,
    idle_seconds=0.2,
    body_seconds=0.1,
    ending_seconds=0.1,
    stopping_seconds=0.1,
)
UPGRADING = b"Connection: Upgrade\r\nUpgrade: example\r\n"


def post(body: bytes = BODY, more: bytes = b"", signature: str | None = None) -> bytes:
    """Return a delivery; `more` are further header lines."""
    signature = signature or sign(body, b"token")
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nX-Kounta-Signature: {signature}\r\n"
    return head.encode() + b"Content-Length: %d\r\n" % len(body) + more + b"\r\n" + body


@dataclass
class Memory:
    """An inbox in memory; `free` is cleared to let deliveries wait."""

    bodies: list[bytes] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    overloads: list[str] = field(default_factory=list)
    free: asyncio.Event = field(default_factory=asyncio.Event)
    waits: asyncio.Event = field(default_factory=asyncio.Event)
    ready = True
    spooled = None

    async def append(self, _company_id: int, _topic: str, _headers: Mapping[str, str], body: bytes) -> str:
        self.bodies.append(body)
        self.waits.set()
        await self.free.wait()
        return "00000000-0000-7000-8000-000000000000"

    def refuse(self, company_id: int, reason: str) -> None:
        self.refused.append((company_id, reason))

    def overloaded(self, reason: str) -> None:
        self.overloads.append(reason)

    def note_token(self, _company_id: int, _fingerprint: str) -> None:
        pass


@dataclass
class Port:
    """A receiver that is being served."""

    memory: Memory
    door: Connections
    server: uvicorn.Server
    port: int
    peers: list["Peer"] = field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason in self.memory.refused]

    async def connect(self, sent: bytes = b"") -> "Peer":
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        await writer.drain()
        peer = Peer(reader, writer)
        self.peers.append(peer)
        return peer

    async def raw(self, sent: bytes) -> bytes:
        """Send bytes, keep the connection open, give all that comes until it is closed."""
        peer = await self.connect(sent)
        return await peer.rest()

    async def until(self, number: int) -> None:
        """Wait until so many connections are open."""
        async with asyncio.timeout(10):
            while len(self.door) != number:  # noqa: ASYNC110 - a socket tells nobody
                await asyncio.sleep(0.005)


@dataclass
class Peer:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def rest(self) -> bytes:
        """Return all that comes until the connection is closed, or reset."""
        came = b""
        async with asyncio.timeout(10):
            with suppress(ConnectionResetError):
                while part := await self.reader.read(65_536):
                    came += part
        return came

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def answer(self) -> bytes:
        """Read one answer with a JSON body."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            return head + await self.reader.readuntil(b"}")


def refusal(answer: bytes) -> tuple[int, str]:
    """Return the status and code of the one answer; it must say that the connection is closed."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in head.lower()
    assert f"content-length: {len(body)}".encode() in head.lower()
    said = json.loads(body)
    assert set(said) == {"error", "detail"}
    return int(head.split()[1]), said["error"]


@asynccontextmanager
async def listening(limits: Limits = QUICK, implementation: Any = None) -> AsyncIterator[Port]:
    """Serve a receiver; another implementation of HTTP has no guard but that of the application."""
    memory = Memory()
    memory.free.set()

    @asynccontextmanager
    async def inbox(_settings: ReceiverSettings, _capture: Capture) -> AsyncIterator[Memory]:
        yield memory

    settings = ReceiverSettings.model_validate(
        {"KOUNTA_COMPANY_ID": COMPANY, "KOUNTA_SIGNATURE_TOKENS": [SecretStr("token")]}
    )
    app = create_app(settings, inbox)
    door = door_of(app, limits)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, http=implementation or guarded(door), lifespan="off", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        async with app.router.lifespan_context(app):
            serve = asyncio.create_task(server._serve([listener]))
            port = Port(memory, door, server, listener.getsockname()[1])
            try:
                yield port
            finally:
                memory.free.set()
                server.should_exit = True
                await serve
                for peer in port.peers:
                    await peer.close()


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    async with listening() as served:
        yield served


# Upgrades.


@pytest.mark.parametrize("implementation", [None, "httptools", "h11"])
async def test_a_request_that_asks_to_upgrade_is_refused_and_the_connection_closed(
    implementation: str | None,
) -> None:
    async with listening(implementation=implementation) as port:
        for lines in (UPGRADING, b"Upgrade: example\r\n", b"Connection: keep-alive, upgrade\r\n"):
            answer = await port.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
            assert refusal(answer) == (400, "upgrade_unsupported")
        assert port.reasons == ["upgrade_unsupported"] * 3
        assert (await (await port.connect(HEALTH)).answer()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("implementation", [None, "httptools", "h11"])
async def test_nothing_behind_a_request_that_asks_to_upgrade_is_taken_for_a_request(
    implementation: str | None,
) -> None:
    async with listening(implementation=implementation) as port:
        health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + UPGRADING + b"\r\n"
        for behind in (HEALTH, HEALTH * 8_000):
            answer = await port.raw(health + behind)
            assert answer.count(b"HTTP/1.1 200") == 0
            if implementation is None:  # other servers may reset the connection before the answer is read
                assert refusal(answer) == (400, "upgrade_unsupported")
        peer = await port.connect(health)
        peer.writer.write(HEALTH)
        assert b"HTTP/1.1 200" not in await peer.rest()
        assert port.reasons == ["upgrade_unsupported"] * 3


async def test_a_delivery_before_it_is_answered_and_nothing_else(port: Port) -> None:
    port.memory.free.clear()
    peer = await port.connect(post() + post(more=UPGRADING) + post(b"third"))
    await port.memory.waits.wait()
    port.memory.free.set()
    answer = await peer.rest()
    assert (answer.count(b"HTTP/1.1"), answer.count(b"HTTP/1.1 200")) == (1, 1)
    assert (port.memory.bodies, port.reasons) == ([BODY], ["upgrade_unsupported"])


async def test_a_delivery_that_asks_to_upgrade_is_not_stored(port: Port) -> None:
    assert refusal(await port.raw(post(more=UPGRADING))) == (400, "upgrade_unsupported")
    assert port.memory.bodies == []


# What is too large.


async def test_headers_over_their_bound_are_refused_at_once(port: Port) -> None:
    fits = b"X-Long: " + b"x" * 60_000 + b"\r\n"
    assert (await (await port.connect(post(more=fits))).answer()).startswith(b"HTTP/1.1 200")
    for sent in (
        post(more=b"X-Long: " + b"x" * 70_000 + b"\r\n"),
        post(more=fits + b"Y-Long: " + b"x" * 6_000 + b"\r\n"),
        HEALTH[:-2] + b"X-Endless: " + b"x" * 1_000_000,
        b"GET /" + b"x" * 70_000,
        HEALTH[:-2] + b"X: y\r\n" * 300 + b"\r\n",
    ):
        assert refusal(await port.raw(sent)) == (431, "headers_too_large")
    assert port.memory.bodies == [BODY]


async def test_headers_in_pieces_are_bounded_too(port: Port) -> None:
    peer = await port.connect(HEALTH[:-2] + b"X-Endless: ")
    for _ in range(20):
        peer.writer.write(b"x" * 4_000)
        await asyncio.sleep(0)
    assert refusal(await peer.rest()) == (431, "headers_too_large")


async def test_fields_behind_a_body_in_chunks_are_ignored_and_bounded(port: Port) -> None:
    head = post()[: -len(BODY)].replace(b"Content-Length: 9", b"Transfer-Encoding: chunked")
    chunked = head + b"9\r\n" + BODY + b"\r\n0\r\n"
    assert (await (await port.connect(chunked + b"X-Behind: 1\r\n\r\n")).answer()).startswith(b"HTTP/1.1 200")
    for behind in (b"X-Behind: " + b"x" * 200_000, b"X-Behind: y\r\n" * 20_000):
        peer = await port.connect(chunked)
        for start in range(0, len(behind), 20_000):
            peer.writer.write(behind[start : start + 20_000])
        assert refusal(await peer.rest()) == (431, "headers_too_large")
    assert port.memory.bodies == [BODY]


async def test_requests_that_wait_behind_one_are_bounded(port: Port) -> None:
    port.memory.free.clear()
    peer = await port.connect(post() * (protocol.MOST_PIPELINED + 10))
    await port.memory.waits.wait()
    port.memory.free.set()
    answer = await peer.rest()
    assert answer.count(b"HTTP/1.1 200") == 1
    assert port.reasons == ["bad_request"]


# What is too slow.


async def test_headers_have_a_deadline_however_they_dribble(port: Port) -> None:
    peer = await port.connect(HEALTH[:30])

    async def dribble() -> None:
        for one in b"X" * 1_000:
            peer.writer.write(bytes([one]))
            await asyncio.sleep(0.01)

    dribbling = asyncio.create_task(dribble())
    assert refusal(await peer.rest()) == (408, "headers_too_slow")
    dribbling.cancel()
    assert port.reasons == ["headers_too_slow"]


async def test_the_rest_of_a_request_that_was_refused_is_not_taken() -> None:
    async with listening(replace(QUICK, ending_seconds=5)) as port:
        for begun in (post()[:30], post()[:-1]):
            peer = await port.connect(begun)
            answer = await peer.answer()
            peer.writer.write(post()[len(begun) :] + post())
            assert refusal(answer + await peer.rest())[0] == 408
            await peer.close()
            await port.until(0)
    assert port.memory.bodies == []


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n", HEALTH])
async def test_an_idle_connection_ends_in_silence(port: Port, sent: bytes) -> None:
    answer = await port.raw(sent)
    assert answer.count(b"HTTP/1.1") == (sent == HEALTH)
    assert port.reasons == []
    await port.until(0)


async def test_a_body_has_a_deadline_whoever_reads_it() -> None:
    async with listening() as port:
        assert refusal(await port.raw(post()[:-1])) == (408, "body_too_slow")


async def test_no_body_is_waited_for_that_nobody_will_read(port: Port) -> None:
    for path, answer in ((b"/webhooks/9/customers/updated", b"unknown_company"), (b"/", b"not_found")):
        head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        peer = await port.connect(head)
        said = await peer.answer()
        assert answer in said
        assert b"connection: close" in said.lower()
        peer.writer.write(HEALTH * 3)  # not even what looks like a request
        assert await peer.rest() == b""
    await port.until(0)


async def test_answers_that_are_not_read_end_the_connection(port: Port) -> None:
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(peer, ("127.0.0.1", port.port))
        try:
            async with asyncio.timeout(20):
                while True:
                    await loop.sock_sendall(peer, HEALTH * 100)
        except OSError:
            pass
    await port.until(0)


# Who gives way.


async def test_a_sender_is_served_though_strangers_hold_all_connections(port: Port) -> None:
    for _ in range(4):
        for sent in (b"", HEALTH[:9], post()[:-1]):
            await port.connect(sent)
    await port.until(QUICK.connections)
    sender = await port.connect(post())
    assert (await sender.answer()).startswith(b"HTTP/1.1 200")
    assert "too_many_connections" in port.reasons


async def test_one_that_gives_way_in_a_request_hears_why() -> None:
    async with listening(Limits(connections=1)) as port:
        first = await port.connect(HEALTH[:9])
        await port.until(1)
        await asyncio.sleep(0.01)
        second = await port.connect(HEALTH)
        assert refusal(await first.rest()) == (429, "too_many_connections")
        assert (await second.answer()).startswith(b"HTTP/1.1 200")


async def test_deliveries_that_wait_for_a_commit_keep_their_connections_and_more_is_an_overload() -> None:
    async with listening(replace(QUICK, connections=2)) as port:
        port.memory.free.clear()
        senders = [await port.connect(post()) for _ in range(2)]
        while len(port.memory.bodies) < 2:  # noqa: ASYNC110 - both are awaited
            await asyncio.sleep(0.005)
        assert refusal(await port.raw(post())) == (503, "unavailable")
        assert port.memory.overloads == ["there were too many connections"]
        port.memory.free.set()
        for one in senders:
            assert (await one.answer()).startswith(b"HTTP/1.1 200")


async def test_what_incomplete_requests_hold_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HELD_BYTES", 300_000)
    async with listening(Limits(connections=50)) as port:
        large = post(b"x" * 200_000)
        peers = [await port.connect(large[:-1]) for _ in range(3)]
        assert refusal(await peers[0].rest()) == (429, "too_many_connections")
        assert refusal(await peers[1].rest()) == (429, "too_many_connections")
        assert port.door.held < 300_000
        peers[2].writer.write(large[-1:])
        assert (await peers[2].answer()).startswith(b"HTTP/1.1 200")
        assert port.door.held == 0


# The end.


async def test_a_request_on_its_way_is_answered_though_the_process_stops() -> None:
    async with listening(Limits()) as port:
        begun, fresh = await port.connect(post()[:30]), await port.connect()
        await port.until(2)
        await asyncio.sleep(0.01)
        port.door.stopping = True
        port.server.should_exit = True
        await asyncio.sleep(0.2)  # it has asked every connection to end
        begun.writer.write(post()[30:])
        fresh.writer.write(post())
        for one in (begun, fresh):
            answer = await one.rest()
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer
    assert port.memory.bodies == [BODY, BODY]


async def test_a_body_that_is_here_is_read_though_its_sender_has_gone() -> None:
    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        came.append(await receive())
        came.append(await receive())

    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    came: list[dict[str, Any]] = []
    cycle: Any = SimpleNamespace(more_body=False, body=bytearray(BODY))
    await protocol._Answering(cycle, app)({"type": "http"}, gone, gone)  # type: ignore[arg-type]
    assert came == [{"type": "http.request", "body": BODY, "more_body": False}, {"type": "http.disconnect"}]


async def test_a_whole_delivery_is_stored_though_its_sender_has_gone(port: Port) -> None:
    with socket.create_connection(("127.0.0.1", port.port)) as peer:
        peer.sendall(post())
    await port.memory.waits.wait()
    assert port.memory.bodies == [BODY]


# What is counted and said.


async def test_what_is_no_http_and_a_path_without_its_prefix_are_counted(port: Port) -> None:
    assert refusal(await port.raw(b"hello?\r\n\r\n")) == (400, "bad_request")
    peer = await port.connect(post().replace(f"/webhooks/{COMPANY}".encode(), b""))
    assert b"not_found" in await peer.answer()
    assert port.memory.refused == [(NOBODY, "bad_request"), (NOBODY, "not_found")]


async def test_refusals_are_one_line_a_minute_a_reason(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.refused.EVERY_SECONDS", 0.2)
    with capture_logs() as lines:
        for number in range(5):
            peer = await port.connect(post(signature="0" * 64).replace(b" HTTP", b"?q=%d HTTP" % number, 1))
            assert b"signature_invalid" in await peer.answer()
        await port.raw(b"hello?\r\n\r\n")
        async with asyncio.timeout(10):
            while len(lines) < 3:  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
    said = [(line["reason"], line["count"], line["path"]) for line in lines]
    assert said == [
        ("signature_invalid", 1, URL),
        ("bad_request", 1, ""),
        ("signature_invalid", 4, URL),
    ]
    assert {line["action"] for line in lines} == {"requests_refused"}


async def test_a_path_in_the_log_is_short_and_plain(port: Port) -> None:
    with capture_logs() as lines:
        await port.raw(b"GET /\x1b[2J" + b"y" * 500 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        peer = await port.connect(b"GET /%1b[2J" + b"y" * 500 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        await peer.answer()
    for line in lines:
        assert len(line["path"]) <= 121
        assert "\x1b" not in line["path"]


# The console.


async def _scrape() -> bytes:
    return b""


async def test_the_console_has_the_same_guard() -> None:
    app = create_console(_scrape, lambda: True, None)
    async with serving(app, "127.0.0.1", 0, lambda _: None) as url:
        with capture_logs() as lines:
            for sent, expected in (
                (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + UPGRADING + b"\r\n" + HEALTH, 400),
                (HEALTH[:-2] + b"X-Long: " + b"x" * 70_000 + b"\r\n\r\n", 431),
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
                writer.write(sent)
                assert refusal(await reader.read())[0] == expected
                writer.close()
                await writer.wait_closed()
    assert [line["reason"] for line in lines if line["action"] == "requests_refused"] == [
        "upgrade_unsupported",
        "headers_too_large",
    ]
