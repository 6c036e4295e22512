"""Pictures of the console's pages for the documentation: `scripts/pictures`."""

import asyncio
import sys
import tempfile
from datetime import timedelta
from math import sin
from pathlib import Path
from random import Random
from typing import Final

from sync.engine import utc_now
from sync.merge.customers import Subscription
from sync.mirror.samples import keep_sample
from sync.mirror.store import Mirror
from tests.browser.house import COMPANY, House, browsing
from tests.browser.visitor import PHONE, Visitor
from tests.datasette import serving
from tests.stores import change

WIDE: Final = (960, 600)
"""Small files, that a page of the documentation shows in full."""
SAMPLES: Final = 24 * 20
CUSTOMERS: Final = 60
ROOT: Final = Path(__file__).parents[2]


async def remember_a_day(data: Path) -> None:
    """Give a mirror that is about to be filled a day to look back at: a lunch, and an evening."""
    random = Random(5)
    mirror = await Mirror.open(data, COMPANY, Subscription(), "the pictures")
    for number in range(SAMPLES):
        at = utc_now() - timedelta(minutes=3 * (SAMPLES - number))
        busy = max(0.0, sin(number / SAMPLES * 12)) ** 3
        waiting = int(busy * random.uniform(0, 40)) + (60 if 300 < number < 308 else 0)
        await keep_sample(mirror, at, waiting, waiting * random.uniform(0.05, 0.3))
    await mirror.close()
    confirmed = f"live = {CUSTOMERS}, verified = {CUSTOMERS} - min(pending / 4, 20)"
    change(data / "mirror.db", f"UPDATE _samples SET {confirmed}")  # noqa: S608 - ours


def main(place: Path) -> None:
    """Take them all."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        asyncio.run(remember_a_day(data))
        with House(Path(directory), customers=CUSTOMERS) as house, browsing() as browser:
            named = house.furnish()
            customer = house.ids[1]
            with Visitor(house, browser) as visitor:
                visitor.goes("/verifications")
                visitor.presses("Reconcile now")
                visitor.page.get_by_text("Deletions held: 14.").first.wait_for()
            paths = {
                "overview": "",
                "deliveries": "/deliveries",
                "delivery": f"/deliveries/{named['stale']}",
                "customer": f"/customers/{customer}",
                "verifications": "/verifications",
                "held": "/held",
                "webhooks": "/webhooks",
            }
            for size, sort in ((WIDE, "wide"), (PHONE, "phone")):
                for name, path in paths.items():
                    with Visitor(house, browser, size=size) as visitor:
                        visitor.goes(path)
                        visitor.page.screenshot(path=place / f"{name}-{sort}.png")
            with Visitor(house, browser, size=WIDE) as visitor:
                visitor.goes("/deliveries?verdict=stale")
                visitor.presses("Apply these again: dry run first")
                visitor.page.screenshot(path=place / "dry-run-wide.png")
            with Visitor(house, browser, size=WIDE, scheme="dark") as visitor:
                visitor.goes()
                visitor.page.screenshot(path=place / "overview-dark.png")
            desk = Path(directory) / "desk"
            desk.mkdir()
            with serving(ROOT, data, desk) as url, Visitor(house, browser, size=WIDE) as visitor:
                for name, path, height in (
                    ("dashboard", "/dashboard", 780),
                    ("customers", "/mirror/customers", 440),
                ):
                    visitor.page.set_viewport_size({"width": WIDE[0], "height": height})
                    visitor.page.goto(url + path)
                    visitor.page.wait_for_function("!document.querySelector('[aria-busy=true]')")
                    visitor.page.screenshot(path=place / f"datasette-{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
