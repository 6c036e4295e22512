"""`webhooks test`: a signed ping through the public URL, and each hop of its way failing."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from receiver.app import create_app
from receiver.database import Place, directory_of, inbox_of
from receiver.inbox import CommitFailed, InboxReader
from receiver.inbox.writer import InboxWriter
from receiver.settings import ReceiverSettings
from sync.apply import A_PING
from sync.engine import Engine, open_engine
from sync.mirror.verdicts import verdicts_of
from sync.ping.hops import Hop, HopFailed, Way
from sync.ping.ping import ping
from sync.sandbox import Faults, Sandbox, Settings, serving
from sync.settings import WorkerSettings
from sync.worker import Worker
from tests.databases import asked
from tests.places import settings_of
from tests.working import working

COMPANY = 5678
TOKEN = b"first"
EVERY_HOP = [Hop.DNS, Hop.PROXY, Hop.RECEIVER, Hop.INBOX, Hop.WORKER]

Answer = Callable[[bytes], Awaitable[bytes]]

ON_THE_WAY = pytest.mark.parametrize("database_kind", ["sqlite"])
"""What comes to no store is the same with each."""


@dataclass
class House:
    """A receiver and a worker of the same stores, over real HTTP, and what stands before them."""

    place: Place
    stack: AsyncExitStack
    environment: pytest.MonkeyPatch
    port: int = 0
    inbox: Any = None
    passed: list[Hop] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return directory_of(self.place)

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self.environment.setenv(name, value)

    async def receive(self) -> str:
        """Start the receiver, and give its URL."""
        app = create_app(ReceiverSettings.load())
        listener = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server = uvicorn.Server(
            uvicorn.Config(
                app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
            )
        )
        await self.stack.enter_async_context(app.router.lifespan_context(app))
        self.inbox = app.state.inbox
        task = asyncio.create_task(server._serve([listener]))

        async def stop() -> None:
            server.should_exit = True
            await task

        self.stack.push_async_callback(stop)
        self.port = listener.getsockname()[1]
        return f"http://127.0.0.1:{self.port}"

    async def own(self) -> Engine:
        """Own the mirror; the local Kounta that it stands for has no customers."""
        sandbox = Sandbox(Settings(requests_per_minute=100_000), Faults(), seed=7, customers=0)
        url = await self.stack.enter_async_context(serving(sandbox))
        self.set(KOUNTA_API_URL=url, KOUNTA_CLIENT_ID="sandbox-client", KOUNTA_CLIENT_SECRET="sandbox-secret")
        return await self.stack.enter_async_context(open_engine(WorkerSettings.load(), "the test"))

    async def work(self) -> Engine:
        """Start the worker."""
        engine = await self.own()
        await self.stack.enter_async_context(working(Worker(engine)))
        return engine

    async def serve(self, answer: Answer, tls: ssl.SSLContext | None = None) -> str:
        """Stand in the way: `answer` gives bytes for the bytes of a request."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.lower().split(b"\r\n")
                        if b"content-len" in line
                    ),
                    0,
                )
                writer.write(await answer(head + await reader.readexactly(length)))
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
        self.stack.push_async_callback(server.wait_closed)
        self.stack.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}"

    async def forward(self, request: bytes) -> bytes:
        """Pass a request on to the receiver as it is."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head, _, body = request.partition(b"\r\n\r\n")
        writer.write(head.replace(b"keep-alive", b"close") + b"\r\nConnection: close\r\n\r\n" + body)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    def way(self, public_url: str, **others: Any) -> Way:
        return replace(Way(public_url, COMPANY, TOKEN, self.place), **others)

    async def ping(self, public_url: str, *, seconds: float = 30.0, **others: Any) -> str:
        """Wait for a verdict for so long, which a loaded machine may need."""
        way = self.way(public_url, **others)
        return await ping(way, "nonce", self.passed.append, verdict_seconds=seconds)

    async def failing(self, public_url: str, **others: Any) -> HopFailed:
        with pytest.raises(HopFailed) as raised:
            await self.ping(public_url, seconds=1.0, **others)
        assert raised.value.hop not in self.passed
        assert str(raised.value).count("\n") == 0
        return raised.value


@pytest.fixture
async def house(place: Place, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.chdir(directory_of(place))
    for name in ("MIRROR_PUBLIC_URL", "KOUNTA_READ_ONLY", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    async with AsyncExitStack() as stack:
        house = House(place, stack, monkeypatch)
        house.set(
            KOUNTA_COMPANY_ID=str(COMPANY),
            KOUNTA_SIGNATURE_TOKENS="first,second",
            **settings_of(place),
        )
        yield house


def says(status: int, body: bytes, **headers: str) -> Answer:
    """Answer everything so."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *lines, "", ""]).encode()

    async def answer(_request: bytes) -> bytes:
        return head + body

    return answer


