"""Customers created and updated: each once, whatever comes back, and as upstream has them afterwards."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from sync.kounta import (
    BasicAuth,
    Budget,
    Customer,
    Kounta,
    KountaAccessLost,
    KountaError,
    KountaRefused,
    KountaThrottled,
    KountaUnavailable,
    Retries,
)
from sync.sandbox import Faults, Sandbox, Settings, serving

LIST = "/v1/companies/5678/customers.json"
JAMIE: dict[str, Any] = {
    "first_name": "Jamie",
    "last_name": "O'Neill & Söhne 🦘",
    "email": "j+m@shop.example",
    "phone": "02 8765 4321",
    "mobile": "+61 400 000 001",
    "tags": ["vip", 'quo"ted'],
    "image": "https://img.example/1.png",
    "primary_address": {
        "address": "1 George St",
        "city": "Sydney",
        "state": "NSW",
        "postal_code": "0200",
        "country": "AU",
    },
    "shipping_address": None,
    "reference_id": "00123456789012345678901",
    "accepts_marketing": True,
}


@asynccontextmanager
async def local_kounta(
    *, faults: Faults | None = None, retries: Retries | None = None, read_only: bool = False, **settings: Any
) -> AsyncIterator[tuple[Sandbox, Kounta]]:
    sandbox = Sandbox(
        Settings(requests_per_minute=100_000, **settings), faults or Faults(), seed=7, customers=3
    )
    async with (
        serving(sandbox) as url,
        Kounta(
            5678,
            auth=BasicAuth("sandbox-client", "sandbox-secret"),
            api_url=url,
            budget=Budget.endless(),
            retries=retries or Retries.sleepless(),
            read_only=read_only,
        ) as kounta,
    ):
        yield sandbox, kounta


def created(sandbox: Sandbox) -> int:
    return sandbox.company.changes["customers/created"]


def carried(customer: Customer) -> dict[str, Any]:
    return customer.model_dump(exclude={"id", "created_at", "updated_at"}, exclude_unset=True)


@pytest.mark.parametrize("created_body", [True, False])
@pytest.mark.parametrize("location", ["absolute", "relative"])
async def test_a_customer_is_created_and_given_as_upstream_has_it(
    *, created_body: bool, location: str
) -> None:
    async with local_kounta(created_body=created_body, location=location) as (sandbox, kounta):
        customer = await kounta.create(**JAMIE)
        assert carried(customer) == JAMIE
        assert sandbox.company.customer(customer.id).reference_ids == {
            "sandbox-client": JAMIE["reference_id"]
        }
        assert kounta.calls == (1 if created_body else 2)


async def test_only_what_is_given_is_changed() -> None:
    async with local_kounta() as (sandbox, kounta):
        jamie = await kounta.create(**JAMIE)
        changed = await kounta.update(jamie.id, last_name=None, tags=["gold"])
        assert carried(changed) == JAMIE | {"last_name": None, "tags": ["gold"]}
        assert (await kounta.customer(jamie.id)) is not None
        assert sandbox.company.changes["customers/updated"] == 1


async def test_an_address_alone_is_changed() -> None:
    async with local_kounta() as (_, kounta):
        jamie = await kounta.create(**JAMIE)
        moved = await kounta.update(jamie.id, primary_address={"city": "Auckland", "country": "NZ"})
        assert moved.primary_address is not None
        assert moved.primary_address.city == "Auckland"
        assert carried(moved) | {"primary_address": None} == JAMIE | {"primary_address": None}


async def test_what_cannot_be_right_is_refused_before_upstream_is_asked() -> None:
    async with local_kounta() as (_, kounta):
        with pytest.raises(KountaRefused, match="needs an e-mail address or a phone"):
            await kounta.create(first_name="Jamie")
        with pytest.raises(KountaRefused, match="AU is meant"):
            await kounta.create(first_name="Jamie", phone="1", primary_address={"country": "Australia"})
        with pytest.raises(KountaRefused, match="would update nothing"):
            await kounta.update(7)
        with pytest.raises(KountaRefused, match="a number from 1"):
            await kounta.update(0, last_name="McDonald")
        assert kounta.calls == 0


async def test_a_read_only_client_writes_nothing() -> None:
    async with local_kounta(read_only=True) as (_, kounta):
        with pytest.raises(KountaRefused, match="KOUNTA_READ_ONLY"):
            await kounta.create(**JAMIE)
        with pytest.raises(KountaRefused, match="KOUNTA_READ_ONLY"):
            await kounta.update(7, last_name="McDonald")
        assert kounta.calls == 0


async def test_an_update_of_a_customer_that_is_not_there_is_an_error() -> None:
    async with local_kounta() as (_, kounta):
        with pytest.raises(KountaError, match="There is no customer 9") as caught:
            await kounta.update(9, last_name="McDonald")
        assert caught.value.status == 404


@pytest.mark.parametrize("taken", [400, 409, 422])
async def test_a_mobile_that_another_customer_has_is_refused_by_upstream(taken: int) -> None:
    async with local_kounta(mobile_taken=taken) as (sandbox, kounta):
        await kounta.create(**JAMIE)
        with pytest.raises(KountaError, match="Another customer has this mobile") as caught:
            await kounta.create(first_name="Ann", mobile=JAMIE["mobile"])
        assert (caught.value.status, created(sandbox)) == (taken, 1)


@pytest.mark.parametrize(
    ("fault", "done"),
    [
        *(
            (fault, True)
            for fault in ("server_errors", "cut_bodies", "html_answers", "wrong_answers", "hangs")
        ),
        *((fault, False) for fault in ("server_errors", "cut_bodies", "hangs")),
    ],
)
@pytest.mark.parametrize("known_by", ["reference_id", "mobile"])
async def test_a_creation_of_unknown_fate_is_looked_up_and_never_made_twice(
    fault: str, *, done: bool, known_by: str
) -> None:
    given = {name: JAMIE[name] for name in ("first_name", "phone", known_by)}
    faults = Faults(fault_after_write=float(done), hang_seconds=0.6)
    async with local_kounta(faults=faults, retries=Retries.sleepless(attempt=0.3)) as (sandbox, kounta):
        sandbox.calls.ask([fault])
        customer = await kounta.create(**given)
        assert created(sandbox) == 1
        assert customer.id == max(one.id for one in sandbox.company.customers)
        assert customer.first_name == "Jamie"


@pytest.mark.parametrize("fault", ["server_errors", "html_answers", "wrong_answers", "hangs"])
@pytest.mark.parametrize("known_by", ["email", "name and phone"])
async def test_one_who_is_found_by_what_others_may_have_too_is_named_and_not_taken_for_it(
    fault: str, known_by: str
) -> None:
    ways = {"email": ("email",), "name and phone": ("last_name", "phone")}
    given = {name: JAMIE[name] for name in ("first_name", *ways[known_by])}
    faults = Faults(fault_after_write=1.0, hang_seconds=0.6)
    async with local_kounta(faults=faults, retries=Retries.sleepless(attempt=0.3)) as (sandbox, kounta):
        sandbox.calls.ask([fault])
        with pytest.raises(KountaError, match=r"has all of this, but may be older\. Look for it") as caught:
            await kounta.create(**given)
        assert caught.value.fate_unknown
        assert caught.value.likely_id == max(one.id for one in sandbox.company.customers)
        assert created(sandbox) == 1


@pytest.mark.parametrize("known_by", ["email", "name and phone"])
async def test_one_who_is_nowhere_by_then_is_created_again(known_by: str) -> None:
    ways = {"email": ("email",), "name and phone": ("last_name", "phone")}
    given = {name: JAMIE[name] for name in ("first_name", *ways[known_by])}
    async with local_kounta(faults=Faults(fault_after_write=0)) as (sandbox, kounta):
        sandbox.calls.ask(["server_errors"])
        assert (await kounta.create(**given)).first_name == "Jamie"
        assert created(sandbox) == 1


async def test_an_older_twin_that_this_client_made_is_not_taken_for_the_new_one() -> None:
    async with local_kounta(faults=Faults(fault_after_write=0)) as (sandbox, kounta):
        twin: dict[str, Any] = {"first_name": "Jamie", "phone": "02 8765 4321", "reference_id": "ABC123"}
        older = await kounta.create(**twin)
        sandbox.calls.ask(["server_errors"])
        newer = await kounta.create(**twin)
        assert newer.id != older.id
        assert created(sandbox) == 2


class Redirects(httpx2.AsyncHTTPTransport):
    """A network on which the first creation is answered with a redirect, whether upstream made it or not."""

    def __init__(self, status: int, *, made: bool) -> None:
        super().__init__()
        self._status, self._made = status, made
        self.sent = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method != "POST":
            return await super().handle_async_request(request)
        self.sent += 1
        if self.sent > 1:
            return await super().handle_async_request(request)
        if self._made:
            await (await super().handle_async_request(request)).aread()
        return httpx2.Response(self._status, headers={"Location": f"{request.url}?again"}, request=request)


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("status", [301, 303, 307])
async def test_a_creation_that_is_answered_with_a_redirect_is_looked_up(*, made: bool, status: int) -> None:
    sandbox = Sandbox(Settings(requests_per_minute=100_000), seed=7)
    network = Redirects(status, made=made)
    async with (
        serving(sandbox) as url,
        Kounta(
            5678,
            auth=BasicAuth("sandbox-client", "sandbox-secret"),
            api_url=url,
            budget=Budget.endless(),
            retries=Retries.sleepless(),
            transport=network,
        ) as kounta,
    ):
        jamie = await kounta.create(first_name="Jamie", phone="1", reference_id="ABC123")
        assert [one.id for one in sandbox.company.customers] == [jamie.id]
        assert network.sent == 2 - made


async def test_a_redirect_of_a_creation_that_nothing_can_tell_of_leaves_its_fate_unknown() -> None:
    network = Redirects(302, made=True)
    sandbox = Sandbox(Settings(requests_per_minute=100_000), seed=7)
    async with (
        serving(sandbox) as url,
        Kounta(
            5678,
            auth=BasicAuth("sandbox-client", "sandbox-secret"),
            api_url=url,
            budget=Budget.endless(),
            retries=Retries.sleepless(),
            transport=network,
        ) as kounta,
    ):
        with pytest.raises(KountaError, match="a redirect where none is documented") as caught:
            await kounta.create(first_name="Jamie", phone="02 8765 4321")
        assert (caught.value.fate_unknown, network.sent) == (True, 1)


@pytest.mark.parametrize("made", [True, False])
async def test_two_who_have_everything_leave_the_fate_unknown(*, made: bool) -> None:
    twin: dict[str, Any] = {"first_name": "Jamie", "phone": "1", "reference_id": "ABC123"}
    async with local_kounta(faults=Faults(fault_after_write=float(made))) as (sandbox, kounta):
        older = [sandbox.company.create(twin, announce=False).id for _ in range(2 - made)]
        sandbox.calls.ask(["server_errors"])
        with pytest.raises(
            KountaUnavailable, match=rf"customer {older[0]} and \d+ has all of this"
        ) as caught:
            await kounta.create(**twin)
        assert caught.value.fate_unknown


def noting(**times: Any) -> tuple[Retries, list[float]]:
    """Make retries that note what they would sleep, and sleep not at all."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    return Retries(sleep=sleep, **times), slept


