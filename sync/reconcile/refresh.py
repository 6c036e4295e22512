"""The rolling refresh: what is left of the call budget reads again whom nothing is known against."""

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Final

from sync.merge.doubts import AHEAD
from sync.mirror.deletions import live_customers
from sync.mirror.refreshable import oldest_verified, undoubted
from sync.mirror.store import Mirror
from sync.reconcile.verify import Verifier

RESTING: Final = timedelta(hours=1)
"""A customer that was proven within this time is left alone: a small mirror is not read round and round."""
SAMPLED: Final = 5
"""One in so many of these reads is of a customer drawn at random: the drift is estimated from those alone."""


class Refresher:
    """Reads the customer whose last proof is the oldest, and now and then one drawn at random."""

    def __init__(
        self,
        mirror: Mirror,
        verifier: Verifier,
        *,
        clock: Callable[[], datetime],
        random: Random,
    ) -> None:
        self._mirror = mirror
        self._verifier = verifier
        self._clock = clock
        self._random = random
        self._reads = 0

    async def refresh(self) -> bool:
        """Read one customer; False when each was proven lately. Raises KountaError as `Verifier` does."""
        now = self._clock()
        oldest = await oldest_verified(self._mirror, now - RESTING, now + AHEAD)
        if oldest is None:
            return False
        self._reads += 1
        drawn = await self._draw() if self._reads % SAMPLED == 0 else None
        await self._verifier.refresh(oldest if drawn is None else drawn, sampled=drawn is not None)
        return True

    async def _draw(self) -> int | None:
        live = await live_customers(self._mirror)
        return await undoubted(self._mirror, self._random.randrange(live)) if live else None
