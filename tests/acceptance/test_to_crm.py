"""`examples/to_crm.py` as a shop runs it: a real process and a real CRM, on both databases; killed once."""

import asyncio
import json
import re
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from receiver.database import Place, Server
from tests.databases import asked

CUSTOMERS: Final = 12
REFUSED: Final = 2
UNANSWERED: Final = 5
"""The change that the CRM takes and does not answer."""


class Crm:
    """Takes what is posted; refuses at first, and leaves one change without an answer."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.refused = 0
        self.over = threading.Event()
        crm = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(crm.take(json.loads(body)))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/changes"

    @property
    def seqs(self) -> list[int]:
        return [change["seq"] for change in self.taken]

    def take(self, change: dict[str, Any]) -> int:
        if self.refused < REFUSED:
            self.refused += 1
            return 503
        self.taken.append(change)
        if self.seqs.count(change["seq"]) == 1 and change["seq"] == UNANSWERED:
            self.over.wait()
        return 200


@pytest.fixture
def crm() -> Iterator[Crm]:
    crm = Crm()
    serving = threading.Thread(target=crm.server.serve_forever)
    serving.start()
    yield crm
    crm.over.set()
    crm.server.shutdown()
    serving.join()
    crm.server.server_close()


@pytest.fixture
async def shop_at(shop: Any, place: Place) -> AsyncIterator[Place]:
    """A mirror that a worker keeps, in a file or on a server."""
    await shop.open(CUSTOMERS)
    if isinstance(place, Server):
        shop.settings["DATABASE_URL"] = place.url
    await shop.quiet_worker()
    yield place if isinstance(place, Server) else shop.directory / "data"
    await shop.stack.aclose()


@pytest.fixture
def program(pytestconfig: pytest.Config) -> Path:
    return pytestconfig.rootpath / "examples/to_crm.py"


@asynccontextmanager
async def running(shop: Any, program: Path, crm: Crm) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run it; it is killed in the end, wherever it is."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(program)),
        env={**shop.settings, "CRM_URL": crm.url},
        cwd=shop.directory,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        assert process.returncode is None, await process.communicate()
        process.kill()
        _, complaint = await process.communicate()
        assert complaint == b""


async def test_the_crm_hears_of_every_change_in_order_though_it_is_killed(
    shop: Any, shop_at: Place, crm: Crm, program: Path
) -> None:
    cursor = shop.directory / "crm.seq"
    async with running(shop, program, crm):
        await shop.until(lambda: UNANSWERED in crm.seqs)
    assert crm.refused == REFUSED
    assert cursor.read_text() == str(UNANSWERED - 1)

    async with running(shop, program, crm):
        await shop.type(f"customers update {shop.ids[0]} --first-name Renamed")
        end = asked(shop_at, "SELECT max(seq) AS seq FROM customer_changes")[0]["seq"]
        await shop.until(lambda: cursor.read_text() == str(end))

    assert crm.seqs == [*range(1, UNANSWERED + 1), *range(UNANSWERED, end + 1)]
    assert crm.taken[-1]["after"] == {"first_name": "Renamed"}
    rows = asked(shop_at, "SELECT * FROM customer_changes ORDER BY seq")
    for row in rows:
        row |= {name: json.loads(row[name]) for name in ("attributes", "before", "after")}
    assert crm.taken[UNANSWERED:] == rows[UNANSWERED - 1 :]


def test_the_page_shows_it_as_it_is(pytestconfig: pytest.Config, program: Path) -> None:
    page = (pytestconfig.rootpath / "docs/how-to/follow.md").read_text()
    [block] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert block == program.read_text()
