"""What reports and the worker do to each other: both at full speed, on SQLite and then on PostgreSQL.

By turns deliveries are applied alone, and while another process asks every canned query and reads all
customers into pandas, again and again. Told are deliveries a second, those with reports as a part of those
alone, questions answered, errors of locks on either side (any: exit code 1), and the largest
write-ahead log of the mirror. Turns with reports last --seconds in all; filling the inbox does not count.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import psycopg

from receiver.database import Place, Server, inbox_of, is_unavailable
from receiver.inbox import InboxWriter
from sync.apply import Applier
from sync.inbox import InboxView
from sync.merge.customers import Subscription
from sync.merge.doubts import Timing
from sync.merge.snapshots import Lens
from sync.mirror.companies import KnownCompany, keep_company, keep_days
from sync.mirror.reader import mirror_path
from sync.mirror.samples import keep_sample
from sync.mirror.store import Mirror
from tests.scaling import Durable, bodies

COMPANY = 5678
END_SECONDS = 60
ASKING = Path(__file__).parents[1] / "asking.py"


@dataclass
class Figures:
    """What came of it."""

    alone: list[float] = field(default_factory=list)
    """Deliveries a second of each turn without reports."""
    beside: list[float] = field(default_factory=list)
    """The same with reports."""
    seconds: float = 0.0
    """Of all turns with reports."""
    asked: int = 0
    locked_reports: int = 0
    locked_worker: int = 0
    largest_log: int = 0
    """Bytes of mirror.db-wal at the most; on PostgreSQL of pg_wal."""
    seen: int = 0
    """Customers at the end, as the last report saw them."""

    @property
    def ratio(self) -> float:
        pairs = zip(self.alone, self.beside, strict=True)
        return statistics.median(beside / alone for alone, beside in pairs)


def url_of(place: Place) -> str:
    return place.url if isinstance(place, Server) else str(mirror_path(place))


class Asking:
    """The process that reports: it asks between `begin` and `stop`."""

    def __init__(self, place: Place) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - ours
            [sys.executable, str(ASKING), url_of(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    async def begin(self) -> None:
        await asyncio.to_thread(self._say, "begin")

    async def stop(self) -> dict[str, int]:
        told: dict[str, int] = json.loads(await asyncio.to_thread(self._say, "stop"))
        return told

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=END_SECONDS)

    def _say(self, word: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        heard = self._process.stdout.readline()
        if not heard:
            raise SystemExit("The process that reports has ended by itself.")
        return heard


class Bench:
    """An inbox that is filled, a worker that empties it, and somebody who reports meanwhile."""

    def __init__(self, place: Place, customers: int, batch: int) -> None:
        self._place, self._customers, self._batch = place, customers, batch
        self._sent = 0
        self._chance = random.Random(0)
        self.figures = Figures()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._inbox = await self._stack.enter_async_context(
            await InboxWriter.open(inbox_of(self._place), queue_limit=self._batch + 1)
        )
        self._mirror = await Mirror.open(self._place, COMPANY, Subscription(), "the benchmark")
        self._stack.push_async_callback(self._mirror.close)
        await keep_company(self._mirror, KnownCompany("Cafe", "Australia/Sydney", datetime.now(UTC)))
        await keep_days(self._mirror, datetime.now(UTC))
        timing, subscription = Timing(), Subscription()
        lens = Lens(COMPANY, subscription, timing.window)
        self._applier = Applier(self._mirror, lens, timing, lambda: datetime.now(UTC))
        view = await self._stack.enter_async_context(InboxView(self._place))
        reader = await view.reader()
        assert reader is not None
        self._reader = reader
        await self._fill(self._customers)
        await self._apply()
        self._asking = Asking(self._place)
        self._stack.callback(self._asking.end)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def turn(self) -> None:
        """Apply a batch alone, and one with reports."""
        self.figures.alone.append(await self._measured())
        await self._asking.begin()
        try:
            self.figures.beside.append(await self._measured(with_reports=True))
        finally:
            told = await self._asking.stop()
        self.figures.asked += told["asked"]
        self.figures.locked_reports += told["locked"]
        self.figures.seen = told["customers"]
        await keep_sample(self._mirror, datetime.now(UTC), 0, 0)

    async def _measured(self, *, with_reports: bool = False) -> float:
        await self._fill(self._batch)
        began = time.perf_counter()
        await self._apply()
        seconds = time.perf_counter() - began
        if with_reports:
            self.figures.seconds += seconds
        return self._batch / seconds

    async def _fill(self, count: int) -> None:
        made = list(bodies(count, self._customers, self._chance, first=self._sent))
        self._sent += count
        for start in range(0, count, 5_000):
            part = made[start : start + 5_000]
            await asyncio.gather(*(self._inbox.append(COMPANY, topic, {}, body) for topic, body in part))

    async def _apply(self) -> None:
        while True:
            try:
                count = await self._applier.apply_next(self._reader)
            except Exception as error:
                if not is_unavailable(error):
                    raise
                self.figures.locked_worker += 1
                continue
            self.figures.largest_log = max(self.figures.largest_log, self._log())
            if not count:
                return

    def _log(self) -> int:
        if isinstance(self._place, Server):
            with psycopg.connect(self._place.url) as connection:
                (size,) = connection.execute("SELECT sum(size)::bigint FROM pg_ls_waldir()").fetchone() or (
                    0,
                )
                return int(size)
        path = mirror_path(self._place)
        return path.with_name(path.name + "-wal").stat().st_size


async def run(place: Place, *, customers: int, batch: int, seconds: float, turns: int = 1) -> Figures:
    """Take turns until those with reports have lasted so long, and at least so many."""
    async with Bench(place, customers, batch) as bench:
        while len(bench.figures.beside) < turns or bench.figures.seconds < seconds:
            await bench.turn()
        return bench.figures


@contextmanager
def places() -> Iterator[Iterator[tuple[str, Place]]]:
    with tempfile.TemporaryDirectory() as name, Durable() as server:
        directory = Path(name)
        server.make("report")
        yield iter([("SQLite", directory), ("PostgreSQL", Server(directory, server.at("report")))])


def show(name: str, figures: Figures) -> None:
    lines = (
        ("applied alone", f"{statistics.median(figures.alone):,.0f} a second"),
        ("with reports", f"{statistics.median(figures.beside):,.0f} a second"),
        ("ratio", f"{figures.ratio:.2f} ({len(figures.beside)} turns)"),
        ("of both", f"{figures.seconds:.0f} s"),
        ("questions answered", f"{figures.asked:,}"),
        ("customers", f"{figures.seen:,}"),
        ("errors of locks", f"{figures.locked_reports} of reports, {figures.locked_worker} of the worker"),
        ("largest log", f"{figures.largest_log / 1e6:,.0f} MB"),
    )
    sys.stdout.write(name + "\n" + "".join(f"  {what:<20}{value:>24}\n" for what, value in lines))
    sys.stdout.flush()


async def main(options: argparse.Namespace) -> int:
    locked = 0
    with places() as both:
        for name, place in both:
            if options.only in {None, name}:
                figures = await run(
                    place, customers=options.customers, batch=options.batch, seconds=options.seconds
                )
                show(name, figures)
                locked += figures.locked_reports + figures.locked_worker
    return int(locked > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=30_000, help="deliveries of a turn")
    parser.add_argument("--only", choices=["SQLite", "PostgreSQL"])
    sys.exit(asyncio.run(main(parser.parse_args())))
