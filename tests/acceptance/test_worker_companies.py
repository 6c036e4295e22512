"""One worker process for several companies: each gets its due, whatever happens to the others."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from receiver.database import Place, Server, inbox_of, mirror_of
from receiver.doorbell import DoorbellButton
from receiver.inbox import InboxWriter
from sync.mirror.store import OWNER
from sync.sandbox import Faults, Sandbox, Settings, serving
from tests.databases import asked
from tests.stores import change

NOWHERE = "http://127.0.0.1:9"
FLOOD = 6_000
SOON = 3.0  # seconds: less than the pause after which a worker looks by itself


@dataclass
class Street:
    """A directory with companies, each with a Kounta of its own, and a receiver that is the test."""

    shop: Any
    place: Place
    inbox: InboxWriter
    sandboxes: dict[int, Sandbox] = field(default_factory=dict)

    async def add(self, id_: int, customers: int = 2, *, url: str | None = None, known: bool = True) -> None:
        """Write a company into mirror.toml; `url`: where its Kounta is not; `known`: as a client of it."""
        options: dict[str, Any] = {"client_id": f"client-{id_}", "client_secret": "right", "company_id": id_}
        settings = Settings(requests_per_minute=100_000, list_shape="complete", **options)
        self.sandboxes[id_] = Sandbox(settings, Faults(), seed=id_, customers=customers)
        right = await self.shop.stack.enter_async_context(serving(self.sandboxes[id_]))
        (self.shop.directory / f"secret-{id_}").write_text("right" if known else "wrong")
        with self.file.open("a") as file:
            file.write(
                f'[companies.{id_}]\napi_url = "{url or right}"\nclient_id = "client-{id_}"\n'
                f'client_secret_file = "secret-{id_}"\n'
            )

    @property
    def file(self) -> Path:
        path: Path = self.shop.directory / "mirror.toml"
        return path

    async def post(self, id_: int, customer_id: int, name: str) -> str:
        body = json.dumps({"id": customer_id, "first_name": name}).encode()
        return await self.inbox.append(id_, "customers/updated", {}, body)

    async def apply(self, id_: int, name: str) -> float:
        """Let a delivery come; give after how many seconds its verdict was to be seen."""
        customer_id = min(customer["id"] for customer in self.sandboxes[id_].company.truth())
        delivery = await self.post(id_, customer_id, name)
        stored_at = time.monotonic()
        query = "SELECT verdict FROM delivery_verdicts WHERE company_id = ? AND delivery_id = ?"
        await self.shop.until(lambda: asked(self.place, query, id_, delivery))
        return time.monotonic() - stored_at

    def live(self, id_: int) -> int:
        return len(asked(self.place, "SELECT id FROM customers WHERE company_id = ?", id_))

    def epoch(self, id_: int) -> int:
        (row,) = asked(self.place, "SELECT epoch FROM _progress WHERE company_id = ?", id_)
        return int(row["epoch"])

    async def typed(self, command: str) -> Any:
        process = await self.shop.type(command)
        return process.child.returncode, process.out, process.sentences


@pytest.fixture
async def street(shop: Any, database_kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Street]:
    shop.settings = {"KOUNTA_REQUESTS_PER_MINUTE": "100000", "MIRROR_READ_LAG_SECONDS": "0"}
    data = shop.directory / "data"
    data.mkdir()
    place: Place = data
    if database_kind == "postgresql":
        server = request.getfixturevalue("postgresql")
        place = Server(data, server.fresh())
        shop.settings["DATABASE_URL"] = place.url
    button = DoorbellButton(data, OWNER)
    async with await InboxWriter.open(inbox_of(place), committed=button.press) as inbox:
        yield Street(shop, place, inbox)
        await shop.stack.aclose()
    button.close()
    if isinstance(place, Server):
        request.getfixturevalue("postgresql").drop(place.url)


async def test_each_company_is_filled_applied_and_answered_for(street: Street) -> None:
    await street.add(11, customers=2)
    await street.add(22, customers=5)
    await street.shop.worker()
    await street.shop.until(lambda: (street.live(11), street.live(22)) == (2, 5))
    for id_ in (11, 22):
        await street.apply(id_, f"Name of {id_}")
    for id_, customers in ((11, 2), (22, 5)):
        code, out, complaint = await street.typed(f"reconcile --deep --json --company {id_}")
        assert (code, json.loads(out)["read"], complaint) == (0, customers, [])
    verdicts = asked(street.place, "SELECT company_id, verdict FROM delivery_verdicts ORDER BY company_id")
    assert [row["company_id"] for row in verdicts] == [11, 22]


async def test_the_trouble_of_some_companies_keeps_no_other_waiting(street: Street) -> None:
    await street.add(11)
    await street.add(22, known=False)
    await street.add(33, url=NOWHERE)
    await street.add(44)
    if not isinstance(street.place, Server):
        await street.add(55)
    worker = await street.shop.worker()
    await street.shop.until(lambda: (street.live(11), street.live(44)) == (2, 2))
    before = [await street.apply(11, f"Before {number}") for number in range(8)]
    if not isinstance(street.place, Server):
        change(mirror_of(street.place), "UPDATE _progress SET alive_at = 'never' WHERE company_id = 55")
        await street.post(55, 1, "Broken")
        await worker.says("company_failed")
    bodies = [json.dumps({"id": 1 + n % 700, "first_name": f"{n}"}).encode() for n in range(FLOOD)]
    flood = asyncio.gather(*(street.inbox.append(44, "customers/updated", {}, one) for one in bodies))
    during: list[float] = []
    query = "SELECT count(*) AS count FROM delivery_verdicts WHERE company_id = 44"
    while asked(street.place, query)[0]["count"] < FLOOD:
        during.append(await street.apply(11, f"During {len(during)}"))
    await flood
    assert statistics.median(during) < SOON
    for id_ in (22, 33):
        await street.apply(id_, "Applied") if street.live(id_) else await street.post(id_, 7, "Applied")
    await street.shop.until(
        lambda: (
            asked(street.place, "SELECT DISTINCT company_id FROM customers WHERE first_name = 'Applied'")
            == [{"company_id": 22}, {"company_id": 33}]
        )
    )
    assert worker.lives
    sys.stdout.write(
        f"\nFrom a delivery's commit to its verdict, of a company beside four in trouble: median "
        f"{1000 * statistics.median(before):.0f} ms before, {1000 * statistics.median(during):.0f} ms during "
        f"a flood of another, longest {1000 * max(during):.0f} ms of {len(during)}.\n"
    )


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_companies_come_change_and_go_while_the_others_are_worked_for(street: Street) -> None:
    await street.add(11)
    await street.add(22)
    worker = await street.shop.worker()
    await street.shop.until(lambda: (street.live(11), street.live(22)) == (2, 2))
    before = street.epoch(11), street.epoch(22)

    await street.add(33, customers=4)
    await street.shop.until(lambda: street.live(33) == 4)
    assert (street.epoch(11), street.epoch(22)) == before

    text = street.file.read_text()
    street.file.write_text(text.replace("[companies.22]", "[companies.22]\nsweep_seconds = 5000"))
    await street.shop.until(lambda: street.epoch(22) == before[1] + 1)
    assert street.epoch(11) == before[0]

    street.file.write_text(text.partition("[companies.22]")[0] + "[companies.33]" + text.partition("33]")[2])
    query = "SELECT lease_until FROM _progress WHERE company_id = 22"
    await street.shop.until(lambda: asked(street.place, query) == [{"lease_until": None}])
    await street.apply(11, "Jamie")
    await street.apply(33, "Jules")
    assert (street.epoch(11), worker.lives) == (before[0], True)
    assert (await worker.stops())[0] == 0


async def test_once_does_for_each_company_what_it_can(street: Street) -> None:
    await street.add(11, known=False)
    await street.add(22, known=False)
    await street.add(33, customers=3)
    await street.post(11, 7, "Ann")
    code, _, complaint = await street.typed("worker --once")
    assert (code, street.live(11), street.live(33)) == (1, 1, 3)
    assert complaint[-1].startswith("Company 11: ")
    assert " Company 22: " in complaint[-1]
