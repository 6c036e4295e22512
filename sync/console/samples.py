"""A sample of how it stands, once a minute, for the plots of the last day."""

from typing import Final

from sync.engine import Engine
from sync.inbox import InboxView
from sync.mirror.deliveries import applied_through
from sync.mirror.samples import keep_sample

SAMPLE_SECONDS: Final = 60.0
"""Between two samples."""


async def sample(engine: Engine, inbox: InboxView) -> None:
    """Take one; while no receiver has made an inbox, nothing waits."""
    now = engine.clock()
    count, age = 0, 0.0
    reader = await inbox.reader()
    if reader is not None:
        known, position = await applied_through(engine.mirror)
        if known not in {None, await reader.identity()}:
            position = 0
        count, oldest = await reader.pending(engine.settings.company_id, position)
        if oldest is not None:
            age = max(0.0, (now - oldest).total_seconds())
    await keep_sample(engine.mirror, now, count, age)
