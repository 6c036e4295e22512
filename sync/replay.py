"""Applying deliveries again: at their old position, with a new verdict; the old one is kept as history."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from sync.engine import Engine
from sync.inbox import InboxView
from sync.mirror.verdicts import deliveries_with, verdicts_of

AT_ONCE: Final = 100
"""Deliveries in one transaction."""


@dataclass(slots=True)
class Replayed:
    """What a replay gave: delivery -> its new verdict, and the names that are no longer in the inbox."""

    verdicts: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


async def replay(engine: Engine, ids: Collection[str], verdict: str | None) -> Replayed:
    """Apply these deliveries, and every one with this verdict, again. Pending ones are left to the worker."""
    wanted = set(ids)
    if verdict is not None:
        wanted |= set(await deliveries_with(engine.mirror, verdict))
    ruled = sorted(await verdicts_of(engine.mirror, wanted))
    replayed = Replayed()
    async with InboxView(engine.settings.data_dir) as inbox:
        reader = await inbox.reader()
        if reader is not None:
            for start in range(0, len(ruled), AT_ONCE):
                found = await reader.find(ruled[start : start + AT_ONCE])
                await engine.applier.apply(found, again=True)
                replayed.verdicts |= await verdicts_of(engine.mirror, [one.id for one in found])
    replayed.missing = sorted(wanted - replayed.verdicts.keys())
    return replayed
