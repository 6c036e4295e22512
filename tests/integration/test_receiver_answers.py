import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
import uvicorn

from receiver import webhook
from receiver.app import create_app
from receiver.connections import Limits
from receiver.database import Place, directory_of, inbox_of
from receiver.doorbell import Doorbell
from receiver.inbox import Delivery, InboxReader, InboxWriter
from receiver.local import connect_locally
from receiver.protocol import guarded
from receiver.server import door_of
from receiver.settings import ReceiverSettings
from receiver.signature import sign
from tests.places import settings_of

COMPANY = 5678
URL = f"/webhooks/{COMPANY}/customers/updated"
BODY = b'{"id": 389427, "first_name": "Jamie"}'
MEBIBYTE = 1024 * 1024

REFUSED = pytest.mark.parametrize("database_kind", ["sqlite"])
"""What is refused comes to no store, and is the same with each."""


def signed(body: bytes, token: bytes = b"new") -> dict[str, str]:
    return {"X-Kounta-Signature": sign(body, token), "Content-Type": "application/json"}


@dataclass
class Receiver:
    http: httpx2.AsyncClient
    inbox: InboxReader
    writer: InboxWriter
    address: tuple[str, int]

    async def stored(self) -> list[Delivery]:
        return await self.inbox.read(COMPANY, 0, 1_000)

    async def raw(self, request: bytes) -> bytes:
        """Send bytes, keep the connection open, give all that comes until the receiver closes it."""
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await writer.wait_closed()
        return answer


