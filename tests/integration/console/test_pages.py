"""What the pages say, on both databases."""

import re
from html import unescape
from typing import Any

import pytest

from sync.mirror.excerpts import rulings_before

PAGES = ("", "/deliveries", "/customers", "/verifications", "/held", "/webhooks")
SCRIPT = "<script>alert('here')</script>"


def words(page: str) -> str:
    """Give what a page says, without its marks."""
    main = page[page.index("<main") : page.index("</main>")]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", main)).split())


async def test_the_first_page_begins_with_the_sentence_of_status(kiosk: Any) -> None:
    await kiosk.open()
    await kiosk.deliver("updated", {"id": kiosk.ids[0]})
    assert "OK, 3 customers, newest delivery 0 s ago." in words(await kiosk.text())


async def test_what_needs_attention_is_on_top_with_the_page_on_which_to_act(kiosk: Any) -> None:
    await kiosk.open()
    await kiosk.deliver("updated", b"no JSON")
    page = await kiosk.text()
    assert "1 delivery could not be read." in words(page)
    assert f'href="/companies/{5678}/deliveries?verdict=quarantined"' in page
    assert page.index("What needs attention") < page.index("The last day") < page.index("Figures")


async def test_every_page_names_itself_in_the_navigation_and_loads_nothing_from_elsewhere(kiosk: Any) -> None:
    await kiosk.open()
    delivery = await kiosk.rename(kiosk.ids[0], "Jo")
    for path in (*PAGES, f"/deliveries/{delivery}", f"/customers/{kiosk.ids[0]}"):
        page = await kiosk.text(path)
        assert page.count("aria-current=") == 1, path
        for link in re.findall(r'(?:src|href|action)="([^"]*)"', page):
            assert link.startswith(("/", "#")), (path, link)
        assert "<style" not in page, path
        assert " style=" not in page, path
        assert not re.findall(r"<script(?! src=)", page), path


async def test_what_people_are_called_is_text_and_no_markup(kiosk: Any) -> None:
    await kiosk.open()
    first, second, _ = kiosk.ids
    await kiosk.rename(first, SCRIPT, tags=["<b>vip</b>"], email='"><img src=x>@example.com')
    await kiosk.rename(second, SCRIPT, email='"><img src=x>@example.com')
    await kiosk.deliver("updated", b'{"id": "<i>no number</i>"}')
    names = [row["delivery_id"] for row in kiosk.rows("SELECT delivery_id FROM delivery_verdicts")]
    found = f"/customers?q={'%22%3E%3Cimg%20src=x%3E@example.com'}"
    for path in (f"/customers/{first}", "/deliveries", found, *(f"/deliveries/{name}" for name in names)):
        page = await kiosk.text(path)
        for mark in (SCRIPT, "<b>vip", "<img", "<i>no"):
            assert mark not in page, path
    assert SCRIPT in words(await kiosk.text(f"/customers/{first}"))


async def test_deliveries_are_filtered_by_verdict_customer_and_time(kiosk: Any) -> None:
    await kiosk.open()
    first, second, _ = kiosk.ids
    old = await kiosk.rename(first, "Old")
    kiosk.now += 3600
    applied = await kiosk.rename(second, "New")
    stale = await kiosk.rename(second, "Older", age=1800)
    wrong = await kiosk.deliver("updated", b"no JSON")
    names = {"old": old, "applied": applied, "stale": stale, "wrong": wrong}

    async def shown(query: str) -> set[str]:
        page = await kiosk.text(f"/deliveries?{query}")
        return {name for name, delivery in names.items() if f"/deliveries/{delivery}" in page}

    assert await shown("") == {"old", "applied", "stale", "wrong"}
    assert await shown("verdict=stale") == {"stale"}
    assert await shown("verdict=applied") == {"old", "applied"}
    assert await shown("verdict=quarantined&customer=") == {"wrong"}
    assert await shown(f"customer={second}") == {"applied", "stale"}
    assert await shown(f"customer={second}&verdict=applied") == {"applied"}
    assert await shown("since=30min") == {"applied", "stale", "wrong"}
    assert await shown("since=2026-11-24T12:00") == {"old", "applied", "stale", "wrong"}


@pytest.mark.parametrize("query", ["verdict=nonsense", "customer=x", "customer=0", "since=yesterday"])
async def test_a_filter_that_cannot_be_right_is_told(kiosk: Any, query: str) -> None:
    await kiosk.open(1)
    answer = await kiosk.get(f"/deliveries?{query}")
    assert answer.status_code == 422
    assert "That cannot be right" in answer.text


