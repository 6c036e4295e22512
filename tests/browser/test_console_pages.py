"""Every page and every button of the console, in a browser, before a real worker beside a local Kounta."""

import re
from typing import Any

import pytest
from playwright.sync_api import Dialog

from tests.browser.house import SCRIPT, SECRET, TOKEN, House
from tests.browser.visitor import PHONE, WIDE, Visitor

PAGES = ("", "/deliveries", "/customers", "/verifications", "/held", "/webhooks", "/nothing")
COMPLAINT = "Failed to load resource: the server responded with a status of"


def all_pages(house: House) -> list[str]:
    """Give the address of a page of each kind."""
    customer = house.ids[0]
    page = house.page(f"/deliveries?customer={customer}").text
    delivery = page.split("/deliveries/")[1].split('"')[0]
    return [
        *PAGES,
        f"/deliveries/{delivery}",
        f"/customers/{customer}",
        "/customers?q=nobody@example.com",
    ]


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "light"), (WIDE, "dark")], ids=["phone", "wide"])
def test_each_page_fits_and_keeps_nobody_out(house: House, browser: Any, size: Any, scheme: str) -> None:
    with Visitor(house, browser, size=size, scheme=scheme) as visitor:
        visitor.expected = [COMPLAINT]  # of the page that is not there
        for path in all_pages(house):
            visitor.goes(path)
            assert visitor.barriers() == [], path
            assert visitor.overflow <= 0, path


def test_the_keyboard_leads_past_the_navigation(visitor: Visitor) -> None:
    visitor.goes()
    visitor.page.keyboard.press("Tab")
    assert visitor.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    visitor.page.keyboard.press("Enter")
    assert visitor.page.evaluate("document.activeElement.id") == "main"


def test_every_page_is_reached_from_the_navigation(visitor: Visitor) -> None:
    visitor.goes()
    for name in ("Deliveries", "Customers", "Verifications", "Held deletions", "Webhooks", "Overview"):
        with visitor.page.expect_navigation():
            visitor.page.get_by_role("navigation").get_by_role("link", name=name).click()
        here = visitor.page.locator("nav [aria-current=page]")
        assert here.inner_text() == name


def test_a_name_that_is_a_script_does_nothing(visitor: Visitor) -> None:
    asked: list[str] = []

    def note(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    visitor.page.on("dialog", note)
    visitor.goes(f"/customers/{visitor.house.ids[0]}")
    assert SCRIPT in visitor.said
    assert asked == []


def test_a_delivery_is_found_explained_and_applied_again(visitor: Visitor) -> None:
    customer = visitor.house.ids[1]
    visitor.goes("/deliveries")
    visitor.page.get_by_label("Verdict").select_option("stale")
    visitor.page.get_by_label("Customer", exact=True).fill(str(customer))
    visitor.presses("Filter")
    assert "stale" in visitor.said
    visitor.page.locator("tbody a.mono").first.click()
    visitor.page.wait_for_url("**/deliveries/*")
    assert '"first_name": "Older"' in visitor.said
    visitor.presses("Apply it again: dry run first")
    assert "Dry run: nothing was changed" in visitor.said
    assert visitor.barriers() == []
    visitor.presses("Apply it again")
    assert "Applied again: 1 stale as before." in visitor.said
    assert "Verdicts before replays" in visitor.said
    assert visitor.barriers() == []


def test_the_deliveries_of_a_filter_are_applied_again(visitor: Visitor) -> None:
    visitor.goes("/deliveries?verdict=quarantined")
    visitor.presses("Apply these again: dry run first")
    assert "1: quarantined as it is" in visitor.said
    visitor.follows("Leave it as it is")
    assert visitor.page.url.endswith("/deliveries?verdict=quarantined")


def test_a_customer_is_found_and_verified(visitor: Visitor) -> None:
    customer = visitor.house.ids[0]
    visitor.goes()
    visitor.page.get_by_role("searchbox").fill(str(customer))
    visitor.presses("Find")
    visitor.page.wait_for_url(f"**/customers/{customer}")
    visitor.presses("Verify: read it from Kounta")
    visitor.page.get_by_text(f"Read of customer {customer} is over").first.wait_for()
    visitor.presses("Apply its deliveries again: dry run first")
    assert "Dry run" in visitor.said


def test_deletions_are_held_reviewed_and_let_go(visitor: Visitor) -> None:
    visitor.goes("/verifications")
    visitor.presses("Reconcile now")
    visitor.page.get_by_text(re.compile(r"Reconciliation is over: .* Deletions held: 14\.")).first.wait_for()
    visitor.goes()
    assert "14 deletions are held: many at once." in visitor.said
    visitor.follows("Review them")
    assert visitor.barriers() == []
    assert visitor.page.locator("tbody tr").count() == 14
    assert visitor.page.get_by_label("How many may go").input_value() == "14"
    visitor.presses("Let them go")
    visitor.page.get_by_text("14 deleted").first.wait_for()
    visitor.goes("/held")
    assert "None." in visitor.said


def test_a_person_is_erased(visitor: Visitor) -> None:
    customer = visitor.house.ids[4]
    visitor.goes(f"/customers/{customer}")
    visitor.page.get_by_label(f"Type {customer}").fill(str(customer))
    visitor.presses("Erase for good")
    visitor.page.get_by_text(f"Customer {customer} is erased").first.wait_for()
    assert f"Customer {customer} was erased at" in visitor.said
    assert visitor.barriers() == []


def test_what_changes_is_shown_without_loading_the_page_again(visitor: Visitor) -> None:
    visitor.goes("/deliveries")
    visitor.page.evaluate("window.stays = true")
    name = visitor.house.deliver("updated", {"id": visitor.house.ids[2], "first_name": "Live"})
    visitor.page.get_by_role("link", name=name).wait_for()
    assert visitor.page.evaluate("window.stays") is True


def test_what_is_being_typed_stays(visitor: Visitor) -> None:
    visitor.goes("/deliveries")
    box = visitor.page.get_by_label("Customer", exact=True)
    box.fill("4711")
    with visitor.page.expect_event("console", predicate=lambda _: True, timeout=20_000):
        visitor.page.evaluate(
            """events => {
                const source = new EventSource(events);
                source.onmessage = () => setTimeout(() => console.log("told"), 500);
                source.onopen = () => console.debug("open");
            }""",
            visitor.page.evaluate("document.body.dataset.events"),
        )
    with visitor.page.expect_console_message(lambda message: message.text == "told"):
        visitor.house.deliver("updated", {"id": visitor.house.ids[2], "first_name": "Typed"})
    assert box.input_value() == "4711"
    assert visitor.page.evaluate("document.activeElement.id") == "customer"


def test_everything_works_without_script(house: House, browser: Any) -> None:
    with Visitor(house, browser, has_script=False) as visitor:
        visitor.expected = [COMPLAINT]
        for path in all_pages(house):
            assert visitor.goes(path).status in {200, 404}
            assert visitor.said
        visitor.goes(f"/customers/{house.ids[3]}")
        visitor.presses("Verify: read it from Kounta")
        assert "Read of customer" in visitor.said
        visitor.goes("/verifications")
        visitor.page.get_by_label("read every customer").check()
        visitor.presses("Reconcile now")
        assert "Reconciliation" in visitor.said


def test_nothing_secret_leaves_the_worker(house: House) -> None:
    for path in all_pages(house):
        text = house.page(path).text
        assert TOKEN not in text
        assert "sandbox-secret" not in text
        assert SECRET not in text
