"""Applying deliveries again: at their old position, with a new verdict; the old one is kept as history."""

from collections.abc import Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, cast

from sync.apply import Applier
from sync.engine import Engine
from sync.inbox import InboxView
from sync.merge.snapshots import Lens
from sync.mirror.deliveries import Wanted, rulings
from sync.mirror.reader import MirrorReader
from sync.mirror.rehearsal import rehearsal
from sync.mirror.store import Mirror
from sync.mirror.verdicts import verdicts_of
from sync.settings import MirrorSettings

AT_ONCE: Final = 100
"""Deliveries in one transaction."""


@dataclass(slots=True)
class Replayed:
    """What a replay gave: delivery -> its new verdict and the one before; names that are gone."""

    verdicts: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


async def replay(engine: Engine, ids: Collection[str], which: Wanted | str | None = None) -> Replayed:
    """Apply these deliveries, and every one that is wanted, again. Pending ones are left to the worker.

    `which` may be a verdict alone.
    """
    wanted = Wanted(which) if isinstance(which, str) else which
    return await _replayed(engine.settings, engine.mirror, engine.applier, ids, wanted)


async def rehearse(
    settings: MirrorSettings,
    mirror: Mirror,
    clock: Callable[[], datetime],
    ids: Collection[str],
    wanted: Wanted | None = None,
) -> Replayed:
    """Give what `replay` would give, and leave everything as it is. Whoever writes meanwhile waits."""
    lens = Lens(settings.company_id, settings.subscription, settings.timing.window)
    async with rehearsal(mirror) as tried:
        applier = Applier(cast("Mirror", tried), lens, settings.timing, clock)  # it batches as a mirror does
        return await _replayed(settings, tried, applier, ids, wanted)


async def _replayed(
    settings: MirrorSettings,
    mirror: MirrorReader,
    applier: Applier,
    ids: Collection[str],
    wanted: Wanted | None,
) -> Replayed:
    chosen = set(ids)
    if wanted is not None:
        async with aclosing(rulings(mirror, wanted)) as found:
            chosen |= {ruling.delivery_id async for ruling in found}
    ruled = sorted(await verdicts_of(mirror, chosen))
    replayed = Replayed()
    async with InboxView(settings.place) as inbox:
        reader = await inbox.reader()
        if reader is not None:
            for start in range(0, len(ruled), AT_ONCE):
                names = ruled[start : start + AT_ONCE]
                deliveries = await reader.find(settings.company_id, names)
                given = [one.id for one in deliveries]
                replayed.before |= await verdicts_of(mirror, given)
                await applier.apply(deliveries, again=True, inbox=reader)
                replayed.verdicts |= await verdicts_of(mirror, given)
    replayed.missing = sorted(chosen - replayed.verdicts.keys())
    return replayed