async def test_going_on_from_page_to_page_shows_each_delivery_once(kiosk: Any) -> None:
    await kiosk.open(1)
    (customer,) = kiosk.ids
    made = [await kiosk.deliver("updated", {"id": customer}, applied=False) for _ in range(120)]
    await kiosk.rename(customer, "Last")
    path, seen, pages = "/deliveries?verdict=unchanged", [], 0
    while path:
        page = await kiosk.text(path)
        seen += re.findall(r"/deliveries/([0-9a-f-]{36})", page)
        more = re.search(r'rel="next" href="/companies/5678([^"]+)"', page)
        path = unescape(more[1]) if more else ""
        pages += 1
    assert seen == sorted(made, reverse=True)
    assert pages == 3


async def test_what_waits_is_shown_before_it_has_a_verdict(kiosk: Any) -> None:
    await kiosk.open(1)
    name = await kiosk.deliver("updated", {"id": kiosk.ids[0]}, applied=False)
    for query in ("", "?verdict=pending", f"?customer={kiosk.ids[0]}"):
        page = await kiosk.text(f"/deliveries{query}")
        assert name in page
        assert 'class="verdict pending"' in page
    page = await kiosk.text(f"/deliveries/{name}")
    assert "dry run" not in page


async def test_a_delivery_is_shown_with_body_headers_verdict_and_what_it_changed(kiosk: Any) -> None:
    await kiosk.open()
    before = kiosk.rows("SELECT first_name FROM customers WHERE id = ?", kiosk.ids[0])[0]["first_name"]
    name = await kiosk.rename(kiosk.ids[0], "Zoë")
    page = await kiosk.text(f"/deliveries/{name}")
    said = words(page)
    assert f"Delivery {name} Verdict applied" in said
    assert f"first_name was {before} is Zoë" in said
    assert '"first_name": "Zoë"' in said
    assert "content-type application/json" in said
    assert f'href="/companies/5678/customers/{kiosk.ids[0]}"' in page


async def test_a_body_that_is_no_json_is_shown_as_text_and_cut_off(kiosk: Any) -> None:
    await kiosk.open(1)
    name = await kiosk.deliver("updated", b"\x1b[31mred \xff" + b"x" * 100_000)
    said = words(await kiosk.text(f"/deliveries/{name}"))
    assert "\\x1b[31mred \\xff" in said
    assert "bytes more" in said


async def test_a_delivery_that_has_left_the_inbox_keeps_its_verdict(kiosk: Any) -> None:
    await kiosk.open(1)
    name = await kiosk.rename(kiosk.ids[0], "Jo")
    await kiosk.inbox.forget(5678, through=10, before=kiosk.clock().replace(year=2027), keep=[])
    page = await kiosk.text(f"/deliveries/{name}")
    assert "It has left the inbox" in page
    assert "dry run" not in page


async def test_a_customer_is_explained_with_row_history_and_deliveries(kiosk: Any) -> None:
    await kiosk.open()
    customer = kiosk.ids[0]
    name = await kiosk.rename(customer, "Jo")
    page = await kiosk.text(f"/customers/{customer}")
    said = words(page)
    assert f"Customer {customer} is live and rests on a webhook alone" in said
    assert "first_name Jo" in said
    assert "is Jo" in said
    assert f"/deliveries/{name}" in page
    assert said.index("updated") < said.index("created 2026-11-24 12:00:00 UTC, by backfill")


async def test_a_long_history_is_paged(kiosk: Any) -> None:
    await kiosk.open(1)
    customer = kiosk.ids[0]
    for number in range(25):
        kiosk.now += 10
        await kiosk.rename(customer, f"Name {number}")
    newest = await kiosk.text(f"/customers/{customer}")
    (before,) = re.findall(r"\?before=(\d+)", newest)
    older = await kiosk.text(f"/customers/{customer}?before={before}")
    assert "is Name 24" in words(newest)
    assert "is Name 4 " not in words(newest)
    assert "is Name 4 " in words(older)
    assert "by backfill" in words(older)


@pytest.mark.parametrize("column", ["id", "email", "phone", "mobile", "reference_id"])
async def test_a_customer_is_found_by_what_a_person_knows(kiosk: Any, column: str) -> None:
    await kiosk.open()
    customer = kiosk.ids[1]
    await kiosk.rename(
        customer, "Jo", email="Jo.D@Example.com", phone="02 9000 1", mobile="+61 400", reference_id="crm/7"
    )
    wanted = {
        "id": str(customer),
        "email": "jo.d@example.COM",
        "phone": "02 9000 1",
        "mobile": "%2B61 400",
        "reference_id": "crm/7",
    }[column]
    answer = await kiosk.get(f"/customers?q={wanted}")
    assert answer.status_code == 303
    assert answer.headers["Location"] == f"/companies/5678/customers/{customer}"


