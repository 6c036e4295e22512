"""One stream of deliveries, reads and pages ends in equal tables and verdicts on both databases."""

import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from receiver.database import Server, inbox_of
from sync.merge.decisions import accept, accept_missing, compare_listed, compare_unlisted, merge
from sync.merge.doubts import Reason
from sync.merge.reading import read_customer
from sync.merge.snapshots import Source
from sync.mirror.queue import ask_about, doubt_every_live
from sync.mirror.sweeps import begin_sweep, end_sweep, note_failure, note_page, unlisted
from sync.replay import replay
from tests.budget import tries
from tests.digests import differences
from tests.stores import change

CUSTOMERS = range(1, 8)
STEPS = 80
LISTED = ("id", "first_name", "last_name", "email", "image", "updated_at")


class Step(NamedTuple):
    """One thing that happens, said without any house that it happens in."""

    at: float
    kind: str
    what: Any


class Chance:
    """Makes up a stream of steps."""

    def __init__(self, seed: int, customer: Any) -> None:
        self.random = random.Random(seed)
        self.customer = customer
        self.now = 0.0
        self.posted = 0

    def stream(self) -> list[Step]:
        return [self.step() for _ in range(STEPS)]

    def step(self) -> Step:
        self.now += self.random.choice([0, 0.5, 1, 3, 60, 4000])
        kinds = {"post": 12, "apply": 5, "replay": 2, "read": 3, "miss": 1, "page": 2, "ask": 1, "reopen": 1}
        (kind,) = self.random.choices(list(kinds), list(kinds.values()))
        return Step(self.now, kind, getattr(self, kind)())

    def somebody(self) -> dict[str, Any]:
        choice = self.random.choice
        body = self.customer(
            choice(CUSTOMERS),
            choice([None, self.now, self.now - 1, self.now - 30]),
            first_name=choice(["Ann", "Zoë", "\N{GRINNING FACE}\u2028", "a\x00b", "\\u0000", "", None]),
            phone=choice(["02 8765 4321", "0287654321", 287654321, ["02"], None]),
            tags=choice(
                [
                    [],
                    "vip",
                    {"0": "a", "2": "b"},
                    ["vip"],
                    ["vip", "gold", "vip"],
                    ["é", "\N{GRINNING FACE}"],
                    None,
                ]
            ),
            accepts_marketing=choice([True, False, None]),
            seen_at=self.now,
            loyalty=choice(
                [1, True, float("nan"), "\x00", 1.5, 1e20, 1e23, -0.0, {"b": [None, "\\"], "a": {"": 0.1}}]
            ),
        )
        for absent in self.random.sample(["email", "tags", "loyalty", "phone"], choice([0, 0, 2])):
            del body[absent]
        return dict(body)

    def post(self) -> tuple[str, bytes]:
        self.posted += 1
        odd = [b"", b"no JSON \x00\xff", b'{"id": 1, "first_name": "\\ud800"}', b"[]", b'{"id": 1e400}']
        body = self.random.choice(odd) if self.random.random() < 0.1 else json.dumps(self.somebody()).encode()
        return self.random.choice(["created", "updated", "updated", "deleted"]), body

    def apply(self) -> None:
        pass

    def reopen(self) -> None:
        pass

    def replay(self) -> list[int]:
        return self.random.sample(range(self.posted), min(3, self.posted))

    def read(self) -> dict[str, Any]:
        return {**self.somebody(), "first_name": "Read"}

    def miss(self) -> int:
        return self.random.choice(CUSTOMERS)

    def ask(self) -> int:
        return self.random.choice(CUSTOMERS)

    def page(self) -> list[dict[str, Any]]:
        items = [{**self.somebody(), "id": id_, "first_name": "Listed"} for id_ in CUSTOMERS]
        chosen = self.random.sample(items, self.random.randrange(len(items)))
        return [{name: item[name] for name in LISTED if name in item} for item in chosen]


