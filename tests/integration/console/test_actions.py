"""What a person may do from a page, on both databases; who may not; and what it leads to."""

import asyncio
import re
from html import unescape
from typing import Any

import pytest

from receiver.database import Server
from sync import engine
from sync.console.pages.errands import Errand
from sync.console.pages.guard import COOKIE
from sync.console.pages.notices import Notice
from sync.console.pages.office import Office

NAMES = re.compile(r'name="names" value="([^"]*)"')


def words(page: str) -> str:
    """Give what a page says, without its marks."""
    main = page[page.index("<main") : page.index("</main>")]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", main)).split())


async def test_a_dry_run_shows_the_verdict_it_would_get_and_changes_nothing(kiosk: Any) -> None:
    await kiosk.open()
    name = await kiosk.rename(kiosk.ids[0], "Jo")
    page = await kiosk.send("/replay/try", names=name)
    assert page.status_code == 200
    assert (
        "Dry run: nothing was changed If this delivery was applied again now: 1: applied → unchanged"
        in words(page.text)
    )
    assert kiosk.verdict_of(name) == "applied"
    assert NAMES.findall(page.text) == [name]


async def test_a_replay_is_done_after_it_was_confirmed_and_keeps_the_verdict_before(kiosk: Any) -> None:
    await kiosk.open()
    name = await kiosk.rename(kiosk.ids[0], "Jo")
    kiosk.now += 1
    page = await kiosk.act("/replay", names=name)
    assert "Applied again: 1 unchanged (was applied)." in words(page)
    assert f"Delivery {name}" in words(page)
    assert "Verdicts before replays" in words(page)
    assert kiosk.verdict_of(name) == "unchanged"


async def test_a_filter_is_replayed_as_it_was_shown(kiosk: Any) -> None:
    await kiosk.open()
    wrong = [await kiosk.deliver("updated", b"no JSON") for _ in range(3)]
    await kiosk.rename(kiosk.ids[0], "Jo")
    shown = await kiosk.send("/replay/try", verdict="quarantined")
    assert "these 3 deliveries" in words(shown.text)
    (names,) = NAMES.findall(shown.text)
    assert sorted(names.split()) == sorted(wrong)
    await kiosk.deliver("updated", b"no JSON either")
    page = await kiosk.act("/replay", names=names)
    assert "Applied again: 3 quarantined as before." in words(page)


async def test_the_deliveries_of_a_customer_are_replayed(kiosk: Any) -> None:
    await kiosk.open()
    first, second, _ = kiosk.ids
    mine = [await kiosk.rename(first, "Jo"), await kiosk.rename(first, "Mo")]
    await kiosk.rename(second, "Other")
    shown = await kiosk.send("/replay/try", customer=str(first))
    (names,) = NAMES.findall(shown.text)
    assert sorted(names.split()) == sorted(mine)
    assert f'href="/companies/5678/customers/{first}">Leave them as they are' in shown.text


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"verdict": "pending"}, 409),
        ({"verdict": "failed"}, 409),
        ({"verdict": "nonsense"}, 422),
        ({"names": "no-such-delivery"}, 200),
    ],
)
async def test_what_cannot_be_replayed_is_told(kiosk: Any, fields: dict[str, str], status: int) -> None:
    await kiosk.open(1)
    answer = await kiosk.send("/replay/try", **fields)
    assert answer.status_code == status
    if status == 200:
        assert "1 no longer in the inbox" in words(answer.text)


@pytest.mark.parametrize("names", ["", " ".join(["x"] * 501)])
async def test_a_replay_of_nothing_or_of_too_much_is_refused(kiosk: Any, names: str) -> None:
    await kiosk.open(1)
    assert (await kiosk.send("/replay", names=names)).status_code == 422


async def test_reconciling_now_finds_what_no_webhook_has_told(kiosk: Any) -> None:
    await kiosk.open()
    customer = kiosk.ids[0]
    kiosk.sandbox.company.update(customer, {"first_name": "Silent"}, announce=False)
    page = await kiosk.act("/reconcile")
    assert "Reconciliation is over: 3 listed, 1 updated, 2 unchanged" in words(page)
    assert kiosk.rows("SELECT first_name FROM customers WHERE id = ?", customer) == [{"first_name": "Silent"}]


async def test_a_deep_one_reads_every_customer(kiosk: Any) -> None:
    await kiosk.open()
    assert "3 listed, 3 read, 3 unchanged" in words(await kiosk.act("/reconcile", deep="yes"))


