import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from sync.kounta import (
    IncompleteListError,
    Kounta,
    KountaAccessLost,
    KountaError,
    KountaRefused,
    KountaWrongShape,
    Page,
)
from sync.kounta.paging import MOST_ITEMS
from tests.timekeeping import SystemClock

LIST = "/v1/companies/5678/customers.json"


def listed(*ids: int) -> list[dict[str, Any]]:
    return [{"id": number, "first_name": f"Customer {number}"} for number in ids]


async def walked(kounta: Kounta, start: str | None = None) -> list[Page]:
    return [page async for page in kounta.pages(start)]


async def test_pages_are_followed_by_x_next_page_to_the_end(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(LIST, listed(*range(1, 26)), X_Next_Page=f"{upstream.url}{LIST}?page=1", X_Pages="2")
    upstream.answer(f"{LIST}?page=1", listed(26, 27), X_Pages="2")
    first, second = await walked(kounta)
    assert [customer.id for customer in first.customers] == list(range(1, 26))
    assert [customer.id for customer in second.customers] == [26, 27]
    assert (first.url, first.next, first.pages) == (f"{upstream.url}{LIST}", second.url, 2)
    assert second.next is None
    assert upstream.targets == [LIST, f"{LIST}?page=1"]


async def test_customers_come_one_by_one_over_all_pages(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(LIST, listed(1, 2), X_Next_Page=f"{upstream.url}{LIST}?page=1")
    upstream.answer(f"{LIST}?page=1", listed(3))
    assert [customer.id async for customer in kounta.customers()] == [1, 2, 3]


async def test_pages_are_asked_for_only_as_they_are_wanted(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(LIST, listed(1), X_Next_Page=f"{upstream.url}{LIST}?page=1")
    async for _ in kounta.customers():
        break
    assert upstream.targets == [LIST]


@pytest.mark.parametrize("last", ["", "  "])
async def test_an_empty_x_next_page_is_the_end(upstream: Any, kounta: Kounta, last: str) -> None:
    upstream.answer(LIST, listed(1), X_Next_Page=last)
    assert len(await walked(kounta)) == 1


async def test_an_empty_list_is_one_empty_page(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(LIST, [])
    (page,) = await walked(kounta)
    assert page.customers == []


async def test_a_short_or_empty_page_is_not_the_last(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(LIST, listed(1), X_Next_Page=f"{upstream.url}{LIST}?page=1")
    upstream.answer(f"{LIST}?page=1", [], X_Next_Page=f"{upstream.url}{LIST}?page=2")
    upstream.answer(f"{LIST}?page=2", listed(2))
    assert [len(page.customers) for page in await walked(kounta)] == [1, 0, 1]


@pytest.mark.parametrize(
    "target",
    [
        "/v1/companies/5678/customers?page=2",
        "/v1/companies/5678/customers.json?cursor=a%2Bb%3D&page=2",
        "/v1/companies/5678/customers/page/2",
    ],
)
async def test_the_next_page_is_asked_for_as_upstream_names_it(
    upstream: Any, kounta: Kounta, target: str
) -> None:
    upstream.answer(LIST, listed(1), X_Next_Page=f"{upstream.url}{target}")
    upstream.answer(target, listed(2))
    assert len(await walked(kounta)) == 2
    assert upstream.targets == [LIST, target]


async def test_a_relative_next_page_is_taken_from_the_page_that_names_it(
    upstream: Any, kounta: Kounta
) -> None:
    upstream.answer(LIST, listed(1), X_Next_Page="?page=1")
    upstream.answer(f"{LIST}?page=1", listed(2))
    assert len(await walked(kounta)) == 2


@pytest.mark.parametrize("pages", ["", "many", "-1", "9" * 400])
async def test_a_count_of_pages_that_is_none_is_not_known(upstream: Any, kounta: Kounta, pages: str) -> None:
    upstream.answer(LIST, listed(1), X_Pages=pages)
    assert (await walked(kounta))[0].pages is None


async def test_a_walk_goes_on_from_a_stored_next_page(upstream: Any, connect: Callable[..., Kounta]) -> None:
    upstream.answer(LIST, listed(1), X_Next_Page=f"{upstream.url}{LIST}?page=1")
    upstream.answer(f"{LIST}?page=1", listed(2), X_Next_Page=f"{upstream.url}{LIST}?page=2")
    upstream.answer(f"{LIST}?page=2", listed(3))
    async for page in connect().pages():
        stored = page.next
        break
    assert [page.customers[0].id for page in await walked(connect(), stored)] == [2, 3]
    assert upstream.targets == [LIST, f"{LIST}?page=1", f"{LIST}?page=2"]


@pytest.mark.parametrize(
    "stored", ["https://evil.example/v1/companies/5678/customers.json", "/v1/companies/9/customers.json"]
)
async def test_a_stored_page_of_another_place_is_refused(upstream: Any, kounta: Kounta, stored: str) -> None:
    with pytest.raises(KountaRefused, match="Start the walk from the beginning"):
        await walked(kounta, stored)
    assert upstream.asked == []


async def test_a_page_knows_when_it_arrived(
    upstream: Any, connect: Callable[..., Kounta], system_clock: SystemClock
) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    system_clock.follow(lambda: now)
    upstream.answer(LIST, listed(1))
    (page,) = await walked(connect(clock=lambda: now))
    assert page.answered_at == now


async def test_a_next_page_on_another_host_is_never_asked(upstream: Any, kounta: Kounta) -> None:
    import asyncio

    heard: list[bytes] = []

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(other, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        upstream.answer(LIST, listed(1), X_Next_Page=f"http://127.0.0.1:{port}{LIST}?page=1")
        with pytest.raises(KountaWrongShape, match="Nothing was sent there"):
            await walked(kounta)
    assert heard == []


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://{host}/v1/companies/5678/customers.json?page=1",
        "http://localhost:{port}/v1/companies/5678/customers.json?page=1",
        "http://me:pw@{host}/v1/companies/5678/customers.json?page=1",
        "http://{host}/v1/companies/9/customers.json?page=1",
        "http://{host}/v1/companies/5678/orders.json?page=1",
    ],
)
async def test_a_next_page_elsewhere_ends_the_walk(upstream: Any, kounta: Kounta, elsewhere: str) -> None:
    host = upstream.url.removeprefix("http://")
    upstream.answer(LIST, listed(1), X_Next_Page=elsewhere.format(host=host, port=host.split(":")[1]))
    with pytest.raises(KountaWrongShape, match="upstream pointed to") as caught:
        await walked(kounta)
    assert "pw@" not in str(caught.value)
    assert upstream.targets == [LIST]


async def test_a_walk_that_goes_in_a_circle_ends(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(LIST, listed(1), X_Next_Page=f"{upstream.url}{LIST}?page=1")
    upstream.answer(f"{LIST}?page=1", listed(2), X_Next_Page=f"{upstream.url}{LIST}")
    with pytest.raises(KountaWrongShape, match="points back to a page already read"):
        await walked(kounta)
    assert upstream.targets == [LIST, f"{LIST}?page=1"]


async def test_a_page_that_is_its_own_next_ends_the_walk(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(LIST, listed(1), X_Next_Page=f"{upstream.url}{LIST}")
    with pytest.raises(KountaWrongShape, match="points back"):
        await walked(kounta)


@pytest.mark.parametrize("stale", [[], [1, 2], [{"id": 3, "tags": 7}, {"id": 1}]])
async def test_a_walk_that_meets_nothing_new_on_three_pages_in_a_row_ends(
    upstream: Any, kounta: Kounta, stale: list[Any]
) -> None:
    again = [item if isinstance(item, dict) else {"id": item} for item in stale]
    upstream.answer(LIST, [{"id": 1}, {"id": 2}, {"id": 3}], X_Next_Page=f"{upstream.url}{LIST}?page=1")
    for number in range(1, 9):
        upstream.answer(f"{LIST}?page={number}", again, X_Next_Page=f"{upstream.url}{LIST}?page={number + 1}")
    with pytest.raises(IncompleteListError, match="4 pages came, the last 3 with nothing new"):
        await walked(kounta)
    assert len(upstream.asked) == 4


async def test_pages_with_something_new_among_what_was_seen_go_on(upstream: Any, kounta: Kounta) -> None:
    pages = [[1, 2], [1, 2], [2], [2, 3], [3], [1], [4]]
    for number, ids in enumerate(pages):
        following = {"X_Next_Page": f"?page={number + 1}"} if number < len(pages) - 1 else {}
        upstream.answer(f"{LIST}?page={number}" if number else LIST, listed(*ids), **following)
    assert len(await walked(kounta)) == len(pages)


async def test_a_list_that_ends_before_the_pages_it_counts_is_not_complete(
    upstream: Any, kounta: Kounta
) -> None:
    upstream.answer(LIST, listed(1), X_Next_Page=f"{upstream.url}{LIST}?page=1", X_Pages="3")
    upstream.answer(f"{LIST}?page=1", listed(2), X_Pages="3")
    pages = kounta.pages()
    assert [(await anext(pages)).is_short, (await anext(pages)).is_short] == [False, True]
    with pytest.raises(IncompleteListError, match="ended after 2 of 3 pages"):
        await anext(pages)


@pytest.mark.parametrize(("first", "last"), [("9", "2"), ("2", "0"), ("", "")])
async def test_what_counts_is_what_the_last_page_says(
    upstream: Any, kounta: Kounta, first: str, last: str
) -> None:
    upstream.answer(LIST, listed(1), X_Next_Page=f"{upstream.url}{LIST}?page=1", X_Pages=first)
    upstream.answer(f"{LIST}?page=1", listed(2), X_Pages=last)
    assert len(await walked(kounta)) == 2


@pytest.mark.parametrize(("before", "complete"), [(2, True), (1, False), (None, True)])
async def test_a_walk_that_goes_on_counts_the_pages_before(
    upstream: Any, kounta: Kounta, before: int | None, *, complete: bool
) -> None:
    upstream.answer(f"{LIST}?page=2", listed(3), X_Pages="3")
    pages = kounta.pages(f"{upstream.url}{LIST}?page=2", before=before)
    assert (await anext(pages)).is_short is not complete
    if not complete:
        with pytest.raises(IncompleteListError):
            await anext(pages)


async def test_a_page_of_more_items_than_any_has_is_an_error(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(LIST, listed(*range(1, MOST_ITEMS + 2)))
    with pytest.raises(KountaWrongShape, match="at most 1000 items, and 1001 came"):
        await walked(kounta)
    upstream.answer(f"{LIST}?reference_id=7", [1] * (MOST_ITEMS + 1))
    with pytest.raises(KountaWrongShape, match="at most 1000 items"):
        await kounta.customers_by_reference_id("7")


async def test_a_page_of_as_many_items_as_may_be_is_read(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(LIST, listed(*range(1, MOST_ITEMS + 1)))
    assert len((await walked(kounta))[0].customers) == MOST_ITEMS


@pytest.mark.parametrize("wrong", [{"first_name": "no id"}, {"id": None}, {"id": "abc"}, None, 7, []])
async def test_one_item_that_names_no_customer_is_kept_apart_from_those_that_do(
    upstream: Any, kounta: Kounta, wrong: object
) -> None:
    upstream.answer(LIST, [*listed(1, 2), wrong])
    (page,) = await walked(kounta)
    (item,) = page.unreadable
    assert ([customer.id for customer in page.customers], item.customer_id) == ([1, 2], None)
    assert "expected was an array of customers, and 2" in str(item.error)


@pytest.mark.parametrize("odd", [b'"a\\ud83d"', b'"a\xff"', b'"\\u0000"', b"[" * 500 + b"]" * 500, b"NaN"])
async def test_a_strange_text_in_one_item_hides_neither_its_other_fields_nor_its_neighbours(
    upstream: Any, kounta: Kounta, odd: bytes
) -> None:
    strange = b'{"id": 3, "first_name": ' + odd + b', "email": "c@shop.example"}'
    upstream.answer(LIST, json.dumps(listed(1, 2)).encode()[:-1] + b", " + strange + b"]")
    (page,) = await walked(kounta)
    assert ([customer.id for customer in page.customers], page.unreadable) == ([1, 2, 3], [])
    assert (page.customers[2].email, page.customers[2].first_name) == ("c@shop.example", None)


@pytest.mark.parametrize("body", [{}, {"customers": []}, None, "text"])
async def test_a_list_that_is_no_array_is_an_error(upstream: Any, kounta: Kounta, body: object) -> None:
    upstream.answer(LIST, body)
    with pytest.raises(KountaWrongShape, match="expected was an array of customers"):
        await walked(kounta)


async def test_abridged_items_with_the_old_name_of_the_email_are_customers(
    upstream: Any, kounta: Kounta
) -> None:
    upstream.answer(LIST, [{"id": 1, "primary_email_address": "jamie@shop.example"}])
    (page,) = await walked(kounta)
    assert page.customers[0].email == "jamie@shop.example"


async def test_no_list_at_all_means_that_access_is_lost(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(LIST, b"", 404)
    with pytest.raises(KountaAccessLost, match="Check KOUNTA_COMPANY_ID"):
        await walked(kounta)


async def test_a_later_page_that_is_gone_ends_the_walk_but_is_no_lost_access(
    upstream: Any, kounta: Kounta
) -> None:
    upstream.answer(LIST, listed(1), X_Next_Page=f"{upstream.url}{LIST}?page=1")
    upstream.answer(f"{LIST}?page=1", b"", 404)
    with pytest.raises(KountaError, match="Start the walk from the beginning") as caught:
        await walked(kounta)
    assert not isinstance(caught.value, KountaAccessLost)


async def test_a_page_that_is_cut_is_asked_for_again_and_counts_once(upstream: Any, kounta: Kounta) -> None:
    whole = json.dumps(listed(1, 2)).encode()
    upstream.answer(LIST, whole, cut=5)
    upstream.answer(LIST, whole, cut=5, length=False)
    upstream.answer(LIST, whole)
    assert [customer.id async for customer in kounta.customers()] == [1, 2]
    assert upstream.targets == [LIST, LIST, LIST]


async def test_an_item_without_a_usable_id_is_named_by_its_place(upstream: Any, kounta: Kounta) -> None:
    upstream.answer(LIST, [{"id": 1}, {"id": [2]}, {"id": 3}])
    (page,) = await walked(kounta)
    assert ([customer.id for customer in page.customers], page.unreadable[0].customer_id) == ([1, 3], None)
    assert "1.id" in str(page.unreadable[0].error)


async def test_whoever_takes_customers_one_by_one_is_told_of_an_item_that_is_none(
    upstream: Any, kounta: Kounta
) -> None:
    upstream.answer(LIST, [{"id": 1}, {"id": [2]}, {"id": 3}])
    customers = kounta.customers()
    assert [(await anext(customers)).id, (await anext(customers)).id] == [1, 3]
    with pytest.raises(KountaWrongShape, match=r"1\.id"):
        await anext(customers)


async def test_a_page_of_items_that_only_name_their_customers_is_part_of_the_walk(
    upstream: Any, kounta: Kounta
) -> None:
    garbled = b'[{"id": 1, "first_name": nope}, {"id": 2, "first_name": nope}, {"first_name": nope}]'
    upstream.answer(LIST, garbled, X_Next_Page=f"{upstream.url}{LIST}?page=1")
    upstream.answer(f"{LIST}?page=1", listed(3))
    first, second = await walked(kounta)
    assert (first.customers, [item.customer_id for item in first.unreadable]) == ([], [1, 2, None])
    assert [customer.id for customer in second.customers] == [3]


@pytest.mark.parametrize("items", [[{"id": "x"}], [{}, 5], {"id": 1}])
async def test_a_page_without_one_customer_is_an_error(upstream: Any, kounta: Kounta, items: Any) -> None:
    upstream.answer(LIST, items)
    with pytest.raises(KountaWrongShape):
        await walked(kounta)