class FinishesLate(httpx2.AsyncBaseTransport):
    """A network on which the first creation is given up, and arrives all the same after so many look-ups."""

    def __init__(self, after: int) -> None:
        self._inner = httpx2.AsyncHTTPTransport()
        self._left = after
        self._late: httpx2.Request | None = None
        self._sent = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST" and not self._sent:
            self._sent = True
            self._late = httpx2.Request(
                "POST", request.url, headers=request.headers, content=await request.aread()
            )
            raise httpx2.ReadTimeout("No answer in time.", request=request)
        answer = await self._inner.handle_async_request(request)
        await answer.aread()
        self._left -= 1
        if self._left == 0 and self._late is not None:
            await (await self._inner.handle_async_request(self._late)).aread()
        return answer

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.mark.parametrize("looks", [1, 2])
async def test_a_creation_that_upstream_finishes_after_a_look_up_is_not_made_twice(looks: int) -> None:
    sandbox = Sandbox(Settings(requests_per_minute=100_000), seed=7)
    async with (
        serving(sandbox) as url,
        Kounta(
            5678,
            auth=BasicAuth("sandbox-client", "sandbox-secret"),
            api_url=url,
            budget=Budget.endless(),
            retries=Retries.sleepless(),
            transport=FinishesLate(looks),
        ) as kounta,
    ):
        jamie = await kounta.create(first_name="Jamie", phone="1", reference_id="ABC123")
        assert [jamie.id] == [one.id for one in sandbox.company.customers]


