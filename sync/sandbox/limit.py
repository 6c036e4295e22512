"""The call limit: so many calls a minute for an application."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Literal

MINUTE = 60.0


class Limit:
    """Counts calls. A fixed window is a minute of the clock; a sliding one any 60 seconds."""

    def __init__(self) -> None:
        self._calls: defaultdict[str, deque[float]] = defaultdict(deque)

    def reset_at(
        self, application: str, allowed: int, window: Literal["fixed", "sliding"], now: float
    ) -> float | None:
        """Count a call made now and give None or, if it is one too many, when calls may be made again.

        Times are epoch seconds. A call that is refused does not count.
        """
        calls = self._calls[application]
        start = now - now % MINUTE if window == "fixed" else now - MINUTE
        while calls and (calls[0] < start or (window == "sliding" and calls[0] <= start)):
            calls.popleft()
        if len(calls) < allowed:
            calls.append(now)
            return None
        return (start if window == "fixed" else calls[0]) + MINUTE

    def left(self, application: str, allowed: int) -> int:
        """Give how many more calls the window allows that was counted last."""
        return max(0, allowed - len(self._calls[application]))
