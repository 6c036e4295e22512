"""What goes wrong with calls, over real HTTP."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest

from sync.sandbox import Faults, Sandbox, Settings, serving

CUSTOMERS = "/v1/companies/5678/customers"
ANA = {"first_name": "Ana", "phone": "1"}

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one takes 50 ms to make


@asynccontextmanager
async def kounta(customers: int = 5, **faults: Any) -> AsyncIterator[tuple[httpx2.AsyncClient, Sandbox]]:
    sandbox = Sandbox(Settings(requests_per_minute=10_000), Faults(**faults), seed=1, customers=customers)
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


async def test_calls_may_be_429_though_the_limit_is_not_reached() -> None:
    async with kounta(too_many=1) as (client, sandbox):
        answer = await client.get(CUSTOMERS)

        assert answer.status_code == 429
        assert "X-Ratelimit-Reset" in answer.headers
        assert sandbox.report()["calls"]["answered"] == 0


async def test_calls_may_be_server_errors_of_each_kind() -> None:
    async with kounta(server_errors=1) as (client, _):
        statuses = {(await client.get(CUSTOMERS)).status_code for _ in range(30)}

        assert statuses == {500, 502, 503}


async def test_calls_may_be_answered_with_a_page_for_people() -> None:
    async with kounta(html_answers=1) as (client, _):
        answer = await client.get(CUSTOMERS)

        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/html")
        assert answer.text.startswith("<!DOCTYPE html>")


async def test_calls_may_be_cut_inside_the_body(caplog: pytest.LogCaptureFixture) -> None:
    async with kounta(cut_bodies=1) as (client, _), client.stream("GET", CUSTOMERS) as answer:
        assert answer.status_code == 200
        assert int(answer.headers["Content-Length"]) > 100
        with pytest.raises(httpx2.RemoteProtocolError):
            await answer.aread()
    assert caplog.records == []


async def test_calls_may_hang_for_as_long_as_is_set() -> None:
    async with kounta(hangs=1, hang_seconds=30) as (client, sandbox):
        with pytest.raises(httpx2.ReadTimeout):
            await client.get(CUSTOMERS, timeout=0.2)
        sandbox.change(sandbox.faults, {"hang_seconds": 0.2})
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert (await client.get(CUSTOMERS, timeout=10)).status_code == 200
        assert loop.time() - started >= 0.2


async def test_a_call_that_hangs_does_not_hold_up_the_end() -> None:
    async with kounta(hangs=1, hang_seconds=3600) as (client, sandbox):
        call = asyncio.create_task(client.get(CUSTOMERS, timeout=60))
        while not sandbox.calls.total:  # noqa: ASYNC110 - there is no event for a call that has come in
            await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()
        ended = loop.time()
    assert loop.time() - ended < 1
    await asyncio.gather(call, return_exceptions=True)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (1.0, 1)], ids=["before", "after"])
async def test_a_write_that_failed_may_have_been_done(share: float, count: int) -> None:
    async with kounta(customers=0, server_errors=1, fault_after_write=share) as (client, sandbox):
        assert (await client.post(CUSTOMERS, json=ANA)).status_code >= 500
        assert len(sandbox.company.customers) == count


@pytest.mark.parametrize("fault", ["cut_bodies", "hangs"])
async def test_a_write_whose_answer_never_came_was_done(fault: str) -> None:
    async with kounta(customers=0, **{fault: 1}) as (client, sandbox):
        with pytest.raises(httpx2.TransportError):
            await client.post(CUSTOMERS, json=ANA, timeout=0.2)
        assert len(sandbox.company.customers) == 1


async def test_faults_may_be_kept_to_some_kinds_of_calls() -> None:
    async with kounta(server_errors=1, only_calls=("get", "find")) as (client, sandbox):
        id_ = sandbox.company.customers.nth(0).id

        assert (await client.get(CUSTOMERS)).status_code == 200
        assert (await client.get(f"{CUSTOMERS}/{id_}")).status_code >= 500
        assert (await client.get(CUSTOMERS, params={"email": "a"})).status_code >= 500
        assert (await client.put(f"{CUSTOMERS}/{id_}", json={})).status_code == 200


async def test_the_next_calls_can_be_decided_one_by_one() -> None:
    async with kounta() as (client, _):
        asked = {"faults": ["server_errors", "none", "too_many"]}
        await client.post("/sandbox/calls", json=asked)
        statuses = [(await client.get(CUSTOMERS)).status_code for _ in range(4)]

        assert statuses[0] >= 500
        assert statuses[1:] == [200, 429, 200]
        answer = await client.post("/sandbox/calls", json={"faults": ["flood"]})
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(
            "There is no fault 'flood' of a call; there are none, too_many"
        )


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_access_may_be_lost(status: int) -> None:
    async with kounta(lost_access=str(status)) as (client, sandbox):
        id_ = sandbox.company.customers.nth(0).id
        paths = (CUSTOMERS, f"{CUSTOMERS}/{id_}", "/v1/companies/me", "/v1/companies/5678/webhooks")

        assert {(await client.get(path)).status_code for path in paths} == {status}


async def test_rows_may_shift_between_pages_so_that_some_are_missed_and_others_come_twice() -> None:
    async with kounta(customers=200, shifted_rows=0.5) as (client, sandbox):
        everyone = [customer.id for customer in sandbox.company.customers]
        seen: list[int] = []
        for page in range(1, 9):
            items = (await client.get(CUSTOMERS, params={"page": page})).json()
            seen += [item["id"] for item in items]

        assert set(seen) < set(everyone)
        assert len(seen) > len(set(seen))


async def test_calls_may_be_answered_with_another_customer_or_another_shape() -> None:
    async with kounta(wrong_answers=1) as (client, sandbox):
        id_ = sandbox.company.customers.nth(0).id
        answers = [(await client.get(f"{CUSTOMERS}/{id_}")) for _ in range(40)]

        assert {answer.status_code for answer in answers} == {200}
        bodies = [answer.json() for answer in answers]
        others = [body["id"] for body in bodies if isinstance(body, dict) and "email" in body]
        assert {customer.id for customer in sandbox.company.customers} == set(others)
        assert None in bodies
        assert [] in bodies


async def test_the_next_page_may_lead_in_a_circle_or_to_another_host() -> None:
    async with kounta(customers=60, next_page="repeated") as (client, sandbox):
        assert (await client.get(CUSTOMERS, params={"page": 2})).headers["X-Next-Page"].endswith("?page=2")
        sandbox.change(sandbox.faults, {"next_page": "foreign"})
        leads = (await client.get(CUSTOMERS)).headers["X-Next-Page"]
        assert leads == f"https://elsewhere.example{CUSTOMERS}?page=2"


async def test_reads_lists_and_look_ups_may_lag_behind() -> None:
    async with kounta(customers=30, read_lag_seconds=600) as (client, sandbox):
        old = sandbox.company.customers.nth(0)
        sandbox.company.delete(old.id)
        new = sandbox.company.create({"first_name": "New", "email": "new@example.com"})

        listed = [item["id"] for item in (await client.get(CUSTOMERS)).json()]
        assert old.id in listed
        assert (await client.get(f"{CUSTOMERS}/{old.id}")).status_code == 200
        assert (await client.get(f"{CUSTOMERS}/{new.id}")).status_code == 404
        assert (await client.get(CUSTOMERS, params={"email": "new@example.com"})).status_code == 404
        truth = (await client.get("/sandbox/customers")).json()
        assert new.id in [customer["id"] for customer in truth["customers"]]
        assert truth["deleted"] == [old.id]


async def test_upstreams_clock_may_be_ahead_in_bodies_and_in_the_date_of_answers() -> None:
    async with kounta(clock_skew_seconds=1000) as (client, sandbox):
        answer = await client.get(CUSTOMERS)

        ahead = parsedate_to_datetime(answer.headers["Date"]).timestamp() - sandbox.clock()
        assert 990 < ahead <= 1000


async def test_shares_are_drawn_from_the_seed() -> None:
    async def statuses() -> list[int]:
        async with kounta(server_errors=0.3, too_many=0.3) as (client, _):
            return [(await client.get(CUSTOMERS)).status_code for _ in range(40)]

    first = await statuses()
    assert first == await statuses()
    assert 5 < first.count(429) < 25
    assert 5 < first.count(200) < 30


async def test_the_report_counts_calls_by_status_kind_and_fault() -> None:
    async with kounta() as (client, sandbox):
        id_ = sandbox.company.customers.nth(0).id
        await client.get(CUSTOMERS)
        await client.get(f"{CUSTOMERS}/{id_}")
        await client.get(f"{CUSTOMERS}/1")
        await client.get(CUSTOMERS, params={"reference_id": "x"})
        await client.post("/sandbox/calls", json={"faults": ["too_many"]})
        await client.get(CUSTOMERS)

        assert (await client.get("/sandbox/report")).json()["calls"] == {
            "total": 5,
            "answered": 4,
            "by_status": {"200": 3, "404": 1, "429": 1},
            "by_kind": {"list": 2, "get": 2, "find": 1},
            "answered_by_kind": {"list": 1, "get": 2, "find": 1},
            "by_fault": {"too_many": 1},
        }
