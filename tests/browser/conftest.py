"""One house for all tests of this folder, one browser for those of a module; each test has a page of its own.

A browser's event loop runs as long as the browser, and no test with a loop of its own may run meanwhile.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.house import House, browsing
from tests.browser.visitor import Visitor


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(Path(tmp_path_factory.mktemp("house"))) as house:
        house.furnish()
        yield house
        assert house.leaks() == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def visitor(house: House, browser: Any) -> Iterator[Visitor]:
    """Somebody at a wide screen; what the browser complains of is an error at the end."""
    with Visitor(house, browser) as visitor:
        yield visitor
