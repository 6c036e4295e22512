import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from sync.kounta import (
    Kounta,
    KountaAccessLost,
    KountaError,
    KountaOtherCustomer,
    KountaRefused,
    KountaWrongShape,
)
from tests.timekeeping import SystemClock

JAMIE = {"id": 389427, "first_name": "Jamie", "email": None, "updated_at": "2026-03-01T12:00:00+11:00"}
PATH = "/v1/companies/5678/customers/389427.json"
LIST = "/v1/companies/5678/customers.json"


async def test_a_customer_is_read_by_id(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(PATH, JAMIE)
    customer = await kounta.customer(389427)
    assert customer is not None
    assert (customer.id, customer.first_name) == (389427, "Jamie")
    assert customer.updated_at == JAMIE["updated_at"]
    assert customer.model_fields_set == {"id", "first_name", "email", "updated_at"}


async def test_a_request_says_who_asks_and_that_json_is_wanted(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(PATH, JAMIE)
    await kounta.customer(389427)
    (asked,) = upstream.asked
    assert asked.method == "GET"
    assert asked.target.endswith(".json")
    assert asked.headers["accept"] == "application/json"
    assert asked.headers["authorization"] == f"Basic {b64encode(b'shop:s3cret').decode()}"


async def test_fields_that_are_new_and_gzip_are_no_problem(upstream: Any, kounta: Kounta) -> None:
    import gzip
    import json

    body = json.dumps(JAMIE | {"id_str": "389427", "loyalty": {"points": 3}}).encode()
    upstream.answer(PATH, gzip.compress(body), Content_Encoding="gzip")
    customer = await kounta.customer(389427)
    assert customer is not None
    assert customer.model_extra == {"id_str": "389427", "loyalty": {"points": 3}}


async def test_a_customer_that_is_not_there_is_none(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(PATH, b"<html>nginx: not found", 404)
    assert await kounta.customer(389427) is None


async def test_a_read_knows_when_it_was_asked_for_and_answered(
    upstream: Any, connect: Callable[..., Kounta], system_clock: SystemClock
) -> None:
    ticks = count()
    began = datetime(2026, 3, 1, tzinfo=UTC)
    system_clock.follow(lambda: began)
    kounta = connect(clock=lambda: began + timedelta(seconds=next(ticks)))
    ticks = count()  # the guard of tests/timekeeping.py has looked at the clock
    upstream.answer(PATH, JAMIE)
    read = await kounta.read(389427)
    assert (read.asked_at, read.answered_at) == (began, began + timedelta(seconds=1))


async def test_another_customer_than_asked_for_is_an_error(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(PATH, JAMIE | {"id": 1})
    with pytest.raises(KountaWrongShape, match="expected was customer 389427, and customer 1 came"):
        await kounta.customer(389427)
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("body", [[], [JAMIE], None, 7, "text", {}, {"id": None}, {"id": "x"}])
async def test_an_answer_that_is_no_customer_is_an_error_at_once(
    upstream: Any, kounta: Kounta, body: object
) -> None:
    upstream.answer(PATH, body)
    with pytest.raises(KountaWrongShape, match="expected was a customer"):
        await kounta.customer(389427)
    assert len(upstream.asked) == 1


async def test_a_field_of_a_wrong_shape_is_absent_and_what_came_is_kept(
    upstream: Any, kounta: Kounta
) -> None:
    upstream.answer(PATH, JAMIE | {"email": {"private": "jamie@shop.example"}, "phone": 287654321})
    customer = await kounta.customer(389427)
    assert customer is not None
    assert (customer.first_name, customer.phone, customer.email) == (JAMIE["first_name"], "287654321", None)
    assert "email" not in customer.model_fields_set
    assert json.loads(customer.unread["email"]) == {"private": "jamie@shop.example"}
    assert "jamie@shop.example" not in repr(customer)


async def test_an_error_of_shape_names_the_field_but_not_its_value(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(PATH, JAMIE | {"id": "jamie@shop.example"})
    with pytest.raises(KountaWrongShape, match=r"id: Input should be a valid integer") as caught:
        await kounta.customer(389427)
    assert "jamie@shop.example" not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize("status", [301, 302, 307])
async def test_a_read_is_not_redirected_to_another_customer(
    upstream: Any, kounta: Kounta, status: int
) -> None:
    upstream.answer(PATH, b"", status, Location=f"{upstream.url}/v1/companies/5678/customers/1.json")
    with pytest.raises(KountaOtherCustomer, match="expected was customer 389427, and customer 1 came"):
        await kounta.customer(389427)
    assert upstream.targets == [PATH]


@pytest.mark.parametrize("status", [301, 302, 307])
async def test_a_read_is_redirected_to_the_same_customer(upstream: Any, kounta: Kounta, status: int) -> None:
    there = PATH.removesuffix(".json")
    upstream.answer(PATH, b"", status, Location=there)
    upstream.answer(there, JAMIE)
    customer = await kounta.customer(389427)
    assert customer is not None
    assert upstream.targets == [PATH, there]


@pytest.mark.parametrize("field", [{"deleted": True}, {"is_deleted": "1"}, {"deleted_at": "2026-11-24"}])
async def test_a_200_that_says_deleted_is_as_a_404(
    upstream: Any, kounta: Kounta, field: dict[str, Any]
) -> None:
    upstream.answer(PATH, {**JAMIE, **field})
    assert await kounta.customer(389427) is None


async def test_a_410_is_as_a_404(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(PATH, b"", 410)
    assert await kounta.customer(389427) is None


@pytest.mark.parametrize("status", [201, 202, 204, 206])
async def test_only_200_is_a_success(upstream: Any, kounta: Kounta, status: int) -> None:
    upstream.answer(PATH, b"" if status == 204 else JAMIE, status, length=status != 204)
    with pytest.raises(KountaError, match=f"answered {status}"):
        await kounta.customer(389427)


@pytest.mark.parametrize("status", [400, 401, 403, 405, 406, 408, 415, 422])
async def test_other_refusals_are_an_error_at_once(upstream: Any, kounta: Kounta, status: int) -> None:
    upstream.answer(PATH, {"error": "denied", "error_description": "Not for you."}, status)
    with pytest.raises(KountaError, match=rf"answered {status} denied \(Not for you\)") as caught:
        await kounta.customer(389427)
    assert (caught.value.status, caught.value.code) == (status, "denied")
    assert isinstance(caught.value, KountaAccessLost) == (status in {401, 403})
    assert str(caught.value).startswith(f"GET {PATH}: ")
    assert len(upstream.asked) == 1


async def test_secrets_that_upstream_repeats_are_concealed(upstream: Any, kounta: Kounta) -> None:
    sent = b64encode(b"shop:s3cret").decode()
    upstream.answer(PATH, {"error": "s3cret", "message": f"Authorization was Basic {sent}"}, 400)
    with pytest.raises(KountaError) as caught:
        await kounta.customer(389427)
    shown = f"{caught.value} {caught.value!r} {vars(caught.value)}"
    assert "Basic [secret]" in shown
    assert "s3cret" not in shown
    assert sent not in shown


@pytest.mark.parametrize("customer_id", [0, -1, True])
async def test_an_id_that_is_none_is_refused_before_upstream_is_asked(
    upstream: Any, kounta: Kounta, customer_id: int
) -> None:
    with pytest.raises(KountaRefused, match="a number from 1"):
        await kounta.customer(customer_id)
    assert upstream.asked == []


async def test_the_company_of_the_credentials(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(
        "/v1/companies/me.json", {"id": 5678, "name": "Zoë's", "timezone": {"name": "Australia/Sydney"}}
    )
    company = await kounta.company()
    assert (company.id, company.name, company.time_zone) == (5678, "Zoë's", "Australia/Sydney")


@pytest.mark.parametrize(
    ("said", "read"),
    [("Europe/Paris", "Europe/Paris"), (None, None), ({"offset": "+10:00"}, None), (10, None)],
)
async def test_a_time_zone_in_any_form(upstream: Any, kounta: Kounta, said: object, read: str | None) -> None:
    upstream.answer("/v1/companies/me.json", {"id": 5678, "timezone": said})
    assert (await kounta.company()).time_zone == read


async def test_calls_are_counted_by_kind_and_successes_below_the_company_apart(
    upstream: Any, kounta: Kounta
) -> None:
    upstream.answer(PATH, b"", 404)
    upstream.answer(PATH, b"", 503)
    upstream.answer(PATH, JAMIE)
    upstream.answer(LIST, [JAMIE])
    upstream.answer("/v1/companies/me.json", {"id": 5678})
    await kounta.customer(389427)
    assert kounta.successes == 0
    await kounta.company()
    assert kounta.successes == 0
    await kounta.customer(389427)
    assert kounta.successes == 1
    assert [customer.id async for customer in kounta.customers()] == [389427]
    assert kounta.successes == 2
    assert kounta.calls == 5
    assert kounta.calls_by_kind == {"read": 3, "company": 1, "list": 1}


async def test_a_404_is_proven_only_by_a_200_asked_for_later(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(LIST, [])
    upstream.answer(PATH, b"", 404)
    upstream.answer("/v1/companies/me.json", {"id": 5678})
    assert [page.customers async for page in kounta.pages()] == [[]]
    gone = await kounta.read(389427)
    assert gone.customer is None
    assert not kounta.proven_after(gone.sent)
    await kounta.company()
    assert not kounta.proven_after(gone.sent)
    assert [page.customers async for page in kounta.pages()] == [[]]
    assert kounta.proven_after(gone.sent)


async def test_a_200_that_cannot_be_read_proves_nothing(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(PATH, b"<html>Sign in to the hotel's network")
    with pytest.raises(KountaWrongShape):
        await kounta.customer(389427)
    assert kounta.successes == 0
    assert kounta.calls == 3


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    upstream: Any, connect: Callable[..., Kounta], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    upstream.answer(PATH, JAMIE)
    assert await connect().customer(389427) is not None


async def test_certificates_are_verified(connect: Callable[..., Kounta]) -> None:
    import ssl

    http = connect(api_url="https://api.kounta.com")._connection._http
    transport: Any = http._transport
    context: ssl.SSLContext = transport._pool._ssl_context
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not http.follow_redirects


ME = "/v1/companies/me.json"


@pytest.mark.parametrize("status", [301, 302, 307])
@pytest.mark.parametrize("place", ["/v1/companies/5678", "{url}/v1/companies/5678", "5678"])
async def test_the_company_may_be_behind_a_redirect_and_authorization_is_sent_again(
    upstream: Any, kounta: Kounta, status: int, place: str
) -> None:
    upstream.answer(ME, b"", status, Location=place.format(url=upstream.url))
    upstream.answer("/v1/companies/5678", {"id": 5678, "name": "Harbour"})
    assert (await kounta.company()).name == "Harbour"
    first, second = upstream.asked
    assert second.headers["authorization"] == first.headers["authorization"]


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("https://evil.example/v1/companies/5678", "Nothing was sent there"),
        ("/login", "Nothing was sent there"),
        ("/v1/companies/me.json", "redirects that do not end"),
        ("", "redirects that do not end"),
    ],
)
async def test_a_redirect_of_the_company_elsewhere_is_one_error(
    upstream: Any, kounta: Kounta, place: str, sentence: str
) -> None:
    upstream.answer(ME, b"", 302, Location=place)
    with pytest.raises(KountaWrongShape, match=sentence):
        await kounta.company()
    assert upstream.targets == [ME]


async def test_redirects_of_the_company_without_end_end(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(ME, b"", 302, Location=f"{ME}?hop=0")
    for hop in range(20):
        upstream.answer(f"{ME}?hop={hop}", b"", 302, Location=f"{ME}?hop={hop + 1}")
    with pytest.raises(KountaWrongShape, match="redirects that do not end"):
        await kounta.company()
    assert len(upstream.asked) == 6