async def test_a_ping_goes_the_whole_way_and_touches_no_customer(house: House) -> None:
    url = await house.receive()
    await house.work()
    delivery = await house.ping(url)
    assert house.passed == EVERY_HOP
    (verdict,) = asked(house.place, "SELECT * FROM delivery_verdicts")
    assert (verdict["delivery_id"], verdict["topic"]) == (delivery, "ping")
    assert (verdict["verdict"], verdict["reason"], verdict["customer_id"]) == ("unchanged", A_PING, None)
    assert asked(house.place, "SELECT count FROM _verdict_counts WHERE count > 0") == [{"count": 1}]
    assert asked(house.place, "SELECT * FROM _customers") == []


async def test_a_ping_goes_through_a_proxy_that_takes_off_a_path(house: House) -> None:
    await house.receive()
    await house.work()

    async def proxy(request: bytes) -> bytes:
        return await house.forward(request.replace(b"POST /shop/webhooks", b"POST /webhooks"))

    await house.ping(await house.serve(proxy) + "/shop")
    assert house.passed == EVERY_HOP


async def test_a_ping_whose_body_is_a_customer_changes_none(house: House) -> None:
    await house.receive()
    engine = await house.own()
    body = json.dumps({"id": 1, "first_name": "Jamie"}).encode()
    delivery = await house.inbox.append(COMPANY, "ping", {}, body)
    async with InboxReader.open(inbox_of(house.place)) as inbox:
        await engine.applier.apply_pending(inbox)
    assert asked(house.place, "SELECT * FROM _customers") == []
    assert await verdicts_of(engine.mirror, [delivery]) == {delivery: "unchanged"}


@ON_THE_WAY
async def test_a_host_that_does_not_resolve(house: House) -> None:
    failed = await house.failing("https://mirror.invalid")
    assert failed.hop is Hop.DNS
    assert "mirror.invalid" in failed.sentence
    assert house.passed == []


class Authority:
    """One that signs certificates, and is trusted by whoever holds `trust`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "The test's authority")])
        now = datetime.now(UTC)
        usage = x509.KeyUsage(
            **dict.fromkeys(
                ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment"], False
            ),
            **dict.fromkeys(["key_agreement", "encipher_only", "decipher_only"], False),
            key_cert_sign=True,
            crl_sign=True,
        )
        self._certificate = (
            x509.CertificateBuilder(self._name, self._name, self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=365))
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, SHA256())
        )

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self._certificate.public_bytes(Encoding.PEM).decode())

    def certify(self, name: str, days: int) -> ssl.SSLContext:
        """Let a server be `name`, for so many days from now; a number below 0: it is over."""
        key, until = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC) + timedelta(days=days)
        signed_by = self._key.public_key()
        certificate = (
            x509.CertificateBuilder(self._name, x509.Name([]), key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - timedelta(days=90))
            .not_valid_after(until)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by), critical=False)
            .sign(self._key, SHA256())
        )
        file = self._directory / f"{name}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


async def test_a_ping_goes_through_a_proxy_that_speaks_tls(house: House) -> None:
    authority = Authority(house.directory)
    await house.receive()
    await house.work()
    url = await house.serve(house.forward, authority.certify("localhost", 30))
    await house.ping(url, tls=authority.trust)
    assert house.passed == [Hop.DNS, Hop.TLS, *EVERY_HOP[1:]]


@ON_THE_WAY
@pytest.mark.parametrize(
    ("name", "days", "told"),
    [("localhost", -1, "expired"), ("other.example", 30, "mismatch"), ("localhost", 30, "issuer")],
)
async def test_a_certificate_that_is_not_to_be_trusted(house: House, name: str, days: int, told: str) -> None:
    """It is over, another's, or signed by nobody who is known here."""
    authority = Authority(house.directory)
    url = await house.serve(says(200, b""), authority.certify(name, days))
    known = Authority(house.directory) if told == "issuer" else authority
    failed = await house.failing(url, tls=known.trust)
    assert (failed.hop, house.passed) == (Hop.TLS, [Hop.DNS])
    assert told in failed.sentence
    assert "Renew it for this name with its whole chain." in failed.sentence


