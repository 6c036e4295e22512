"""Applying deliveries again: at their old position, with a new verdict; the old one is kept as history."""

from collections.abc import Collection
from dataclasses import dataclass, field

from sync.engine import Engine
from sync.inbox import InboxView
from sync.mirror.verdicts import deliveries_with, verdicts_of


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
    replayed = Replayed()
    async with InboxView(engine.settings.data_dir) as inbox:
        reader = await inbox.reader()
        found = [] if reader is None else await reader.find(wanted)
    position = engine.mirror.progress.position
    company_id = engine.settings.company_id
    ready = [one for one in found if one.position <= position and one.company_id == company_id]
    for delivery in ready:
        await engine.applier.apply([delivery])
    names = {delivery.id for delivery in ready}
    replayed.verdicts = await verdicts_of(engine.mirror, names)
    replayed.missing = sorted(wanted - names)
    return replayed