async def test_several_findings_are_listed_and_none_is_told(kiosk: Any) -> None:
    await kiosk.open()
    for customer in kiosk.ids[:2]:
        await kiosk.rename(customer, "Jo", phone="02 9000 1")
    page = await kiosk.text("/customers?q=02 9000 1")
    assert all(f"/customers/{customer}" in page for customer in kiosk.ids[:2])
    assert "Nobody has nobody@x" in words(await kiosk.text("/customers?q=nobody@x"))


async def test_doubts_and_sweeps_are_listed_with_their_reasons(kiosk: Any) -> None:
    await kiosk.open()
    await kiosk.rename(kiosk.ids[0], "Jo", age=3600)
    said = words(await kiosk.text("/verifications"))
    assert "1 customers are to be read; at 100000 calls a minute that takes 0 s." in said
    assert "an older word of it came later than a newer one" in said
    assert "backfill 3 complete" in said


async def test_refusals_are_shown_with_what_they_mean(kiosk: Any) -> None:
    await kiosk.open(1)
    kiosk.inbox.refuse(5678, "signature_invalid")
    await kiosk.inbox.append(5678, "customers/updated", {}, b"{}")  # with it refusals are stored
    for _ in range(200):
        said = words(await kiosk.text("/webhooks"))
        if "signature_invalid" in said:
            break
    assert "signature_invalid 1" in said
    assert "the token has changed" in said
    assert "Nobody has asked this mirror to register its webhooks" in said


async def test_the_last_day_is_drawn_from_samples(kiosk: Any) -> None:
    from sync.console.samples import sample

    await kiosk.open(1)
    for waiting in range(3):
        await sample(kiosk.engine, kiosk.office.inbox)
        kiosk.now += 360
        await kiosk.deliver("updated", {"id": kiosk.ids[0]}, applied=waiting == 2)
    await sample(kiosk.engine, kiosk.office.inbox)
    page = await kiosk.text()
    assert "Backlog: deliveries that wait 0" in words(page)
    assert "highest 2 at 12:13 UTC" in words(page)
    assert "highest 6 min at 12:13 UTC" in words(page)
    assert page.count('<path class="line"') == 3


async def test_no_secret_is_on_any_page(kiosk: Any) -> None:
    await kiosk.open(1)
    name = await kiosk.rename(kiosk.ids[0], "Jo")
    for path in (*PAGES, f"/deliveries/{name}", f"/customers/{kiosk.ids[0]}"):
        page = await kiosk.text(path)
        assert "sandbox-secret" not in page
        assert "signature-token" not in page


async def test_of_several_companies_the_front_door_lists_each_with_its_sentence(kiosk: Any) -> None:
    await kiosk.open(1)
    answer = await kiosk.client.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/companies/5678")
    kiosk.served.settings[77] = kiosk.settings(77)
    page = (await kiosk.client.get("/")).text
    said = words(page)
    assert "2 companies" in said
    assert "Company 77 Critical The mirror holds nothing of company 77." in said
    assert "Company 5678" in said
    assert 'href="/">all companies' in await kiosk.text()


async def test_a_company_that_is_not_served_is_404(kiosk: Any) -> None:
    await kiosk.open(1)
    answer = await kiosk.client.get("/companies/9")
    assert answer.status_code == 404
    assert "This worker serves no company 9." in answer.text


async def test_what_is_not_there_is_a_page_for_people_and_json_for_programs(kiosk: Any) -> None:
    await kiosk.open(1)
    for path in ("/nothing", "/customers/987654", "/deliveries/no-such"):
        answer = await kiosk.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["Content-Type"].startswith("text/html")
        program = await kiosk.get(path, Accept="application/json")
        assert program.status_code == 404
        assert program.json()["error"] == "not_found"


async def test_a_delivery_that_is_applied_while_the_page_is_made_is_there_once(
    kiosk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kiosk.open()
    name = await kiosk.deliver("updated", {"id": kiosk.ids[0], "first_name": "Jo"}, applied=False)

    async def applied_meanwhile(*what: Any) -> Any:
        await kiosk.engine.applier.apply_pending(await kiosk.office.inbox.reader())
        return await rulings_before(*what)

    monkeypatch.setattr("sync.console.pages.deliveries.rulings_before", applied_meanwhile)
    page = await kiosk.text("/deliveries")
    assert page.count(f'/deliveries/{name}"') == 1
    assert "applied" in page
