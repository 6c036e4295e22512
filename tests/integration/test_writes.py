"""Customers written at the local Kounta are in the mirror at once, whatever else comes in meanwhile."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from receiver.database import Place
from receiver.inbox import Delivery
from sync.engine import Engine, open_engine, utc_now
from sync.kounta import KountaError, KountaRefused, KountaUnavailable, Retries
from sync.mirror.queue import due_doubts
from sync.sandbox import Faults, Sandbox, Settings, serving
from sync.settings import WorkerSettings
from tests.databases import asked
from tests.places import settings_of

JAMIE: Any = {"first_name": "Jamie", "email": "j@shop.example", "tags": ["vip"]}


@dataclass
class Shop:
    sandbox: Sandbox
    place: Place
    engine: Engine = field(init=False)
    ahead: timedelta = timedelta(0)

    def clock(self) -> datetime:
        return utc_now() + self.ahead

    def row(self, customer_id: int) -> dict[str, Any]:
        found = asked(self.place, "SELECT * FROM all_customers WHERE id = ?", customer_id)
        return found[0] if found else {}

    def changes(self, customer_id: int) -> list[tuple[str, str]]:
        query = "SELECT kind, source FROM customer_changes WHERE customer_id = ? ORDER BY seq"
        return [(row["kind"], row["source"]) for row in asked(self.place, query, customer_id)]

    def doubts(self, customer_id: int) -> list[str]:
        query = "SELECT reason FROM _verifications WHERE customer_id = ?"
        return [row["reason"] for row in asked(self.place, query, customer_id)]

    async def deliver(self, position: int, topic: str, **fields: Any) -> None:
        """Apply a webhook that upstream sends just now."""
        body = self.sandbox.company.json(fields | {"updated_at": utc_now().isoformat(timespec="seconds")})
        one = Delivery(position, f"delivery-{position}", 5678, f"customers/{topic}", utc_now(), {}, body)
        await self.engine.applier.apply([one])


@asynccontextmanager
async def a_shop(place: Place, **settings: Any) -> AsyncIterator[Shop]:
    sandbox = Sandbox(Settings(requests_per_minute=100_000, **settings), Faults(), seed=7, customers=3)
    async with serving(sandbox) as url:
        values: dict[str, Any] = {
            **settings_of(place),
            "KOUNTA_COMPANY_ID": 5678,
            "KOUNTA_CLIENT_ID": "sandbox-client",
            "KOUNTA_CLIENT_SECRET": "sandbox-secret",
            "KOUNTA_API_URL": url,
            "KOUNTA_REQUESTS_PER_MINUTE": 1_000_000,
        }
        shop = Shop(sandbox, place)
        retries = Retries.sleepless(attempt=2)
        async with open_engine(
            WorkerSettings(**values), "the test", clock=shop.clock, retries=retries
        ) as shop.engine:
            yield shop


@pytest.fixture
async def shop(place: Place) -> AsyncIterator[Shop]:
    async with a_shop(place) as shop:
        yield shop


async def test_a_customer_that_was_created_is_a_row_at_once(shop: Shop) -> None:
    jamie = await shop.engine.writer.create(
        {"first_name": "Jamie", "email": "j@shop.example", "tags": ["vip"]}
    )
    row = shop.row(jamie.id)
    assert (row["first_name"], row["email"], row["tags"], row["partial"]) == (
        "Jamie",
        "j@shop.example",
        '["vip"]',
        0,
    )
    assert row["first_seen_by"] == "write"
    assert shop.changes(jamie.id) == [("created", "write")]
    assert shop.doubts(jamie.id) == ["confirmation"]


async def test_two_updates_within_one_second_are_both_in_the_row_at_once(shop: Shop) -> None:
    jamie = await shop.engine.writer.create({"first_name": "Jamie", "email": "j@shop.example"})
    for name in ("James", "Jim"):
        await shop.engine.writer.update(jamie.id, {"first_name": name})
        assert shop.row(jamie.id)["first_name"] == name
    assert shop.changes(jamie.id) == [("created", "write"), ("updated", "write"), ("updated", "write")]


async def test_an_update_of_a_customer_that_the_mirror_did_not_have_makes_its_row(shop: Shop) -> None:
    known = next(iter(shop.sandbox.company.customers))
    await shop.engine.writer.update(known.id, {"email": "new@shop.example"})
    row = shop.row(known.id)
    assert (row["first_name"], row["email"]) == (known.first_name, "new@shop.example")


async def test_the_webhook_of_a_write_that_comes_first_leaves_one_change(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(shop, monkeypatch, lambda one: shop.deliver(1, "created", **one))
    jamie = await shop.engine.writer.create({"first_name": "Jamie", "email": "j@shop.example"})
    assert shop.changes(jamie.id) == [("created", "webhook")]
    assert shop.doubts(jamie.id) == ["confirmation"]


async def test_an_answer_that_differs_from_what_came_meanwhile_leaves_a_doubt(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    jamie = await shop.engine.writer.create({"first_name": "Jamie", "email": "j@shop.example"})
    meanwhile(shop, monkeypatch, lambda one: shop.deliver(1, "updated", **(one | {"phone": "02 1"})))
    await shop.engine.writer.update(jamie.id, {"last_name": "McDonald"})
    assert shop.doubts(jamie.id) == ["ambiguous"]


async def test_a_write_that_may_have_been_made_leaves_the_customer_in_doubt(shop: Shop) -> None:
    jamie = await shop.engine.writer.create({"first_name": "Jamie", "email": "j@shop.example"})
    before = shop.row(jamie.id)
    async with shop.engine.mirror.batch([jamie.id], utc_now()) as batch:
        batch.settle(jamie.id)
    shop.sandbox.faults.server_errors = 1.0
    with pytest.raises(KountaUnavailable):
        await shop.engine.writer.update(jamie.id, {"last_name": "McDonald"})
    assert shop.row(jamie.id) == before
    assert shop.doubts(jamie.id) == ["confirmation"]


async def test_a_write_that_upstream_refuses_changes_nothing(shop: Shop) -> None:
    with pytest.raises(KountaError, match="There is no customer 9"):
        await shop.engine.writer.update(9, {"last_name": "McDonald"})
    with pytest.raises(KountaRefused):
        await shop.engine.writer.create({"first_name": "Jamie"})
    assert shop.row(9) == {}
    assert shop.doubts(9) == []


async def test_a_customer_that_was_made_but_cannot_be_read_is_left_to_a_verification(shop: Shop) -> None:
    shop.sandbox.calls.ask(["none", *["html_answers"] * 3])
    with pytest.raises(KountaError, match="was written, but could not be read") as caught:
        await shop.engine.writer.create({"first_name": "Jamie", "email": "j@shop.example"})
    assert caught.value.written_id is not None
    assert shop.doubts(caught.value.written_id) == ["confirmation"]


async def test_what_upstream_holds_and_the_mirror_cannot_costs_only_its_field(shop: Shop) -> None:
    known = shop.sandbox.company.create({"first_name": "Jamie", "last_name": "a\x00b"})
    await shop.engine.writer.update(known.id, {"email": "j@shop.example"})
    row = shop.row(known.id)
    assert (row["email"], row["last_name"], row["partial"]) == ("j@shop.example", None, 1)


async def test_who_is_new_to_a_mirror_that_knows_all_is_the_one_that_was_made(shop: Shop) -> None:
    await shop.engine.sweeper.sweep("asked for")
    shop.sandbox.calls.ask(["server_errors"])
    shop.sandbox.faults.fault_after_write = 1.0
    jamie = await shop.engine.writer.create(JAMIE)
    assert shop.row(jamie.id)["email"] == "j@shop.example"
    assert shop.sandbox.company.changes["customers/created"] == 1


async def test_who_may_be_older_is_named_and_read_later(shop: Shop) -> None:
    shop.sandbox.calls.ask(["server_errors"])
    shop.sandbox.faults.fault_after_write = 1.0
    with pytest.raises(KountaUnavailable, match=r"has all of this, but may be older") as caught:
        await shop.engine.writer.create(JAMIE)
    made = max(one.id for one in shop.sandbox.company.customers)
    assert caught.value.likely_id == made
    assert shop.doubts(made) == ["confirmation"]


async def test_an_older_twin_in_the_mirror_is_not_taken_for_the_new_customer(shop: Shop) -> None:
    shop.sandbox.company.create(JAMIE | {"reference_id": "ABC123"}, announce=False)
    await shop.engine.sweeper.sweep("asked for")
    shop.ahead = timedelta(seconds=1)
    shop.sandbox.calls.ask(["server_errors"])
    shop.sandbox.faults.fault_after_write = 0.0
    with pytest.raises(KountaUnavailable, match=r"who is older, hides it") as caught:
        await shop.engine.writer.create(JAMIE)
    assert caught.value.fate_unknown
    shop.sandbox.calls.ask(["server_errors"])
    made = await shop.engine.writer.create(JAMIE | {"reference_id": "ABC123"})
    assert made.id == max(one.id for one in shop.sandbox.company.customers)
    assert shop.sandbox.company.changes["customers/created"] == 2


async def test_a_deleted_customer_that_upstream_still_has_comes_back_with_a_write(shop: Shop) -> None:
    jamie = await shop.engine.writer.create({"first_name": "Jamie", "email": "j@shop.example"})
    await shop.deliver(1, "deleted", id=jamie.id, **JAMIE)
    assert shop.row(jamie.id)["deleted_at"] is not None
    await shop.engine.writer.update(jamie.id, {"last_name": "McDonald"})
    row = shop.row(jamie.id)
    assert (row["deleted_at"], row["last_name"]) == (None, "McDonald")


async def test_a_read_later_confirms_what_was_written(shop: Shop) -> None:
    jamie = await shop.engine.writer.create({"first_name": "Jamie", "email": "j@shop.example"})
    shop.sandbox.company.update(jamie.id, {"phone": "02 8765 4321"}, announce=False)
    timing = shop.engine.settings.timing
    assert await due_doubts(shop.engine.mirror, shop.clock(), timing, 8) == []
    shop.ahead = timedelta(seconds=40)
    await shop.engine.verifier.verify_all(await due_doubts(shop.engine.mirror, shop.clock(), timing, 8))
    assert shop.row(jamie.id)["phone"] == "02 8765 4321"
    assert shop.doubts(jamie.id) == []


def meanwhile(shop: Shop, monkeypatch: pytest.MonkeyPatch, deliver: Callable[[dict[str, Any]], Any]) -> None:
    """Let a webhook come between upstream's answer to the next write and its merge."""
    kounta = shop.engine.kounta
    for name in ("write_new", "write_changes"):
        write = getattr(kounta, name)

        async def written(*given: Any, write: Any = write, **named: Any) -> Any:
            answer = await write(*given, **named)
            await deliver(answer.customer.model_dump(exclude={"created_at", "updated_at"}))
            return answer

        monkeypatch.setattr(kounta, name, written)
