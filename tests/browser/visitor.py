"""Somebody who looks at the console with a browser."""

from importlib.resources import files
from typing import Any, Final, Self

from playwright.sync_api import Browser, ConsoleMessage, Page, Response

from tests.browser.house import COMPANY, House

AXE: Final = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
WIDE: Final = (1280, 800)
PHONE: Final = (390, 844)
RULES: Final = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}


class Visitor:
    """One page of the browser, and all that the browser has complained of."""

    def __init__(
        self,
        house: House,
        browser: Browser,
        *,
        size: tuple[int, int] = WIDE,
        scheme: str = "light",
        has_script: bool = True,
    ) -> None:
        self.house = house
        self._context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if scheme == "dark" else "light",
            java_script_enabled=has_script,
            reduced_motion="reduce",
        )
        self.complaints: list[str] = []
        self.expected: list[str] = []
        """Beginnings of complaints that a test brings about."""
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._context.close()
        if kind is None:
            assert [one for one in self.complaints if not one.startswith(tuple(self.expected))] == []

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def goes(self, path: str = "") -> Response:
        """Open a page of the company."""
        answer = self.page.goto(f"{self.house.url}/companies/{COMPANY}{path}")
        assert answer is not None
        return answer

    def presses(self, name: str) -> None:
        """Press the button of this name, and wait for the page that it leads to."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=name).click()

    def follows(self, name: str) -> None:
        """Follow the link of this name."""
        with self.page.expect_navigation():
            self.page.get_by_role("link", name=name).first.click()

    @property
    def said(self) -> str:
        """Give what the page says."""
        return " ".join(self.page.locator("main").inner_text().split())

    @property
    def overflow(self) -> int:
        """Give by how many pixels the page is wider than the screen."""
        root = "document.documentElement"
        return int(self.page.evaluate(f"{root}.scrollWidth - {root}.clientWidth"))

    def barriers(self) -> list[str]:
        """Give what axe-core finds that keeps somebody from using the page."""
        self.page.evaluate(AXE)
        found: Any = self.page.evaluate("rules => axe.run(document, rules)", RULES)
        return [
            f"{one['id']}: {one['help']} {[node['html'][:120] for node in one['nodes'][:3]]}"
            for one in found["violations"]
        ]