@pytest.fixture
async def receiver(place: Place, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    monkeypatch.chdir(directory_of(place))
    for name, value in settings_of(place).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KOUNTA_COMPANY_ID", str(COMPANY))
    monkeypatch.setenv("KOUNTA_SIGNATURE_TOKENS", "old,new")
    monkeypatch.setenv("MIRROR_QUEUE_LIMIT", "2")
    app = create_app(ReceiverSettings.load())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        config = uvicorn.Config(
            app, http=guarded(door_of(app, Limits())), lifespan="off", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        async with app.router.lifespan_context(app):
            serving = asyncio.create_task(server._serve([listener]))
            async with (
                httpx2.AsyncClient(base_url=f"http://127.0.0.1:{address[1]}", trust_env=False) as http,
                InboxReader.open(inbox_of(place)) as inbox,
            ):
                yield Receiver(http, inbox, app.state.inbox, address)
            server.should_exit = True
            await serving


def refused(answer: httpx2.Response) -> tuple[int, str]:
    """Every error has one shape."""
    said = answer.json()
    assert set(said) == {"error", "detail"}
    assert said["detail"].endswith(".")
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, said["error"]


async def test_a_signed_delivery_is_stored_before_it_is_answered(receiver: Receiver) -> None:
    answer = await receiver.http.post(URL, content=BODY, headers=signed(BODY))
    (delivery,) = await receiver.stored()
    assert (answer.status_code, answer.json()) == (200, {"delivery": delivery.id})
    assert (delivery.topic, delivery.body) == ("customers/updated", BODY)


async def test_one_slash_at_the_end_of_the_path_makes_no_difference(receiver: Receiver) -> None:
    answer = await receiver.http.post(f"{URL}/", content=BODY, headers=signed(BODY))
    (delivery,) = await receiver.stored()
    assert (answer.status_code, delivery.topic) == (200, "customers/updated")


@pytest.mark.parametrize("token", [b"old", b"new"])
@pytest.mark.parametrize("event", ["created", "updated", "deleted"])
async def test_every_topic_and_every_token_is_taken(receiver: Receiver, event: str, token: bytes) -> None:
    url = f"/webhooks/{COMPANY}/customers/{event}"
    answer = await receiver.http.post(url, content=BODY, headers=signed(BODY, token))
    assert answer.status_code == 200
    assert [delivery.topic for delivery in await receiver.stored()] == [f"customers/{event}"]


@pytest.mark.parametrize("body", [b"", b"<xml/>", b"\x00\xff", b'{"company_id": 9}', b"x" * MEBIBYTE])
async def test_whatever_verifies_is_stored(receiver: Receiver, body: bytes) -> None:
    assert (await receiver.http.post(URL, content=body, headers=signed(body))).status_code == 200
    assert [delivery.body for delivery in await receiver.stored()] == [body]


async def test_a_chunked_body_is_taken_like_any_other(receiver: Receiver) -> None:
    body = b"x" * MEBIBYTE

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    assert (await receiver.http.post(URL, content=chunks(), headers=signed(body))).status_code == 200
    assert [delivery.body for delivery in await receiver.stored()] == [body]


async def test_only_headers_that_carry_no_secret_are_stored(receiver: Receiver) -> None:
    secrets = {
        "Authorization": "Bearer s3cret",
        "Cookie": "session=s3cret",
        "Proxy-Authorization": "Basic s3cret",
        "X-Shared-Secret": "s3cret",
    }
    harmless = {"User-Agent": "Kounta", "X-Kounta-Topic": "customers/updated", "X-Request-Id": "42"}
    await receiver.http.post(URL, content=BODY, headers=signed(BODY) | secrets | harmless)
    (delivery,) = await receiver.stored()
    assert "s3cret" not in str(delivery.headers)
    assert delivery.headers == {
        "content-type": "application/json",
        "user-agent": "Kounta",
        "x-kounta-signature": sign(BODY, b"new"),
        "x-kounta-topic": "customers/updated",
        "x-request-id": "42",
    }


@REFUSED
@pytest.mark.parametrize(
    ("method", "url", "expected"),
    [
        ("POST", "/webhooks/9/customers/updated", (404, "unknown_company")),
        ("POST", "/webhooks/05678/customers/updated", (404, "unknown_company")),
        ("POST", "/webhooks/0/customers/updated", (404, "unknown_company")),
        ("POST", "/webhooks/me/customers/updated", (404, "unknown_company")),
        ("POST", f"/webhooks/{COMPANY}/orders/updated", (404, "unknown_topic")),
        ("POST", f"/webhooks/{COMPANY}/customers/renamed", (404, "unknown_topic")),
        ("POST", f"/webhooks/{COMPANY}/customers/updated//", (404, "unknown_topic")),
        ("POST", f"/webhooks/{COMPANY}/customers/Updated", (404, "unknown_topic")),
        ("POST", f"/webhooks/{COMPANY}", (404, "not_found")),
        ("GET", "/", (404, "not_found")),
        ("GET", "/metrics", (404, "not_found")),
        ("GET", "/healthz/", (404, "not_found")),
        ("GET", URL, (405, "method_not_allowed")),
        ("PUT", URL, (405, "method_not_allowed")),
        ("POST", "/healthz", (405, "method_not_allowed")),
    ],
)
async def test_what_is_not_here_is_told(
    receiver: Receiver, method: str, url: str, expected: tuple[int, str]
) -> None:
    answer = await receiver.http.request(method, url, headers=signed(b""))
    assert refused(answer) == expected
    if expected[0] == 405:
        allowed = {"POST"} if url == URL else {"GET", "HEAD"}
        assert set(answer.headers["allow"].split(", ")) == allowed


@REFUSED
async def test_the_first_reason_of_the_table_is_the_answer(receiver: Receiver) -> None:
    """Each request is wrong in all the ways that come after the one that is told."""
    big = b"x" * (MEBIBYTE + 1)
    wrong = [
        ("PUT", "/webhooks/9/customers/renamed", (404, "unknown_company")),
        ("PUT", f"/webhooks/{COMPANY}/customers/renamed", (404, "unknown_topic")),
        ("PUT", URL, (405, "method_not_allowed")),
        ("POST", URL, (413, "body_too_large")),
    ]
    for method, url, expected in wrong:
        assert refused(await receiver.http.request(method, url, content=big)) == expected


async def test_a_body_over_a_mebibyte_is_refused_however_it_comes(receiver: Receiver) -> None:
    body = b"x" * (MEBIBYTE + 1)

    async def chunks() -> AsyncIterator[bytes]:
        yield body[:MEBIBYTE]
        yield body[MEBIBYTE:]

    for content in (body, chunks()):
        answer = await receiver.http.post(URL, content=content, headers=signed(body))
        assert refused(answer) == (413, "body_too_large")
    assert await receiver.stored() == []


@REFUSED
async def test_a_body_that_says_it_is_too_large_is_not_waited_for(receiver: Receiver) -> None:
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {10**12}\r\n\r\n"
    assert (await receiver.raw(head.encode())).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], "signature_missing"),
        ([("X-Kounta-Signature", "")], "signature_missing"),
        ([("X-Kounta-Signature", sign(BODY, b"another"))], "signature_invalid"),
        ([("X-Kounta-Signature", "nonsense")], "signature_invalid"),
        ([("X-Kounta-Signature", sign(BODY, b"new"))] * 2, "signature_invalid"),
    ],
)
async def test_what_does_not_verify_is_not_stored(
    receiver: Receiver, headers: list[tuple[str, str]], reason: str
) -> None:
    assert refused(await receiver.http.post(URL, content=BODY, headers=headers)) == (401, reason)
    assert await receiver.stored() == []