async def test_one_that_takes_long_is_under_way_and_no_second_one_begins(
    kiosk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.console.pages.office.PATIENCE_SECONDS", 0)
    await kiosk.open()
    async with kiosk.engine.reconciler.reading:
        begun = await kiosk.send("/reconcile")
        page = (await kiosk.client.get(begun.headers["Location"])).text
        assert "Reconciliation is under way; this page will say what comes of it." in words(page)
        assert "<noscript><meta http-equiv=" in page
        assert re.search(r'<button class="primary" disabled>Reconcile now', page)
        again = await kiosk.send("/reconcile")
        assert again.status_code == 409
        assert "A reconciliation is under way already." in again.text
    (errand,) = kiosk.office.errands.of(5678)
    await asyncio.wait_for(errand.over.wait(), 20)
    assert "Reconciliation is over" in words(await kiosk.text("/verifications"))


async def test_what_came_of_it_is_shown_at_once_though_looking_took_long(
    kiosk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.console.pages.office.LONG_SECONDS", 0)
    monkeypatch.setattr("sync.console.pages.office.COST", 1e9)
    await kiosk.open()
    go_on = asyncio.Event()

    async def work(_: Errand) -> Notice:
        await go_on.wait()
        return Notice("Done.")

    errand = kiosk.office.errands.begin(5678, "It", work)
    status = await kiosk.office.status(5678)
    assert await kiosk.office.status(5678) is status
    go_on.set()
    await errand.over.wait()
    assert await kiosk.office.status(5678) is not status


async def test_one_customer_is_verified(kiosk: Any) -> None:
    await kiosk.open()
    customer = kiosk.ids[0]
    await kiosk.rename(customer, "Wrong")
    page = await kiosk.act(f"/customers/{customer}/verify")
    assert f"Read of customer {customer} is over: 1 read, 1 updated, 1 calls." in words(page)
    assert f"Customer {customer} is live and verified 0 s ago" in words(page)


async def test_what_kounta_refuses_is_told(kiosk: Any) -> None:
    await kiosk.open()
    kiosk.sandbox.change(kiosk.sandbox.faults, {"lost_access": "403"})
    page = await kiosk.act("/reconcile")
    assert 'class="notice bad"' in page
    assert "403" in words(page)


async def test_held_deletions_are_listed_and_let_go(kiosk: Any) -> None:
    await kiosk.open(40)
    gone = kiosk.ids[:14]
    kiosk.delete(*gone)
    page = await kiosk.act("/reconcile")
    assert "Deletions held: 14." in words(page)
    held = await kiosk.text("/held")
    assert "Kounta answers that it has no such customer, for 14 that the mirror shows" in words(held)
    assert all(f"/customers/{customer}" in held for customer in gone)
    assert "Review them" in words(await kiosk.text())
    page = await kiosk.act("/held/release", number="13")
    assert "13 deleted" in words(page)
    assert len(kiosk.rows("SELECT id FROM customers")) == 27
    await kiosk.act("/held/release", number="1")
    assert "Held deletions None." in words(await kiosk.text("/held"))


@pytest.mark.parametrize("number", ["", "0", "-1", "many", "1.0", "9" * 5000])
async def test_a_number_that_is_none_lets_nothing_go(kiosk: Any, number: str) -> None:
    await kiosk.open(1)
    assert (await kiosk.send("/held/release", number=number)).status_code == 422


async def test_a_person_is_erased_once_the_id_was_typed(kiosk: Any) -> None:
    await kiosk.open()
    customer, other = kiosk.ids[:2]
    name = await kiosk.rename(customer, "Forgotten")
    for typed in ("", str(other), "yes"):
        assert (await kiosk.send(f"/customers/{customer}/erase", typed=typed)).status_code == 422
    assert kiosk.rows("SELECT id FROM customers WHERE id = ?", customer)
    await kiosk.inbox.close()  # the worker asks a receiver that runs, or does it by itself
    page = await kiosk.act(f"/customers/{customer}/erase", typed=str(customer))
    assert f"Customer {customer} is erased" in words(page)
    assert f"Customer {customer} was erased at" in words(page)
    assert "Erase for good" not in page
    assert not kiosk.rows("SELECT id FROM all_customers WHERE id = ?", customer)
    for path in (f"/customers/{customer}", "/deliveries", f"/deliveries/{name}"):
        assert "Forgotten" not in await kiosk.text(path)


async def test_without_a_key_nobody_can_be_erased_and_the_page_says_why(kiosk: Any) -> None:
    kiosk.more = {}
    await kiosk.open(1)
    page = await kiosk.text(f"/customers/{kiosk.ids[0]}")
    assert "MIRROR_SECRET_KEY is not set" in words(page)
    assert "Erase for good" not in page
    page = await kiosk.act(f"/customers/{kiosk.ids[0]}/erase", typed=str(kiosk.ids[0]))
    assert "MIRROR_SECRET_KEY is not set" in words(page)
    assert kiosk.rows("SELECT id FROM customers")


# who may not


async def test_a_form_without_its_seal_does_nothing(kiosk: Any) -> None:
    await kiosk.open()
    seal = await kiosk.seal()
    calls = kiosk.sandbox.calls.by_kind["list"]
    for fields in ({}, {"seal": ""}, {"seal": "0" * 64}, {"seal": seal[:-1]}):
        answer = await kiosk.client.post("/companies/5678/reconcile", data=fields)
        assert answer.status_code == 403
        assert "Nothing was done" in answer.text
    assert kiosk.sandbox.calls.by_kind["list"] == calls


async def test_a_seal_is_good_with_the_cookie_of_its_browser_alone(kiosk: Any) -> None:
    await kiosk.open()
    seal = await kiosk.seal()
    cookie = kiosk.client.cookies[COOKIE]
    kiosk.client.cookies.clear()
    for other in (None, "x" * len(cookie)):
        headers = {} if other is None else {"Cookie": f"{COOKIE}={other}"}
        answer = await kiosk.client.post("/companies/5678/reconcile", data={"seal": seal}, headers=headers)
        assert answer.status_code == 403


async def test_the_cookie_is_for_this_site_and_for_no_script(kiosk: Any) -> None:
    await kiosk.open(1)
    answer = await kiosk.get("/held")
    told = answer.headers["Set-Cookie"].lower()
    assert "httponly" in told
    assert "samesite=strict" in told
    assert "Set-Cookie" not in (await kiosk.get("/held")).headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 303),
        ({"Origin": "null"}, 303),
    ],
)
async def test_a_form_of_another_site_does_nothing(kiosk: Any, headers: Any, status: int) -> None:
    await kiosk.open(1)
    assert (await kiosk.send("/reconcile", headers=headers)).status_code == status


