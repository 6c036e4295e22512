"""What the indexes for reports cost when deliveries are applied, on both databases.

The same deliveries are applied to a mirror with all indexes, to one that has them as schema 0009 had, to one
without any that reports or people search by, and, with --each, to one without each in turn. They take turns.
Shown is the processor's time for a delivery (on PostgreSQL the server's) and the size of the mirror, and by
how much all indexes take more, as the median of --rounds ratios, each of one round. --only sqlite or
postgresql leaves the other out.
"""

import argparse
import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from receiver.inbox import InboxReader
from sync.apply import Applier
from sync.merge.customers import Subscription
from sync.merge.doubts import Timing
from sync.merge.snapshots import Lens
from sync.mirror.schema import CHANGES, CUSTOMERS, TAGS, VERDICTS
from sync.mirror.store import Mirror, migrate_mirror
from tests.bench import apply
from tests.scaling import Durable, drain
from tests.scaling import fill as fill_server

HERE: Final = Path(__file__).parents[2]
ALL: Final = "all"
NONE: Final = "none that people ask by"
BEFORE: Final = "as in schema 0009"
OF_BEFORE: Final = (
    "CREATE INDEX before_1 ON {0}_customers (company_id, lower(email))",
    "CREATE INDEX before_2 ON {0}_customers (company_id, phone) WHERE phone IS NOT NULL",
    "CREATE INDEX before_3 ON {0}_customers (company_id, mobile) WHERE mobile IS NOT NULL",
    "CREATE INDEX before_4 ON {0}_customers (company_id, reference_id) WHERE reference_id <> ''",
    "CREATE INDEX before_5 ON {0}_customer_tags (company_id, tag)",
)
NEEDED: Final = frozenset(
    {"_customers_by_verification", "_changes_by_customer", "_changes_that_delete"}
    | {"_delivery_verdicts_in_trouble", "_delivery_verdicts_by_customer", "_delivery_verdicts_unusual"}
)
"""Indexes that the mirror itself works with."""
Way = tuple[Collection[str], Collection[str]]
"""Names of the indexes that it does without, and what makes those that it has instead."""
Measured = tuple[float, float]
"""Microseconds and bytes a delivery."""


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def ways(*, each: bool) -> Iterator[tuple[str, Way]]:
    """Give each way by its name."""
    named = [str(index.name) for table in (CUSTOMERS, TAGS, CHANGES, VERDICTS) for index in table.indexes]
    reported = sorted(set(named) - NEEDED)
    yield ALL, ((), ())
    yield BEFORE, (reported, OF_BEFORE)
    yield NONE, (reported, ())
    for name in reported if each else ():
        yield name, ((name,), ())


async def on_sqlite(inbox: Path, count: int, way: Way) -> Measured:
    without, instead = way
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        migrate_mirror(directory)
        with closing(sqlite3.connect(directory / "mirror.db")) as file:
            for index in without:
                file.execute(f"DROP INDEX {index}")
            for statement in instead:
                file.execute(statement.format(""))
        mirror = await Mirror.open(directory, apply.COMPANY, Subscription(), "the benchmark")
        lens = Lens(apply.COMPANY, Subscription(), timedelta(seconds=2))
        applier = Applier(mirror, lens, Timing(), lambda: datetime.now(UTC))
        async with InboxReader.open(inbox) as reader:
            worked = time.process_time()
            await applier.apply_pending(reader)
            working = time.process_time() - worked
        await mirror.close()
        return working / count * 1e6, (directory / "mirror.db").stat().st_size / count


async def on_postgresql(server: Durable, count: int, way: Way) -> Measured:
    without, instead = way
    server.make("measured", like="filled")
    try:
        for index in without:
            server.ask(f"DROP INDEX mirror.{index}", "measured")
        for statement in instead:
            server.ask(statement.format("mirror."), "measured")
        server.ask("CHECKPOINT")
        drained = await drain(server, "measured", 1, 1, HERE)
        ((size,),) = server.ask("SELECT pg_database_size('measured') - pg_database_size('filled')")
        return drained.of_server / count * 1e6, size / count
    finally:
        server.drop("measured")


async def compare(options: argparse.Namespace, measure: Callable[[Way], Awaitable[Measured]]) -> None:
    await measure(((), ()))  # what a first run has to load
    known = list(ways(each=options.each))
    found: dict[str, list[Measured]] = {name: [] for name, _ in known}
    for turn in range(options.rounds):
        for name, way in known[:: 1 if turn % 2 else -1]:
            found[name].append(await measure(way))
    whole = found.pop(ALL)
    took_all = statistics.median(took for took, _ in whole)
    say(f"  {'all of them':<34} {took_all:>6.0f} us {whole[0][1]:>7,.0f} bytes")
    for name, measured in found.items():
        ratios = [of_all / took for (of_all, _), (took, _) in zip(whole, measured, strict=True)]
        took = statistics.median(took for took, _ in measured)
        say(
            f"  {name:<34} {took:>6.0f} us {measured[0][1]:>7,.0f} bytes: "
            f"all of them take {100 * (statistics.median(ratios) - 1):>+5.1f} % more time"
            f" ({', '.join(f'{100 * (ratio - 1):+.0f}' for ratio in ratios)})"
        )


async def main(options: argparse.Namespace) -> None:
    if options.only != "postgresql":
        with tempfile.TemporaryDirectory() as name:
            await apply.fill(Path(name), options.count, options.customers)
            inbox = Path(name) / "inbox.db"
            say(f"SQLite: {options.count:,} deliveries, {options.customers:,} customers")
            await compare(options, lambda way: on_sqlite(inbox, options.count, way))
    if options.only != "sqlite":
        with Durable() as server:
            server.make("filled")
            fill_server(server.at("filled"), 1, options.count, options.customers)
            say(f"PostgreSQL: {options.count:,} deliveries, {options.customers:,} customers")
            await compare(options, lambda way: on_postgresql(server, options.count, way))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--customers", type=int, default=7_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    asyncio.run(main(parser.parse_args()))
