"""Deliveries a second that 1, 2 and 4 workers apply on PostgreSQL, of one company and of a hundred.

Each worker is a process; the server is one of its own, durable, on the same machine, so the processor's time
of each delivery says more than the rate where the machine has few cores. With --beside DIR, the workers of
another checkout take turns with these. Two figures more: the round trips of a batch, as the server logs them,
and with --statements the time of each statement of a batch.
"""

import argparse
import asyncio
import re
import statistics
import sys
from collections import defaultdict
from itertools import product
from pathlib import Path

from sync.apply import AT_ONCE
from tests.scaling import Drained, Durable, drain, fill

HERE = Path(__file__).parents[2]
LOGGED = re.compile(r"duration: ([\d.]+) ms  (?:statement|execute [^:]*): (.*)", re.DOTALL)
CURSOR = re.compile(r'"c_\w+"')


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def compare(
    server: Durable, count: int, workers: list[int], companies: list[int], checkouts: list[Path], rounds: int
) -> None:
    drained: dict[tuple[int, int, Path], list[Drained]] = defaultdict(list)
    for number in companies:
        server.make(f"of{number}")
        fill(server.at(f"of{number}"), number, count, count // 3)
        await settle(server, f"of{number}", number)
    for turn in range(rounds):
        for number, many in product(companies, workers):
            for checkout in checkouts if turn % 2 else checkouts[::-1]:
                server.make("run", like=f"of{number}")
                server.ask("CHECKPOINT")
                drained[number, many, checkout].append(await drain(server, "run", number, many, checkout))
                server.drop("run")
    for checkout in checkouts:
        show(drained, count, checkout, list(product(companies, workers)))
    for beside in checkouts[1:]:
        for number, many in product(companies, workers):
            new, old = (rate(drained[number, many, checkout], count) for checkout in (checkouts[0], beside))
            say(f"{number:>9} {many:>8} {new / old:>9.2f} times as fast as {beside}")


def show(
    drained: dict[tuple[int, int, Path], list[Drained]],
    count: int,
    checkout: Path,
    rows: list[tuple[int, int]],
) -> None:
    say(f"{count:,} deliveries of {count // 3:,} customers; us: processor's time a delivery; {checkout}")
    say(f"{'companies':>9} {'workers':>8} {'a second':>9} {'of one':>7} {'us workers':>11} {'us server':>10}")
    for number, many in rows:
        runs = drained[number, many, checkout]
        one = rate(drained[number, rows[0][1], checkout], count)
        own = statistics.median(run.of_workers for run in runs) / count * 1e6
        its = statistics.median(run.of_server for run in runs) / count * 1e6
        fast = rate(runs, count)
        say(f"{number:>9} {many:>8} {fast:>9,.0f} {fast / one:>7.2f} {own:>11,.0f} {its:>10,.0f}")


def rate(runs: list[Drained], count: int) -> float:
    return statistics.median(count / run.seconds for run in runs)


async def settle(server: Durable, database: str, companies: int) -> None:
    """Let a table's statistics be those of its content, as autovacuum does after a while."""
    server.ask("VACUUM ANALYZE inbox.deliveries", database)


async def trips(server: Durable, companies: int, checkout: Path, *, statements: bool) -> None:
    """Count what one worker asks of the server for a batch."""
    server.make("run", like=f"of{companies}")
    server.ask("ALTER DATABASE run SET log_min_duration_statement = 0")
    server.ask("ALTER DATABASE run SET log_parameter_max_length = 0")
    log = server.directory / "log"
    start = log.stat().st_size
    await drain(server, "run", companies, 1, checkout)
    server.drop("run")
    with log.open() as lines:
        lines.seek(start)
        entries = re.split(r"^\S+ \S+ \S+ \[\d+\] ", lines.read(), flags=re.MULTILINE)
    asked: dict[str, list[float]] = defaultdict(list)
    for entry in entries:
        found = LOGGED.search(entry)
        if found is None or "sum(position)" in entry:
            continue
        if "SET inbox_id" in entry:
            asked.clear()  # so far it has only begun
        text = CURSOR.sub("cursor", " ".join(found[2].split()))
        asked[text[:110]].append(float(found[1]))
    batches = sum(len(times) for text, times in asked.items() if text.startswith("UPDATE mirror._progress"))
    total = sum(map(len, asked.values()))
    say(f"{total / batches:.1f} round trips a batch of up to {AT_ONCE:,} ({checkout})")
    if statements:
        for text, times in sorted(asked.items(), key=lambda item: -sum(item[1])):
            say(f"{sum(times):>9,.0f} ms {len(times):>6}  {text}")


async def main(options: argparse.Namespace) -> None:
    checkouts = [HERE, *options.beside]
    with Durable() as server:
        await compare(server, options.count, options.workers, options.companies, checkouts, options.rounds)
        for checkout in checkouts:
            await trips(server, options.companies[0], checkout, statements=options.statements)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=30_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--companies", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", type=Path, nargs="+", default=[], help="another checkout to compare with")
    parser.add_argument("--statements", action="store_true")
    asyncio.run(main(parser.parse_args()))