async def test_a_form_of_the_worker_before_does_nothing(kiosk: Any) -> None:
    await kiosk.open(1)
    seal = await kiosk.seal()
    kiosk.office.seal = Office(kiosk.served, kiosk.desks, kiosk.store, kiosk.office.inbox, kiosk.clock).seal
    answer = await kiosk.client.post("/companies/5678/reconcile", data={"seal": seal})
    assert answer.status_code == 403
    assert "older than the worker that runs now" in answer.text


async def test_a_form_that_is_too_large_is_refused(kiosk: Any) -> None:
    await kiosk.open(1)
    assert (await kiosk.send("/replay", names="x" * 70_000)).status_code == 413


async def test_a_form_is_sent_and_not_asked_for(kiosk: Any) -> None:
    await kiosk.open(1)
    answer = await kiosk.get("/reconcile")
    assert answer.status_code == 405
    assert "That cannot be done here" in answer.text


async def test_a_notice_is_shown_to_whom_it_was_left_and_no_link_makes_one(kiosk: Any) -> None:
    await kiosk.open(1)
    page = await kiosk.text("/verifications?notice=Call+this+number")
    assert "Call this number" not in page
    assert 'class="notice' not in page


# where another works


async def test_where_nobody_works_the_page_says_so_and_the_action_is_refused(kiosk: Any) -> None:
    await kiosk.open(1, has_desk=False)
    assert (await kiosk.get()).status_code == 200
    if isinstance(kiosk.place, Server):
        page = await kiosk.act("/reconcile")  # the lease is free: it is done as a command does it
        assert "Reconciliation is over: 1 listed" in words(page)
        return
    page = await kiosk.act("/reconcile")
    assert "The worker does not work for company 5678 now." in words(page)
    answer = await kiosk.send("/replay/try", names="x")
    assert answer.status_code == 503
    assert "Not available now" in answer.text


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_an_action_waits_for_a_worker_that_is_starting(
    kiosk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()

    def open_engine(*given: Any) -> Any:
        tried.set()
        return engine.open_engine(*given)

    monkeypatch.setattr("sync.console.desks.open_engine", open_engine)
    kiosk.patience = 30
    await kiosk.open(1, has_desk=False)
    acting = asyncio.create_task(kiosk.act("/reconcile"))
    await tried.wait()
    await kiosk.sit_down()
    assert "Reconciliation is over: 1 listed" in words(await acting)