@ON_THE_WAY
@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b""])
async def test_no_tls_where_it_should_be(house: House, greeting: bytes) -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        failed = await house.failing(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert failed.hop is Hop.TLS
    assert house.passed == [Hop.DNS]


@ON_THE_WAY
async def test_a_port_that_is_silent_instead_of_speaking_tls(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.ping.ping.CONNECT_SECONDS", 0.2)
    url = await house.serve(says(200, b""))
    failed = await house.failing(url.replace("http://", "https://"))
    assert failed.hop is Hop.TLS
    assert "in time" in failed.sentence


@ON_THE_WAY
@pytest.mark.parametrize(("scheme", "hop"), [("http", Hop.RECEIVER), ("https", Hop.PROXY)])
async def test_nothing_listens(house: House, scheme: str, hop: Hop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    failed = await house.failing(f"{scheme}://127.0.0.1:{port}")
    assert failed.hop is hop
    assert str(port) in failed.sentence


@ON_THE_WAY
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (says(502, b"<html><title>Bad Gateway</title></html>", Content_Type="text/html"), "Bad Gateway"),
        (says(503, b""), "503"),
        (says(200, b"<html><title>Welcome to the shop</title></html>"), "Welcome to the shop"),
        (says(200, b'{"ok": true}'), "something else"),
        (says(200, b"[]"), "something else"),
        (says(404, b'{"error": "not_found", "detail": "There is nothing at this path."}'), "another path"),
        (says(301, b"", Location="https://www.mirror.example/"), "https://www.mirror.example/"),
    ],
)
async def test_a_proxy_that_answers_in_the_receivers_place(house: House, answer: Answer, told: str) -> None:
    failed = await house.failing(await house.serve(answer))
    assert failed.hop is Hop.PROXY
    assert told in failed.sentence


@ON_THE_WAY
async def test_a_proxy_that_alters_the_body(house: House) -> None:
    await house.receive()

    async def proxy(request: bytes) -> bytes:
        return await house.forward(request.replace(b"  ", b"\t "))

    failed = await house.failing(await house.serve(proxy))
    assert failed.hop is Hop.PROXY
    assert "byte for byte" in failed.sentence


@ON_THE_WAY
async def test_a_proxy_that_drops_the_signature(house: House) -> None:
    await house.receive()

    async def proxy(request: bytes) -> bytes:
        return await house.forward(request.replace(b"kounta-signature", b"nothing-whatever"))

    failed = await house.failing(await house.serve(proxy))
    assert failed.hop is Hop.PROXY
    assert "X-Kounta-Signature" in failed.sentence


@ON_THE_WAY
async def test_a_receiver_with_another_token(house: House) -> None:
    url = await house.receive()
    failed = await house.failing(url, token=b"another")
    assert failed.hop is Hop.RECEIVER
    assert "KOUNTA_SIGNATURE_TOKENS" in failed.sentence


@ON_THE_WAY
async def test_a_receiver_of_another_company(house: House) -> None:
    url = await house.receive()
    failed = await house.failing(url, company_id=1)
    assert failed.hop is Hop.RECEIVER
    assert "company 1" in failed.sentence


async def test_a_receiver_that_cannot_store(house: House) -> None:
    url = await house.receive()

    async def refuses(*_: Any) -> str:
        raise CommitFailed("disk full")

    house.environment.setattr(InboxWriter, "append", refuses)
    failed = await house.failing(url)
    assert failed.hop is Hop.INBOX
    assert "cannot store" in failed.sentence


async def test_a_receiver_with_another_data_directory(house: House) -> None:
    url = await house.receive()
    failed = await house.failing(url, place=house.directory / "elsewhere")
    assert failed.hop is Hop.INBOX
    assert "Another receiver" in failed.sentence


async def test_no_worker(house: House) -> None:
    url = await house.receive()
    failed = await house.failing(url)
    assert failed.hop is Hop.WORKER
    assert "Start kounta-mirror worker" in failed.sentence
    assert house.passed == EVERY_HOP[:-1]


async def test_a_worker_that_does_not_get_to_it(house: House) -> None:
    url = await house.receive()
    engine = await house.work()
    async with holding(engine):
        failed = await house.failing(url)
    assert failed.hop is Hop.WORKER
    assert "no verdict after 1 s" in failed.sentence


@asynccontextmanager
async def holding(engine: Engine) -> AsyncIterator[None]:
    """Keep the mirror from being written."""
    async with engine.mirror.transaction():
        yield


async def test_a_refused_ping_tells_what_arrived_and_a_refused_delivery_does_not(house: House) -> None:
    url = await house.receive()
    for topic, keys in (
        ("ping", {"error", "detail", "body_sha256"}),
        ("customers/updated", {"error", "detail"}),
    ):
        request = (
            f"POST /webhooks/{COMPANY}/{topic} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
            "X-Kounta-Signature: 00\r\n\r\n{}"
        )
        answer = await house.forward(request.encode())
        assert set(json.loads(answer.partition(b"\r\n\r\n")[2])) == keys
    assert url
    async with InboxReader.open(inbox_of(house.place)) as inbox:
        assert await inbox.head(5678) == 0