@pytest.mark.parametrize("status", [500, 503, 504])
async def test_upstream_is_given_time_to_make_it_before_a_creation_is_sent_again(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    retries, slept = noting(read_lag=20, write_lag=40)
    faults = Faults(fault_after_write=0, only_calls=("create",))
    async with local_kounta(retries=retries, faults=faults) as (sandbox, kounta):
        sandbox.calls.ask(["server_errors"])
        monkeypatch.setattr(sandbox.calls, "server_error", lambda: status)
        await kounta.create(**JAMIE)
        assert (slept, created(sandbox)) == ([5, 15, 20, 20], 1)


async def test_a_creation_that_no_look_up_can_find_fails_and_says_so() -> None:
    async with local_kounta() as (sandbox, kounta):
        sandbox.calls.ask(["server_errors"])
        with pytest.raises(KountaUnavailable, match=r"may have been made.*Look for it at Kounta") as caught:
            await kounta.create(first_name="Jamie", phone="02 8765 4321")
        assert caught.value.fate_unknown
        assert sandbox.calls.total == 1


async def test_one_who_is_much_like_it_is_not_taken_for_it() -> None:
    async with local_kounta() as (sandbox, kounta):
        sandbox.company.create({"first_name": "Jamie", "email": "j@shop.example", "tags": ("old",)})
        sandbox.calls.ask(["server_errors"])
        with pytest.raises(KountaUnavailable, match=r"is much like it, but not the same") as caught:
            await kounta.create(first_name="Jamie", email="j@shop.example", tags=["new"])
        assert caught.value.fate_unknown


async def test_a_look_up_that_fails_too_leaves_the_fate_unknown() -> None:
    async with local_kounta() as (sandbox, kounta):
        sandbox.calls.ask(["server_errors"])
        sandbox.faults.lost_access = "403"
        with pytest.raises(KountaUnavailable, match="no look-up could tell: answered 403") as caught:
            await kounta.create(**JAMIE)
        assert caught.value.fate_unknown


async def test_a_creation_that_fails_each_time_is_given_up() -> None:
    async with local_kounta(faults=Faults(fault_after_write=0, only_calls=("create",))) as (sandbox, kounta):
        sandbox.calls.ask(["server_errors"] * 3)
        with pytest.raises(KountaUnavailable, match=r"\(3 tries\).*was not made") as caught:
            await kounta.create(**JAMIE)
        assert (caught.value.fate_unknown, created(sandbox)) == (False, 0)


async def test_a_limit_that_is_reached_made_nothing_and_is_waited_for() -> None:
    async with local_kounta() as (sandbox, kounta):
        sandbox.calls.ask(["too_many"])
        customer = await kounta.create(**JAMIE)
        assert (customer.first_name, created(sandbox)) == ("Jamie", 1)


async def test_what_was_never_sent_is_no_creation_of_unknown_fate() -> None:
    async with Kounta(
        5678,
        auth=BasicAuth("shop", "s3cret"),
        api_url="http://127.0.0.1:1",
        budget=Budget.endless(),
        retries=Retries.sleepless(patience=5),
    ) as kounta:
        with pytest.raises(KountaUnavailable, match="no connection") as caught:
            await kounta.create(**JAMIE)
        assert not caught.value.fate_unknown
        assert caught.value.tries > 1


async def test_an_update_that_fails_is_tried_again() -> None:
    async with local_kounta(faults=Faults(fault_after_write=0)) as (sandbox, kounta):
        jamie = await kounta.create(**JAMIE)
        sandbox.calls.ask(["server_errors"])
        changed = await kounta.update(jamie.id, email="new@shop.example")
        assert changed.email == "new@shop.example"
        assert sandbox.company.changes["customers/updated"] == 1


@pytest.mark.parametrize("fault", ["cut_bodies", "html_answers", "wrong_answers"])
async def test_an_update_that_was_accepted_is_read_back_and_never_sent_again(fault: str) -> None:
    async with local_kounta(faults=Faults(fault_after_write=1)) as (sandbox, kounta):
        jamie = await kounta.create(**JAMIE)
        sandbox.calls.ask([fault])
        changed = await kounta.update(jamie.id, email="new@shop.example")
        assert changed.email == "new@shop.example"
        assert sandbox.company.changes["customers/updated"] == 1


@pytest.mark.parametrize("fault", ["html_answers", "wrong_answers"])
async def test_an_update_that_was_accepted_and_is_not_shown_fails_and_names_the_customer(fault: str) -> None:
    async with local_kounta(faults=Faults(fault_after_write=0)) as (sandbox, kounta):
        jamie = await kounta.create(**JAMIE)
        sandbox.calls.ask([fault])
        with pytest.raises(KountaUnavailable, match=rf"customer {jamie.id} .*shows other values") as caught:
            await kounta.update(jamie.id, email="new@shop.example", first_name="Jamie")
        assert (caught.value.written_id, sandbox.company.changes["customers/updated"]) == (jamie.id, 0)


async def test_reads_that_lag_are_waited_for() -> None:
    faults = Faults(read_lag_seconds=0.4)
    async with local_kounta(faults=faults, retries=Retries(read_lag=0.5, write_lag=0.1)) as (sandbox, kounta):
        jamie = await kounta.create(**JAMIE)
        assert carried(jamie) == JAMIE
        sandbox.calls.ask(["server_errors"])
        sandbox.faults.fault_after_write = 1.0
        ann = await kounta.create(first_name="Ann", email="ann@shop.example", reference_id="7")
        assert (ann.first_name, created(sandbox)) == ("Ann", 2)


@pytest.fixture
def whole() -> dict[str, Any]:
    return {"id": 7, **JAMIE, "updated_at": "2026-11-24T10:00:00+00:00"}


async def test_a_place_on_another_host_is_not_followed(
    upstream: Any, kounta: Kounta, whole: dict[str, Any]
) -> None:
    upstream.answer(LIST, b"", 201, Location="https://elsewhere.example/v1/companies/5678/customers/7")
    upstream.answer(f"{LIST}?reference_id=00123456789012345678901", [whole])
    upstream.answer("/v1/companies/5678/customers/7.json", whole)
    assert (await kounta.create(**JAMIE)).id == 7
    assert [asked.method for asked in upstream.asked] == ["POST", "GET", "GET"]


async def test_a_customer_that_was_made_but_cannot_be_read_is_named(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(LIST, b"", 201, Location="/v1/companies/5678/customers/7")
    upstream.answer("/v1/companies/5678/customers/7.json", {"error": "no_access"}, 403)
    with pytest.raises(KountaAccessLost, match="customer 7 was written, but could not be read") as caught:
        await kounta.create(**JAMIE)
    assert caught.value.written_id == 7


async def test_a_customer_that_is_never_shown_is_named(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(LIST, b"", 201, Location="/v1/companies/5678/customers/7")
    upstream.answer("/v1/companies/5678/customers/7.json", b"", 404)
    with pytest.raises(
        KountaUnavailable, match=r"Kounta does not show it.*need not be written again"
    ) as caught:
        await kounta.create(**JAMIE)
    assert caught.value.written_id == 7


@pytest.mark.parametrize("answer", [{"status": 204}, {"status": 200}, {"status": 200, "body": {"id": 7}}])
async def test_an_update_that_answers_little_is_read(
    upstream: Any, kounta: Kounta, whole: dict[str, Any], answer: dict[str, Any]
) -> None:
    upstream.answer("/v1/companies/5678/customers/7.json", **answer)
    upstream.answer("/v1/companies/5678/customers/7.json", whole)
    changed = await kounta.update(7, last_name=JAMIE["last_name"])
    assert changed.last_name == JAMIE["last_name"]
    assert [asked.method for asked in upstream.asked] == ["PUT", "GET"]


ODD_BODIES: tuple[Any, ...] = (b"null", b"", {"error": "odd"}, [], "done", b"<html>Saved</html>", b"{")
ODD_ANSWERS: list[tuple[int, Any]] = [
    *((200, body) for body in ODD_BODIES),
    *((status, body) for status in (201, 202, 203, 206) for body in (b"null", [7])),
    (204, b""),
]


@pytest.mark.parametrize(("status", "body"), [*ODD_ANSWERS, (200, {"id": 8})])
async def test_a_yes_to_an_update_is_never_sent_again_whatever_its_body(
    upstream: Any, kounta: Kounta, whole: dict[str, Any], status: int, body: object
) -> None:
    upstream.answer("/v1/companies/5678/customers/7.json", body, status)
    upstream.answer("/v1/companies/5678/customers/7.json", whole)
    assert (await kounta.update(7, last_name=JAMIE["last_name"])).id == 7
    assert [asked.method for asked in upstream.asked] == ["PUT", "GET"]


@pytest.mark.parametrize(("status", "body"), ODD_ANSWERS)
async def test_a_yes_to_a_creation_is_never_sent_again_and_who_was_made_is_looked_up(
    upstream: Any, kounta: Kounta, whole: dict[str, Any], status: int, body: object
) -> None:
    upstream.answer(LIST, body, status)
    upstream.answer(f"{LIST}?reference_id={JAMIE['reference_id']}", [])
    upstream.answer(f"{LIST}?reference_id={JAMIE['reference_id']}", [whole])
    upstream.answer("/v1/companies/5678/customers/7.json", whole)
    assert (await kounta.create(**JAMIE)).id == 7
    assert [asked.method for asked in upstream.asked].count("POST") == 1


async def test_a_yes_that_hangs_in_its_body_is_never_sent_again(
    upstream: Any, connect: Callable[..., Kounta], whole: dict[str, Any]
) -> None:
    kounta = connect(retries=Retries.sleepless(attempt=0.2))
    upstream.answer("/v1/companies/5678/customers/7.json", whole, cut=9, hang=True)
    upstream.answer("/v1/companies/5678/customers/7.json", whole)
    assert (await kounta.update(7, last_name=JAMIE["last_name"])).id == 7
    assert [asked.method for asked in upstream.asked] == ["PUT", "GET"]


@pytest.mark.parametrize("body", [b"null", {"error": "odd"}])
async def test_who_was_made_and_is_nowhere_to_be_found_is_looked_for_half_a_minute(
    upstream: Any, connect: Callable[..., Kounta], body: object
) -> None:
    retries, slept = noting(read_lag=1)
    upstream.answer(LIST, body, 201)
    upstream.answer(f"{LIST}?email=j%40shop.example", b"", 404)
    with pytest.raises(KountaUnavailable, match=r"no look-up shows it\. Look for it at Kounta") as caught:
        await connect(retries=retries).create(first_name="Jamie", email="j@shop.example")
    assert caught.value.fate_unknown
    assert sum(slept) >= 30
    assert [asked.method for asked in upstream.asked].count("POST") == 1


async def test_one_who_may_be_older_is_called_so_only_after_half_a_minute(
    upstream: Any, connect: Callable[..., Kounta], whole: dict[str, Any]
) -> None:
    retries, slept = noting(read_lag=0)
    upstream.answer(LIST, b"", 500)
    upstream.answer(f"{LIST}?email=j%2Bm%40shop.example", whole)
    upstream.answer("/v1/companies/5678/customers/7.json", whole)
    with pytest.raises(KountaUnavailable, match="may be older") as caught:
        await connect(retries=retries).create(first_name="Jamie", email=JAMIE["email"])
    assert (caught.value.fate_unknown, caught.value.likely_id) == (True, 7)
    assert sum(slept) >= 30


@pytest.mark.parametrize("answer", [{"status": 204}, {"status": 200, "body": b"null"}])
async def test_a_value_that_upstream_keeps_in_a_way_of_its_own_is_taken_once_reads_lag_no_more(
    upstream: Any, connect: Callable[..., Kounta], whole: dict[str, Any], answer: dict[str, Any]
) -> None:
    retries, slept = noting(read_lag=20)
    upstream.answer("/v1/companies/5678/customers/7.json", **answer)
    upstream.answer("/v1/companies/5678/customers/7.json", whole)
    changed = await connect(retries=retries).update(7, first_name="Jamie", phone="+61 2 8765 4321")
    assert (changed.phone, slept) == (JAMIE["phone"], [5, 5, 5, 5])


async def test_a_whole_body_without_what_was_written_is_read_again(
    upstream: Any, kounta: Kounta, whole: dict[str, Any]
) -> None:
    upstream.answer("/v1/companies/5678/customers/7.json", whole | {"last_name": "before"})
    upstream.answer("/v1/companies/5678/customers/7.json", whole)
    assert (await kounta.update(7, last_name=JAMIE["last_name"])).last_name == JAMIE["last_name"]
    assert [asked.method for asked in upstream.asked] == ["PUT", "GET"]


async def test_a_long_closing_of_the_budget_is_no_unknown_fate(
    upstream: Any, connect: Callable[..., Kounta]
) -> None:
    kounta = connect(budget=Budget(100_000))
    upstream.answer(LIST, b"Limit exceeded", 429, Retry_After="3000")
    with pytest.raises(KountaThrottled) as caught:
        await kounta.create(**JAMIE)
    assert not caught.value.fate_unknown


async def test_a_hundred_creations_at_once_over_all_faults_make_each_customer_once_at_most() -> None:
    faults = Faults(too_many=0.01, server_errors=0.02, cut_bodies=0.01, html_answers=0.01, wrong_answers=0.01)
    async with local_kounta(faults=faults) as (sandbox, kounta):
        names = [f"Guest {number:03}" for number in range(100)]
        outcomes = await asyncio.gather(
            *(kounta.create(first_name=name, email=f"{name[-3:]}@shop.example") for name in names),
            return_exceptions=True,
        )
        made = [
            one.first_name for one in sandbox.company.customers if (one.first_name or "").startswith("Guest")
        ]
        assert len(made) == len(set(made))
        for name, outcome in zip(names, outcomes, strict=True):
            if isinstance(outcome, Customer):
                assert (outcome.first_name, name in made) == (name, True)
            else:
                assert isinstance(outcome, KountaError)
        assert sandbox.calls.by_fault.total() > 5
