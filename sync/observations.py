"""What upstream has shown, kept in the mirror at a slow pace: never a write for each call."""

from sync.kounta.observations import Observations
from sync.mirror.observations import add_observations, observations
from sync.mirror.store import Mirror


async def recall_observations(mirror: Mirror, seen: Observations) -> None:
    """Let `seen` know what an earlier process has stored."""
    seen.recall(one.name for one in await observations(mirror))


async def keep_observations(mirror: Mirror, shown: Observations) -> None:
    """Store what was seen since the last time. What cannot be stored stays for the next time."""
    seen = shown.unstored()
    if seen:
        counts = {name: (one.count, one.first_at, one.last_at) for name, one in seen.items()}
        await add_observations(mirror, counts)
        shown.stored(seen)
