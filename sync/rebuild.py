"""The mirror made anew: from what the inbox still holds, and from upstream, customer by customer."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from sync.engine import Engine
from sync.inbox import InboxView
from sync.mirror.anew import empty_rows

REPLAY: Final = "replay"
"""The stage in which deliveries of the inbox are applied again."""
AT_ONCE: Final = 500
"""Deliveries in one transaction."""


async def begin_anew(engine: Engine) -> int:
    """Empty every live row while nobody reads or sweeps, and give their number."""
    async with engine.reconciler.reading, engine.sweeper.alone():
        return await empty_rows(engine.mirror, engine.clock())


async def replay_inbox(engine: Engine) -> AsyncGenerator[tuple[int, int], None]:
    """Apply again, in their order, all that the inbox holds and that had its verdict when this began.

    Gives how many are done, and how many there are. What is pending is left to whoever applies it.
    """
    company_id = engine.settings.company_id
    through = (await engine.mirror.refresh()).position
    async with InboxView(engine.settings.place) as inbox:
        reader = await inbox.reader()
        if reader is None:
            return
        there, _ = await reader.pending(company_id, 0)
        total = there - (await reader.pending(company_id, through))[0]
        done = after = 0
        while deliveries := await reader.read(company_id, after, AT_ONCE):
            after = deliveries[-1].position
            known = [delivery for delivery in deliveries if delivery.position <= through]
            if not known:
                return
            await engine.applier.apply(known, again=True, inbox=reader)
            done += len(known)
            yield done, max(total, done)


async def rebuilding(
    engine: Engine, reconciling: AsyncGenerator[dict[str, Any], None]
) -> AsyncGenerator[dict[str, Any], None]:
    """Make it anew, and say how far it has come, as `reconciling` does, which reads everyone at the end."""
    async with aclosing(reconciling):
        await begin_anew(engine)
        async with aclosing(replay_inbox(engine)) as steps:
            async for done, total in steps:
                yield {"stage": REPLAY, "done": done, "total": total}
        async for line in reconciling:
            yield line
