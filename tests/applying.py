"""A process that applies what the inbox at URL holds of so many companies, once a line comes on its stdin."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from receiver.database import Server
from sync.apply import Applier
from sync.inbox import InboxView
from sync.merge.customers import Subscription
from sync.merge.doubts import Timing
from sync.merge.snapshots import Lens
from sync.mirror.store import BusyElsewhere, Mirror, MirrorStore
from sync.process import APPLYING_AT_ONCE, FIRST_BUSY_SECONDS, LONGEST_BUSY_SECONDS
from sync.worker import POLL_SECONDS

FIRST_COMPANY = 5001


async def apply(applier: Applier, view: InboxView, turns: asyncio.Semaphore) -> None:
    """Do as a worker's process does for each company, but that no bell rings."""
    reader = await view.reader()
    assert reader is not None
    pause = FIRST_BUSY_SECONDS
    while True:
        try:
            async with turns:
                applied = await applier.apply_next(reader, wait=False)
        except BusyElsewhere:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_BUSY_SECONDS)
        else:
            pause = FIRST_BUSY_SECONDS
            if not applied:
                await asyncio.sleep(POLL_SECONDS)


async def main(url: str, companies: int) -> None:
    place = Server(Path(), url)
    store = MirrorStore.open(place, "the benchmark")
    timing, subscription = Timing(), Subscription()
    appliers = []
    for company_id in range(FIRST_COMPANY, FIRST_COMPANY + companies):
        mirror = await Mirror.of(store, company_id, subscription)
        lens = Lens(company_id, subscription, timing.window)
        appliers.append(Applier(mirror, lens, timing, lambda: datetime.now(UTC)))
    async with InboxView(place) as view:
        reader = await view.reader()
        assert reader is not None
        for applier in appliers:  # once for each company: a start, not what is measured
            await applier.check_identity(reader)
            applier._inbox = reader
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        turns = asyncio.Semaphore(APPLYING_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for applier in appliers:
                group.create_task(apply(applier, view, turns))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
