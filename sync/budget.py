"""The call budget of the company, kept in the mirror: a restart does not begin it anew."""

from collections.abc import Callable
from datetime import datetime

from sync.kounta import Budget, BudgetState
from sync.mirror.store import Mirror


def kept_budget(mirror: Mirror, calls_per_minute: float, clock: Callable[[], datetime]) -> Budget:
    """Give the budget as whoever owned the mirror before has left it."""
    state = BudgetState(mirror.progress.last_call_at, mirror.progress.closed_until)
    return Budget(calls_per_minute, state=state, clock=clock)


async def keep_budget(mirror: Mirror, budget: Budget) -> None:
    """Store how much of it is used."""
    state, progress = budget.state, mirror.progress
    if state != BudgetState(progress.last_call_at, progress.closed_until):
        await mirror.note(last_call_at=state.last_call_at, closed_until=state.closed_until)
