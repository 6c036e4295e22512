"""What a sweep costs of itself, upstream answering at once: time for each customer, and memory.

Each number of customers gets a process of its own, whose mirror is filled by the first sweep (the list is
abridged: names and e-mails) and walked again by the second. Memory is what the process took at the most, less
what it took before: 64 MiB of it are SQLite's page cache, which a small mirror does not fill. The ratio tells
whether either grows with the number of customers.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2

from sync.engine import open_engine
from sync.settings import WorkerSettings

COMPANY = 5678
PAGE = 25
LIST = f"/v1/companies/{COMPANY}/customers.json"


def items(page: int, customers: int) -> Iterator[dict[str, object]]:
    for id_ in range(page * PAGE + 1, min((page + 1) * PAGE, customers) + 1):
        yield {
            "id": id_,
            "first_name": f"Jamie {id_}",
            "last_name": "McDonald",
            "email": f"jamie{id_}@kounta.example",
        }


def upstream(customers: int) -> httpx2.MockTransport:
    pages = -(-customers // PAGE)

    def answer(request: httpx2.Request) -> httpx2.Response:
        page = int(request.url.params.get("page", "0"))
        headers = {"X-Pages": str(pages), "Content-Type": "application/json"}
        if page + 1 < pages:
            headers["X-Next-Page"] = f"https://api.kounta.com{LIST}?page={page + 1}"
        body = json.dumps(list(items(page, customers))).encode()
        return httpx2.Response(200, content=body, headers=headers)

    return httpx2.MockTransport(answer)


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def measure(customers: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        settings = WorkerSettings.model_validate(
            {
                "MIRROR_DATA_DIR": str(Path(name)),
                "KOUNTA_COMPANY_ID": str(COMPANY),
                "KOUNTA_CLIENT_ID": "benchmark",
                "KOUNTA_CLIENT_SECRET": "benchmark",
                "KOUNTA_REQUESTS_PER_MINUTE": "100000000",
                "MIRROR_READ_LAG_SECONDS": "5",
            }
        )
        async with open_engine(
            settings, "the benchmark", clock=lambda: datetime.now(UTC), transport=upstream(customers)
        ) as engine:
            before, times = memory(), []
            for reason in ("first", "second"):
                began = time.process_time()
                swept = await engine.sweeper.sweep(reason)
                if swept.listed != customers:
                    raise SystemExit(f"{swept.listed} of {customers} customers were listed")
                times.append((time.process_time() - began) / customers)
    return {"first": times[0], "second": times[1], "memory": memory() - before}


def main(few: int, many: int) -> None:
    found = []
    for customers in (few, many):
        command = [sys.executable, __file__, "--measure", str(customers)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - this file
        one = json.loads(output)
        found.append(one)
        sys.stdout.write(
            f"{customers:>9,} customers: filling {one['first'] * 1e6:>6,.0f} µs, walking again "
            f"{one['second'] * 1e6:>6,.0f} µs of CPU each; {one['memory']:>6,.1f} MiB more\n"
        )
    small, large = found
    sys.stdout.write(f"time, {many:,} to {few:,}: {large['second'] / small['second']:.2f}\n")
    sys.stdout.write(f"memory, {many:,} to {few:,}: {large['memory'] / small['memory']:.2f}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=100_000)
    parser.add_argument("--many", type=int, default=200_000)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        sys.stdout.write(json.dumps(asyncio.run(measure(options.measure))))
    else:
        main(options.few, options.many)
