"""Sweeps, reads and held deletions end in the same mirror on both databases."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from receiver.database import Server
from sync.merge.customers import COLUMNS
from sync.reconcile.report import Report

# Of reads that are under way together chance says who is first: no numbers of changes, no times.
WHAT_IS_SHOWN = (
    f"SELECT id, {', '.join(COLUMNS)}, partial, first_seen_by, deleted_at IS NULL AS live FROM all_customers",  # noqa: S608 - names only
    "SELECT customer_id, kind, source, delivery_id, attributes FROM customer_changes",
    "SELECT customer_id, tag FROM customer_tags",
    "SELECT delivery_id, customer_id, topic, verdict, reason FROM delivery_verdicts",
    "SELECT live, deleted, verified, partial, listed_complete, verifications_due FROM mirror_status",
    "SELECT reason, complete, listed, failure FROM _sweeps",
    "SELECT customer_id FROM _held_deletes",
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The shops of this file choose their places themselves."""
    return tmp_path / "nowhere"


@pytest.fixture
async def shops(shop: Any, tmp_path: Path, postgresql: Any) -> AsyncIterator[list[Any]]:
    """Two shops, alike but for their databases."""
    async with AsyncExitStack() as stack:
        places = [tmp_path / "files", Server(tmp_path / "server", postgresql.fresh())]
        yield [type(shop)(place, stack) for place in places]


async def live(shop: Any, seed: int) -> list[Report]:
    """Let upstream change, tell the mirror of some of it, and reconcile now and then."""
    chance = Random(seed)
    await shop.build(40, seed=seed)
    reports = [await shop.reconcile()]
    for _ in range(3):
        shop.skip(chance.choice([1, 60, 4000]))
        for _ in range(10):
            await change_something(shop, chance)
        shop.skip(chance.choice([1, 60]))
        reports.append(await shop.reconcile(deep=chance.random() < 0.3))
    shop.delete(*shop.ids[:20])
    shop.skip(60)
    reports.append(await shop.reconcile())
    shop.skip(60)
    reports.append(await shop.reconcile(deep=True, allow_deletes=reports[-1].held_deletes))
    await shop.close()
    return [replace(report, calls=0) for report in reports]  # whether a 404 costs one more, chance says


async def change_something(shop: Any, chance: Random) -> None:
    customer_id = chance.choice(shop.ids)
    match chance.choice(["told", "told", "lost", "late", "create", "delete"]):
        case "told":
            await shop.deliver(shop.update(customer_id, first_name=chance.choice(["Ann", "Zoë"])))
        case "lost":
            shop.update(customer_id, tags=[chance.choice(["vip", "gold"])])
        case "late":
            before = shop.update(customer_id, last_name="Before")
            await shop.deliver(shop.update(customer_id, last_name="After"))
            await shop.deliver(before)
        case "create":
            shop.create(first_name="New")
        case "delete":
            shop.delete(customer_id)
    shop.skip(chance.choice([0, 0.5, 3]))


async def test_a_life_with_sweeps_ends_alike_on_both_databases(shops: list[Any]) -> None:
    on_sqlite, on_postgresql = [await live(shop, seed=1) for shop in shops]
    assert on_sqlite == on_postgresql
    assert on_sqlite[-2].held_deletes > 0
    assert [shop.wrong for shop in shops] == [{}, {}]
    for question in WHAT_IS_SHOWN:
        here, there = [sorted(map(repr, shop.rows(question))) for shop in shops]
        assert here == there
