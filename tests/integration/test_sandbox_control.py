"""The control interface: the truth, edits, faults, and waiting until all is delivered."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from sync.sandbox import Sandbox, Settings, serving

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one takes 50 ms to make


@asynccontextmanager
async def kounta(customers: int = 20, **settings: Any) -> AsyncIterator[tuple[httpx2.AsyncClient, Sandbox]]:
    sandbox = Sandbox(Settings(**settings), seed=1, customers=customers)
    async with (
        serving(sandbox) as url,
        httpx2.AsyncClient(base_url=f"{url}/sandbox/", trust_env=False, verify=NO_TLS) as client,
    ):
        yield client, sandbox


async def test_the_truth_is_every_customer_complete_without_times() -> None:
    async with kounta() as (client, sandbox):
        gone = sandbox.company.customers.nth(3).id
        await client.delete(f"customers/{gone}")

        truth = (await client.get("customers")).json()

        assert len(truth["customers"]) == 19
        assert truth["deleted"] == [gone]
        assert list(truth["customers"][0]) == [
            *("id", "first_name", "last_name", "email", "phone", "mobile", "tags", "image"),
            *("primary_address", "shipping_address", "reference_id", "accepts_marketing"),
        ]


async def test_customers_are_made_changed_and_deleted_aloud_or_silently() -> None:
    async with kounta(customers=0) as (client, sandbox):
        sandbox.deliver_to("http://127.0.0.1:9")
        for announce, announced in (("true", 3), ("false", 3)):
            query = {"announce": announce}
            made = (await client.post("customers", json={"first_name": "A"}, params=query)).json()
            url = f"customers/{made['id']}"
            changed = (await client.put(url, json={"tags": ["x"], "points": 5}, params=query)).json()
            assert (changed["tags"], changed["points"]) == (["x"], 5)
            assert (await client.delete(url, params=query)).status_code == 200
            assert sandbox.company.outbox.counts.announced == announced

        changes = (await client.get("report")).json()["changes"]
        assert changes == {
            "customers/created": 2,
            "customers/updated": 2,
            "customers/deleted": 2,
            "silent": 3,
        }


async def test_a_customer_may_be_made_with_an_id_even_one_that_was_deleted() -> None:
    async with kounta(customers=0) as (client, sandbox):
        assert (await client.post("customers", json={"id": 2**40, "first_name": "A"})).json()["id"] == 2**40
        assert (await client.post("customers", json={"id": 2**40})).status_code == 409
        await client.delete(f"customers/{2**40}")
        await client.post("customers", json={"id": 2**40, "first_name": "B"})

        assert [customer.first_name for customer in sandbox.company.customers] == ["B"]
        assert sandbox.company.customers.deleted == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "customers", {"id": "x"}, 400),
        ("POST", "customers", {"id": True}, 400),
        ("POST", "customers", {"tags": 5}, 400),
        ("POST", "customers?announce=maybe", {}, 400),
        ("POST", "customers", ["A"], 400),
        ("PUT", "customers/1", {}, 404),
        ("PUT", "customers/1", {"reference_id": 5}, 400),
        ("DELETE", "customers/1", None, 404),
        ("POST", "edits", {"count": -1}, 400),
        ("POST", "edits", {"count": "many"}, 400),
        ("POST", "edits", {"count": 10**9}, 400),
        ("PUT", "faults", {"lots": 1}, 400),
        ("PUT", "faults", {"lost": 2}, 400),
        ("PUT", "settings", {"list_shape": "round"}, 400),
        ("POST", "calls", {"faults": "too_many"}, 400),
    ],
)
async def test_what_cannot_be_is_one_sentence(method: str, path: str, body: Any, status: int) -> None:
    async with kounta() as (client, _):
        answer = await client.request(method, path, json=body)

        assert answer.status_code == status
        assert answer.json()["error"].endswith(".")


async def test_edits_are_made_at_once_with_their_second_steps() -> None:
    async with kounta() as (client, sandbox):
        changes = (await client.post("edits", json={"count": 100, "announce": False})).json()

        assert sum(changes.values()) - changes["silent"] >= 100
        assert changes["silent"] == sum(changes.values()) - changes["silent"]
        assert sandbox.editor.next_follow_up() is None


async def test_faults_and_settings_are_read_and_changed_in_part() -> None:
    async with kounta() as (client, sandbox):
        before = (await client.get("faults")).json()
        after = (await client.put("faults", json={"lost": 0.5, "stamps": "absent"})).json()

        assert after == {**before, "lost": 0.5, "stamps": "absent"}
        assert (sandbox.faults.lost, sandbox.faults.stamps) == (0.5, "absent")
        assert (await client.put("settings", json={"list_shape": "legacy"})).json()["list_shape"] == "legacy"
        assert sandbox.settings.list_shape == "legacy"


async def test_the_company_edits_itself_until_it_is_paused_and_again_when_resumed() -> None:
    async with kounta(edits_per_second=100) as (client, sandbox):

        async def more() -> None:
            start = sum(sandbox.company.changes.values())
            while sum(sandbox.company.changes.values()) < start + 20:  # noqa: ASYNC110 - edits tell nobody
                await asyncio.sleep(0.01)

        async with asyncio.timeout(5):
            await more()
            await client.post("pause")
            paused = dict(sandbox.company.changes)
            await asyncio.sleep(0.1)
            assert sandbox.company.changes == paused
            await client.post("resume")
            await more()
            await client.put("settings", json={"edits_per_second": 0})


async def test_settling_stops_the_edits() -> None:
    async with kounta(edits_per_second=100) as (client, sandbox):
        report = (await client.post("settle")).json()

        assert report["deliveries"]["in_flight"] == 0
        assert not sandbox.editing