class Life:
    """Takes a house through the steps of a stream."""

    def __init__(self, house: Any) -> None:
        self.house = house
        self.names: list[str] = []

    async def go_through(self, stream: list[Step]) -> None:
        for step in stream:
            self.house.at(step.at)
            await getattr(self, step.kind)(step.what)
        await self.house.apply()

    async def post(self, what: tuple[str, bytes]) -> None:
        event, body = what
        self.names.append(await self.house.post(body, event))

    async def apply(self, _: None) -> None:
        await self.house.apply()

    async def reopen(self, _: None) -> None:
        await self.house.reopen()

    async def replay(self, chosen: list[int]) -> None:
        settings = SimpleNamespace(place=self.house.place, company_id=5678)
        engine: Any = SimpleNamespace(mirror=self.house.mirror, applier=self.house.applier, settings=settings)
        await replay(engine, [self.names[number] for number in chosen])

    def seen(self, item: dict[str, Any], source: Source, *, listed: bool = False) -> Any:
        return self.house.applier._lens.customer(
            read_customer(json.dumps(item).encode()),
            arrived_at=self.house.now,
            position=self.house.mirror.progress.position,
            source=source,
            listed=listed,
        )

    async def read(self, item: dict[str, Any]) -> None:
        snapshot = self.seen(item, Source.VERIFICATION)
        async with self.house.mirror.batch([snapshot.customer_id], self.house.now) as batch:
            decision = accept(
                batch.records.get(snapshot.customer_id), snapshot, self.house.applier._lens.subscription
            )
            batch.decide(decision, source=Source.VERIFICATION, at=self.house.now)
            batch.settle(snapshot.customer_id)

    async def miss(self, id_: int) -> None:
        async with self.house.mirror.batch([id_], self.house.now) as batch:
            record = batch.records.get(id_)
            if record is not None:
                decision = accept_missing(record, arrived_at=self.house.now, position=batch.position)
                batch.decide(decision, source=Source.VERIFICATION, at=self.house.now)
                batch.settle(id_)

    async def ask(self, id_: int) -> None:
        await ask_about(self.house.mirror, [id_], self.house.now)
        await doubt_every_live(self.house.mirror, Reason.REFRESH, self.house.now, asked=False)

    async def page(self, items: list[dict[str, Any]]) -> None:
        """Walk a list of one page: what is on it is compared, what is not is doubted."""
        mirror, now, lens = self.house.mirror, self.house.now, self.house.applier._lens
        sweep = await begin_sweep(mirror, "schedule", now)
        async with mirror.batch([item["id"] for item in items], now) as batch:
            for item in items:
                snapshot = self.seen(item, Source.SWEEP, listed=True)
                record = batch.records.get(snapshot.customer_id)
                if record is None:
                    decision = merge(record, snapshot, lens.subscription, lens.window)
                else:
                    decision = compare_listed(record, snapshot)
                self.leave(batch, decision)
                batch.listed(snapshot.customer_id, sweep.id)
            await note_page(batch, sweep)
        if not items:
            await note_failure(mirror, sweep, "Kounta answered 503")
            return
        left_out = await unlisted(mirror, sweep, 0, 500)
        async with mirror.batch(left_out, now) as batch:
            for id_ in left_out:
                self.leave(batch, compare_unlisted(batch.records[id_], now))
        await end_sweep(mirror, sweep, now, None)

    def leave(self, batch: Any, decision: Any) -> None:
        batch.decide(decision, source=Source.SWEEP, at=self.house.now)
        if decision.doubt is not None:
            batch.doubt(decision.record.customer_id, decision.doubt, self.house.now)


@pytest.fixture
async def houses(empty_house: Any, tmp_path: Path, postgresql: Any) -> AsyncIterator[list[Any]]:
    """Two houses with the same inbox, one on each database."""
    async with AsyncExitStack() as stack:
        places = [tmp_path / "files", Server(tmp_path / "server", postgresql.fresh())]
        built = [type(empty_house)(place, stack) for place in places]
        for house in built:
            await house.open()
            change(inbox_of(house.place), "UPDATE identity SET identity = 'the same'")
        yield built


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The houses of this file choose their places themselves."""
    return tmp_path / "nowhere"


@pytest.mark.parametrize("seed", range(tries(2, 4)))
async def test_one_stream_ends_alike_on_both_databases(houses: list[Any], seed: int) -> None:
    stream = Chance(seed, houses[0].customer).stream()
    for house in houses:
        await Life(house).go_through(stream)
    on_sqlite, on_postgresql = houses
    assert on_sqlite.verdicts() == on_postgresql.verdicts()
    assert differences(on_sqlite.place, on_postgresql.place) == {}
    assert len(on_sqlite.verdicts()) == Counter(step.kind for step in stream)["post"]


async def test_what_differs_is_seen(houses: list[Any]) -> None:
    for house, name in zip(houses, ["Ann", "Bea"], strict=True):
        await house.post(house.customer(1, first_name=name))
        await house.apply()
    found = differences(*(house.place for house in houses))
    assert sorted(found) == ["_changes", "_customers", "deliveries"]
    ((here,), (there,)) = found["_customers"]
    assert (here["first_name"], there["first_name"]) == ("Ann", "Bea")
