"""Registering webhooks by the API, and their deliveries to a real receiver."""

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import httpx2
import pytest

from sync.sandbox import Faults, Sandbox, Settings, serving

WEBHOOKS = "/v1/companies/5678/webhooks"

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one takes 50 ms to make


class Received(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """A server that keeps what it gets and answers with a status, once it is allowed to."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.status = 200
        self.allowed = asyncio.Event()
        self.allowed.set()
        self.url = ""
        self.got = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                originals = dict(line.split(": ", 1) for line in head[1:] if line)
                body = await reader.readexactly(int(headers["content-length"]))
                self.received.append(
                    Received(head[0].split(" ")[1], {k.lower(): v for k, v in originals.items()}, body)
                )
                self.got.set()
                await self.allowed.wait()
                writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: 0\r\n\r\n".encode())
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(made.answer(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def kounta(
    faults: Faults | None = None, **settings: Any
) -> AsyncIterator[tuple[httpx2.AsyncClient, Sandbox]]:
    options = {"requests_per_minute": 10_000, **settings}
    sandbox = Sandbox(Settings(**options), faults or Faults(), seed=1, customers=10)
    async with (
        serving(sandbox) as url,
        httpx2.AsyncClient(
            base_url=url,
            auth=("sandbox-client", "sandbox-secret"),
            headers={"Accept": "application/json"},
            trust_env=False,
            verify=NO_TLS,
        ) as client,
    ):
        yield client, sandbox


async def settled(client: httpx2.AsyncClient) -> dict[str, Any]:
    deliveries: dict[str, Any] = (await client.post("/sandbox/settle")).json()["deliveries"]
    return deliveries


async def test_a_webhook_is_registered_read_changed_and_removed() -> None:
    async with kounta() as (client, _):
        body = {
            "topic": "customers/created",
            "address": "http://x.example/hook",
            "headers": {"Authorization": "Bearer 1"},
        }
        created = await client.post(f"{WEBHOOKS}.json", json=body)
        location = created.headers["Location"]
        stored = (await client.get(location)).json()

        assert (created.status_code, created.content) == (201, b"")
        assert {name: stored[name] for name in body} == body
        assert (stored["format"], stored["filter"]) == ("json", None)
        assert {"id", "created_at", "updated_at"} <= stored.keys()
        assert (await client.get(WEBHOOKS)).json() == [stored]

        changed = await client.put(location, json={"address": "http://y.example/hook"})
        assert changed.json()["address"] == "http://y.example/hook"
        assert changed.json()["topic"] == "customers/created"

        assert (await client.delete(location)).status_code == 204
        assert (await client.get(location)).status_code == 404
        assert (await client.delete(location)).status_code == 404
        assert (await client.get(WEBHOOKS)).json() == []


async def test_a_webhook_belongs_to_the_application_that_made_it() -> None:
    async with kounta(other_applications=("theirs:secret:token",)) as (client, _):
        body = {"topic": "customers/created", "address": "http://x.example/hook"}
        location = (await client.post(WEBHOOKS, json=body)).headers["Location"]
        client.auth = httpx2.BasicAuth("theirs", "secret")

        assert (await client.get(WEBHOOKS)).json() == []
        statuses = [
            (await client.get(location)).status_code,
            (await client.put(location, json={"format": "xml"})).status_code,
            (await client.delete(location)).status_code,
        ]
        assert statuses == [404, 404, 404]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"topic": "customers/created"},
        {"address": "http://x"},
        {"topic": "customers", "address": "http://x"},
        {"topic": "customers/created", "address": "x"},
        {"topic": "customers/created", "address": "http://["},
        {"topic": "customers/created", "address": 5},
        {"topic": "customers/created", "address": "http://x", "format": "yaml"},
        {"topic": "customers/created", "address": "http://x", "headers": {"Host": "y"}},
        {"topic": "customers/created", "address": "http://x", "headers": {"X-Kounta-Signature": "y"}},
        {"topic": "customers/created", "address": "http://x", "headers": {"X-A": "y\r\nX-B: z"}},
        {"topic": "customers/created", "address": "http://x", "headers": ["X-A"]},
        {"topic": "customers/created", "address": "http://x", "filter": {"attributes": ["colour"]}},
        {"topic": "customers/created", "address": "http://x", "filter": {"attributes": [["name"]]}},
        ["customers/created"],
    ],
)
async def test_a_webhook_that_cannot_be_is_400(body: Any) -> None:
    async with kounta() as (client, sandbox):
        assert (await client.post(WEBHOOKS, json=body)).status_code == 400
        assert list(sandbox.company.webhooks) == []


async def test_a_change_is_delivered_signed_over_the_exact_bytes_with_the_extra_headers() -> None:
    async with receiver() as there, kounta(signature_token="sesame") as (client, sandbox):
        body = {
            "topic": "customers/created",
            "address": f"{there.url}/hook?a=b",
            "headers": {"X-Tenant": "42", "Authorization": "Bearer abc"},
        }
        await client.post(WEBHOOKS, json=body)

        sandbox.company.create({"first_name": "Zoë", "phone": "1"})
        await there.got.wait()

        [got] = there.received
        assert got.path == "/hook?a=b"
        assert got.headers["x-kounta-signature"] == hmac.new(b"sesame", got.body, hashlib.sha256).hexdigest()
        assert got.headers["content-type"] == "application/json"
        assert (got.headers["x-tenant"], got.headers["authorization"]) == ("42", "Bearer abc")


async def test_each_topic_goes_to_its_own_url_of_a_receiver() -> None:
    async with receiver() as there, kounta() as (client, sandbox):
        sandbox.deliver_to(there.url + "/")
        customer = sandbox.company.create({"first_name": "A", "phone": "1"})
        sandbox.company.update(customer.id, {"first_name": "B"})
        sandbox.company.delete(customer.id)
        await settled(client)

        paths = [got.path.removeprefix("/webhooks/5678/customers/") for got in there.received]
        assert paths == ["created", "updated", "deleted"]


async def test_registering_twice_delivers_twice() -> None:
    async with receiver() as there, kounta() as (client, sandbox):
        sandbox.deliver_to(there.url)
        sandbox.deliver_to(there.url)
        sandbox.company.create({"first_name": "A", "phone": "1"})
        await settled(client)

        assert len(there.received) == 2
        assert there.received[0].body == there.received[1].body


async def test_the_format_may_be_xml() -> None:
    async with receiver() as there, kounta() as (client, sandbox):
        body = {"topic": "customers/created", "address": there.url, "format": "xml"}
        await client.post(WEBHOOKS, json=body)
        sandbox.company.create({"first_name": "A & B", "phone": "1", "tags": ["x"]})
        await settled(client)

        [got] = there.received
        assert got.headers["content-type"] == "application/xml"
        assert ET.fromstring(got.body).findtext("first_name") == "A & B"  # noqa: S314 - our own text


async def test_a_refusing_receiver_is_tried_again_as_often_as_is_set() -> None:
    async with receiver() as there, kounta(Faults(delivery_retries=3)) as (client, sandbox):
        there.status = 503
        sandbox.deliver_to(there.url)
        sandbox.company.create({"first_name": "A", "phone": "1"})

        counts = await settled(client)

        assert len(there.received) == 4
        assert (counts["announced"], counts["sent"], counts["refused"]) == (1, 4, 4)


async def test_a_receiver_that_is_not_there_refuses() -> None:
    async with receiver() as gone:
        url = gone.url
    async with kounta() as (client, sandbox):
        sandbox.deliver_to(url)
        sandbox.company.create({"first_name": "A", "phone": "1"})

        counts = await settled(client)

        assert (counts["sent"], counts["refused"], counts["in_flight"]) == (1, 1, 0)


async def test_a_receiver_that_never_answers_holds_up_nobody_else() -> None:
    async with (
        receiver() as slow,
        receiver() as quick,
        kounta(delivery_timeout_seconds=60) as (client, sandbox),
    ):
        slow.allowed.clear()
        sandbox.deliver_to(slow.url)
        sandbox.deliver_to(quick.url)
        for number in range(200):
            sandbox.company.create({"first_name": f"A{number}", "phone": "1"})
        while len(quick.received) < 200:
            quick.got.clear()
            await quick.got.wait()

        assert 0 < len(slow.received) <= 64
        slow.allowed.set()
        counts = await settled(client)
        assert (counts["answered_200"], counts["refused"]) == (400, 0)


async def test_a_receiver_that_does_not_answer_in_time_refuses() -> None:
    async with receiver() as slow, kounta(delivery_timeout_seconds=0.1) as (client, sandbox):
        slow.allowed.clear()
        sandbox.deliver_to(slow.url)
        sandbox.company.create({"first_name": "A", "phone": "1"})

        assert (await settled(client))["refused"] == 1


async def test_settling_skips_the_delays_that_remain() -> None:
    faults = Faults(delayed=1, doubled=0.5, disordered=0.5, max_delay_seconds=3600)
    async with receiver() as there, kounta(faults) as (client, sandbox):
        sandbox.deliver_to(there.url)
        await client.post("/sandbox/edits", json={"count": 50})
        assert there.received == []

        counts = await settled(client)

        assert len(there.received) == counts["sent"] == counts["announced"] + counts["doubled"] > 60
        assert counts["waiting"] == counts["in_flight"] == 0


async def test_sixty_four_deliveries_are_under_way_to_one_address_at_once() -> None:
    async with receiver() as there, kounta() as (client, sandbox):
        there.allowed.clear()
        sandbox.deliver_to(there.url)
        for number in range(100):
            sandbox.company.create({"first_name": f"A{number}", "phone": "1"})
        while len(there.received) < 64:
            there.got.clear()
            await there.got.wait()

        there.allowed.set()
        assert (await settled(client))["answered_200"] == 100
