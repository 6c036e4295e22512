"""Whatever happens to it, the mirror's figures, history and tags say the same as its rows."""

import asyncio
import gc
import itertools
import json
import random
import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from receiver.database import inbox_of
from receiver.inbox import InboxReader
from sync import apply
from sync.merge.customers import COLUMNS, Customer
from sync.merge.decisions import Decision, Verdict, accept, accept_missing, merge
from sync.merge.doubts import Reason
from sync.merge.snapshots import Source
from sync.mirror.queue import ask_about, doubt_every_live
from sync.replay import replay
from tests.budget import tries

CUSTOMERS = range(1, 6)
STEPS = 60


class Life:
    """Does one thing after another to a mirror, chosen by chance."""

    def __init__(self, house: Any, chance: random.Random, patch: pytest.MonkeyPatch) -> None:
        self.house = house
        self.chance = chance
        self.patch = patch
        self.now = 0.0
        self.names: list[str] = []

    async def step(self) -> None:
        self.now += self.chance.choice([0, 0.5, 1, 3, 60])
        self.house.at(self.now)
        acts: list[Any] = [
            *[self.hear] * 6,
            *[self.house.apply] * 3,
            self.apply_and_stumble,
            self.apply_and_be_cancelled,
            self.replay_some,
            self.read,
            self.find_missing,
            self.ask,
            self.house.reopen,
        ]
        await self.chance.choice(acts)()

    def somebody(self) -> dict[str, Any]:
        names, tags = ["Ann", "Bea", None], [[], ["vip"], ["vip", "gold", "vip"], None]
        body = self.house.customer(
            self.chance.choice(CUSTOMERS),
            self.chance.choice([None, self.now, self.now - 1, self.now - 30]),
            first_name=self.chance.choice(names),
            tags=self.chance.choice(tags),
            loyalty=self.chance.choice([1, True]),
        )
        for absent in self.chance.sample(
            ["email", "tags", "loyalty", "phone"], self.chance.choice([0, 0, 2])
        ):
            del body[absent]
        return dict(body)

    async def hear(self) -> None:
        event = self.chance.choice(["created", "updated", "updated", "deleted"])
        body = self.somebody() if self.chance.random() < 0.9 else b"no JSON"
        self.names.append(await self.house.post(body, event))

    async def apply_and_stumble(self) -> None:
        odd = self.chance.choice(CUSTOMERS)

        def stumble(record: Any, snapshot: Any, *rest: Any) -> Decision:
            assert snapshot.customer_id != odd
            return merge(record, snapshot, *rest)

        with self.patch.context() as broken:
            broken.setattr(apply, "merge", stumble)
            await self.house.apply()

    async def apply_and_be_cancelled(self) -> None:
        applying = asyncio.create_task(self.house.apply())
        for _ in range(self.chance.randrange(200)):
            await asyncio.sleep(0)
        applying.cancel()
        await asyncio.wait([applying])
        if sys.version_info >= (3, 13):
            gc.collect()  # what findings/aiosqlite-cancelled-connect.sh shows is warned of here

    async def replay_some(self) -> None:
        settings = SimpleNamespace(place=self.house.place, company_id=5678)
        engine: Any = SimpleNamespace(mirror=self.house.mirror, applier=self.house.applier, settings=settings)
        some = self.chance.sample(self.names, min(3, len(self.names)))
        await replay(engine, some, self.chance.choice([None, *Verdict]))

    async def read(self) -> None:
        customer = Customer.model_validate(self.somebody())
        lens = self.house.applier._lens
        progress = self.house.mirror.progress
        snapshot = lens.customer(
            customer, arrived_at=self.house.now, position=progress.position, source=Source.VERIFICATION
        )
        async with self.house.mirror.batch([customer.id], self.house.now) as batch:
            decision = accept(batch.records.get(customer.id), snapshot, lens.subscription)
            batch.decide(decision, source=Source.VERIFICATION, at=self.house.now)
            batch.settle(customer.id)

    async def find_missing(self) -> None:
        id_ = self.chance.choice(CUSTOMERS)
        async with self.house.mirror.batch([id_], self.house.now) as batch:
            record = batch.records.get(id_)
            if record is not None:
                decision = accept_missing(record, arrived_at=self.house.now, position=batch.position)
                batch.decide(decision, source=Source.VERIFICATION, at=self.house.now)
                batch.settle(id_)

    async def ask(self) -> None:
        await ask_about(self.house.mirror, [self.chance.choice(CUSTOMERS)], self.house.now)
        await doubt_every_live(self.house.mirror, Reason.REFRESH, self.house.now, asked=False)


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
@pytest.mark.parametrize("seed", range(tries(3, 8)))
async def test_figures_history_and_tags_agree_with_the_rows_all_along(
    house: Any, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    life = Life(house, random.Random(seed), monkeypatch)
    for _ in range(STEPS):
        await life.step()
        await no_delivery_is_lost_or_ruled_twice(house)
    await house.apply()
    await no_delivery_is_lost_or_ruled_twice(house)
    assert len(house.verdicts()) == len(life.names)
    figures_are_the_rows_counted(house)
    changes_lead_from_state_to_state(house)
    versions_are_contiguous(house)
    tags_are_those_of_live_customers(house)


async def no_delivery_is_lost_or_ruled_twice(house: Any) -> None:
    assert house.counts() == Counter(house.verdicts())
    async with InboxReader.open(inbox_of(house.place)) as inbox:
        position = house.row("SELECT position FROM _progress")["position"]
        pending, _ = await inbox.pending(5678, position)
        assert sum(house.counts().values()) + pending == await inbox.accepted(5678)


def figures_are_the_rows_counted(house: Any) -> None:
    status = house.row("SELECT * FROM mirror_status")
    counted = house.row(
        "SELECT count(*) FILTER (WHERE deleted_at IS NULL) AS live,"
        " count(*) FILTER (WHERE deleted_at IS NOT NULL) AS deleted,"
        " count(*) FILTER (WHERE deleted_at IS NULL AND verified_at IS NOT NULL) AS verified,"
        " count(*) FILTER (WHERE deleted_at IS NULL AND partial) AS partial,"
        " min(verified_at) FILTER (WHERE deleted_at IS NULL) AS oldest_verified_at,"
        " (SELECT count(*) FROM _verifications) AS verifications_due FROM all_customers"
    )
    assert {name: status[name] for name in counted} == counted


def changes_lead_from_state_to_state(house: Any) -> None:
    changes = house.rows("SELECT * FROM customer_changes ORDER BY seq")
    assert [one["seq"] for one in changes] == list(range(1, len(changes) + 1))
    states: dict[int, dict[str, Any] | None] = {}
    for change in changes:
        before, after = json.loads(change["before"]), json.loads(change["after"])
        known = states.get(change["customer_id"])
        if change["kind"] == "updated":
            assert known is not None
            assert {name: known.get(name) for name in before} == before
            assert before.keys() == after.keys()
            assert before != after or change["attributes"] == '["other"]'  # 1 and true are equal in Python
            known = {name: value for name, value in (known | after).items() if value is not None}
        elif change["kind"] == "deleted":
            assert (known or {}, {}) == (before, after)
            known = None
        else:
            assert change["kind"] == ("created" if change["customer_id"] not in states else "restored")
            assert (known, before) == (None, {})
            known = after
        states[change["customer_id"]] = known
    live = house.rows("SELECT * FROM customers")
    assert {id_: state for id_, state in states.items() if state is not None} == {
        row["id"]: shown(row) for row in live
    }


def shown(row: dict[str, Any]) -> dict[str, Any]:
    values = {name: row[name] for name in COLUMNS if row[name] is not None}
    for name in {"tags", "other"} & values.keys():
        values[name] = json.loads(values[name])
    if "accepts_marketing" in values:
        values["accepts_marketing"] = bool(values["accepts_marketing"])
    return values


def versions_are_contiguous(house: Any) -> None:
    for customer in house.rows("SELECT * FROM all_customers"):
        versions = house.rows(
            "SELECT * FROM customer_versions WHERE customer_id = ? ORDER BY seq", customer["id"]
        )
        assert all(one["valid_to"] is None or one["valid_from"] <= one["valid_to"] for one in versions)
        assert all(
            one["valid_to"] is not None and one["valid_to"] <= other["valid_from"]
            for one, other in itertools.pairwise(versions)
        )
        open_ended = [one for one in versions if one["valid_to"] is None]
        if customer["deleted_at"] is not None:
            assert open_ended == []
        else:
            (newest,) = open_ended
            assert newest == versions[-1]
            assert {name: newest[name] for name in COLUMNS} == {name: customer[name] for name in COLUMNS}


def tags_are_those_of_live_customers(house: Any) -> None:
    wanted = Counter(
        (row["id"], tag)
        for row in house.rows("SELECT id, tags FROM customers")
        for tag in json.loads(row["tags"] or "[]")
    )
    tags = house.rows("SELECT company_id, customer_id, tag FROM customer_tags")
    assert Counter((one["customer_id"], one["tag"]) for one in tags) == wanted
