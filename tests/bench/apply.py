"""Events a second that the worker applies from a full inbox, beside how fast they can only be read from it.

The deliveries are about as many customers as --customers says, each with a body as upstream sends it; half
create, half change. Three figures of one run: how many were applied a second, what part that is of the
speed of reading and parsing the same deliveries and writing nothing, and the processor's time for each, which
is the one to compare where others use the machine too.
"""

import argparse
import asyncio
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from receiver.inbox import InboxReader, InboxWriter
from sync.apply import AT_ONCE, Applier
from sync.merge.customers import Subscription
from sync.merge.doubts import Timing
from sync.merge.snapshots import Lens
from sync.mirror.store import Mirror

COMPANY = 5678
START = datetime(2026, 1, 1, tzinfo=UTC)


def bodies(count: int, customers: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Give topic and body of each delivery."""
    known: set[int] = set()
    for number in range(count):
        id_ = chance.randrange(1, customers + 1)
        topic = "customers/updated" if id_ in known else "customers/created"
        known.add(id_)
        stamp = (START + timedelta(seconds=number * 3)).isoformat()
        customer = {
            "id": id_,
            "first_name": f"Jamie {chance.randrange(10_000)}",
            "last_name": "McDonald",
            "email": f"jamie+{number}@kounta.example",
            "phone": "02 8765 4321",
            "mobile": None,
            "tags": ["vip", "gold"],
            "image": None,
            "primary_address": {
                "address": f"{number} George Street",
                "city": "Sydney",
                "state": "NSW",
                "postal_code": "2000",
                "country": "AU",
            },
            "shipping_address": None,
            "reference_id": "",
            "accepts_marketing": bool(number % 2),
            "created_at": stamp,
            "updated_at": stamp,
        }
        yield topic, json.dumps(customer).encode()


async def fill(directory: Path, count: int, customers: int) -> None:
    async with await InboxWriter.open(directory / "inbox.db", queue_limit=count + 1) as inbox:
        deliveries = list(bodies(count, customers, random.Random(0)))
        for start in range(0, count, 5_000):
            part = deliveries[start : start + 5_000]
            await asyncio.gather(*(inbox.append(COMPANY, topic, {}, body) for topic, body in part))


async def read_only(inbox: InboxReader, lens: Lens) -> float:
    began = time.perf_counter()
    position = 0
    while deliveries := await inbox.read(COMPANY, position, AT_ONCE):
        for one in deliveries:
            lens.body(one.body, deleted=False, arrived_at=one.received_at, position=one.position)
        position = deliveries[-1].position
    return time.perf_counter() - began


async def main(count: int, customers: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        await fill(directory, count, customers)
        lens = Lens(COMPANY, Subscription(), timedelta(seconds=2))
        mirror = await Mirror.open(directory, COMPANY, Subscription(), "the benchmark")
        applier = Applier(mirror, lens, Timing(), lambda: datetime.now(UTC))
        async with InboxReader.open(directory / "inbox.db") as inbox:
            reading = await read_only(inbox, lens)
            began, worked = time.perf_counter(), time.process_time()
            applied = await applier.apply_pending(inbox)
            applying, working = time.perf_counter() - began, time.process_time() - worked
        await mirror.close()
        size = (directory / "mirror.db").stat().st_size
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"applied              {applied:>10,} deliveries of {customers:,} customers\n")
    sys.stdout.write(f"a second             {applied / applying:>10,.0f}\n")
    sys.stdout.write(f"of reading alone     {reading / applying:>10.2f}\n")
    sys.stdout.write(f"processor's time     {working / applied * 1e6:>10,.0f} us a delivery\n")
    sys.stdout.write(f"mirror.db            {size / applied:>10,.0f} bytes a delivery\n")
    sys.stdout.write(f"memory at the most   {memory:>10,.0f} MiB\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=30_000)
    parser.add_argument("--customers", type=int, default=10_000)
    options = parser.parse_args()
    asyncio.run(main(options.count, options.customers))
