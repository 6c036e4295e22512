"""A worker for one engine that a test has made, as the process of a worker serves it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from receiver.doorbell import Doorbell
from receiver.local import serve_locally
from sync.console.api import create_api
from sync.inbox import InboxView
from sync.mirror.store import OWNER
from sync.worker import Worker


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    """Run its loops, its socket and its bell; what ends the loops is raised at the end."""
    settings = worker.engine.settings
    async with (
        Doorbell(settings.data_dir, OWNER) as bell,
        serve_locally(create_api(worker.engine), settings.data_dir, OWNER),
        InboxView(settings.place) as inbox,
    ):
        work = asyncio.create_task(worker.work(inbox, bell))
        try:
            yield
        finally:
            worker.engine.reconciler.stop()
            work.cancel()
            await asyncio.wait([work])
            if not work.cancelled():
                work.result()
