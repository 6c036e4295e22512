"""In how many lives of a mirror the interval that it says of its drift holds the true rate.

Each life, from a seed: customers of a local Kounta change now and then without a word, in what the list does
not show, and the rolling refresh reads as a worker would. The true rate is the share of rows that were wrong
whenever one was drawn at random, counted from outside. Of 100 intervals about 95 should hold it.
"""

import argparse
import asyncio
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import httpx2

from sync.engine import Engine, open_engine
from sync.kounta import Retries
from sync.mirror.counts import Counted, recent_counts
from sync.reconcile.drift import Estimate, drift_of
from sync.reconcile.refresh import RESTING, SAMPLED
from sync.reconcile.report import Request
from sync.sandbox import AppTransport, Courier, Faults, Sandbox, Settings, create_app
from sync.settings import WorkerSettings

COMPANY = 5678
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp()


class Life:
    """A mirror, and whom upstream has changed since the mirror read them."""

    def __init__(self, seed: int, customers: int, wrong: float) -> None:
        self.now = NOON
        self.random = Random(seed)
        self.sandbox = Sandbox(
            Settings(requests_per_minute=1_000_000), Faults(), seed, customers, clock=self.time
        )
        self.changed: set[int] = set()
        self._wrong = wrong

    def time(self) -> float:
        return self.now

    def clock(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def change_some(self) -> None:
        """Let about the wanted share be wrong, each customer as likely as any other."""
        ids = [customer["id"] for customer in self.sandbox.company.truth()]
        while len(self.changed) < self._wrong * len(ids):
            id_ = self.random.choice(ids)
            self.sandbox.company.update(id_, {"phone": f"0{self.random.randrange(10**9)}"}, announce=False)
            self.changed.add(id_)


class Network(httpx2.AsyncBaseTransport):
    """The way to the local Kounta; whoever is read by id is right in the mirror from then on."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._way = AppTransport(create_app(life.sandbox, Courier(life.sandbox)))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        name = request.url.path.rpartition("/")[2].removesuffix(".json")
        if name.isdigit():
            self._life.changed.discard(int(name))
        return await self._way.handle_async_request(request)


async def live(
    seed: int, customers: int, wrong: float, draws: int, directory: Path
) -> tuple[float, Estimate]:
    """Give the true rate, and what the mirror says of it."""
    life = Life(seed, customers, wrong)
    settings = WorkerSettings.model_validate(
        {
            "MIRROR_DATA_DIR": str(directory),
            "KOUNTA_COMPANY_ID": str(COMPANY),
            "KOUNTA_CLIENT_ID": "sandbox-client",
            "KOUNTA_CLIENT_SECRET": "sandbox-secret",
            "KOUNTA_REQUESTS_PER_MINUTE": "100000000",
            "MIRROR_READ_LAG_SECONDS": "5",
        }
    )
    async with open_engine(
        settings,
        "the benchmark",
        clock=life.clock,
        transport=Network(life),
        retries=Retries.sleepless(),
        sleep=life.sleep,
        random=life.random,
    ) as engine:
        await engine.reconciler.reconcile(Request())
        return await watch(life, engine, draws, customers)


async def watch(life: Life, engine: Engine, draws: int, customers: int) -> tuple[float, Estimate]:
    """Refresh until so many were drawn."""
    rates = []
    for number in range(1, draws * SAMPLED + 1):
        life.now += RESTING.total_seconds() / customers
        if number == 1:
            life.now += RESTING.total_seconds()
        life.change_some()
        if number % SAMPLED == 0:
            rates.append(len(life.changed) / customers)
        if not await engine.refresher.refresh():
            raise SystemExit("nobody needed a refresh")
    counts = await recent_counts(engine.mirror, life.clock())
    said = drift_of(counts).whole
    if said is None or counts[Counted.SAMPLED] != draws:
        raise SystemExit(f"{counts} were counted, {draws} drawn")
    return sum(rates) / len(rates), said


def main(seeds: int, customers: int, wrong: float, draws: int) -> None:
    held = 0
    for seed in range(1, seeds + 1):
        with tempfile.TemporaryDirectory() as directory:
            true, said = asyncio.run(live(seed, customers, wrong, draws, Path(directory)))
        holds = said.low <= true <= said.high
        held += holds
        sys.stdout.write(
            f"{seed:>4}  true {true:>7.2%}  said {said.rate:>7.2%} ({said.low:.2%} to {said.high:.2%})"
            f"{'' if holds else '  missed'}\n"
        )
    sys.stdout.write(f"held in {held} of {seeds}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--customers", type=int, default=200)
    parser.add_argument("--wrong", type=float, default=0.03, help="the share that is wrong at any time")
    parser.add_argument("--draws", type=int, default=150)
    options = parser.parse_args()
    main(options.seeds, options.customers, options.wrong, options.draws)
