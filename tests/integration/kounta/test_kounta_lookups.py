from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sync.kounta import Customer, Kounta, KountaError, KountaRefused, KountaWrongShape

LIST = "/v1/companies/5678/customers.json"
JAMIE = "/v1/companies/5678/customers/389427"


async def test_reference_ids_may_be_shared(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(f"{LIST}?reference_id=ABC123", [{"id": 1}, {"id": 2}])
    assert [customer.id for customer in await kounta.customers_by_reference_id("ABC123")] == [1, 2]


async def test_a_reference_id_of_no_one_is_an_empty_list(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(f"{LIST}?reference_id=A%26B+%2B", [])
    assert await kounta.customers_by_reference_id("A&B +") == []


@pytest.mark.parametrize(
    ("find", "query"),
    [
        (lambda kounta: kounta.customer_by_email("j+m@shop.example"), "email=j%2Bm%40shop.example"),
        (lambda kounta: kounta.customer_by_mobile("+61 4 1234"), "mobile=%2B61+4+1234"),
        (
            lambda kounta: kounta.customer_by_name_and_phone("Zoë", "O'Neill & Co", "02 8765 4321"),
            "first_name=Zo%C3%AB&last_name=O%27Neill+%26+Co&phone=02+8765+4321",
        ),
    ],
)
async def test_a_look_up_is_redirected_to_the_record(
    upstream: Any, kounta: Kounta, find: Callable[[Kounta], Awaitable[Customer | None]], query: str
) -> None:
    upstream.answer(f"{LIST}?{query}", b"", 302, Location=f"{upstream.url}{JAMIE}.json")
    upstream.answer(f"{JAMIE}.json", {"id": 389427, "first_name": "Jamie"})
    found = await find(kounta)
    assert found is not None
    assert found.id == 389427
    first, second = upstream.asked
    assert first.headers["authorization"] == second.headers["authorization"]
    assert first.headers["authorization"].startswith("Basic ")
    assert kounta.calls_by_kind == {"find": 2}


@pytest.mark.parametrize("location", [JAMIE, f"{JAMIE}.json", "customers/389427"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_any_kind_of_redirect_and_of_location_is_followed(
    upstream: Any, kounta: Kounta, location: str, status: int
) -> None:
    upstream.answer(f"{LIST}?email=a%40b.c", b"", status, Location=location)
    for target in (JAMIE, f"{JAMIE}.json"):
        upstream.answer(target, {"id": 389427})
    assert await kounta.customer_by_email("a@b.c") is not None


async def test_no_one_found_is_none(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(f"{LIST}?email=a%40b.c", {"error": "not_found"}, 404)
    assert await kounta.customer_by_email("a@b.c") is None


async def test_one_deleted_before_the_redirect_was_followed_is_none(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(f"{LIST}?email=a%40b.c", b"", 302, Location=JAMIE)
    upstream.answer(JAMIE, b"", 404)
    assert await kounta.customer_by_email("a@b.c") is None


async def test_a_record_given_without_a_redirect_is_taken(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(f"{LIST}?email=a%40b.c", {"id": 7})
    assert (await kounta.customer_by_email("a@b.c")) == Customer(id=7)


async def test_another_record_than_the_redirect_names_is_an_error(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(f"{LIST}?email=a%40b.c", b"", 302, Location=JAMIE)
    upstream.answer(JAMIE, {"id": 1})
    with pytest.raises(KountaWrongShape, match="expected was customer 389427, and customer 1 came"):
        await kounta.customer_by_email("a@b.c")


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example/v1/companies/5678/customers/389427",
        "//evil.example/v1/companies/5678/customers/389427",
        "http://localhost:1/v1/companies/5678/customers/389427",
        "/v1/companies/9/customers/389427",
        "/login",
        "https://[",
    ],
)
async def test_credentials_are_sent_nowhere_else(upstream: Any, kounta: Kounta, location: str) -> None:
    upstream.answer(f"{LIST}?email=a%40b.c", b"", 302, Location=location)
    with pytest.raises(KountaWrongShape, match="Nothing was sent there"):
        await kounta.customer_by_email("a@b.c")
    assert len(upstream.asked) == 1


async def test_a_redirect_without_a_location_is_an_error(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(f"{LIST}?email=a%40b.c", b"", 302)
    with pytest.raises(KountaWrongShape, match="it names no Location"):
        await kounta.customer_by_email("a@b.c")


async def test_a_redirect_in_a_circle_ends(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(f"{LIST}?email=a%40b.c", b"", 302, Location=JAMIE)
    upstream.answer(JAMIE, b"", 302, Location=f"{LIST}?email=a%40b.c")
    with pytest.raises(KountaWrongShape, match="round in a circle"):
        await kounta.customer_by_email("a@b.c")
    assert len(upstream.asked) == 2


async def test_a_redirect_without_end_ends(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(f"{LIST}?email=a%40b.c", b"", 302, Location=f"{JAMIE}?hop=0")
    for hop in range(20):
        upstream.answer(f"{JAMIE}?hop={hop}", b"", 302, Location=f"{JAMIE}?hop={hop + 1}")
    with pytest.raises(KountaWrongShape, match="in a row"):
        await kounta.customer_by_email("a@b.c")
    assert len(upstream.asked) == 6


@pytest.mark.parametrize(
    "find",
    [
        lambda kounta: kounta.customer_by_name_and_phone("Jamie", "McDonald", ""),
        lambda kounta: kounta.customer_by_name_and_phone("Jamie", "  ", "02"),
        lambda kounta: kounta.customer_by_name_and_phone("", "McDonald", "02"),
        lambda kounta: kounta.customer_by_email(""),
        lambda kounta: kounta.customer_by_mobile(" "),
        lambda kounta: kounta.customers_by_reference_id(""),
        lambda kounta: kounta.customer_by_email("half \ud83d of an emoji"),
    ],
)
async def test_a_look_up_that_cannot_be_right_is_refused_before_upstream_is_asked(
    upstream: Any, kounta: Kounta, find: Callable[[Kounta], Awaitable[object]]
) -> None:
    with pytest.raises(KountaRefused):
        await find(kounta)
    assert upstream.asked == []


async def test_an_error_does_not_repeat_whom_was_looked_for(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(f"{LIST}?email=jamie%40shop.example", b"", 400)
    with pytest.raises(KountaError, match=f"^GET {LIST}: answered 400") as caught:
        await kounta.customer_by_email("jamie@shop.example")
    assert "jamie" not in str(caught.value)
