"""The dashboard of Datasette in a browser, on the mirror of a worker that runs."""

from collections.abc import Iterator

import pytest

from tests.browser.house import House
from tests.browser.visitor import Visitor
from tests.datasette import serving

PANELS = (
    "By city",
    "By tag",
    "Newly met, by local day",
    "Deliveries by verdict, newest day",
    "Per cent confirmed",
)


@pytest.fixture(scope="module")
def datasette(
    house: House, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    desk = tmp_path_factory.mktemp("desk")
    with serving(pytestconfig.rootpath, house.directory / "data", desk) as url:
        yield url


def test_every_panel_is_drawn_from_its_query(visitor: Visitor, datasette: str) -> None:
    page = visitor.page
    page.goto(f"{datasette}/dashboard")
    page.wait_for_function("document.querySelector('#panels').getAttribute('aria-busy') === 'false'")
    assert page.locator(".panel h2").all_inner_texts() == list(PANELS)
    assert page.locator(".failed").count() == 0
    cities = page.locator(".panel").nth(0).locator(".bar")
    assert cities.count() > 1
    verdicts = page.locator(".panel").nth(3).inner_text()
    assert "applied" in verdicts
    page.get_by_role("link", name="By tag").click()
    page.get_by_role("heading", name="Tags").wait_for()