@REFUSED
async def test_a_body_too_slow_ends_the_connection(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "BODY_SECONDS", 0.05)
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nnot all"
    answer = await receiver.raw(head.encode())
    assert answer.startswith(b"HTTP/1.1 408")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "body_too_slow"


async def test_a_client_that_leaves_before_its_body_is_here_leaves_nothing(receiver: Receiver) -> None:
    _, writer = await asyncio.open_connection(*receiver.address)
    writer.write(f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nnot all".encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await receiver.http.post(URL, content=BODY, headers=signed(BODY))).status_code == 200
    assert [delivery.body for delivery in await receiver.stored()] == [BODY]


@REFUSED
async def test_what_is_no_http_is_refused_in_the_same_shape(receiver: Receiver) -> None:
    answer = await receiver.raw(b"hello?\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "bad_request"


async def set_writes(writer: InboxWriter, refused: str) -> None:
    def act() -> None:
        writer._store._engine.raw_connection().cursor().execute(f"PRAGMA query_only = {refused}")

    await asyncio.get_running_loop().run_in_executor(writer._store._thread, act)


@pytest.mark.parametrize("database_kind", ["sqlite"])  # what takes a server's place then: test_spool.py
async def test_a_store_that_fails_is_unavailable_until_it_does_not(receiver: Receiver) -> None:
    await set_writes(receiver.writer, "ON")
    answer = await receiver.http.post(URL, content=BODY, headers=signed(BODY))
    assert refused(answer) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    unready = await receiver.http.get("/readyz")
    assert refused(unready) == (503, "unavailable")
    assert (await receiver.http.get("/healthz")).status_code == 200

    await set_writes(receiver.writer, "OFF")
    assert (await receiver.http.post(URL, content=BODY, headers=signed(BODY))).status_code == 200
    assert (await receiver.http.get("/readyz")).status_code == 200
    assert len(await receiver.stored()) == 1


async def test_a_full_queue_is_unavailable_only_to_what_verifies(receiver: Receiver) -> None:
    asked = [
        asyncio.create_task(receiver.http.post(URL, content=BODY, headers=signed(BODY))) for _ in range(30)
    ]
    answers = [answer.status_code for answer in await asyncio.gather(*asked)]
    assert set(answers) <= {200, 503}
    assert answers.count(200) == len(await receiver.stored())
    assert (await receiver.http.post(URL, content=BODY)).status_code == 401


@REFUSED
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_asked_with_get_or_head(receiver: Receiver, path: str) -> None:
    assert (await receiver.http.get(path)).status_code == 200
    head = await receiver.http.head(path)
    assert (head.status_code, head.content) == (200, b"")


async def test_refusals_are_counted_by_reason(receiver: Receiver) -> None:
    for _ in range(3):
        await receiver.http.post(URL, content=BODY)
    await receiver.http.post("/webhooks/9/customers/updated")
    await receiver.writer._write_notes()
    counts = {one.reason: one.count for one in await receiver.inbox.refusals(COMPANY)}
    assert counts == {"signature_missing": 3, "unknown_company": 1}


async def test_a_delivery_rings_the_workers_bell(receiver: Receiver, tmp_path: Path) -> None:
    async with Doorbell(tmp_path, "worker") as doorbell:
        await receiver.http.post(URL, content=BODY)
        assert not await doorbell.wait(0.01)
        await receiver.http.post(URL, content=BODY, headers=signed(BODY))
        assert await doorbell.wait(5)


@pytest.mark.parametrize("database_kind", ["sqlite"])  # on a server whole partitions go, once all may
async def test_the_worker_asks_the_receiver_to_forget(receiver: Receiver, tmp_path: Path) -> None:
    for _ in range(3):
        await receiver.http.post(URL, content=BODY, headers=signed(BODY))
    kept = (await receiver.stored())[0]
    asked = {
        "company_id": COMPANY,
        "through": 2,
        "before": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        "keep": [kept.id],
    }
    client = connect_locally(tmp_path, "receiver")
    assert client is not None
    async with client:
        assert (await client.post("/forget", json=asked)).json() == {"forgotten": 1}
        assert refused(await client.post("/forget", json={"company_id": COMPANY}))[0] == 422
    assert [delivery.position for delivery in await receiver.stored()] == [1, 3]
